"""Integrations of the passes into other frameworks, one folder each; importing a folder registers the passes."""

__all__ = ["hook", "neural_compressor"]
