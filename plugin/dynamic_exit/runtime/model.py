"""The dynamic model: savers, segments, exit heads and thresholds as one module that runs only the stages it needs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from ..chain.evidence import Evidence
from ..chain.names import FINAL, MEMORY
from ..chain.spec import ChainSpec, StageSpec, TapSpec
from ..chain.thresholds import STAGE_OFF, check_thresholds
from ..chain.walk import AllRowsLeft, Runnable, Step, chain_steps, walk
from ..errors import ModelError, nearest
from ..records import Records
from .inductor import inductor_options
from .output import DynamicOutput
from .part_checks import (
    check_head,
    check_parts,
    check_taps,
    head_input_names,
    saver_input_names,
    segment_input_names,
)


class DynamicExitModel(nn.Module):
    """A chain of stages that answers easy rows early and runs later stages on the remaining rows only.

    The chain is the savers in the given order, then the exits by position, then the final stage. A row leaves at the
    first stage whose confidence exceeds the stage's threshold; NaN never does. The evidence of a stage is the softmax
    of its logits (``fuse="none"``), or combines those of all stages that ran so far (``"mean"``: their mean, summed in
    chain order in float32; ``"product"``: their weighted product; a stage that returns NaN for a row is left out for
    that row). The confidence is the largest evidence, unless `fuse` names another. A threshold of +inf turns a stage
    off: it does not run and has no evidence. Several exits may share one position.

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
        fuse: How the answers of stages are combined; the name of a rule stands for that rule with the largest evidence
            as confidence.
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
        fuse: Evidence | str = "none",
        thresholds: Sequence[float] | None = None,
        taps: Mapping[int, nn.Module] | None = None,
    ):
        super().__init__()
        savers, exits, taps = dict(savers or {}), dict(exits or {}), dict(taps or {})
        fuse = Evidence.of(fuse)
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
        #: Names of the stages before the final, in the order of `thresholds`.
        self.chain: tuple[str, ...] = (*savers, *by_position)
        #: For each of them, the index of the segment whose output it takes; -1 for a saver.
        self.positions: tuple[int, ...] = (*(-1 for _ in savers), *(exits[name][0] for name in by_position))
        for name in by_position:
            place, head = exits[name]
            check_head(name, head, segments[place + 1], self._segment_input_names[place + 1])
        # float32 on the CPU always: the same numbers as in the ONNX file, compared as Python floats
        self.register_buffer("_thresholds", torch.full((len(self.chain),), STAGE_OFF, dtype=torch.float32))
        if thresholds is not None:
            self.set_thresholds(thresholds)
        self.records: Records | None = None
        self.training = False

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds in use, rounded to float32; +inf for stages that are off."""
        return tuple(self._thresholds.tolist())

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
        return _ForwardPass(self, inputs, thresholds).run()

    def all_stage_logits(self, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """Run every stage on every row, whatever the thresholds; each segment runs once.

        Args:
            *inputs: As for ``forward``.
            **named: As for ``forward``.

        Returns:
            Stage name -> raw logits (N, C), in chain order, with ``final`` last.
        """
        answers: dict[str, Tensor] = {}

        def keep(step: Step, logits: Tensor) -> None:
            answers[step.name] = logits

        answers[FINAL] = cast(Tensor, walk(self.steps(), self._bind(inputs, named), keep))
        return answers

    def steps(self, thresholds: Sequence[float] | None = None) -> list[Step]:
        """Return the parts in the order in which they run.

        Args:
            thresholds: One per stage of `chain`: without stages that are off, and taps that no exit in use reads; None
                for all parts.
        """
        last_tap = max(self.tap_positions, default=-2) if thresholds is None else self._last_tap_in_use(thresholds)
        stages = list(zip(self.chain, self.positions, self._stage_parts(), strict=True))
        steps = chain_steps(
            [(name, part) for name, place, part in stages if place < 0],
            [Runnable(module, names) for module, names in zip(self.segments, self._segment_input_names, strict=True)],
            [(name, place, part) for name, place, part in stages if place >= 0],
            {
                place: Runnable(tap, head_input_names(tap))
                for place, tap in zip(self.tap_positions, self.taps, strict=True)
                if place <= last_tap
            },
        )
        if thresholds is None:
            return steps
        return [step for step in steps if step.kind == "segment" or thresholds[step.index] != STAGE_OFF]

    def _stage_parts(self) -> list[Runnable]:
        savers = map(Runnable, self.savers, self._saver_input_names)
        return [*savers, *(Runnable(head, head_input_names(head)) for head in self.heads)]

    def compile_parts(
        self, *, options: Mapping[str, object] | None = None, mode: str | None = None, **keywords: object
    ) -> None:
        """Compile all segments, heads, taps and savers in place with ``torch.compile``, which is slow to start.

        Args:
            options: Of the backend.
            mode: Of the backend, such as ``max-autotune``.
            **keywords: For ``torch.compile``; ``dynamic`` is True by default, as the number of rows varies.
        """
        settings: dict[str, object] = {"dynamic": True, "options": options, "mode": mode, **keywords}
        if keywords.get("backend", "inductor") == "inductor":
            settings |= {"options": inductor_options(options, mode), "mode": None}
        for module in [*self.savers, *self.segments, *self.heads, *self.taps]:
            module.compile(**settings)

    @property
    def spec(self) -> ChainSpec:
        """What the chain consists of."""
        stages = zip(self.chain, self.positions, self._stage_parts(), strict=True)
        return ChainSpec(
            inputs=self.input_names,
            segments=self._segment_input_names,
            stages=tuple(StageSpec(name=n, position=at, inputs=tuple(part.input_names)) for n, at, part in stages),
            taps=tuple(
                TapSpec(position=at, inputs=head_input_names(tap))
                for at, tap in zip(self.tap_positions, self.taps, strict=True)
            ),
            evidence=self.fuse.rule,
            **self.fuse.parameters,
        )

    def stage_module(self, name: str) -> nn.Module:
        """Return the saver or head of a stage.

        Raises:
            ModelError: There is no such stage.
        """
        if name in self.chain:
            return [*self.savers, *self.heads][self.chain.index(name)]
        raise ModelError(f"there is no stage '{name}'; {nearest(name, self.chain)}")

    def tap(self, place: int) -> nn.Module:
        """Return the tap on the output of segment `place`; -1 is the tap on the last saver's logits."""
        return self.taps[self.tap_positions.index(place)]

    def _last_tap_in_use(self, thresholds: Sequence[float]) -> int:
        """Return the segment of the last exit in use that reads taps, where the last tap runs; -2 if there is none."""
        if not self.tap_positions:
            return -2
        reading = [MEMORY in part.input_names for part in self._stage_parts()]
        on = [value != STAGE_OFF for value in thresholds]
        places = zip(self.positions, reading, on, strict=True)
        return max((place for place, reads, used in places if place >= 0 and reads and used), default=-2)

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
    """One call of the model: the rows in play, their inputs by name, and their evidence."""

    def __init__(self, model: DynamicExitModel, inputs: Mapping[str, Tensor], thresholds: Sequence[float]):
        self.model, self.inputs, self.thresholds = model, inputs, thresholds
        self.total = next(iter(inputs.values())).shape[0]
        # indices of the rows in play; None while these are all rows of the caller, in order
        self.rows: Tensor | None = None
        # the inputs of the rows in play, as far as they were needed
        self.gathered: dict[str, Tensor] = {}
        # what the evidence rule hands on, for the rows in play
        self.evidence: tuple[Tensor, ...] = ()
        self.out: DynamicOutput | None = None

    def run(self) -> DynamicOutput:
        steps = self.model.steps(self.thresholds)
        final = walk(steps, self, self._offer, zeros=self._features_of_no_saver)
        if final is not None:
            logits, confidence = self._answer(final, FINAL)
            index = torch.full((logits.shape[0],), len(self.model.chain), dtype=torch.int64, device=logits.device)
            self._write(DynamicOutput(logits, index, confidence), self.rows)
        assert self.out is not None
        return self.out

    def __getitem__(self, name: str) -> Tensor:
        """Return an input for the rows in play, gathered when a part needs it."""
        if self.rows is None:
            return self.inputs[name]
        if name not in self.gathered:
            self.gathered[name] = self.inputs[name][self.rows]
        return self.gathered[name]

    def _features_of_no_saver(self, features: Tensor) -> Tensor | None:
        if self.model.tap_positions[0] >= 0:
            return None
        return features.new_zeros((features.shape[0], cast(int, self.model.tap(-1).width)))

    def _offer(self, step: Step, logits: Tensor) -> Tensor | None:
        """Write the output of the rows that are confident enough, and return which rows stay."""
        logits, confidence = self._answer(logits, step.name)
        leaves = confidence > self.thresholds[step.index]
        count = int(leaves.sum())
        if count == 0:
            return None
        index = torch.full((count,), step.index, dtype=torch.int64, device=logits.device)
        if count == logits.shape[0]:
            self._write(DynamicOutput(logits, index, confidence), self.rows)
            raise AllRowsLeft
        gone, stay = leaves.nonzero().flatten(), (~leaves).nonzero().flatten()
        leaving, staying = (gone, stay) if self.rows is None else (self.rows[gone], self.rows[stay])
        self._write(DynamicOutput(logits[gone], index, confidence[gone]), leaving)
        self.rows = staying
        self.gathered.clear()
        self.evidence = tuple(each[stay] for each in self.evidence)
        return stay

    def _answer(self, logits: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Add a stage's probabilities to the evidence; return the logits to answer with and the confidence."""
        rows = self.total if self.rows is None else self.rows.shape[0]
        if logits.dim() != 2 or logits.shape[0] != rows:
            raise ModelError(f"stage '{name}' must give logits ({rows}, C); got the shape {tuple(logits.shape)}")
        known = self.out.logits if self.out is not None else next(iter(self.evidence), logits)
        if logits.shape[1] != known.shape[1]:
            raise ModelError(f"stage '{name}' gives {logits.shape[1]} classes, not {known.shape[1]}")
        rule, probabilities = self.model.fuse.rule_of(name), torch.softmax(logits.float(), dim=1)
        self.evidence, evidence = rule.torch(self.evidence, probabilities)
        confidence = self.model.fuse.confidence_of(name).torch(evidence)
        if rule.keeps_logits:
            return logits, confidence
        return evidence.clamp(min=torch.finfo(torch.float32).tiny).log(), confidence

    def _write(self, part: DynamicOutput, rows: Tensor | None) -> None:
        """Write the output of some rows of the caller; None stands for all."""
        if rows is None:
            self.out = part
            return
        if self.out is None:
            self.out = DynamicOutput(*(value.new_empty((self.total, *value.shape[1:])) for value in part))
        for whole, value in zip(self.out, part, strict=True):
            whole[rows] = value.to(whole.dtype)
