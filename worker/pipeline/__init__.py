"""One batch on its way through: state, models, results, samples.

Pure of Kafka, Faust, Redis and wall-clock time: store, models and clock are given to it, so the
live worker and the replay tool run this one piece of code.
"""
