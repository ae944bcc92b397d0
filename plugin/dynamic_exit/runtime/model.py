"""The dynamic model: savers, segments, exit heads and thresholds as one module that runs only the stages it needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn

from ..chain.names import FINAL, HIDDEN, MEMORY
from ..chain.spec import (
    check_head,
    check_parts,
    check_taps,
    head_input_names,
    saver_input_names,
    segment_input_names,
)
from ..chain.thresholds import STAGE_OFF, check_thresholds
from ..errors import ModelError, nearest
from ..records import Records
from .output import DynamicOutput


@dataclass(frozen=True)
class _Stage:
    """Stage ``index`` of the chain, which runs after ``segment`` segments (savers: 0)."""

    index: int
    name: str
    kind: Literal["saver", "exit"]
    segment: int


class DynamicExitModel(nn.Module):
    """A chain of stages that answers easy rows early and runs later stages on the remaining rows only.

    The chain is the savers in the given order, then the exits by position, then the final stage. A row leaves at the
    first stage whose confidence, the largest probability of its evidence, exceeds the stage's threshold; NaN never
    does. The evidence of a stage is the softmax of its logits (``fuse="none"``), or the mean of the probabilities of
    all stages that ran so far (``"mean"``, summed in chain order in float32; a stage that returns NaN for a row is left
    out for that row). A threshold of +inf turns a stage off: it does not run and has no evidence. Several exits may
    share one position.

    A head may read earlier positions: taps compute features (N, W) of the last saver's logits and of hidden states,
    and a head with ``memory`` among its ``input_names`` gets those of all taps up to its position, side by side. A tap
    runs once, on the rows that get so far, and only while an exit that reads it is on; while the last saver is off, its
    features are zeros.

    Args:
        segments: The segments of the backbone; each may state its arguments in ``input_names`` (names of inputs,
            ``hidden`` for the output of the previous one). Without it the first takes all inputs and the others
            ``hidden``.
        input_names: Names of the model's inputs, in order.
        savers: Name -> module from all inputs, or those in its ``input_names``, to logits (N, C).
        exits: Name -> (index of a segment but the last, head from that segment's output to logits (N, C)).
        fuse: ``none`` or ``mean``.
        thresholds: One per stage before the final, in chain order, on probabilities; None turns all stages off.
        taps: Index of a segment -> module from its ``input_names`` (as of a head) after that segment to (N, W);
            -1 -> module from the last saver's logits to (N, W), which states W as ``width``.

    Attributes:
        records: The records that its thresholds were tuned on, if that was done in memory; else None. Not saved.

    Raises:
        ModelError: The parts do not fit together, or the output of a head has the wrong shape.
        OperatingPointError: The thresholds do not fit the chain.
    """

    def __init__(
        self,
        segments: Sequence[nn.Module],
        *,
        input_names: Sequence[str],
        savers: Mapping[str, nn.Module] | None = None,
        exits: Mapping[str, tuple[int, nn.Module]] | None = None,
        fuse: str = "none",
        thresholds: Sequence[float] | None = None,
        taps: Mapping[int, nn.Module] | None = None,
    ):
        super().__init__()
        savers, exits, taps = dict(savers or {}), dict(exits or {}), dict(taps or {})
        check_parts(segments, input_names, savers, exits, fuse)
        check_taps(taps, savers, exits)
        by_position = sorted(exits, key=lambda name: exits[name][0])
        # lists, as the name of a stage may contain dots, which a ModuleDict refuses
        self.segments = nn.ModuleList(segments)
        self.savers = nn.ModuleList(savers.values())
        self.heads = nn.ModuleList(exits[name][1] for name in by_position)
        self.tap_positions = tuple(sorted(taps))
        self.taps = nn.ModuleList(taps[place] for place in self.tap_positions)
        self.input_names = tuple(input_names)
        self.fuse = fuse
        self._segment_input_names = tuple(
            segment_input_names(segment, place, self.input_names) for place, segment in enumerate(segments)
        )
        self._saver_input_names = tuple(
            saver_input_names(saver, name, self.input_names) for name, saver in savers.items()
        )
        stages = [_Stage(index, name, "saver", 0) for index, name in enumerate(savers)]
        stages += [_Stage(len(savers) + i, name, "exit", exits[name][0] + 1) for i, name in enumerate(by_position)]
        self._stages = tuple(stages)
        for stage in self._stages:
            if stage.kind == "exit" and stage.segment < len(segments):
                names = self._segment_input_names[stage.segment]
                check_head(stage.name, self._module(stage), segments[stage.segment], names)
        # float32 on the CPU always: the same numbers as in the ONNX file, compared as Python floats
        self.register_buffer("_thresholds", torch.full((len(stages),), STAGE_OFF, dtype=torch.float32))
        if thresholds is not None:
            self.set_thresholds(thresholds)
        self.records: Records | None = None
        self.training = False

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of the stages before the final, in the order of ``thresholds``."""
        return tuple(stage.name for stage in self._stages)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds in use, rounded to float32; +inf for stages that are off."""
        return tuple(self._thresholds.tolist())

    @property
    def positions(self) -> tuple[int, ...]:
        """For each stage of the chain, the index of the segment whose output it takes; -1 for a saver."""
        return tuple(stage.segment - 1 for stage in self._stages)

    def set_thresholds(self, values: Sequence[float]) -> None:
        """Change the thresholds from any thread; calls that are running finish with the old ones.

        Args:
            values: One per stage of ``chain``: probabilities in 0..1, or +inf for off; any other number is allowed.

        Raises:
            OperatingPointError: The number of values differs from that of stages, or one is NaN.
        """
        values = check_thresholds(values, self.chain)
        # one assignment of a new tensor: readers in other threads see the old or the new values, never a mixture
        self._thresholds = torch.tensor(values, dtype=torch.float32)

    def forward(self, *inputs: Tensor, **named: Tensor) -> DynamicOutput:
        """Run the chain on a batch.

        Args:
            *inputs: The backbone's inputs in order, each with a batch of one row or more first.
            **named: Inputs by name.

        Returns:
            Logits, exit index and confidence of each row.

        Raises:
            ModelError: An input is missing, unknown or of another batch size, or a stage returns a wrong shape.
        """
        return self.answer(self._thresholds.tolist(), self._bind(inputs, named))

    def answer(self, thresholds: Sequence[float], inputs: Mapping[str, Tensor]) -> DynamicOutput:
        """Run the chain on a batch with thresholds of its own, independent of ``set_thresholds``.

        Args:
            thresholds: One per stage of ``chain``, rounded to float32; +inf for off.
            inputs: All of ``input_names`` by name, each with a batch of one row or more first.

        Returns:
            As ``forward``.
        """
        return _ForwardPass(self, dict(inputs), list(thresholds)).run()

    def all_stage_logits(self, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """Run every stage on every row, whatever the thresholds; each segment runs once.

        Args:
            *inputs: As for ``forward``.
            **named: As for ``forward``.

        Returns:
            Stage name -> raw logits (N, C), in chain order, with ``final`` last.
        """
        values = self._bind(inputs, named)
        answers = {}
        for stage in self._at(0):
            taken = (values[name] for name in self._saver_input_names[stage.index])
            answers[stage.name] = self.savers[stage.index](*taken)
        if -1 in self.tap_positions:
            values[MEMORY] = self.tap(-1)(list(answers.values())[-1])
        for place, segment in enumerate(self.segments):
            values[HIDDEN] = segment(*(values[name] for name in self._segment_input_names[place]))
            if place in self.tap_positions:
                tap = self.tap(place)
                taken = tap(*(values[name] for name in head_input_names(tap)))
                values[MEMORY] = torch.cat([values[MEMORY], taken], dim=1) if MEMORY in values else taken
            for stage in self._at(place + 1):
                head = self._module(stage)
                answers[stage.name] = head(*(values[name] for name in head_input_names(head)))
        answers[FINAL] = values[HIDDEN]
        return answers

    def compile_parts(self, **options: object) -> None:
        """Compile all segments, heads, taps and savers in place with ``torch.compile``, which is slow to start.

        Args:
            **options: For ``torch.compile``; ``dynamic`` is True by default, as the number of rows varies.
        """
        for module in [*self.savers, *self.segments, *self.heads, *self.taps]:
            module.compile(**{"dynamic": True, **options})

    @property
    def segment_input_names(self) -> tuple[tuple[str, ...], ...]:
        """For each segment, the names of its arguments: inputs of the model and ``hidden``."""
        return self._segment_input_names

    def stage_module(self, name: str) -> nn.Module:
        """Return the saver or head of a stage.

        Raises:
            ModelError: There is no such stage.
        """
        for stage in self._stages:
            if stage.name == name:
                return self._module(stage)
        raise ModelError(f"there is no stage '{name}'; {nearest(name, self.chain)}")

    def tap(self, place: int) -> nn.Module:
        """Return the tap on the output of segment `place`; -1 is the tap on the last saver's logits."""
        return self.taps[self.tap_positions.index(place)]

    def _last_tap_in_use(self, thresholds: Sequence[float]) -> int:
        """Return the segment of the last exit in use that reads taps, where the last tap runs; -2 if there is none."""
        seeing = (
            stage for stage in self._stages if stage.kind == "exit" and MEMORY in head_input_names(self._module(stage))
        )
        return max((stage.segment - 1 for stage in seeing if thresholds[stage.index] != STAGE_OFF), default=-2)

    def _at(self, place: int) -> list[_Stage]:
        return [stage for stage in self._stages if stage.segment == place]

    def _module(self, stage: _Stage) -> nn.Module:
        return self.savers[stage.index] if stage.kind == "saver" else self.heads[stage.index - len(self.savers)]

    def _bind(self, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if len(inputs) > len(self.input_names):
            raise ModelError(f"{len(inputs)} inputs came in; the model takes {', '.join(self.input_names)}")
        values = dict(zip(self.input_names, inputs, strict=False))
        for name, value in named.items():
            if name not in self.input_names:
                raise ModelError(f"the model takes no input '{name}'; {nearest(name, self.input_names)}")
            if name in values:
                raise ModelError(f"input '{name}' came in twice, by position and by name; give it once")
            values[name] = value
        missing = [name for name in self.input_names if name not in values]
        if missing:
            raise ModelError(f"input '{missing[0]}' is missing; the model takes {', '.join(self.input_names)}")
        rows = {value.shape[0] for value in values.values()}
        if len(rows) > 1 or rows == {0}:
            shapes = {name: tuple(value.shape) for name, value in values.items()}
            raise ModelError(f"inputs need one batch size of 1 or more; got the shapes {shapes}")
        return {name: values[name] for name in self.input_names}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = self._thresholds
        super()._apply(fn, recurse)
        # thresholds are no weights: .half() and .to(device) leave them as they are
        self._thresholds = kept
        return self

    def extra_repr(self) -> str:
        """Return chain, thresholds and fuse, for ``print(model)``."""
        return f"chain={self.chain}, thresholds={self.thresholds}, fuse={self.fuse}"


class _ForwardPass:
    """One call of the model: the rows still in play and their state."""

    def __init__(self, model: DynamicExitModel, inputs: dict[str, Tensor], thresholds: list[float]):
        self.model = model
        self.inputs = inputs
        self.thresholds = thresholds
        self.total = next(iter(inputs.values())).shape[0]
        # indices of the rows in play; None while these are all rows of the caller, in order
        self.rows: Tensor | None = None
        # the inputs of the rows in play, as far as they were needed
        self.gathered: dict[str, Tensor] = {}
        # `hidden` and `memory` of the rows in play
        self.carried: dict[str, Tensor] = {}
        self.last_tap = model._last_tap_in_use(thresholds)
        # sum of the probabilities so far, of the rows in play, and the number of stages that it sums over
        self.evidence: Tensor | None = None
        self.seen: Tensor | None = None
        self.out: DynamicOutput | None = None

    def run(self) -> DynamicOutput:
        model = self.model
        on = [stage for stage in model._stages if self.thresholds[stage.index] != STAGE_OFF]
        for stage in on:
            if stage.kind != "saver":
                continue
            logits = model._module(stage)(*self._arguments(model._saver_input_names[stage.index]))
            if stage.index == len(model.savers) - 1:
                self._record_tap(-1, logits)
            if self._try_exit(stage, logits):
                return self._output()
        for place, segment in enumerate(model.segments):
            self.carried[HIDDEN] = segment(*self._arguments(model._segment_input_names[place]))
            self._record_tap(place)
            for stage in on:
                if stage.segment != place + 1:
                    continue
                head = model._module(stage)
                if self._try_exit(stage, head(*self._arguments(head_input_names(head)))):
                    return self._output()
        logits, confidence = self._accumulate_evidence(self.carried[HIDDEN], "final")
        index = torch.full((logits.shape[0],), len(model._stages), dtype=torch.int64, device=logits.device)
        self._write(DynamicOutput(logits, index, confidence), self.rows)
        return self._output()

    def _output(self) -> DynamicOutput:
        assert self.out is not None
        return self.out

    def _record_tap(self, place: int, logits: Tensor | None = None) -> None:
        """Compute the features that exits in use read: of the last saver's logits (-1) or of a hidden state."""
        places = self.model.tap_positions
        if place > self.last_tap or place not in places:
            return
        tap = self.model.tap(place)
        features = tap(logits) if place < 0 else tap(*self._arguments(head_input_names(tap)))
        memory = self.carried.get(MEMORY)
        if memory is None and places[0] < 0 <= place:  # the saver is off
            memory = features.new_zeros((features.shape[0], self.model.tap(-1).width))
        self.carried[MEMORY] = features if memory is None else torch.cat([memory, features], dim=1)

    def _arguments(self, names: Sequence[str]) -> list[Tensor]:
        return [self.carried[name] if name in self.carried else self._input(name) for name in names]

    def _input(self, name: str) -> Tensor:
        """Return an input for the rows in play, gathered when a stage needs it."""
        if self.rows is None:
            return self.inputs[name]
        if name not in self.gathered:
            self.gathered[name] = self.inputs[name][self.rows]
        return self.gathered[name]

    def _try_exit(self, stage: _Stage, logits: Tensor) -> bool:
        """Write the output of the rows that are confident enough; return whether no row is left."""
        logits, confidence = self._accumulate_evidence(logits, stage.name)
        leaves = confidence > self.thresholds[stage.index]
        count = int(leaves.sum())
        if count == 0:
            return False
        index = torch.full((count,), stage.index, dtype=torch.int64, device=logits.device)
        if count == logits.shape[0]:
            self._write(DynamicOutput(logits, index, confidence), self.rows)
            return True
        gone, stay = leaves.nonzero().flatten(), (~leaves).nonzero().flatten()
        leaving, staying = (gone, stay) if self.rows is None else (self.rows[gone], self.rows[stay])
        self._write(DynamicOutput(logits[gone], index, confidence[gone]), leaving)
        self.rows = staying
        self.gathered.clear()
        self.carried = {name: value[stay] for name, value in self.carried.items()}
        self.evidence = None if self.evidence is None else self.evidence[stay]
        self.seen = None if self.seen is None else self.seen[stay]
        return False

    def _accumulate_evidence(self, logits: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Add a stage's probabilities to the evidence; return the logits to answer with and the confidence."""
        rows = self.total if self.rows is None else self.rows.shape[0]
        if logits.dim() != 2 or logits.shape[0] != rows:
            raise ModelError(f"stage '{name}' must give logits ({rows}, C); got the shape {tuple(logits.shape)}")
        if self.out is not None and logits.shape[1] != self.out.logits.shape[1]:
            raise ModelError(f"stage '{name}' gives {logits.shape[1]} classes, not {self.out.logits.shape[1]}")
        probabilities = torch.softmax(logits.float(), dim=1)
        if self.model.fuse == "none":
            return logits, probabilities.amax(dim=1)
        if self.evidence is not None and self.evidence.shape != probabilities.shape:
            raise ModelError(f"stage '{name}' gives {logits.shape[1]} classes, not {self.evidence.shape[1]}")
        # a stage that returns NaN for a row adds no evidence for it
        known = ~probabilities.isnan().any(dim=1, keepdim=True)
        probabilities = torch.where(known, probabilities, torch.zeros_like(probabilities))
        self.evidence = probabilities if self.evidence is None else self.evidence + probabilities
        self.seen = known.float() if self.seen is None else self.seen + known
        mean = self.evidence / self.seen
        return mean.clamp(min=torch.finfo(torch.float32).tiny).log(), mean.amax(dim=1)

    def _write(self, part: DynamicOutput, rows: Tensor | None) -> None:
        """Write the output of some rows of the caller; None stands for all."""
        if rows is None:
            self.out = part
            return
        if self.out is None:
            self.out = DynamicOutput(*(value.new_empty((self.total, *value.shape[1:])) for value in part))
        for whole, value in zip(self.out, part, strict=True):
            whole[rows] = value.to(whole.dtype)
