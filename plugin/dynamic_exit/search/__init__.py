"""The search for the best thresholds of a chain, and the guarantee that its operating points can come with."""
