"""A replay's document as one HTML file: no scripts, no outside requests.

Only shows what the document holds; nothing is computed here but places on paper.
"""
