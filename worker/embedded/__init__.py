"""Broker, Redis and a simulated shop that start on a laptop without Docker, Java, root or a hub.

For the demo and tests; production never imports this room.
"""
