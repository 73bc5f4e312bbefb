"""How good a model is: rankings, answers, sentiment, each figure with its interval, and baselines.

Nothing is trained here.
"""
