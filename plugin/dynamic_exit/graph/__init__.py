"""Any classifier as a graph: capture it, find where it can be cut, split it into segments."""

from dynamic_exit.graph.capture import Program, capture, free_layout
from dynamic_exit.graph.cuts import Cut, find_cuts
from dynamic_exit.graph.export import export_program
from dynamic_exit.graph.inputs import Classifier, Preprocessing
from dynamic_exit.graph.split import Segment, select_cuts, split

__all__ = [
    "Classifier",
    "Cut",
    "Preprocessing",
    "Program",
    "Segment",
    "capture",
    "export_program",
    "find_cuts",
    "free_layout",
    "select_cuts",
    "split",
]
