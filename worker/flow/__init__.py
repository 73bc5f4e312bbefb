"""From chunks of records to confirmed batches: decode, batch, run the pipeline, write, send.

The other half of `worker.stream`, joined to it by `worker.stream.chunk`; no Faust may enter.
"""
