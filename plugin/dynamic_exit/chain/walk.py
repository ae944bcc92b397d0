"""The only loop that runs the parts of a chain in order, hands values on and offers exits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from .names import HIDDEN, MEMORY

#: A batch of what a part takes and returns: a torch tensor, or an array where no part reads taps.
Value = Any


class Runnable(NamedTuple):
    """What runs a part.

    Attributes:
        run: Takes the arguments by position and returns one value.
        input_names: Names of the arguments: inputs of the model, ``hidden`` or ``memory``.
    """

    run: Callable[..., Value]
    input_names: Sequence[str]


@dataclass(frozen=True)
class Step:
    """A part of a chain that runs.

    Attributes:
        kind: What the part is.
        place: Index of the segment; for an exit, of the segment after which it stands; -1 for a saver.
        index: Index of the stage in the chain; for a segment, as `place`.
        part: The part.
        name: Of the stage, or ``segment`` and its index, such as ``segment 0``.
        tap: Computes features of what the part returns, for the exits behind it: from a saver's logits alone, else from
            the values that its `input_names` name. None where no exit in use reads them.
    """

    kind: Literal["saver", "segment", "exit"]
    place: int
    index: int
    part: Runnable
    name: str
    tap: Runnable | None = None


class Inputs(Protocol):
    """The inputs of the model, for the rows in play."""

    def __getitem__(self, name: str, /) -> Value:
        """Return an input."""


#: Takes a stage and its logits; returns the rows that stay, or None if all do.
Offer = Callable[[Step, Value], Value | None]
#: Runs a part of a step: the part itself or its tap.
Call = Callable[[Step, Runnable, Sequence[Value]], Value]


class AllRowsLeft(Exception):
    """Raised by an `Offer` if no row stays; `walk` ends."""


def run_part(step: Step, part: Runnable, arguments: Sequence[Value]) -> Value:
    """Run a part."""
    return part.run(*arguments)


def offer_nothing(step: Step, logits: Value) -> None:
    """Let all rows stay."""


def walk(
    steps: Iterable[Step],
    inputs: Inputs,
    offer: Offer = offer_nothing,
    *,
    call: Call = run_part,
    zeros: Callable[[Value], Value | None] = lambda features: None,
) -> Value | None:
    """Run the parts of a chain.

    Args:
        steps: The parts that run: savers, then each segment followed by the exits behind it.
        inputs: The inputs of the model for the rows in play; they follow `offer` when rows leave.
        offer: Receives what savers and exits return.
        call: Runs a part, or the tap of a step.
        zeros: Receives the features of the first tap of a hidden state where no saver's tap ran, and returns what
            stands for that saver's features; None for nothing.

    Returns:
        What the last segment returns for the rows that reach it; None if none does.
    """
    carried: dict[str, Value] = {}

    def arguments(part: Runnable) -> list[Value]:
        return [carried[name] if name in carried else inputs[name] for name in part.input_names]

    try:
        for step in steps:
            output = call(step, step.part, arguments(step.part))
            if step.kind == "segment":
                carried[HIDDEN] = output
            if step.tap is not None:
                features = call(step, step.tap, [output] if step.kind == "saver" else arguments(step.tap))
                before = carried.get(MEMORY)
                if before is None and step.kind == "segment":
                    before = zeros(features)
                carried[MEMORY] = features if before is None else side_by_side(before, features)
            if step.kind != "segment":
                stay = offer(step, output)
                if stay is not None:
                    carried = {name: value[stay] for name, value in carried.items()}
    except AllRowsLeft:
        return None
    return carried[HIDDEN]


def side_by_side(one: Value, other: Value) -> Value:
    """Concatenate torch tensors (N, V) and (N, W)."""
    import torch  # parts that read taps run in torch; arrays need none of it

    return torch.cat([one, other], dim=1)


def chain_steps(
    savers: Sequence[tuple[str, Runnable]],
    segments: Sequence[Runnable],
    exits: Sequence[tuple[str, int, Runnable]],
    taps: Mapping[int, Runnable],
) -> list[Step]:
    """Return the steps of a whole chain.

    Args:
        savers: Names and parts, in the order in which they run.
        segments: The backbone's segments.
        exits: Names, indices of the segment before each, and heads; by that index.
        taps: By index of the segment that they read; -1 for the last saver's logits.
    """
    last = len(savers) - 1
    steps = [
        Step("saver", -1, index, part, name, taps.get(-1) if index == last else None)
        for index, (name, part) in enumerate(savers)
    ]
    numbered = [(index, *each) for index, each in enumerate(exits, start=len(savers))]
    for place, segment in enumerate(segments):
        steps.append(Step("segment", place, place, segment, f"segment {place}", taps.get(place)))
        steps += [Step("exit", at, index, head, name) for index, name, at, head in numbered if at == place]
    return steps
