"""Releases as folders: manifest, store, publishing, the gate's record, whose data they learnt.

Files only: Redis, Kafka and what a worker does with a release may not enter.
"""
