"""What makers for token ids share."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from .stanza import TrainedMakerStanza
from .trained import TrainedMaker


class TokenInputs(NamedTuple):
    """Names of the inputs of token ids and, if there is one, of their mask, each (N, L)."""

    ids: str
    mask: str | None

    @classmethod
    def find(cls, inputs: Mapping[str, Tensor]) -> "TokenInputs | None":
        """Find the token ids and their mask.

        Args:
            inputs: By name, each (N, ...).

        Returns:
            The names; a mask is what is called so, and types and positions of tokens are not used. None if an input is
            no (N, L) of integers, or if none or several may be token ids.
        """
        if any(tensor.dim() != 2 or tensor.dtype not in (torch.int64, torch.int32) for tensor in inputs.values()):
            return None
        masks = [name for name in inputs if name.endswith("mask")]
        ids = [name for name in inputs if name not in masks and "type" not in name and "position" not in name]
        if len(ids) != 1 or len(masks) > 1:
            return None
        return cls(ids[0], masks[0] if masks else None)


class TokenMakerStanza(TrainedMakerStanza):
    """Savers for token ids."""

    shares: list[float] = Field(
        [0.02],
        min_length=1,
        description="costs of the savers, as shares of the backbone's: the largest that fits each is made",
    )
    word_dropout: float = Field(0.2, ge=0, lt=1, description="share of the tokens left out in each step of training")


class TokenMaker(TrainedMaker):
    """Base of makers for token ids (N, L), with or without a mask."""

    @classmethod
    def suits(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return whether there are token ids."""
        return TokenInputs.find(inputs) is not None

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the token ids and their mask."""
        found = TokenInputs.find(self.task.inputs)
        assert found is not None, "other inputs do not suit"
        return tuple(name for name in found if name is not None)


def real_tokens(ids: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Return 1 for tokens and 0 for padding, int64 (N, L) like the ids; a share of the tokens is 0, too, at random."""
    real = torch.ones_like(ids, dtype=torch.int64) if mask is None else (mask != 0).long()
    return real * (torch.rand(real.shape, device=real.device) >= dropout).long() if dropout else real


def following(tokens: Tensor, count: int) -> list[Tensor]:
    """Return what stands at each place (N, L, ...) and at each of the next `count` - 1, with zeros behind the end."""
    padded = functional.pad(tokens, (0, 0) * (tokens.dim() - 2) + (0, count - 1))
    return [padded[:, place : (place - count + 1) or None] for place in range(count)]
