"""Everything that a recipe names, loaded and checked before any work is done."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import DataError
from ..graph import Classifier
from ..passes import ModelSource
from .models import answer_of, expand_candidates, load_model
from .schema import Recipe
from .sources import Split, check_alike, check_labels, load_splits


@dataclass(frozen=True)
class Ingredients:
    """What a recipe names.

    Attributes:
        recipe: The recipe.
        backbone: In evaluation mode.
        splits: ``train``, ``calibration`` and ``test``, disjoint.
        candidates: Where the savers to pick from come from, by stage name; they are not loaded yet.
        example: Two samples as the models take them.
        classes: Number of classes C.
    """

    recipe: Recipe
    backbone: Classifier
    splits: dict[str, Split]
    candidates: dict[str, ModelSource]
    example: tuple[Tensor, ...]
    classes: int


def load(recipe: Recipe, model: nn.Module | None = None, splits: Mapping[str, Split] | None = None) -> Ingredients:
    """Load everything that a recipe names and refuse what cannot work.

    Args:
        recipe: The recipe.
        model: A classifier to use in place of the recipe's.
        splits: Samples to use in place of the recipe's.

    Returns:
        The ingredients.

    Raises:
        DynamicExitError: One sentence on the first thing that cannot be used.
    """
    loaded = dict(splits) if splits is not None else load_splits(recipe.data, recipe.seed)
    check_alike(loaded)
    example = (loaded["calibration"].tensor[:2],)
    if len(example[0]) < 2:
        raise DataError("split 'calibration' has 1 sample; give it at least 2")
    backbone = load_model(recipe.model) if model is None else Classifier(model).eval()
    logits = answer_of("the backbone", backbone, example)
    classes = logits.shape[1]
    check_labels(loaded, classes, recipe.data.classes)
    saver = recipe.dynamic_exit.tiny_saver
    sources = expand_candidates(saver.candidates) if saver else []
    candidates = {source.stage_name: source for source in sources}
    return Ingredients(recipe, backbone, loaded, candidates, example, classes)
