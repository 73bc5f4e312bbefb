"""Judges what arms made of events, case by case, by what the log says happened later.

Only running sums are kept, so memory follows open cases and segments, never the length of the log.
"""
