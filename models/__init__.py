"""The networks and the indexes: text trunk, heads, recommender, answerer, product index, releases.

Knows neither Kafka nor Redis; gets texts and ids, gives vectors, scores and reasons.
"""
