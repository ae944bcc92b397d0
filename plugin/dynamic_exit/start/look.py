"""Looks at a model and at data together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError, RecipeError
from ..passes import ModelSource
from .found.base import DataRequest, FoundData
from .found.kinds import find_data
from .model import FoundModel, find_candidate, find_model
from .questions import Ask, Question, refuse_to_guess

#: Ranges of pixels that models are trained on -> preprocessing for bytes, without what depends on channels.
_PIXELS = ("0-255", "0-1", "-1-1", "imagenet")
_BYTE = 0.00392157
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@dataclass(frozen=True)
class Request:
    """What the user gives.

    Attributes:
        model: As for `find_model`.
        data: File, folder, name or function.
        weights: File of the model's weights.
        candidates: Small models for savers; none has them made.
        splits: As ``train=a,calibration=b,test=c``; None finds them.
        text_column: None finds it.
        label_column: None finds it.
        pixels: Range of pixels that a model of the user's, and candidates that are none of timm or Hugging Face, were
            trained on; None asks if it matters.
        size: Side of the images in pixels, or ``height,width``; None asks if it matters.
    """

    model: str
    data: str
    weights: str | None = None
    candidates: Sequence[str] = ()
    splits: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    pixels: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class Found:
    """A model and data that fit each other, as far as can be seen without loading the model.

    Attributes:
        model: The model.
        data: The data.
        preprocessing: What is done to images.
        candidates: Entries of the recipe.
        notes: What the user should look at, one sentence each.
    """

    model: FoundModel
    data: FoundData
    preprocessing: Mapping[str, Any]
    candidates: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()

    @property
    def lines(self) -> list[str]:
        """What was found, a line each."""
        classes = f", {self.model.class_count} classes" if self.model.class_count else ""
        lines = [
            f"model: {self.model.described}{classes}",
            f"data: {self.data.described}",
            f"splits: {self.data.splits.described}",
        ]
        return lines + [f"note: {note}" for note in (*self.data.notes, *self.notes)]


def look_at(request: Request, ask: Ask = refuse_to_guess) -> Found:
    """Look at model and data.

    Args:
        request: What the user gives.
        ask: Answers what cannot be known.

    Raises:
        DynamicExitError: Something is missing, does not fit, or cannot be known.
    """
    data = find_data(DataRequest(request.data, request.splits, request.text_column, request.label_column, ask))
    model = find_model(request.model, request.weights)
    model = _fit_classes(model, data, request.weights)
    preprocessing = _preprocessing(request, model, data, ask) if data.holds == "images" else {}
    candidates = [find_candidate(each) for each in request.candidates]
    of_images = [_of_candidate(each, preprocessing) if data.holds == "images" else {} for each in candidates]
    unknown = [each.short_name for each, steps in zip(candidates, of_images, strict=True) if steps is None]
    entries = [
        {**each.stanza, **({"preprocessing": steps} if steps else {})}
        for each, steps in zip(candidates, of_images, strict=True)
    ]
    notes = _enlarged(model, data, preprocessing) + [
        f"candidate '{name}' gets pixels of 0 to 255, as the files hold them; if it was trained on others, set its "
        "`preprocessing`"
        for name in unknown
    ]
    return Found(model, data, preprocessing, _with_own_names(entries), notes)


def _enlarged(model: FoundModel, data: FoundData, preprocessing: Mapping[str, Any]) -> list[str]:
    """Note that all images are smaller than those that the model states, as it may have been trained on small ones."""
    if model.size is None or not data.sizes or preprocessing.get("from_model") is None or "size" in preprocessing:
        return []
    height, width = (max(sides) for sides in zip(*data.sizes, strict=True))
    if height >= model.size[0] or width >= model.size[1]:
        return []
    wanted = " x ".join(map(str, model.size))
    return [
        f"images of {height} x {width} at most are enlarged to the {wanted} that the model's configuration states; if "
        f"it was trained on others, give --size, such as {height},{width}"
    ]


def _of_candidate(candidate: FoundModel, backbone: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the preprocessing of a candidate: its own, else the backbone's; None if neither is known."""
    if candidate.states_pixels:
        return {"from_model": True}
    return None if "from_model" in backbone else backbone


def _with_own_names(candidates: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Name the stages of candidates that would be called alike."""
    seen: Counter[str] = Counter()
    named = []
    for each in candidates:
        name = ModelSource.model_validate(each).stage_name
        seen[name] += 1
        named.append({**each, "stage": f"{name}_{seen[name]}"} if seen[name] > 1 else each)
    return named


def _fit_classes(model: FoundModel, data: FoundData, weights: str | None) -> FoundModel:
    """Compare the numbers of classes, and give timm's models that of the data where no weights tell it."""
    if model.class_count is None or data.class_count is None:
        if weights and model.stanza["source"] == "timm" and model.class_count is None and data.class_count:
            arguments = {**model.stanza.get("arguments", {}), "num_classes": data.class_count}
            stanza = {**model.stanza, "arguments": arguments}
            return FoundModel(stanza, model.described, data.class_count, None, True, model.size)
        return model
    named = data.source != "npz"
    if data.class_count > model.class_count or (named and data.class_count < model.class_count):
        remedy = (
            "give --weights that were trained on these classes"
            if weights is None
            else "give data of the classes that the model knows"
        )
        raise ModelError(
            f"the model has {model.class_count} classes and the data have {data.class_count}; {remedy}, or name the "
            "model's classes in `data.classes` of a recipe that `dynamic-exit init` starts"
            if data.class_count < model.class_count
            else f"the model has {model.class_count} classes and the data have {data.class_count}; {remedy}"
        )
    return model


def _preprocessing(request: Request, model: FoundModel, data: FoundData, ask: Ask) -> dict[str, Any]:
    size = {"size": _read_size(request.size)} if request.size else {}
    if model.states_pixels and request.pixels is None:
        return {**size, "from_model": True}
    question = Question("--pixels", "the range of pixels that the model was trained on", _PIXELS, "0-1")
    pixels = question.check(request.pixels if request.pixels is not None else ask(question))
    if not size and len(data.sizes) > 1:
        about = "the size in pixels to which pictures of several sizes are brought"
        size = {"size": _read_size(ask(Question("--size", about, (), "224")))}
    channels = model.channels or 3
    if pixels == "0-255":
        return size
    if pixels == "0-1":
        return {**size, "scale": _BYTE}
    if pixels == "-1-1":
        return {**size, "scale": _BYTE, "mean": [0.5] * channels, "std": [0.5] * channels}
    return {**size, "scale": _BYTE, **{key: values[:channels] for key, values in _IMAGENET.items()}}


def _read_size(text: str) -> list[int]:
    parts = text.replace("x", ",").split(",")
    if not 1 <= len(parts) <= 2 or not all(part.strip().isdigit() and int(part) for part in parts):
        raise RecipeError(f"--size takes a side in pixels, or height,width; got '{text}'")
    sides = [int(part) for part in parts]
    return sides * 2 if len(sides) == 1 else sides
