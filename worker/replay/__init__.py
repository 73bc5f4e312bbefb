"""Recorded events through the very code that runs live: record, replay, compare, report.

Reads Kafka only to record and Redis only to compare; Faust and training may not enter.
"""
