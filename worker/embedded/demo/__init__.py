"""The demo: starts broker, Redis and a worker, plays the simulated shop to them, and watches.

It goes the way every shop goes (events into Kafka, results out of Redis) and may reach into no
room of the worker that a shop could not use.
"""
