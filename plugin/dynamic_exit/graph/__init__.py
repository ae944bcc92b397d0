"""Any classifier as a graph: capture it, find its cuts, split it into segments."""

from .backbone import Backbone
from .capture import capture, free_layout
from .classifier import Classifier
from .cuts import Cut, find_cuts
from .export import export_program
from .failures import FORWARD_ERRORS, explain_forward_failure
from .logits import find_logits
from .modes import evaluation_mode
from .objective import answer_without_sigmoid, check_configuration, check_logits, check_objective
from .preprocessing import Preprocessing
from .program import Program, is_text
from .relocation import constants_follow
from .single_logit import with_two_logits
from .split import Segment, SegmentSequence, select_cuts, split
from .text_length import find_max_tokens

__all__ = [
    "FORWARD_ERRORS",
    "Backbone",
    "Classifier",
    "Cut",
    "Preprocessing",
    "Program",
    "Segment",
    "SegmentSequence",
    "answer_without_sigmoid",
    "capture",
    "check_configuration",
    "check_logits",
    "check_objective",
    "constants_follow",
    "evaluation_mode",
    "explain_forward_failure",
    "export_program",
    "find_cuts",
    "find_logits",
    "find_max_tokens",
    "free_layout",
    "is_text",
    "select_cuts",
    "split",
    "with_two_logits",
]
