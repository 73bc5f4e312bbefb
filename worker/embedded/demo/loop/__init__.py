"""The demo's learning loop: `shopstream retrain` beside the stream, watched from outside.

It starts the job as a shop's cron would and counts what the releases got right. Training, gate and
swap are the product's own, and may not be imitated here.
"""
