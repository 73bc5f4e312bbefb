"""The Faust app, its agents, the record-batch consumer, the offset watermark and the worker's life.

The only room that imports faust; it hands chunks of records to `worker.flow` by the contract in
`chunk.py`. No model code and no Redis command may enter.
"""
