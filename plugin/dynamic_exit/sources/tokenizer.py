"""Tokenizers of text recipes: loaded for training, and saved beside the exported model."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError, first_line
from ..passes import ModelSource
from ..recipe.data import DataSource
from .models.base import find_builder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# tokenizers without a limit state a huge one
_NO_LIMIT = 1_000_000


def load_tokenizer(source: DataSource, model: ModelSource | None) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a recipe's text.

    Args:
        source: The stanza `data`, which may name one.
        model: The backbone's stanza; its source may know one.

    Returns:
        A tokenizer of transformers, which can pad.

    Raises:
        DataError: None is named, it cannot be loaded, or it cannot pad.
    """
    from transformers import AutoTokenizer

    name = source.text_options.tokenizer or (find_builder(model).find_tokenizer() if model is not None else None)
    if name is None:
        raise DataError(
            "text needs a tokenizer and the model brings none; name a folder or a model in `data.text.tokenizer`"
        )
    if Path(name).is_absolute() and not any(Path(name).glob("*token*")) and not any(Path(name).glob("vocab*")):
        raise DataError(f"folder '{name}' holds no tokenizer; save one there, or name another in `data.text.tokenizer`")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the hub, the disk and each tokenizer raise classes of their own
        reason = first_line(error)
        raise DataError(
            f"tokenizer '{name}' cannot be loaded: {reason}; name another in `data.text.tokenizer`"
        ) from error
    if tokenizer.pad_token is None:
        raise DataError(f"tokenizer '{name}' has no token to fill texts up with; give it a `pad_token` and save it")
    return tokenizer


def text_decoder(source: DataSource, model: ModelSource | None) -> Callable[[np.ndarray], str]:
    """Return what turns the token indices of one sample, int64 (L,), back into text.

    Arguments and errors are those of `load_tokenizer`.
    """
    tokenizer = load_tokenizer(source, model)
    return lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=True))


def token_limit(source: DataSource, tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """Return the number of tokens to which texts are truncated, from the recipe or the tokenizer; None if unlimited."""
    limit = source.text_options.max_length or tokenizer.model_max_length
    return int(limit) if limit < _NO_LIMIT else None


def save_tokenizer(folder: Path, source: DataSource, model: ModelSource | None, max_tokens: int | None) -> list[str]:
    """Save the tokenizer of a recipe's text beside a model; with ``truncation=True`` it truncates as the recipe does.

    Args:
        folder: The model's folder; files of the same names are replaced.
        source: The stanza `data`.
        model: The backbone's stanza.
        max_tokens: The maximum number of tokens that the exported model takes; None if unlimited.

    Returns:
        The sorted names of the files that it wrote, relative to the folder.

    Raises:
        DataError: The tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(source, model)
    limits = [limit for limit in (token_limit(source, tokenizer), max_tokens) if limit is not None]
    if limits:
        tokenizer.model_max_length = min(limits)
        fast = getattr(tokenizer, "backend_tokenizer", None)
        if fast is not None:  # for programs that read tokenizer.json without transformers
            fast.enable_truncation(min(limits), direction=tokenizer.truncation_side)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tokenizer") as new:
        tokenizer.save_pretrained(new)
        names = sorted(path.relative_to(new).as_posix() for path in Path(new).rglob("*") if path.is_file())
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(new, name), folder / name)
    return names
