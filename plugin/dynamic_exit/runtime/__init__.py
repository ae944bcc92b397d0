"""Dynamic models in torch: the forward pass, records, and archives without pickle."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .archive import ArchivedPart, pack, unpack
    from .compile import CompiledPart, compile_part, fold_constants
    from .model import DynamicExitModel
    from .output import DynamicOutput
    from .recorder import Answers, answer_batches, join_answers, make_records
    from .stages import Stage, StageSet

__all__ = [
    "Answers",
    "ArchivedPart",
    "CompiledPart",
    "DynamicExitModel",
    "DynamicOutput",
    "Stage",
    "StageSet",
    "answer_batches",
    "compile_part",
    "fold_constants",
    "join_answers",
    "make_records",
    "pack",
    "unpack",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "archive": ("ArchivedPart", "pack", "unpack"),
        "compile": ("CompiledPart", "compile_part", "fold_constants"),
        "model": ("DynamicExitModel",),
        "output": ("DynamicOutput",),
        "recorder": ("Answers", "answer_batches", "join_answers", "make_records"),
        "stages": ("Stage", "StageSet"),
    },
)
