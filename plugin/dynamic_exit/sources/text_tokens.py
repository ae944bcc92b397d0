"""Texts as token indices, padded to one length in all splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..recipe.data import DataSource
from .tokenizer import token_limit

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Texts:
    """The texts of one split.

    Attributes:
        holder: What holds them, for messages, such as ``text file 'train.csv'``.
        columns: One list of N texts, or two if texts come in pairs.
        unit: What a text stands in, ``line`` or ``row``.
        positions: The N numbers of these.
    """

    holder: str
    columns: tuple[list[str], ...]
    unit: str
    positions: Sequence[int]


def tokenize_splits(
    splits: Mapping[str, Texts], source: DataSource, tokenizer: "PreTrainedTokenizerBase"
) -> dict[str, dict[str, np.ndarray]]:
    """Tokenize the texts of all splits.

    Args:
        splits: By name.
        source: The stanza `data`.
        tokenizer: That of the stanza or the backbone.

    Returns:
        Token indices and masks, each int64 (N, L), by the tokenizer's names for them, of each split.

    Raises:
        DataError: A text has no tokens, or the tokenizer does not know the words.
    """
    limit = token_limit(source, tokenizer)
    truncation = {} if limit is None else {"truncation": True, "max_length": limit}
    tokens = {name: tokenizer(*texts.columns, **truncation) for name, texts in splits.items()}
    for name, texts in splits.items():
        empty = next((i for i, ids in enumerate(tokens[name]["input_ids"]) if not ids), None)
        if empty is not None:
            raise DataError(
                f"{texts.holder} has no word in {texts.unit} {texts.positions[empty]} that becomes a token; leave the "
                f"{texts.unit} out"
            )
    _check_known(tokens, splits, tokenizer)
    longest = max(len(ids) for each in tokens.values() for ids in each["input_ids"])
    length = limit if source.text_options.padding == "max_length" else max(longest, 2)
    padded = {
        name: tokenizer.pad(each, padding="max_length", max_length=length, return_tensors="np")
        for name, each in tokens.items()
    }
    return {name: {key: array.astype(np.int64) for key, array in each.items()} for name, each in padded.items()}


def _check_known(
    tokens: Mapping[str, "BatchEncoding"], splits: Mapping[str, Texts], tokenizer: "PreTrainedTokenizerBase"
) -> None:
    """Refuse a tokenizer to which most words are unknown, so that different texts become the same."""
    rows = [ids for each in tokens.values() for ids in each["input_ids"]]
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in rows)
    if 2 * unknown < sum(map(len, rows)):
        return
    texts = {text for each in splits.values() for text in zip(*each.columns, strict=True)}
    different = len({*map(tuple, rows)})
    if 2 * different < len(texts):
        raise DataError(
            f"the tokenizer '{tokenizer.name_or_path}' knows few of the words in {next(iter(splits.values())).holder}: "
            f"of {len(texts)} different texts it makes {different}, most tokens being '{tokenizer.unk_token}' "
            f"({len(tokenizer)} tokens are known); save the one that the model was trained with, or name it in "
            "`data.text.tokenizer`"
        )
