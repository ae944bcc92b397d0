"""Early exits and tiny savers for Intel Neural Compressor."""
