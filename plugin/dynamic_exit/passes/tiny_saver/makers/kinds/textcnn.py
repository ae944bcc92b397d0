"""Convolutions over token embeddings, and the maximum of each over the text."""

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..base import Architecture
from ..tokens import TokenMaker, TokenMakerStanza, following, real_tokens

#: Numbers in an embedding, and channels of each convolution.
SIZES = ((8, 8), (16, 16), (24, 32), (32, 64), (48, 96), (64, 128), (64, 256), (96, 384))
#: Tokens that a convolution sees.
SPANS = (2, 3, 4)


class TextCNNStanza(TokenMakerStanza):
    """Convolutions over 2 to 4 tokens (arXiv 1408.5882) that begin with the backbone's embeddings, as wide as fits."""

    buckets: int = Field(
        2**15, ge=16, description="rows of the table of embeddings: that of a token is its id modulo this"
    )
    dropout: float = Field(0.3, ge=0, lt=1, description="share of the features left out in each step of training")


class TextCNNMaker(TokenMaker):
    """Makes convolutional networks for token ids, with or without a mask."""

    Options = TextCNNStanza
    takes = "token ids, with or without a mask"

    def architectures(self, share: float) -> Sequence[Architecture]:
        """Return networks of all sizes."""
        common = {name: getattr(self.stanza, name) for name in ("buckets", "word_dropout", "dropout")}
        return [{"width": width, "channels": channels, **common} for width, channels in SIZES]

    def build(self, architecture: Architecture) -> nn.Module:
        """Build an untrained network."""
        return TextCNN(classes=self.task.classes, **architecture)

    def prepare(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
        """Begin with the backbone's embeddings of tokens, if it has any."""
        assert isinstance(model, TextCNN)
        tables = [module.weight for module in self.task.backbone.modules() if isinstance(module, nn.Embedding)]
        if tables:
            table = model.table.weight.data
            words = max(tables, key=len)[: self.stanza.buckets].detach().float()
            table[1 : 1 + len(words)] = principal_components(words, table.shape[1]).to(table)


class TextCNN(nn.Module):
    """Convolutions of several spans, each with its maximum over the text.

    Args:
        buckets: Rows of the table of embeddings.
        width: Numbers in an embedding.
        channels: Of each convolution.
        word_dropout: Share of the tokens left out in training mode.
        dropout: Share of the features left out in training mode.
        classes: Number of logits.
    """

    def __init__(self, buckets: int, width: int, channels: int, word_dropout: float, dropout: float, classes: int):
        super().__init__()
        self.buckets, self.word_dropout = buckets, word_dropout
        self.table = nn.Embedding(buckets + 1, width, padding_idx=0)
        # as products, since in models of text these alone are quantized
        self.convolutions = nn.ModuleList(nn.Linear(span * width, channels) for span in SPANS)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(len(SPANS) * channels, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Map token ids (N, L), with a mask that is zero at padding, to logits (N, classes)."""
        real = real_tokens(input_ids, attention_mask, self.word_dropout if self.training else 0.0)
        tokens = self.table(real * (input_ids.long() % self.buckets + 1))
        windows = following(tokens, max(SPANS))
        kept = real.unsqueeze(2).to(tokens.dtype)
        found = []
        for span, convolution in zip(SPANS, self.convolutions, strict=True):
            answers = functional.relu(convolution(torch.cat(windows[:span], dim=2)))
            found.append((answers * kept).amax(dim=1))
        return self.head(self.dropout(torch.cat(found, dim=1)))


def principal_components(rows: Tensor, count: int) -> Tensor:
    """Return coordinates of rows (N, W) along their first principal components, float (N, count) of deviation 1.

    Components that there are not, as W is less than `count`, are zero.
    """
    centered = rows - rows.mean(dim=0)
    directions = torch.linalg.eigh(centered.T @ centered).eigenvectors.flip(1)[:, :count]
    found = centered @ directions
    return functional.pad(found / found.std().clamp(min=1e-9), (0, count - found.shape[1]))


KIND = TextCNNMaker
