"""Whether pixels lie where a model's statistics expect them, and what else they could be made of."""

from collections.abc import Iterator, Mapping

import numpy as np

from ...graph import Classifier, Preprocessing

_BYTE = 255.0
# statistics that models are trained with most often, for pixels of 0..1
_USUAL = {
    "of ImageNet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "of one half": ([0.5], [0.5]),
}


def range_misfit(classifier: Classifier, inputs: Mapping[str, np.ndarray]) -> str | None:
    """Hold the range of images against the one that a model's statistics are for.

    Args:
        classifier: With its preprocessing in front.
        inputs: Arrays by name; those of four dimensions are images.

    Returns:
        One clause that names both ranges and what to do; None where they fit, or nothing tells what would.
    """
    steps = classifier.preprocessing
    top = None if steps is None else _expected_top(steps)
    images = [array for array in inputs.values() if array.ndim == 4]
    if top is None or not images:
        return None
    low, high = float(min(array.min() for array in images)), float(max(array.max() for array in images))
    if low * steps.scale >= -top / 10 and top / 50 < high * steps.scale <= top * 1.5:
        return None
    scaled = "" if steps.scale == 1 else f", scaled by {steps.scale:.6g},"
    said = f"pixels lie in {low:.6g} to {high:.6g}{scaled} and the model expects 0 to {top:.0f}"
    if low < 0:
        return f"{said}; give it pixels that are not normalised yet, or leave `mean` and `std` out"
    return f"{said}; set `scale: {top / (1 if high <= 1.5 else _BYTE):.6g}` in its `preprocessing`"


def _expected_top(steps: Preprocessing) -> float | None:
    """Return what stands for white in front of the statistics, as far as these tell."""
    if not steps.normalizes:
        return 1.0 if steps.scale < 0.01 else None
    mean, std = float(steps.mean.abs().max()), float(steps.std.max())
    if mean <= 1 and std <= 1:
        return 1.0
    return _BYTE if std > 2 else None


def other_ranges(classifier: Classifier, images: np.ndarray) -> Iterator[tuple[str, Classifier]]:
    """Yield a classifier for each other range that its images could be meant for, with the key that would set it.

    Args:
        classifier: The model as it is used now.
        images: (N, C, H, W).
    """
    steps = classifier.preprocessing or Preprocessing()
    size = {"size": steps.size, "interpolation": steps.interpolation}
    own = {"mean": steps.mean.flatten().tolist(), "std": steps.std.flatten().tolist()} if steps.normalizes else {}
    unit = 1.0 if images.max() <= 1.5 else 1 / _BYTE
    trials = [(f"scale: {scale:.6g}", {"scale": scale, **own}) for scale in (unit, unit * _BYTE)]
    trials += [
        (f"scale: {unit:.6g}, and the mean and std {name}", {"scale": unit, "mean": mean, "std": std})
        for name, (mean, std) in _USUAL.items()
        if len(mean) in (1, images.shape[1])
    ]
    for said, changed in trials:
        if changed["scale"] == steps.scale and changed.get("mean") == own.get("mean"):
            continue
        yield (
            said,
            Classifier(
                classifier.model,
                keywords=classifier.keywords,
                input_names=classifier.input_names,
                preprocessing=Preprocessing(**size, **changed),
                logits=classifier.logits,
                class_order=classifier.class_order,
            ),
        )
