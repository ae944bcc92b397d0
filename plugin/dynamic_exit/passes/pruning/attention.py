"""Attention modules of timm and transformers, and their heads before and after pruning."""

from dataclasses import dataclass

from torch import nn

# attribute names of the projections to queries, keys and values, of the head count and of the width of all heads
_PROJECTIONS = (("qkv",), ("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q_lin", "k_lin", "v_lin"))
_COUNTS = ("num_attention_heads", "num_heads", "n_heads")
_WIDTHS = ("all_head_size", "attn_dim")


@dataclass(frozen=True)
class Attention:
    """An attention module whose heads can be removed one by one.

    Attributes:
        module: The module that holds the projections.
        projections: To queries, keys and values: one linear layer, or three.
        heads: Number of heads.
        head_width: Features per head.
    """

    module: nn.Module
    projections: tuple[nn.Linear, ...]
    heads: int
    head_width: int

    def update(self) -> None:
        """Set the module's own head count to that of its projections."""
        width = self.projections[0].out_features * len(self.projections) // 3
        for name in _COUNTS:
            if hasattr(self.module, name):
                setattr(self.module, name, width // self.head_width)
        for name in _WIDTHS:
            if hasattr(self.module, name):
                setattr(self.module, name, width)


def find_attentions(model: nn.Module) -> list[Attention]:
    """Return the attention modules of a model whose queries, keys and values have the same number of heads."""
    attentions = []
    for module in model.modules():
        heads = next((getattr(module, name) for name in _COUNTS if isinstance(getattr(module, name, None), int)), 0)
        for names in _PROJECTIONS:
            layers = [layer for name in names if isinstance(layer := getattr(module, name, None), nn.Linear)]
            widths = {layer.out_features * len(names) // 3 for layer in layers}
            if heads and len(layers) == len(names) and len(widths) == 1 and (width := widths.pop()) % heads == 0:
                attentions.append(Attention(module, tuple(layers), heads, width // heads))
    return attentions
