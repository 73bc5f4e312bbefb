"""The parts of `MemoryStore`: each keeps one kind of state as the scripts keep it in Redis."""
