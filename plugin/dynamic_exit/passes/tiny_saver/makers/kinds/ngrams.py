"""Bags of hashed n-grams for token ids: next to nothing to compute."""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from ..base import Architecture
from ..tokens import TokenMaker, TokenMakerStanza, following, real_tokens

#: The longest n-grams.
ORDERS = 3
#: Of the hash; products with the largest number of buckets stay in 31 bits, as some runtimes compute with 32.
MULTIPLIER = 6007


class NGramsStanza(TokenMakerStanza):
    """Hashed 1-, 2- and 3-grams of token ids: the mean of their embeddings and a small head."""

    learning_rate: float = Field(1e-2, gt=0, description="peak rate of AdamW, after a warm-up and before cosine decay")
    word_dropout: float = Field(0.5, ge=0, lt=1, description="share of the tokens left out in each step of training")
    quantize: bool = Field(
        False, description="true: the head is quantized as `quantization` says; it is tiny, and faster in float"
    )
    buckets: int = Field(
        2**15, ge=16, le=2**18, description="rows of the table of embeddings for each length of n-grams"
    )
    width: int = Field(24, ge=1, description="numbers in an embedding")
    hidden: int = Field(32, ge=0, description="units between embedding and logits; 0: the head is linear")


class NGramsMaker(TokenMaker):
    """Makes bags of n-grams for token ids, with or without a mask."""

    Options = NGramsStanza
    takes = "token ids, with or without a mask"

    def architectures(self, share: float) -> Sequence[Architecture]:
        """Return a linear head and, unless the recipe wants that, one with a hidden layer."""
        common = {name: getattr(self.stanza, name) for name in ("buckets", "width", "word_dropout")}
        return [{"hidden": hidden, **common} for hidden in sorted({0, self.stanza.hidden})]

    def build(self, architecture: Architecture) -> nn.Module:
        """Build an untrained bag."""
        return NGrams(classes=self.task.classes, **architecture)


class NGrams(nn.Module):
    """A bag of hashed n-grams.

    Args:
        buckets: Rows of the table for each length of n-grams.
        width: Numbers in an embedding.
        hidden: Units between embedding and logits, 0 for a linear head.
        word_dropout: Share of the tokens left out in training mode.
        classes: Number of logits.
    """

    def __init__(self, buckets: int, width: int, hidden: int, word_dropout: float, classes: int):
        super().__init__()
        self.buckets, self.word_dropout = buckets, word_dropout
        self.table = nn.Embedding(ORDERS * buckets + 1, width, padding_idx=0)
        nn.init.zeros_(self.table.weight)  # n-grams that training never saw say nothing
        layers = [nn.Linear(ORDERS * width, hidden), nn.ReLU()] if hidden else []
        self.head = nn.Sequential(*layers, nn.Linear(hidden or ORDERS * width, classes))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Map token ids (N, L), with a mask that is zero at padding, to logits (N, classes)."""
        real = real_tokens(input_ids, attention_mask, self.word_dropout if self.training else 0.0)
        rows = ngram_rows(input_ids, real, self.buckets)
        count = (rows > 0).sum(dim=2, keepdim=True).clamp(min=1)
        return self.head((self.table(rows).sum(dim=2) / count).flatten(1))


def ngram_rows(ids: Tensor, real: Tensor, buckets: int) -> Tensor:
    """Hash n-grams.

    The hash of a token is t mod buckets, that of an n-gram (h * MULTIPLIER + t) mod buckets, with h of all but its
    last token t.

    Args:
        ids: Not negative (N, L).
        real: 1 for tokens and 0 for padding (N, L).
        buckets: Hashes of each length of n-grams.

    Returns:
        int64 (N, 3, L): for the n-gram of each length that begins at each place its row, 1 + hash + buckets times the
        length less one; 0 if it holds padding or goes beyond the end.
    """
    tokens, kept = following(ids.long(), ORDERS), following(real.long(), ORDERS)
    hashed, whole = tokens[0] % buckets, kept[0]
    rows = [whole * (hashed + 1)]
    for order in range(1, ORDERS):
        hashed, whole = (hashed * MULTIPLIER + tokens[order]) % buckets, whole * kept[order]
        rows.append(whole * (hashed + (1 + order * buckets)))
    return torch.stack(rows, dim=1)


KIND = NGramsMaker
