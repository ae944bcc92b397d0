"""Makers: each makes savers of one family from a model and its data; `README.md` shows how to write another one."""

from typing import TYPE_CHECKING

from ....core.lazy import lazy_exports
from .registry import MAKERS
from .stanza import AUTO, AnyCandidate, MakerStanza, TrainedMakerStanza

if TYPE_CHECKING:
    from .base import Architecture, MadeSaver, MakerTask, SaverMaker
    from .choice import choose_makers
    from .encoders import EncoderMaker, EncoderMakerStanza
    from .teaching import Teaching, ViewOf
    from .trained import TrainedMaker

__all__ = [
    "AUTO",
    "MAKERS",
    "AnyCandidate",
    "Architecture",
    "EncoderMaker",
    "EncoderMakerStanza",
    "MadeSaver",
    "MakerStanza",
    "MakerTask",
    "SaverMaker",
    "Teaching",
    "TrainedMaker",
    "TrainedMakerStanza",
    "ViewOf",
    "choose_makers",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "base": ("Architecture", "MadeSaver", "MakerTask", "SaverMaker"),
        "choice": ("choose_makers",),
        "encoders": ("EncoderMaker", "EncoderMakerStanza"),
        "teaching": ("Teaching", "ViewOf"),
        "trained": ("TrainedMaker",),
    },
)
