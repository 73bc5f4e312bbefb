"""Kafka as the commands use it: client options, topic names, bounded reads, produce, export.

No Faust, no model and no Redis may enter; the live consumer is `worker.stream`.
"""
