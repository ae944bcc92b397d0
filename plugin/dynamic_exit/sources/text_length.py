"""How many tokens of a text a model takes, which its position embeddings decide."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..graph import Classifier, is_text

# tokens up to which models are tried: attention costs their square
_TRIED, _TRIED_AS_TOLD = 1024, 2048


def longest_text(models: Sequence[Classifier], example: Mapping[str, Tensor]) -> int | None:
    """Find the most tokens that all models take.

    Args:
        models: In evaluation mode.
        example: Inputs of at least one sample by name, of a length that they take.

    Returns:
        The number, or None where no model refuses any that was tried.
    """
    limits = [_longest(model, example) for model in models]
    return min((limit for limit in limits if limit is not None), default=None)


def _longest(model: Classifier, example: Mapping[str, Tensor]) -> int | None:
    inputs = model.select(example)
    known = next((tensor.shape[1] for tensor in inputs if is_text(tensor)), None)
    if model.keywords is None or known is None:
        return None
    told = _told(model.model)
    if told is not None and told > _TRIED_AS_TOLD:
        return told
    low, high = known, known  # the longest that is taken, and the shortest that is not
    tried = told + 1 if told is not None and told >= known else 2 * known
    while _takes(model, inputs, tried):
        if told is not None or tried >= _TRIED:
            return None  # positions are counted from one token to another, or not at all
        low, tried = tried, min(2 * tried, _TRIED)
    high, tried = tried, tried - 1 if told is not None else (low + tried) // 2
    while high - low > 1:
        low, high = (tried, high) if _takes(model, inputs, tried) else (low, tried)
        tried = (low + high) // 2
    return low


def _told(model: nn.Module) -> int | None:
    """What a Hugging Face model's configuration says; a table that also has a row for padding gives as many less."""
    told = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if not isinstance(told, int) or told < 1:
        return None
    tables = (part for part in model.modules() if isinstance(part, nn.Embedding) and part.num_embeddings == told)
    padding = next((table.padding_idx for table in tables if table.padding_idx is not None), None)
    return told if padding is None else told - padding - 1


@torch.no_grad()
def _takes(model: Classifier, inputs: Sequence[Tensor], length: int) -> bool:
    """Whether a model answers one text of a length, made of the example's first by repeating it."""
    mask = next(
        (tensor[0] for name, tensor in zip(model.input_names or (), inputs, strict=False) if "mask" in name), None
    )
    real = torch.arange(next(tensor.shape[1] for tensor in inputs if is_text(tensor)))
    real = real if mask is None or not mask.any() else mask.nonzero().flatten()
    columns = real[torch.arange(length) % len(real)]
    try:
        model(*(tensor[:1, columns] if is_text(tensor) else tensor[:1] for tensor in inputs))
    except Exception:  # an index beyond a table, two sides that do not fit, an assertion: whatever a model raises
        return False
    return True
