"""Checks the range of pixels against a model's preprocessing, and proposes other preprocessings."""

from collections.abc import Iterator, Mapping

import numpy as np

from ..core.mapped_arrays import value_range
from ..graph import Classifier, Preprocessing

_BYTE_MAX = 255.0
# mean and std that most models are trained with, for pixels of 0..1
_COMMON_STATISTICS = {
    "of ImageNet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "of one half": ([0.5], [0.5]),
}


def explain_range_mismatch(classifier: Classifier, inputs: Mapping[str, np.ndarray]) -> str | None:
    """Explain how the range of images differs from the one that a model's statistics are for.

    Args:
        classifier: The model with its preprocessing.
        inputs: Arrays by name; those of four dimensions are images.

    Returns:
        One clause that names both ranges and what to do; None if they match, or the expected range is unknown.
    """
    steps = classifier.preprocessing
    images = [array for array in inputs.values() if array.ndim == 4]
    if steps is None or not images:
        return None
    white = _expected_white(steps)
    if white is None:
        return None
    lows, highs = zip(*map(value_range, images), strict=True)
    low, high = min(lows), max(highs)
    if low * steps.scale >= -white / 10 and white / 50 < high * steps.scale <= white * 1.5:
        return None
    scaled = "" if steps.scale == 1 else f", scaled by {steps.scale:.6g},"
    ranges = f"pixels lie in {low:.6g} to {high:.6g}{scaled} and the model expects 0 to {white:.0f}"
    if low < 0:
        return f"{ranges}; give it pixels that are not normalized yet, or leave `mean` and `std` out"
    return f"{ranges}; set `scale: {white / (1 if high <= 1.5 else _BYTE_MAX):.6g}` in its `preprocessing`"


def _expected_white(steps: Preprocessing) -> float | None:
    """Return the value of white that mean and std suggest, after scaling; None if they suggest none."""
    if not steps.normalizes:
        return 1.0 if steps.scale < 0.01 else None
    mean, std = float(steps.mean.abs().max()), float(steps.std.max())
    if mean <= 1 and std <= 1:
        return 1.0
    return _BYTE_MAX if std > 2 else None


def propose_preprocessing(classifier: Classifier, images: np.ndarray) -> Iterator[tuple[str, str, Classifier]]:
    """Yield the classifier with other plausible preprocessings: what would change, the keys that set it, and the model.

    Args:
        classifier: The model as it is used now.
        images: (N, C, H, W).
    """
    steps = classifier.preprocessing or Preprocessing()
    own = (steps.mean.flatten().tolist(), steps.std.flatten().tolist()) if steps.normalizes else (None, None)
    unit = 1.0 if images.max() <= 1.5 else 1 / _BYTE_MAX
    trials: list[tuple[str, float, list[float] | None, list[float] | None]]
    trials = [(f"scale: {scale:.6g}", scale, *own) for scale in (unit, unit * _BYTE_MAX)]
    trials += [
        (f"scale: {unit:.6g}, and the mean and std {name}", unit, mean, std)
        for name, (mean, std) in _COMMON_STATISTICS.items()
        if len(mean) in (1, images.shape[1])
    ]
    for keys, scale, mean, std in trials:
        if scale == steps.scale and mean == own[0]:
            continue
        changed = Preprocessing(size=steps.size, interpolation=steps.interpolation, scale=scale, mean=mean, std=std)
        yield "range of its pixels", keys, _with(classifier, changed)
    height, width = images.shape[2:]
    if steps.size not in (None, (height, width)):
        changed = Preprocessing(interpolation=steps.interpolation, scale=steps.scale, mean=own[0], std=own[1])
        yield "size of its images", f"size: [{height}, {width}]", _with(classifier, changed)


def _with(classifier: Classifier, preprocessing: Preprocessing) -> Classifier:
    return Classifier(
        classifier.model,
        keywords=classifier.keywords,
        input_names=classifier.input_names,
        preprocessing=preprocessing,
        logits=classifier.logits,
        class_order=None if classifier.class_order is None else classifier.class_order.tolist(),
    )
