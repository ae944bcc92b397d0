"""What users hand in and get out: preprocessing inside the graph, and any model's answer as plain logits."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..errors import ModelError, nearest

INTERPOLATIONS = ("bilinear", "nearest", "bicubic")


class Preprocessing(nn.Module):
    """What one model does to the common input before its first layer.

    Each stage of a chain may want another input size and other statistics, while the caller hands in one image. Order:
    cast to floating point, resize, ``x * scale``, ``(x - mean) / std``. A step that is not asked for is left out of the
    graph, and with nothing asked for at all the input is handed on untouched.

    Args:
        size: ``(height, width)`` in pixels to resize to, or None. No resize happens where the input already has it.
        interpolation: ``bilinear``, ``nearest`` or ``bicubic``.
        scale: Factor applied before mean and std, for instance ``1 / 255`` for integer images.
        mean: Per-channel mean (C values, or one for all), on the scaled range, or None.
        std: Per-channel standard deviation, all positive, or None.

    Raises:
        ModelError: A value out of its range.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] | None = None,
        interpolation: str = "bilinear",
        scale: float = 1.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        super().__init__()
        if interpolation not in INTERPOLATIONS:
            raise ModelError(f"interpolation '{interpolation}' is not known; {nearest(interpolation, INTERPOLATIONS)}")
        if size is not None and (len(size) != 2 or any(int(side) != side or side < 1 for side in size)):
            raise ModelError(f"size must be (height, width) in whole positive pixels; got {tuple(size)}")
        if std is not None and any(not value > 0 for value in std):
            raise ModelError(f"every std must be positive; got {list(std)}")
        if mean is not None and std is not None and len(mean) != len(std) and 1 not in (len(mean), len(std)):
            raise ModelError(f"mean has {len(mean)} values and std {len(std)}; give one per channel in both")
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.interpolation = interpolation
        self.scale = float(scale)
        # also the anchor that tells the working dtype after .half() or .to(dtype)
        self.register_buffer("mean", self._per_channel(mean, 0.0), persistent=False)
        self.register_buffer("std", self._per_channel(std, 1.0), persistent=False)
        self.normalizes = mean is not None or std is not None
        self.active = self.normalizes or size is not None or self.scale != 1.0
        self.training = False

    @staticmethod
    def _per_channel(values: Sequence[float] | None, default: float) -> Tensor:
        return torch.tensor([default] if values is None else list(values), dtype=torch.float32).view(1, -1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Prepare a batch.

        Args:
            images: (N, C, H, W), floating or integer.

        Returns:
            (N, C, height, width) floating; a floating input itself when no step was asked for.
        """
        if not images.is_floating_point() and (self.active or images.dim() == 4):
            images = images.to(self.mean.dtype)
        if not self.active:
            return images
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            align = None if self.interpolation == "nearest" else False
            images = F.interpolate(images, size=self.size, mode=self.interpolation, align_corners=align)
        if self.scale != 1.0:
            images = images * self.scale
        if self.normalizes:
            images = (images - self.mean) / self.std
        return images

    def extra_repr(self) -> str:
        """Describe the steps, for ``print(model)``."""
        return f"size={self.size}, interpolation={self.interpolation}, scale={self.scale}, normalizes={self.normalizes}"


class Classifier(nn.Module):
    """Any user model as a function from positional tensors to logits.

    The user's module is shared, not copied and not changed; it stands under ``model``.

    Args:
        model: The user's module. Its answer may be a tensor, a tuple, a dict or a Hugging Face ``ModelOutput``.
        keywords: Names under which the inputs are handed on, in order; None hands them on by position.
        input_names: Which inputs of a chain it takes, by their names there; None takes all, in order.
        preprocessing: Applied to the image input (the only input, else every one of four dimensions), or None.
        logits: Key, attribute or index of the logits in the answer; None finds them.
        class_order: For each class of the common order the model's own index; also drops classes.
        untrained: Names of those of the module's parameters that are known to be random.

    Raises:
        ModelError: No module came in, or a keyword that the module does not take.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        keywords: Sequence[str] | None = None,
        input_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        logits: str | int | None = None,
        class_order: Sequence[int] | None = None,
        untrained: Sequence[str] = (),
    ):
        super().__init__()
        if not isinstance(model, nn.Module):
            raise ModelError(f"a model must be a torch.nn.Module; got {type(model).__name__}")
        self.model = model
        self.preprocessing = preprocessing
        self.keywords = None if keywords is None else tuple(keywords)
        self.input_names = None if input_names is None else tuple(input_names)
        self.logits = logits
        self.untrained = tuple(untrained)
        order = None if class_order is None else torch.tensor(list(class_order), dtype=torch.int64)
        self.register_buffer("class_order", order, persistent=False)
        self._check_keywords()
        # set on the wrapper alone: .train(mode) would reach into the user's module
        self.training = model.training

    def _check_keywords(self) -> None:
        if self.keywords is None:
            return
        if len(set(self.keywords)) != len(self.keywords) or not self.keywords:
            raise ModelError(f"keywords must be unique and at least one; got {list(self.keywords)}")
        parameters = inspect.signature(self.model.forward).parameters
        if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
            return
        for keyword in self.keywords:
            if keyword not in parameters:
                raise ModelError(
                    f"{type(self.model).__name__} takes no input '{keyword}'; {nearest(keyword, parameters)}"
                )

    def name_inputs(self, count: int) -> tuple[str, ...]:
        """Name the first ``count`` inputs: the keywords, else what the model's own ``forward`` calls them.

        Raises:
            ModelError: Another number of inputs than there are keywords.
        """
        if self.keywords is not None:
            if count != len(self.keywords):
                raise ModelError(f"{count} inputs came in for the {len(self.keywords)} keywords {list(self.keywords)}")
            names = list(self.keywords)
        else:
            positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            parameters = inspect.signature(self.model.forward).parameters.values()
            names = [each.name for each in parameters if each.kind in positional][:count]
            names += [f"input_{index}" for index in range(len(names), count)]
        # "hidden" and "logits" are what segments hand on
        return tuple(f"{name}_" if name in ("hidden", "logits") else name for name in names)

    def select(self, inputs: Mapping[str, Any]) -> tuple:
        """Pick what the model takes out of a chain's inputs by name, in the order of ``forward``."""
        return tuple(inputs.values() if self.input_names is None else (inputs[name] for name in self.input_names))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the model.

        Args:
            *inputs: The model's tensors, batch first, in the order of ``keywords`` or of its own signature.

        Returns:
            (N, C) logits.

        Raises:
            ModelError: The answer holds no logits, or more than one candidate and no name.
        """
        if self.preprocessing is not None:
            only = len(inputs) == 1
            inputs = tuple(self.preprocessing(x) if only or x.dim() == 4 else x for x in inputs)
        if self.keywords is None:
            answer = self.model(*inputs)
        else:
            answer = self.model(**dict(zip(self.keywords, inputs, strict=True)))
        logits = find_logits(answer, self.logits)
        return logits if self.class_order is None else logits[:, self.class_order]


def find_logits(answer: object, name: str | int | None = None) -> Tensor:
    """Find the logits in whatever a model answered.

    Args:
        answer: Tensor, tuple, list, mapping or an object with attributes.
        name: Key, attribute or index; None takes ``logits`` if there, else the only floating (N, C) tensor.

    Returns:
        The (N, C) floating tensor.

    Raises:
        ModelError: Nothing fits, or several fit and no name was given.
    """
    if name is not None:
        return _checked(_named(answer, name), f"output {name!r}")
    if isinstance(answer, fx.Proxy):  # the second route of capture, which checks the shape afterwards
        return answer
    if isinstance(answer, Tensor):
        return _checked(answer, "the output")
    if isinstance(answer, Mapping):
        parts = dict(answer)
    elif isinstance(answer, tuple | list):
        parts = dict(enumerate(answer)) if not hasattr(answer, "_asdict") else answer._asdict()
    else:
        parts = dict(getattr(answer, "__dict__", {}))
    if isinstance(parts.get("logits"), Tensor | fx.Proxy):
        return _checked(parts["logits"], "output 'logits'")
    fitting = {key: part for key, part in parts.items() if _is_logits(part)}
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    found = f"{len(fitting)} of {list(parts)} are" if parts else f"{type(answer).__name__} is not"
    raise ModelError(f"one output must be floating logits (N, C) but {found}; say which one with logits=")


def _named(answer: object, name: str | int) -> object:
    if isinstance(answer, Mapping) and name in answer:
        return answer[name]
    if isinstance(answer, tuple | list) and isinstance(name, int) and -len(answer) <= name < len(answer):
        return answer[name]
    if isinstance(name, str) and hasattr(answer, name):
        return getattr(answer, name)
    known = [str(key) for key in answer] if isinstance(answer, Mapping) else []
    kind = type(answer).__name__
    raise ModelError(f"the model's answer ({kind}) has no output {name!r}; {nearest(str(name), known)}")


def _is_logits(part: object) -> bool:
    return isinstance(part, Tensor) and part.dim() == 2 and part.is_floating_point()


def _checked(part: object, what: str) -> Tensor:
    if not _is_logits(part) and not isinstance(part, fx.Proxy):
        came = f"{part.dtype} of {part.dim()} dimensions" if isinstance(part, Tensor) else type(part).__name__
        raise ModelError(f"{what} must be floating logits (N, C); got {came}")
    return part
