"""Records: per sample and stage, what each stage would have answered and how sure it was."""

from .records import Records
from .top_k import top_k

__all__ = ["Records", "top_k"]
