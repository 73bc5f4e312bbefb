"""The text trunk's surroundings: loading a checkpoint, heads, scales, a null twin for tests.

Texts in, vectors and probabilities out; products and shoppers may not enter.
"""
