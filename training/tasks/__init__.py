"""What a shop wants of the trunk, each with its rows and its L_task: search, answers, sentiment.

No language modelling and no training loop may enter.
"""
