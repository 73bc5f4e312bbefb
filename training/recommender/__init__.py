"""The training of `models.recommender`: sequences, batches, losses, the loop, its checkpoint.

Language models may not enter; they have `training.language` and `training.loop`.
"""
