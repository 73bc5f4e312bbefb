"""The streaming side of shopstream: events from Kafka in, answers in Redis out.

Read it in the order of the data's way: events, stream, pipeline, store. Nothing of `training` may
enter here but through the command line.
"""
