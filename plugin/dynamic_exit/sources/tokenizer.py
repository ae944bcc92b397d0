"""Tokenizers of text recipes: where they come from, and how they are written beside a model."""

import os
import tempfile
from pathlib import Path
from typing import Any

from ..errors import DataError, first_line
from ..passes import ModelSource
from ..recipe.data import DataSource

# a tokenizer that knows no limit says an absurdly large one
_NO_LIMIT = 1_000_000


def load_tokenizer(source: DataSource, model: ModelSource | None) -> Any:
    """Load the tokenizer of a recipe's text.

    Args:
        source: May name it.
        model: The backbone's stanza; a Hugging Face model brings its own.

    Returns:
        A tokenizer of transformers, which can pad.

    Raises:
        DataError: Nobody names one, it cannot be loaded, or it cannot pad.
    """
    from transformers import AutoTokenizer

    own = model.name if model is not None and model.source == "transformers" else None
    name = source.text.tokenizer or own
    if name is None:
        raise DataError(
            "text needs a tokenizer and the model brings none; name a folder or a model in `data.text.tokenizer`"
        )
    if Path(name).is_absolute() and not any(Path(name).glob("*token*")) and not any(Path(name).glob("vocab*")):
        raise DataError(f"folder '{name}' holds no tokenizer; save one there, or name another in `data.text.tokenizer`")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # the hub, the disk and each tokenizer raise classes of their own
        reason = first_line(error)
        raise DataError(
            f"tokenizer '{name}' cannot be loaded: {reason}; name another in `data.text.tokenizer`"
        ) from error
    if tokenizer.pad_token is None:
        raise DataError(f"tokenizer '{name}' has no token to fill texts up with; give it a `pad_token` and save it")
    return tokenizer


def token_limit(source: DataSource, tokenizer: Any) -> int | None:
    """Return beyond how many tokens texts are cut: as the recipe says, else the tokenizer; None where none says."""
    limit = source.text.max_length or tokenizer.model_max_length
    return int(limit) if limit < _NO_LIMIT else None


def save_tokenizer(folder: Path, source: DataSource, model: ModelSource | None, max_tokens: int | None) -> list[str]:
    """Write the tokenizer of a recipe's text beside a model; with ``truncation=True`` it cuts texts as the recipe did.

    Args:
        folder: Where to; files of the same names are replaced.
        source: The stanza.
        model: The backbone's stanza.
        max_tokens: The most tokens that the written model takes; None: any number.

    Returns:
        Names in the folder of all files that it wrote, in order.

    Raises:
        DataError: It cannot be loaded.
    """
    tokenizer = load_tokenizer(source, model)
    limits = [limit for limit in (token_limit(source, tokenizer), max_tokens) if limit is not None]
    if limits:
        tokenizer.model_max_length = min(limits)
        fast = getattr(tokenizer, "backend_tokenizer", None)
        if fast is not None:  # for those who read tokenizer.json without transformers
            fast.enable_truncation(min(limits), direction=tokenizer.truncation_side)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tokenizer") as new:
        tokenizer.save_pretrained(new)
        names = sorted(path.relative_to(new).as_posix() for path in Path(new).rglob("*") if path.is_file())
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(new, name), folder / name)
    return names
