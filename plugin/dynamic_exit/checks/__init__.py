"""Before any work: doubts about a loaded model and its data, and whether what a run is made of has changed."""

from .baseline_check import check_backbone
from .input_fingerprint import fingerprint_inputs
from .pixel_range import explain_range_mismatch, propose_preprocessing

__all__ = ["check_backbone", "explain_range_mismatch", "fingerprint_inputs", "propose_preprocessing"]
