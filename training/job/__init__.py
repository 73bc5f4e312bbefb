"""The retraining job: from new samples to a gated, published release, killed or not.

Networks and metrics stay out: parts (`training.parts`) train and judge, the gate decides.
"""
