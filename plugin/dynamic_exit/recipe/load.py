"""Everything that a recipe names, loaded and checked before any work is done."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import DataError, ModelError, nearest
from ..graph import Classifier
from ..passes import ModelSource
from .labels import labels_of
from .models import answer_of, expand_candidates, input_parameters, load_model
from .schema import Recipe
from .sources import Split, check_alike, check_labels, load_splits
from .weights import check_trained


@dataclass(frozen=True)
class Ingredients:
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
        notes: What the user should know of model and data, one sentence each: said before any work, and again in
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

    def tell(self, say: Callable[[str], None]) -> None:
        """Say every note, one line each."""
        for note in self.notes:
            say(f"note: {note}")


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
    loaded = dict(splits) if splits is not None else load_splits(recipe.data, recipe.seed, recipe.model)
    check_alike(loaded)
    calibration = loaded["calibration"]
    if len(calibration) < 2:
        raise DataError("split 'calibration' has 1 sample; give it at least 2")
    by_name = calibration.by_name
    backbone = load_model(recipe.model, list(calibration.inputs) if by_name else None, model, recipe.seed)
    notes = [note for note in [check_trained(recipe.model, backbone)] if note]
    if by_name:
        _check_names(calibration.inputs, backbone, recipe.data.source)
    else:
        loaded = {key: Split(key, split.feeds(backbone.input_names(1)), split.labels) for key, split in loaded.items()}
    example = {name: tensor[:2] for name, tensor in loaded["calibration"].tensors.items()}
    classes = answer_of("the backbone", backbone, backbone.select(example)).shape[1]
    check_labels(loaded, classes, recipe.data.classes)
    own = labels_of(recipe.model, backbone.model) if recipe.data.classes is None else recipe.data.classes
    labels = own if own and len(own) == classes else [str(index) for index in range(classes)]
    saver = recipe.dynamic_exit.tiny_saver
    sources = expand_candidates(saver.candidates) if saver else []
    candidates = {source.stage_name: source for source in sources}
    return Ingredients(recipe, backbone, loaded, candidates, example, by_name, classes, labels, notes=tuple(notes))


def _check_names(inputs: Mapping[str, object], backbone: Classifier, source: str) -> None:
    """Refuse an input that the backbone leaves unused: its name may be misspelt. A tokenizer gives what it likes."""
    for name in inputs:
        if name not in backbone.takes and source != "text" and name != "token_type_ids":
            raise ModelError(f"the backbone takes no input '{name}'; {nearest(name, input_parameters(backbone.model))}")
