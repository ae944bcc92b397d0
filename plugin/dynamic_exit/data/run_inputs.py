"""Everything that a recipe names, loaded."""

import logging
from dataclasses import dataclass

from torch import Tensor

from ..graph import Classifier
from ..passes import ModelSource
from ..recipe.recipe import Recipe
from .split import Split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunInputs:
    """Everything that a recipe names, loaded.

    Attributes:
        recipe: The recipe.
        backbone: The classifier in evaluation mode.
        splits: ``train``, ``calibration`` and ``test``, disjoint; all inputs have names.
        candidates: Sources of the saver candidates by stage name, not loaded yet.
        example: Inputs of two samples, by name.
        by_name: Whether models take inputs by name; else each takes the single input by position.
        classes: Number of classes C.
        labels: Class names in the order of the logits.
        original_backbone: The backbone before static passes; None if none has run.
        notes: Notes on model and data, one sentence each; logged before the run, and written to ``metrics.json``, the
            report and the model card.
    """

    recipe: Recipe
    backbone: Classifier
    splits: dict[str, Split]
    candidates: dict[str, ModelSource]
    example: dict[str, Tensor]
    by_name: bool
    classes: int
    labels: list[str]
    original_backbone: Classifier | None = None
    notes: tuple[str, ...] = ()

    def log_notes(self) -> None:
        """Log every note, one line each."""
        for note in self.notes:
            logger.info(f"note: {note}")
