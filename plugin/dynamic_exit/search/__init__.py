"""The search for the best thresholds of a chain, and what it can promise."""
