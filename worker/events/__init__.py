"""What comes in: bytes become an `Event` or an `InvalidEvent`, a shop's own columns become events.

Pure of Kafka, Redis and models: it turns bytes and rows into events and opens nothing but files.
"""
