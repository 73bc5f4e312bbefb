"""State and results: histories, counters, "only if newer" writes, the storefront's lookup client.

Redis and an in-memory twin keep one contract (`contract.py`); no model and no Kafka may enter.
"""
