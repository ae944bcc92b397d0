"""Loads and checks everything that a recipe names, before any work is done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import nn

from ..checks import check_backbone, explain_range_mismatch
from ..data.checks import check_labels, check_same_format
from ..data.loading import load_splits
from ..data.run_inputs import RunInputs
from ..data.split import Split
from ..errors import DataError, ModelError, nearest
from ..graph import Classifier, check_logits, check_objective, with_two_logits
from ..images import ImageFormat, ImageReading
from ..recipe.recipe import Recipe
from ..sources.class_names import find_class_names
from ..sources.labels import find_model_labels
from ..sources.models.base import find_builder
from ..sources.models.candidates import expand_candidates
from ..sources.models.image_format import find_image_format
from ..sources.models.loading import find_input_parameters, has_uint8_images, load_model
from ..sources.models.weights import check_trained
from ..sources.spelling import Note
from .risk import risk_of


class _EarlyBackbone:
    """Loads the backbone while images are read, as it decides on their form; arguments are as for `load_run_inputs`.

    Attributes:
        classifier: The backbone; None if it was not needed.
    """

    def __init__(self, recipe: Recipe, model: nn.Module | None, note: Note, before_decoding: Callable[[], None]):
        self.recipe, self.model, self.note, self.before_decoding = recipe, model, note, before_decoding
        self.classifier: Classifier | None = None

    def find_format(self, size: tuple[int, int] | None) -> ImageFormat:
        """Find the form of images, as `find_image_format` does."""
        source, seed = self.recipe.model, self.recipe.seed
        self.classifier = load_model(source, None, self.model, seed, True, self.note)
        self.before_decoding()
        return find_image_format(source, self.classifier, size)


def load_run_inputs(
    recipe: Recipe,
    model: nn.Module | None = None,
    splits: Mapping[str, Split] | None = None,
    before_decoding: Callable[[], None] = lambda: None,
) -> RunInputs:
    """Load everything that a recipe names and refuse what cannot work.

    Args:
        recipe: The recipe.
        model: A classifier to use in place of the recipe's.
        splits: Samples to use in place of the recipe's.
        before_decoding: Called once it is known how images are read, and before any is.

    Returns:
        The run inputs.

    Raises:
        DynamicExitError: One sentence on the first thing that cannot be used.
    """
    notes: list[str] = []
    cache = recipe.dynamic_exit.cache.open()
    early = _EarlyBackbone(recipe, model, notes.append, before_decoding)
    builder = find_builder(recipe.model)
    builder.check() if model is None else check_objective(model, f"model '{recipe.model.name}'")
    if splits is None:
        known = find_class_names(recipe.data, recipe.model, model) if model is not None else None
        reading = ImageReading(early.find_format, cache)
        splits = load_splits(recipe.data, recipe.seed, recipe.model, known, notes.append, reading)
    loaded = dict(splits)
    check_same_format(loaded)
    calibration = loaded["calibration"]
    if len(calibration) < 2:
        raise DataError("split 'calibration' has 1 sample; give it at least 2")
    names = tuple(calibration.inputs) if calibration.by_name else None
    backbone = early.classifier
    if backbone is None:
        from_bytes = has_uint8_images(calibration.inputs)
        backbone = load_model(recipe.model, names, model, recipe.seed, from_bytes, notes.append)
    by_name = backbone.input_names is not None
    notes += filter(None, [check_trained(recipe.model, backbone)])
    few = {name: tensor[:2] for name, tensor in calibration.tensors.items()}
    backbone = with_two_logits(backbone, backbone.select(few), "the backbone", notes.append)
    if by_name:
        _check_names(calibration.inputs, backbone, recipe.data.is_text)
    else:
        only = backbone.name_inputs(1)
        loaded = {key: replace(split, inputs=split.feeds(only)) for key, split in loaded.items()}
    example = {name: tensor[:2] for name, tensor in loaded["calibration"].tensors.items()}
    classes = check_logits("the backbone", backbone, backbone.select(example)).shape[1]
    risk_of(recipe, classes)  # what is malformed is refused before any work
    labels = _labels(recipe, backbone.model, classes, calibration.class_names, notes.append)
    check_labels(loaded, classes, recipe.data.classes)
    no_weights = model is None and not builder.knows_untrained and not recipe.model.weights
    notes += _doubts(recipe, backbone, loaded["calibration"], labels, no_weights)
    saver = recipe.dynamic_exit.tiny_saver
    sources = expand_candidates(saver.models) if saver else []
    candidates = {source.stage_name: source for source in sources}
    return RunInputs(recipe, backbone, loaded, candidates, example, by_name, classes, labels, notes=tuple(notes))


def _labels(recipe: Recipe, model: nn.Module, classes: int, found: Sequence[str] | None, note: Note) -> list[str]:
    """Name the classes: as the recipe, the model or the data do, in this order, else by their numbers."""
    own = find_model_labels(recipe.model, model)
    if own is not None and len(own) != classes:
        if recipe.model.labels is not None:
            raise ModelError(f"key 'model.labels' names {len(own)} classes, the model has {classes}; name each once")
        own = None
    given = recipe.data.classes
    if given and own and given != own and sorted(given) == sorted(own):
        i = next(i for i, (ours, theirs) in enumerate(zip(given, own, strict=True)) if ours != theirs)
        note(f"class {i} is '{given[i]}' in `data.classes` and '{own[i]}' in the model; `data.classes` counts")
    if found and not given and len(found) != classes:
        raise DataError(
            f"the data hold {len(found)} classes, '{found[0]}' to '{found[-1]}', the model has {classes}; name all of "
            "the model's in the order of its logits in `data.classes`"
        )
    return list(given or own or found or map(str, range(classes)))


def _doubts(recipe: Recipe, backbone: Classifier, calibration: Split, labels: list[str], no_weights: bool) -> list[str]:
    """Return doubts: the backbone may answer at chance, or get pixels in a range that it was not trained on."""
    mismatch, doubt = explain_range_mismatch(backbone, calibration.inputs), None
    if not backbone.untrained:  # else its answers are known to be random
        doubt = check_backbone(backbone, calibration, labels, mismatch, no_weights, recipe.seed)
    doubts = [doubt] if doubt else []
    return [*doubts, mismatch] if mismatch and mismatch not in (doubt or "") else doubts


def _check_names(inputs: Mapping[str, object], backbone: Classifier, is_text: bool) -> None:
    """Refuse an input that the backbone does not use: its name may be misspelt. A tokenizer may give more."""
    for name in inputs:
        if name not in (backbone.input_names or ()) and not is_text and name != "token_type_ids":
            hint = nearest(name, find_input_parameters(backbone.model))
            raise ModelError(f"the backbone takes no input '{name}'; {hint}")
