"""The logits among the outputs of any model."""

from collections.abc import Mapping
from typing import TypeGuard, cast

from torch import Tensor, fx

from ..errors import ModelError, nearest


def find_logits(answer: object, name: str | int | None = None) -> Tensor:
    """Find the logits in the output of a model.

    Args:
        answer: A tensor, tuple, list or mapping, or an object with attributes such as ``ModelOutput``.
        name: Key, attribute or index of the logits; None takes ``logits`` if it exists, else the only floating tensor
            of two dimensions.

    Returns:
        The logits (N, C), floating.

    Raises:
        ModelError: No output fits, or several fit and no name was given.
    """
    if name is not None:
        return _checked(_named(answer, name), f"output {name!r}")
    if isinstance(answer, fx.Proxy):  # torch.fx is tracing; the shape is checked after capture
        return cast(Tensor, answer)
    if isinstance(answer, Tensor):
        return _checked(answer, "the output")
    parts = _parts(answer)
    if isinstance(parts.get("logits"), Tensor | fx.Proxy):
        return _checked(parts["logits"], "output 'logits'")
    fitting = {key: part for key, part in parts.items() if _is_logits(part)}
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    found = f"{len(fitting)} of {list(parts)} are" if parts else f"{type(answer).__name__} is not"
    raise ModelError(f"one output must be floating logits (N, C) but {found}; say which one with logits=")


def find_single_logit(answer: object, samples: int) -> Tensor | None:
    """Find the only logit of a binary model in its output.

    Args:
        answer: As for `find_logits`.
        samples: Number of samples N.

    Returns:
        The logit, floating (N,) or (N, 1); None if there is no such output, or several.
    """
    parts = [answer] if isinstance(answer, Tensor) else [*_parts(answer).values()]
    named = None if isinstance(answer, Tensor) else _parts(answer).get("logits")
    fitting = [part for part in (parts if named is None else [named]) if isinstance(part, Tensor)]
    single = [part for part in fitting if part.is_floating_point() and part.shape in ((samples,), (samples, 1))]
    return single[0] if len(single) == 1 else None


def _parts(answer: object) -> dict[object, object]:
    """Return the outputs of a model by key, attribute or index."""
    if isinstance(answer, Mapping):
        return dict(answer)
    if isinstance(answer, tuple | list):
        return dict(enumerate(answer)) if not hasattr(answer, "_asdict") else answer._asdict()
    return dict(getattr(answer, "__dict__", {}))


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


def _is_logits(part: object) -> TypeGuard[Tensor]:
    return isinstance(part, Tensor) and part.dim() == 2 and part.is_floating_point()


def _checked(part: object, what: str) -> Tensor:
    if isinstance(part, fx.Proxy):
        return cast(Tensor, part)
    if not _is_logits(part):
        came = f"{part.dtype} of {part.dim()} dimensions" if isinstance(part, Tensor) else type(part).__name__
        raise ModelError(f"{what} must be floating logits (N, C); got {came}")
    return part
