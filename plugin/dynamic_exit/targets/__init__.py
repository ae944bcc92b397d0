"""Runtimes that a dynamic model is exported for: how stages are exported, quantized, put together and verified."""
