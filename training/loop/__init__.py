"""The training loop: transformers' Trainer and Accelerate with our losses, schedule and files.

What is learnt, and from what, may not enter: a loop takes a module, examples and options.
"""
