"""From samples to a release: data sets, losses, pretraining, fine-tuning, evaluation.

Reads what the worker wrote (samples as Parquet) and public formats, writes model folders; no Kafka,
no Redis. docs/training.md says in which order to read it.
"""
