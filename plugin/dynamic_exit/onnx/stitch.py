"""One ONNX file out of many parts: a flat chain of `If` nodes, in which a stage that nobody needs does not run.

For every stage the rows still in play are gathered, the stage runs in the then-branch only if any remain, and what it
is sure of is written back to the caller's order. Weights live inside the branches: onnxruntime keeps its fast memory
layouts only for those.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import ExportError, first_line
from .large import for_onnx
from .names import with_short_names
from .parts import BATCH, OUTPUT, Part

_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Chain:
    """What a dynamic model consists of.

    Attributes:
        savers: Answer first, in this order; each takes all of the model's inputs.
        segments: The backbone's pieces in order; the last gives logits.
        exits: ``(head, i)``: an exit head on what segment `i` hands on, by ascending `i`.
        fuse: ``none`` (a stage answers alone) or ``mean`` (probabilities of all stages so far are averaged).
        notes: ``i``: what notes down what segment `i` hands on, for exits that take ``memory``; -1: the last saver's
            logits. Each gives (rows, W); notes that no such exit comes behind are left out.
    """

    savers: Sequence[Part]
    segments: Sequence[Part]
    exits: Sequence[tuple[Part, int]]
    fuse: str = "none"
    notes: Mapping[int, Part] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages before the final, in the order of `thresholds`."""
        return tuple(part.name for part in self.savers) + tuple(part.name for part, _ in self.exits)

    def describe(self) -> dict[str, object]:
        """Return what `unstitch` must know to find the parts in a file."""

        def say(part: Part) -> dict[str, object]:
            return {"name": part.name, "takes": part.takes, "shape": [BATCH, *part.output_shape]}

        return {
            "savers": [say(part) for part in self.savers],
            "segments": [say(part) for part in self.segments],
            "exits": [{**say(part), "behind": index} for part, index in self.exits],
            "sequence": any("memory" in part.takes for part, _ in self.exits),
            "fuse": self.fuse,
        }


class _Block:
    """Nodes of one (sub)graph while it is being written."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, out: str | None = None, **attributes) -> str:
        name = f"{self.prefix}{out or f'{operator.lower()}_{len(self.nodes)}'}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value, dtype) -> str:
        name = f"{self.prefix}constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def include(self, part: Part, feeds: Mapping[str, str]) -> str:
        """Copy a part's nodes in, fed by the named values, and return the name of what it gives."""
        graph, prefix = with_short_names(part), f"{part.name}:"
        for name in part.takes:
            self.nodes.append(helper.make_node("Identity", [feeds[name]], [prefix + name]))
        self.nodes.extend(graph.node)
        self.initializers.extend(graph.initializer)
        return prefix + OUTPUT

    def graph(self, name: str, outputs: Sequence[onnx.ValueInfoProto], inputs=()) -> onnx.GraphProto:
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), initializer=self.initializers)


@dataclass
class _State:
    """Names of the values that one stage hands to the next."""

    rows: str = ""  # caller's indices of the rows still in play
    logits: str = ""
    exit_index: str = ""
    confidence: str = ""
    evidence: str = ""  # sum of probabilities, for the rows in play
    seen: str = ""  # how many stages are in that sum, for the rows in play
    hidden: str = ""  # before `keep` is applied to it
    keep: str = ""  # positions in `hidden` of the rows in play
    hidden_shape: tuple[int | str, ...] = ()
    memory: str = ""  # all notes so far side by side; before `keep` is applied to it
    memory_width: int = 0
    stay: str = ""  # which of the rows offered an answer go on


