"""Recordings: topics kept as a folder of files, with every record's place, time and bytes.

Knows files and Kafka's readers; models, state and metrics may not enter.
"""
