"""Inputs and outputs of the parts of a dynamic model, and checks that they fit together."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..chain.confidence import confidence_names
from ..chain.evidence import Evidence, evidence_names
from ..chain.names import FINAL, HIDDEN, MEMORY
from ..chain.rule_names import listed
from ..errors import ModelError, nearest


def head_input_names(head: nn.Module) -> tuple[str, ...]:
    """Return the input names of a head: ``hidden``, ``memory``, and perhaps inputs of the model, such as a mask."""
    return tuple(getattr(head, "input_names", (HIDDEN,)))


def segment_input_names(segment: nn.Module, place: int, input_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the input names of a segment.

    Args:
        segment: The segment.
        place: Its index.
        input_names: Inputs of the model.

    Raises:
        ModelError: It takes what neither the model nor another segment provides.
    """
    stated = getattr(segment, "input_names", None)  # None of a whole classifier that takes all
    names = tuple(stated if stated is not None else input_names if place == 0 else (HIDDEN,))
    known = input_names if place == 0 else (HIDDEN, *input_names)
    for name in names:
        if name not in known:
            raise ModelError(f"segment {place} takes '{name}', which nothing gives; {nearest(name, known)}")
    return names


def saver_input_names(saver: nn.Module, name: str, input_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the inputs of the model that a saver takes: those that it states in ``input_names``, else all.

    Args:
        saver: The saver.
        name: Name of its stage.
        input_names: Inputs of the model.

    Raises:
        ModelError: It takes what is no input of the model.
    """
    names = tuple(getattr(saver, "input_names", None) or input_names)
    for each in names:
        if each not in input_names:
            raise ModelError(f"saver '{name}' takes '{each}', which nothing gives; {nearest(each, input_names)}")
    return names


def check_parts(
    segments: Sequence[nn.Module],
    input_names: Sequence[str],
    savers: Mapping[str, nn.Module],
    exits: Mapping[str, tuple[int, nn.Module]],
    fuse: Evidence,
) -> None:
    """Check that parts form a chain.

    Args:
        segments: The segments of the backbone.
        input_names: Inputs of the model.
        savers: Stage name -> saver.
        exits: Stage name -> (index of the segment before it, head).
        fuse: How evidence is combined.

    Raises:
        ModelError: They do not.
    """
    if not segments or not input_names:
        raise ModelError(f"a dynamic model needs segments and inputs; got {len(segments)} and {len(input_names)}")
    for key, value, known in (
        ("fuse", fuse.rule, evidence_names()),
        ("confidence", fuse.confidence, confidence_names()),
    ):
        if value not in known:
            raise ModelError(f"{key} must be {listed(known)}; got '{value}'")
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


def check_taps(
    taps: Mapping[int, nn.Module], savers: Mapping[str, nn.Module], exits: Mapping[str, tuple[int, nn.Module]]
) -> None:
    """Check that taps have a source, and that the taps which exits read exist.

    Args:
        taps: Index of the segment before it, -1 for the last saver -> tap.
        savers: Stage name -> saver.
        exits: Stage name -> (index of the segment before it, head).

    Raises:
        ModelError: They do not.
    """
    if -1 in taps and not (savers and hasattr(taps[-1], "width")):
        raise ModelError("a tap on the last saver's logits needs a saver and a `width`; give both or neither")
    for name, (place, head) in exits.items():
        if MEMORY in head_input_names(head) and place not in taps:
            raise ModelError(f"exit '{name}' reads taps up to segment {place}, which has none; give one in `taps`")


def check_head(name: str, head: nn.Module, following: nn.Module, input_names: Sequence[str]) -> None:
    """Run a head on a hidden state of the right shape, if the segment behind it knows one.

    Args:
        name: Name of the exit.
        head: Its head.
        following: The segment behind it; if it has ``classes`` and ``example_inputs``, the head is run.
        input_names: Inputs of that segment.

    Raises:
        ModelError: The head fails, or does not return logits (N, classes).
    """
    classes, examples = getattr(following, "classes", None), getattr(following, "example_inputs", None)
    if examples is None or classes is None or HIDDEN not in input_names:
        return
    known: dict[str, Tensor] = dict(zip(input_names, examples, strict=True))
    hidden = known[HIDDEN]
    if not set(head_input_names(head)) <= set(known):
        return
    try:
        with torch.no_grad():
            logits = head(*(known[each] for each in head_input_names(head)))
    except Exception as failure:
        raise ModelError(
            f"exit '{name}' cannot take a hidden state of shape {tuple(hidden.shape)}: {failure}"
        ) from failure
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (hidden.shape[0], classes):
        came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"exit '{name}' must give logits ({hidden.shape[0]}, {classes}); got {came}")