class _Stitcher:
    def __init__(self, chain: Chain, inputs: Sequence[onnx.ValueInfoProto], classes: int):
        self.chain, self.inputs, self.classes = chain, inputs, classes
        self.main = _Block("")
        self.fused = chain.fuse == "mean"
        first = len(chain.savers)
        # position -> indices of the exits from there on that see notes
        seeing = [(at, first + i) for i, (part, at) in enumerate(chain.exits) if "memory" in part.takes]
        self.wanted = {at: [index for behind, index in seeing if behind >= at] for at in chain.notes}
        self.last_seeing = max((index for _, index in seeing), default=-1)

    def stitch(self) -> onnx.GraphProto:
        state, index = self._start(), 0
        for part in self.chain.savers:
            state = self._saver(index, part, state)
            index += 1
        heads: dict[int, list[Part]] = {}
        for part, position in self.chain.exits:
            heads.setdefault(position, []).append(part)
        group: list[tuple[int, Part]] = []
        for position, segment in enumerate(self.chain.segments[:-1]):
            group.append((position, segment))
            for head in heads.get(position, ()):  # a second head finds its segments run
                state = self._exit(index, group, head, state)
                group, index = [], index + 1
        self._final([*group, (len(self.chain.segments) - 1, self.chain.segments[-1])], state)
        outputs = [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [BATCH, self.classes]),
            helper.make_tensor_value_info("exit_index", TensorProto.INT64, [BATCH]),
            helper.make_tensor_value_info("confidence", TensorProto.FLOAT, [BATCH]),
        ]
        thresholds = helper.make_tensor_value_info("thresholds", TensorProto.FLOAT, [len(self.chain.stages)])
        return self.main.graph("dynamic_exit", outputs, [*self.inputs, thresholds])

    def _start(self) -> _State:
        main, zero, one = self.main, self.main.constant(0, np.int64), self.main.constant(1, np.int64)
        count = main.add("Shape", self.inputs[0].name, start=0, end=1, out="batch_size")
        shape = main.add("Concat", count, main.constant([self.classes], np.int64), axis=0, out="logits_shape")
        empty = main.add("ConstantOfShape", shape, value=_scalar(0, np.float32), out="logits_start")
        last = _scalar(len(self.chain.stages), np.int64)
        state = _State(
            rows=main.add("Range", zero, main.add("Squeeze", count, out="batch_scalar"), one, out="rows_start"),
            logits=empty,
            exit_index=main.add("ConstantOfShape", count, value=last, out="exit_index_start"),
            confidence=main.add("ConstantOfShape", count, value=_scalar(0, np.float32), out="confidence_start"),
        )
        if self.fused:
            column = main.add("Concat", count, main.constant([1], np.int64), axis=0, out="seen_shape")
            seen = main.add("ConstantOfShape", column, value=_scalar(0, np.float32), out="seen_start")
            state.evidence, state.seen = empty, seen
        return state

    def _any(self, rows: str, out: str) -> str:
        size = self.main.add("Size", rows, out=f"{out}/size")
        return self.main.add("Greater", size, self.main.constant(0, np.int64), out=f"{out}/any")

    def _threshold(self, block: _Block, index: int) -> tuple[str, str]:
        """Return a stage's threshold and whether the stage is on."""
        threshold = block.add("Gather", "thresholds", block.constant(index, np.int64), axis=0)
        return threshold, block.add("Less", threshold, block.constant(np.inf, np.float32))

    def _saver(self, index: int, part: Part, state: _State) -> _State:
        """Runs when it is on and rows remain."""
        tag = f"stage{index}"
        threshold, on = self._threshold(self.main, index)
        block = _Block(f"{tag}/then/")
        feeds = {name: block.add("Gather", name, state.rows, axis=0) for name in part.takes}
        logits, others = block.include(part, feeds), _Block(f"{tag}/else/")
        after, same = self._offer(block, index, logits, threshold, state), state
        if index == len(self.chain.savers) - 1 and self.wanted.get(-1):
            width = self.chain.notes[-1].output_shape[0]
            note = self._note(block, -1, {"logits": logits}, state.rows)
            after.memory, after.memory_width = block.add("Compress", note, after.stay, axis=0), width
            same = replace(state, memory=_zeros(others, state.rows, width))
        runs = self.main.add("And", on, self._any(state.rows, tag), out=f"{tag}/runs")
        return self._branch(self.main, tag, runs, block, after, others, same)

    def _note(self, block: _Block, position: int, feeds: Mapping[str, str], rows: str) -> str:
        """Take a note when an exit that sees it is on; else nobody looks at it and it is all zeros."""
        part, tag = self.chain.notes[position], f"{block.prefix}note_{position}"
        limits = block.add("Gather", "thresholds", block.constant(self.wanted[position], np.int64), axis=0)
        least = block.add("ReduceMin", limits, block.constant([0], np.int64), keepdims=0)
        on = block.add("Less", least, block.constant(np.inf, np.float32))
        then, other = _Block(f"{tag}/then/"), _Block(f"{tag}/else/")
        shape = [f"{tag}_rows", part.output_shape[0]]
        out = [
            helper.make_tensor_value_info(then.include(part, feeds), TensorProto.FLOAT, shape),
            helper.make_tensor_value_info(_zeros(other, rows, shape[1]), TensorProto.FLOAT, _else_shape(shape)),
        ]
        branches = {
            "then_branch": then.graph(f"{tag}_then", out[:1]),
            "else_branch": other.graph(f"{tag}_else", out[1:]),
        }
        block.nodes.append(helper.make_node("If", [on], [tag], name=tag, **branches))
        return tag

    def _exit(self, index: int, group: Sequence[tuple[int, Part]], head: Part, state: _State) -> _State:
        """Runs the segments up to an exit when rows remain, and its head when it is on."""
        tag = f"stage{index}"
        block, others = _Block(f"{tag}/then/"), _Block(f"{tag}/else/")
        hidden, memory, width = self._run(block, group, state)
        threshold, on = self._threshold(block, index)
        inner, off = _Block(f"{tag}/head/then/"), _Block(f"{tag}/head/else/")
        carried = {"hidden": hidden, "memory": memory}
        feeds = {name: inner.add("Gather", name, state.rows, axis=0) for name in head.takes if name not in carried}
        offered = self._offer(inner, index, inner.include(head, {**feeds, **carried}), threshold, state)
        offered.keep = inner.add("Compress", _positions(inner, state.rows), offered.stay, axis=0)
        stays = replace(state, keep=_positions(off, state.rows))
        after = self._branch(block, f"{tag}/head", on, inner, offered, off, stays)
        after.hidden, after.hidden_shape = hidden, group[-1][1].output_shape if group else state.hidden_shape
        same = replace(state, keep=state.rows, hidden=_nothing(others, after.hidden_shape))
        if memory and index < self.last_seeing:
            after.memory, after.memory_width, same.memory = memory, width, _nothing(others, (width,))
        return self._branch(self.main, tag, self._any(state.rows, tag), block, after, others, same)

    def _offer(self, block: _Block, index: int, logits: str, threshold: str, state: _State) -> _State:
        """Let the rows leave that a stage is sure of."""
        answer, confidence, evidence, seen = self._evidence(block, logits, state)
        leave = block.add("Greater", confidence, threshold)
        stay = block.add("Not", leave)  # so that a confidence of NaN goes on
        after = self._write(block, state, answer, confidence, leave, index)
        after.rows, after.stay = block.add("Compress", state.rows, stay, axis=0), stay
        if self.fused:
            after.evidence = block.add("Compress", evidence, stay, axis=0)
            after.seen = block.add("Compress", seen, stay, axis=0)
        return after

    def _evidence(self, block: _Block, logits: str, state: _State) -> tuple[str, str, str, str]:
        probabilities = block.add("Softmax", logits, axis=1)
        evidence = seen = ""
        answer = logits
        if self.fused:
            # the softmax of a row with a NaN is NaN throughout: that stage gives the row no evidence
            unknown = block.add("IsNaN", block.add("Gather", probabilities, block.constant([0], np.int64), axis=1))
            known = block.add("Where", unknown, block.constant(0, np.float32), probabilities)
            evidence = block.add("Add", state.evidence, known)
            one = block.add("Cast", block.add("Not", unknown), to=TensorProto.FLOAT)
            seen = block.add("Add", state.seen, one)
            probabilities = block.add("Div", evidence, seen)
            answer = block.add("Log", block.add("Max", probabilities, block.constant(_TINY, np.float32)))
        # over axis 1: onnxruntime's reduction over axis -1 gives a wrong shape on zero rows
        confidence = block.add("ReduceMax", probabilities, block.constant([1], np.int64), keepdims=0)
        return answer, confidence, evidence, seen

    def _write(self, block, state, answer, confidence, leave=None, index=None) -> _State:
        """Write answers back to the caller's order: those of `leave`, or all where it is None."""
        pick = (lambda value: block.add("Compress", value, leave, axis=0)) if leave else (lambda value: value)
        rows, exit_index = pick(state.rows), state.exit_index
        where = block.add("Unsqueeze", rows, block.constant([1], np.int64))
        if index is not None:
            exits = block.add("Expand", block.constant([index], np.int64), block.add("Shape", rows))
            exit_index = block.add("ScatterND", state.exit_index, where, exits)
        return _State(
            rows=state.rows,
            logits=block.add("ScatterND", state.logits, where, pick(answer)),
            exit_index=exit_index,
            confidence=block.add("ScatterND", state.confidence, where, pick(confidence)),
        )

    def _run(self, block: _Block, group: Sequence[tuple[int, Part]], state: _State) -> tuple[str, str, int]:
        """Run segments and take notes of what they give; return hidden state, memory and the memory's width."""
        hidden, memory, width = state.hidden, state.memory, state.memory_width
        if hidden:
            hidden = block.add("Gather", hidden, state.keep, axis=0)
            memory = block.add("Gather", memory, state.keep, axis=0) if memory else ""
        gathered: dict[str, str] = {}

        def feeds(part: Part) -> dict[str, str]:
            for name in part.takes:
                if name != "hidden" and name not in gathered:
                    gathered[name] = block.add("Gather", name, state.rows, axis=0)
            return {**gathered, "hidden": hidden}

        for position, part in group:
            hidden = block.include(part, feeds(part))
            if self.wanted.get(position):
                part = self.chain.notes[position]
                note = self._note(block, position, feeds(part), state.rows)
                memory = block.add("Concat", memory, note, axis=1) if memory else note
                width += part.output_shape[0]
        return hidden, memory, width

    def _final(self, group: Sequence[tuple[int, Part]], state: _State) -> None:
        block = _Block("final/then/")
        answer, confidence, _, _ = self._evidence(block, self._run(block, group, state)[0], state)
        after = self._write(block, state, answer, confidence)
        outer = self._any(state.rows, "final")
        written = {"logits": after.logits, "confidence": after.confidence}
        done = self._branch(self.main, "final", outer, block, _State(**written), _Block("final/else/"), state)
        for value, name in ((done.logits, "logits"), (state.exit_index, "exit_index"), (done.confidence, "confidence")):
            self.main.nodes.append(helper.make_node("Identity", [value], [name], name=f"output/{name}"))

    def _branch(
        self, into: _Block, tag: str, condition: str, block: _Block, after: _State, others: _Block, same: _State
    ) -> _State:
        """Add an `If`: `after` is what its then-branch leaves, `same` what the else-branch hands through."""
        kinds = {
            "rows": (TensorProto.INT64, [f"{tag}_left"]),
            "logits": (TensorProto.FLOAT, [BATCH, self.classes]),
            "exit_index": (TensorProto.INT64, [BATCH]),
            "confidence": (TensorProto.FLOAT, [BATCH]),
            "evidence": (TensorProto.FLOAT, [f"{tag}_left", self.classes]),
            "seen": (TensorProto.FLOAT, [f"{tag}_left", 1]),
            "keep": (TensorProto.INT64, [f"{tag}_left"]),
            "hidden": (TensorProto.FLOAT, [f"{tag}_rows", *after.hidden_shape]),
            "memory": (TensorProto.FLOAT, [f"{tag}_rows" if after.hidden else f"{tag}_left", after.memory_width]),
        }
        fields = [name for name in kinds if getattr(after, name)]
        then, other = [], []
        for name in fields:
            kind, shape = kinds[name]
            handed = others.add("Identity", getattr(same, name))
            then.append(helper.make_tensor_value_info(getattr(after, name), kind, shape))
            other.append(helper.make_tensor_value_info(handed, kind, _else_shape(shape)))
        outputs = [f"{tag}/{name}" for name in fields]
        branches = {
            "then_branch": block.graph(f"{tag}_then", then),
            "else_branch": others.graph(f"{tag}_else", other),
        }
        into.nodes.append(helper.make_node("If", [condition], outputs, name=tag, **branches))
        named = dict(zip(fields, outputs, strict=True))
        return _State(**named, hidden_shape=after.hidden_shape, memory_width=after.memory_width)


