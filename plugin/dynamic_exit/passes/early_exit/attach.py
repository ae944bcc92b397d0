"""Attaches exit heads to the segments of a frozen backbone."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ...graph import Cut
from ...runtime.batches import run_in_batches
from .config import EarlyExitStanza
from .heads import build_head
from .train import train_head


def attach_exits(
    segments: Sequence[nn.Module],
    cuts: Sequence[Cut],
    inputs: Mapping[str, Tensor],
    labels: Tensor,
    classes: int,
    stanza: EarlyExitStanza,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
    batch_size: int = 64,
) -> dict[str, tuple[int, nn.Module]]:
    """Train heads behind every cut on what the segments give; the segments stay as they are.

    Args:
        segments: One more than `cuts`, each with `takes`; torch modules or sessions.
        cuts: Where heads go.
        inputs: The model's inputs by name, each (N, ...), of the training split.
        labels: int64 (N,), -1 where unknown.
        classes: Number of classes C.
        stanza: Kinds of heads and training.
        seed: Starts every head's weights and decides the order of samples.
        say: Takes progress lines.
        batch_size: Samples at a time through the segments.

    Returns:
        Exits by name, ``cut:kind``: the index of the segment behind which each stands, and the head.
    """
    given = dict(inputs)
    hidden = []
    for segment in segments:
        given["hidden"] = run_in_batches(segment, [given[name] for name in segment.takes], batch_size)
        hidden.append(given["hidden"])
    exits = {}
    for index, cut in enumerate(cuts):
        for kind in stanza.heads:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                head = build_head(kind, cut.shape, classes)
            train_head(head, hidden[index], labels, hidden[-1], stanza.training, seed)
            exits[f"{cut.name}:{kind}"] = (index, head)
            say(f"exit {cut.name}:{kind} behind {cut.share:.0%} of the backbone")
    return exits
