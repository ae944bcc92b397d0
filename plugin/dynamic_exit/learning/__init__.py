"""What evidence learns from records: how much a stage counts, and how sure it may be."""

from .gates import learn_gates
from .posterior import learn_posterior
from .powers import learn_powers

__all__ = ["learn_gates", "learn_posterior", "learn_powers"]
