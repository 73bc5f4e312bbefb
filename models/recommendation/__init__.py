"""What every recommender shares: shopper, profile, signals, reasons, the shop's rules; and the one
that needs no training.

No network may enter; the learnt recommender has a room of its own.
"""