def _else_shape(shape: Sequence[int | str]) -> list[int | str]:
    return [f"{dim}_else" if isinstance(dim, str) and dim != BATCH else dim for dim in shape]


def _scalar(value, dtype) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray([value], dtype=dtype))


def _nothing(block: _Block, shape: Sequence[int | str]) -> str:
    """Zero rows of a shape whose free dimensions are its names."""
    values = np.zeros([0] + [d if isinstance(d, int) else 0 for d in shape], np.float32)
    return block.add("Identity", block.constant(values, np.float32))


def _zeros(block: _Block, rows: str, width: int) -> str:
    """Zeros (rows, width)."""
    shape = block.add("Concat", block.add("Shape", rows), block.constant([width], np.int64), axis=0)
    return block.add("ConstantOfShape", shape, value=_scalar(0, np.float32))


def _positions(block: _Block, rows: str) -> str:
    return block.add("Range", block.constant(0, np.int64), block.add("Size", rows), block.constant(1, np.int64))


def stitch(
    chain: Chain,
    inputs: Sequence[onnx.ValueInfoProto],
    classes: int,
    thresholds: Sequence[float],
    metadata: Mapping[str, object],
    limit: int | None = None,
) -> onnx.ModelProto:
    """Stitch a chain of parts into one ONNX model that skips what no row needs.

    Args:
        chain: The parts.
        inputs: The backbone's own inputs, batch first and free.
        classes: Number of classes C.
        thresholds: One for each stage before the final: the default of the optional input ``thresholds``.
        metadata: Written to the file as JSON strings, beside ``stages`` and ``chain``.
        limit: Bytes of weights from which it is checked in a file, as a large one must be; None is `large.LIMIT`.

    Returns:
        A checked model with the inputs of the backbone and ``thresholds`` float32 (S,), and the outputs ``logits``
        float32 (N, C), ``exit_index`` int64 (N,) and ``confidence`` float32 (N,).

    Raises:
        ExportError: The parts do not fit together.
    """
    if len(thresholds) != len(chain.stages):
        raise ExportError(f"{len(thresholds)} thresholds for {len(chain.stages)} stages; give one for each stage")
    graph = _Stitcher(chain, inputs, classes).stitch()
    graph.initializer.append(numpy_helper.from_array(np.asarray(thresholds, np.float32), "thresholds"))
    parts = [*chain.savers, *chain.segments, *(part for part, _ in chain.exits), *chain.notes.values()]
    model = helper.make_model(graph, opset_imports=_opsets(parts), producer_name="dynamic_exit")
    model.ir_version = max(part.proto.ir_version for part in parts)
    metadata = {"stages": chain.stages, "chain": chain.describe(), **metadata}
    helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    try:
        with for_onnx(model, limit) as form:
            onnx.checker.check_model(form, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the stitched file is not valid ONNX: {first_line(error)}") from error
    return model


def _opsets(parts: Sequence[Part]) -> list[onnx.OperatorSetIdProto]:
    versions: dict[str, int] = {}
    for part in parts:
        for opset in part.proto.opset_import:
            if versions.setdefault(opset.domain, opset.version) != opset.version:
                raise ExportError(
                    f"part '{part.name}' uses version {opset.version} of the operators '{opset.domain or 'ai.onnx'}', "
                    f"others version {versions[opset.domain]}; export all parts with the same version"
                )
    return [helper.make_opsetid(domain, version) for domain, version in versions.items()]
