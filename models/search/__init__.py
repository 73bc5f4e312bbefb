"""The indexes behind `models.product_index`: words, and vectors exact or by a graph.

Ids, tokens and vectors only; what a product or a shopper is may not enter.
"""
