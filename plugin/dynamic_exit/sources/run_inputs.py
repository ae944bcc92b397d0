"""What a recipe names, loaded."""

import logging
from dataclasses import dataclass

from torch import Tensor

from ..graph import Classifier
from ..passes import ModelSource
from ..recipe.recipe import Recipe
from .data.loading import Split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunInputs:
    """What a recipe names.

    Attributes:
        recipe: The recipe.
        backbone: In evaluation mode.
        splits: ``train``, ``calibration`` and ``test``, disjoint; all inputs have names.
        candidates: Where the savers to pick from come from, by stage name; they are not loaded yet.
        example: Inputs of two samples, by name.
        by_name: Whether models take the inputs by name; else each takes the only one by position.
        classes: Number of classes C.
        labels: Names of the classes, in the order of the logits.
        given: The backbone that came in, where static passes have made `backbone` of it.
        notes: What the user should know of model and data, one sentence each: logged before any work, and again in
            ``metrics.json``, report and model card.
    """

    recipe: Recipe
    backbone: Classifier
    splits: dict[str, Split]
    candidates: dict[str, ModelSource]
    example: dict[str, Tensor]
    by_name: bool
    classes: int
    labels: list[str]
    given: Classifier | None = None
    notes: tuple[str, ...] = ()

    def log_notes(self) -> None:
        """Log every note, one line each."""
        for note in self.notes:
            logger.info(f"note: {note}")
