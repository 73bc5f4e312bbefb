"""The networks and the indexes: text trunk, heads, recommender, answerer, product index, releases.

Knows neither Kafka nor Redis; gets texts and ids, gives vectors, scores and reasons.
"""

import os

# MKL picks its kernels by the number of rows and of threads, so on some processors a text alone
# got other last bits than among others. Its strict mode gives a row the same bits always, at the
# same speed (measured: docs/benchmarks.md). MKL reads it once, at its first call.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
