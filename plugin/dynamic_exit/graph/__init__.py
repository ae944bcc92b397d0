"""Any classifier as a graph: capture it, find where it can be cut, split it into segments."""

from .capture import Program, capture, free_layout, is_text
from .cuts import Cut, find_cuts
from .export import export_program
from .inputs import Classifier, Preprocessing
from .objective import answer_without_sigmoid, check_configuration, check_objective
from .split import Segment, select_cuts, split

__all__ = [
    "Classifier",
    "Cut",
    "Preprocessing",
    "Program",
    "Segment",
    "answer_without_sigmoid",
    "capture",
    "check_configuration",
    "check_objective",
    "export_program",
    "find_cuts",
    "free_layout",
    "is_text",
    "select_cuts",
    "split",
]
