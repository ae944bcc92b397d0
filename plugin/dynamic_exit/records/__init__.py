"""Records: per sample and stage, what each stage would have answered and how sure it was."""

from .records import Records

__all__ = ["Records"]
