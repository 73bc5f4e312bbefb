"""A live run again, by its batch records: the same steps, the same bytes.

Judging releases may not enter; what differs from the live run is counted here and shown elsewhere.
"""
