"""What training and evaluation read: rows of files, texts, reviews, interactions, and their splits.

Reading and checking only; no model may enter.
"""
