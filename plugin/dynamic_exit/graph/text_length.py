"""The maximum number of tokens that a model takes, which its position embeddings limit."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .classifier import Classifier
from .program import is_text

# lengths up to which models are probed, without and with a configured limit: attention costs their square
_MAX_PROBE, _MAX_CONFIGURED_PROBE = 1024, 2048


def find_max_tokens(models: Sequence[Classifier], example: Mapping[str, Tensor]) -> int | None:
    """Find the maximum number of tokens that all models take.

    Args:
        models: In evaluation mode.
        example: Inputs of at least one sample by name, of a length that all models take.

    Returns:
        The number; None if no model refuses any length that was probed.
    """
    limits = [_find_limit(model, example) for model in models]
    return min((limit for limit in limits if limit is not None), default=None)


def _find_limit(model: Classifier, example: Mapping[str, Tensor]) -> int | None:
    inputs = model.select(example)
    length = next((tensor.shape[1] for tensor in inputs if is_text(tensor)), None)
    if model.keywords is None or length is None:
        return None
    configured = _configured_limit(model.model)
    if configured is not None and configured > _MAX_CONFIGURED_PROBE:
        return configured
    low, high = length, length  # the longest accepted length, and the shortest rejected one
    probe = configured + 1 if configured is not None and configured >= length else 2 * length
    while _accepts(model, inputs, probe):
        if configured is not None or probe >= _MAX_PROBE:
            return None  # position embeddings are relative, or absent
        low, probe = probe, min(2 * probe, _MAX_PROBE)
    high, probe = probe, probe - 1 if configured is not None else (low + probe) // 2
    while high - low > 1:
        low, high = (probe, high) if _accepts(model, inputs, probe) else (low, probe)
        probe = (low + high) // 2
    return low


def _configured_limit(model: nn.Module) -> int | None:
    """Return the limit that a transformers configuration states, less the rows that its embedding uses for padding."""
    configured = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if not isinstance(configured, int) or configured < 1:
        return None
    tables = (part for part in model.modules() if isinstance(part, nn.Embedding) and part.num_embeddings == configured)
    padding = next((table.padding_idx for table in tables if table.padding_idx is not None), None)
    return configured if padding is None else configured - padding - 1


@torch.no_grad()
def _accepts(model: Classifier, inputs: Sequence[Tensor], length: int) -> bool:
    """Whether a model accepts a text of a given length, made by repeating the first text of the example."""
    mask = next(
        (tensor[0] for name, tensor in zip(model.input_names or (), inputs, strict=False) if "mask" in name), None
    )
    real = torch.arange(next(tensor.shape[1] for tensor in inputs if is_text(tensor)))
    real = real if mask is None or not mask.any() else mask.nonzero().flatten()
    columns = real[torch.arange(length) % len(real)]
    try:
        model(*(tensor[:1, columns] if is_text(tensor) else tensor[:1] for tensor in inputs))
    except Exception:  # models raise index, shape or assertion errors
        return False
    return True
