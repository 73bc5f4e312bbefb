"""Several releases or settings over the same events, in the order in which they happened.

What arms made of an event is handed on; what it is worth is judged next door.
"""
