"""What people look at: the live terminal view, metrics and health.

It only reads what other rooms measured; no business logic may enter.
"""
