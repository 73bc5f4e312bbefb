"""Serving `models.recommender`: histories into batches, item vectors, reasons, its folder on disk.

No training code may enter.
"""
