"""What the parts of a dynamic model take and give, and whether they fit together."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError, nearest
from .names import FINAL, FUSES, HIDDEN, MEMORY


def head_input_names(head: nn.Module) -> tuple[str, ...]:
    """Return names of what a head takes: ``hidden``, ``memory``, and perhaps inputs of the model, such as a mask."""
    return tuple(getattr(head, "input_names", (HIDDEN,)))


def segment_input_names(segment: nn.Module, place: int, input_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of what the segment at a place takes; refuse one that nothing gives."""
    names = tuple(getattr(segment, "input_names", input_names if place == 0 else (HIDDEN,)))
    known = input_names if place == 0 else (HIDDEN, *input_names)
    for name in names:
        if name not in known:
            raise ModelError(f"segment {place} takes '{name}', which nothing gives; {nearest(name, known)}")
    return names


def saver_input_names(saver: nn.Module, name: str, input_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of the model's inputs that a saver takes: those that it states in ``input_names``, else all."""
    names = tuple(getattr(saver, "input_names", None) or input_names)
    for each in names:
        if each not in input_names:
            raise ModelError(f"saver '{name}' takes '{each}', which nothing gives; {nearest(each, input_names)}")
    return names


def check_parts(segments: Sequence, input_names: Sequence[str], savers: dict, exits: dict, fuse: str) -> None:
    """Refuse parts that make no chain."""
    if not segments or not input_names:
        raise ModelError(f"a dynamic model needs segments and inputs; got {len(segments)} and {len(input_names)}")
    if fuse not in FUSES:
        raise ModelError(f"fuse must be none or mean; got '{fuse}'")
    for name in savers:
        if name in exits:
            raise ModelError(f"stage '{name}' is a saver and an exit; names must be unique")
    if FINAL in savers or FINAL in exits:
        raise ModelError(f"a stage cannot be called '{FINAL}'; that is the backbone's own head")
    for name, (place, _) in exits.items():
        if not 0 <= place < len(segments) - 1:
            raise ModelError(
                f"exit '{name}' sits after segment {place}; only segments 0 to {len(segments) - 2} are followed by more"
            )


def check_taps(taps: dict, savers: dict, exits: dict) -> None:
    """Refuse taps without a source, and exits that read taps which do not exist."""
    if -1 in taps and not (savers and hasattr(taps[-1], "width")):
        raise ModelError("a tap on the last saver's logits needs a saver and a `width`; give both or neither")
    for name, (place, head) in exits.items():
        if MEMORY in head_input_names(head) and place not in taps:
            raise ModelError(f"exit '{name}' reads taps up to segment {place}, which has none; give one in `taps`")


def check_heads(model: Any) -> None:
    """Try each head on a hidden state of the right shape, where the segments know it."""
    for stage in model._stages:
        if stage.kind != "exit" or stage.segment >= len(model.segments):
            continue
        following = model.segments[stage.segment]
        classes = getattr(following, "classes", None)
        examples = getattr(following, "example_inputs", None)
        if examples is None or classes is None or HIDDEN not in model._segment_input_names[stage.segment]:
            continue
        known = dict(zip(model._segment_input_names[stage.segment], examples, strict=True))
        hidden, head = known[HIDDEN], model._module(stage)
        if not set(head_input_names(head)) <= set(known):
            continue
        try:
            with torch.no_grad():
                logits = head(*(known[name] for name in head_input_names(head)))
        except Exception as failure:
            raise ModelError(
                f"exit '{stage.name}' cannot take a hidden state of shape {tuple(hidden.shape)}: {failure}"
            ) from failure
        if not isinstance(logits, Tensor) or tuple(logits.shape) != (hidden.shape[0], classes):
            came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(f"exit '{stage.name}' must give logits ({hidden.shape[0]}, {classes}); got {came}")
