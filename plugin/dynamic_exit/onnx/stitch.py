"""One ONNX file out of many parts: a flat chain of `If` nodes, in which a stage that nobody needs does not run.

For every stage the rows still in play are gathered, the stage runs in the then-branch only if any remain, and what it
is sure of is written back to the caller's order. Weights live inside the branches: onnxruntime keeps its fast memory
layouts only for those.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import ExportError
from .parts import BATCH, OUTPUT, Part

_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Chain:
    """What a dynamic model consists of.

    Attributes:
        savers: Answer first, in this order; each takes all of the model's inputs.
        segments: The backbone's pieces in order; the last gives logits.
        exits: ``(head, i)``: an exit head on what segment `i` hands on, at most one for each `i`, ascending.
        fuse: ``none`` (a stage answers alone) or ``mean`` (probabilities of all stages so far are averaged).
    """

    savers: Sequence[Part]
    segments: Sequence[Part]
    exits: Sequence[tuple[Part, int]]
    fuse: str = "none"

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages before the final, in the order of `thresholds`."""
        return tuple(part.name for part in self.savers) + tuple(part.name for part, _ in self.exits)


class _Block:
    """Nodes of one (sub)graph while it is being written."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.value_info: list[onnx.ValueInfoProto] = []

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
        prefix = f"{self.prefix}{part.name}/"
        graph = onnx.compose.add_prefix_graph(part.proto.graph, prefix)
        for name in part.takes:
            self.nodes.append(helper.make_node("Identity", [feeds[name]], [prefix + name], name=prefix + name))
        self.nodes.extend(graph.node)
        self.initializers.extend(graph.initializer)
        self.value_info.extend(graph.value_info)
        return prefix + OUTPUT

    def graph(self, name: str, outputs: Sequence[onnx.ValueInfoProto], inputs=()) -> onnx.GraphProto:
        return helper.make_graph(
            self.nodes, name, list(inputs), list(outputs), initializer=self.initializers, value_info=self.value_info
        )


@dataclass
class _State:
    """Names of the values that one stage hands to the next."""

    rows: str  # caller's indices of the rows still in play
    logits: str
    exit_index: str
    confidence: str
    evidence: str | None = None  # sum of probabilities, for the rows in play
    seen: str | None = None  # how many stages are in that sum
    hidden: str | None = None  # before `keep` is applied to it
    keep: str | None = None  # positions in `hidden` of the rows in play


class _Stitcher:
    def __init__(self, chain: Chain, inputs: Sequence[onnx.ValueInfoProto], classes: int):
        self.chain, self.inputs, self.classes = chain, inputs, classes
        self.main = _Block("")
        self.fused = chain.fuse == "mean"

    def stitch(self) -> onnx.GraphProto:
        state = self._start()
        index = 0
        for part in self.chain.savers:
            state = self._answer(index, part, state, {name.name: name.name for name in self.inputs}, gather=True)
            index += 1
        heads = {position: part for part, position in self.chain.exits}
        group: list[Part] = []
        for position, segment in enumerate(self.chain.segments[:-1]):
            group.append(segment)
            if position in heads:
                state = self._advance(index, group, state)
                state = self._answer(index, heads[position], state, {"hidden": state.hidden}, gather=False)
                group, index = [], index + 1
        self._final([*group, self.chain.segments[-1]], state)
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
            state.evidence, state.seen = empty, main.constant(0, np.float32)
        return state

    def _any(self, rows: str, out: str) -> str:
        size = self.main.add("Size", rows, out=f"{out}/size")
        return self.main.add("Greater", size, self.main.constant(0, np.int64), out=f"{out}/any")

    def _answer(self, index: int, part: Part, state: _State, feeds: Mapping[str, str], gather: bool) -> _State:
        """One stage before the final: runs when it is on and rows remain, and lets the sure ones leave."""
        main, tag = self.main, f"stage{index}"
        threshold = main.add("Gather", "thresholds", main.constant(index, np.int64), axis=0, out=f"{tag}/threshold")
        on = main.add("Less", threshold, main.constant(np.inf, np.float32), out=f"{tag}/on")
        runs = main.add("And", on, self._any(state.rows, tag), out=f"{tag}/runs")
        block = _Block(f"{tag}/then/")
        if gather:
            feeds = {name: block.add("Gather", value, state.rows, axis=0) for name, value in feeds.items()}
        logits = block.include(part, feeds)
        answer, confidence, evidence, seen = self._evidence(block, logits, state)
        leave = block.add("Greater", confidence, threshold)
        stay = block.add("Not", leave)  # so that a confidence of NaN goes on
        after = self._write(block, state, answer, confidence, rows=state.rows, leave=leave, index=index)
        after.rows = block.add("Compress", state.rows, stay, axis=0)
        if self.fused:
            after.evidence, after.seen = block.add("Compress", evidence, stay, axis=0), seen
        others = _Block(f"{tag}/else/")
        same = _State(state.rows, state.logits, state.exit_index, state.confidence, state.evidence, state.seen)
        if state.hidden is not None:
            after.keep = block.add("Compress", _positions(block, state.rows), stay, axis=0)
            same.keep = _positions(others, state.rows)
        result = self._branch(tag, runs, block, after, others, same)
        result.hidden = state.hidden
        return result

    def _evidence(self, block: _Block, logits: str, state: _State) -> tuple[str, str, str | None, str | None]:
        probabilities = block.add("Softmax", logits, axis=1)
        evidence = seen = None
        answer = logits
        if self.fused:
            evidence = block.add("Add", state.evidence, probabilities)
            seen = block.add("Add", state.seen, block.constant(1, np.float32))
            probabilities = block.add("Div", evidence, seen)
            answer = block.add("Log", block.add("Max", probabilities, block.constant(_TINY, np.float32)))
        # over axis 1: onnxruntime's reduction over axis -1 gives a wrong shape on zero rows
        confidence = block.add("ReduceMax", probabilities, block.constant([1], np.int64), keepdims=0)
        return answer, confidence, evidence, seen

    def _write(self, block, state, answer, confidence, rows, leave=None, index=None) -> _State:
        """Write answers back to the caller's order: those of `leave`, or all where it is None."""
        pick = (lambda value: block.add("Compress", value, leave, axis=0)) if leave else (lambda value: value)
        where = block.add("Unsqueeze", pick(rows), block.constant([1], np.int64))
        exit_index = state.exit_index
        if index is not None:
            shape = block.add("Shape", pick(rows))
            exits = block.add("Expand", block.constant([index], np.int64), shape)
            exit_index = block.add("ScatterND", state.exit_index, where, exits)
        return _State(
            rows=rows,
            logits=block.add("ScatterND", state.logits, where, pick(answer)),
            exit_index=exit_index,
            confidence=block.add("ScatterND", state.confidence, where, pick(confidence)),
        )

    def _advance(self, index: int, group: Sequence[Part], state: _State) -> _State:
        """Run the segments up to the next exit on the rows in play."""
        tag = f"segments{index}"
        block, others = _Block(f"{tag}/then/"), _Block(f"{tag}/else/")
        hidden = self._run(block, group, state)
        shape = group[-1].output_shape
        none = others.constant(np.zeros([0] + [d if isinstance(d, int) else 0 for d in shape]), np.float32)
        spec = [(hidden, others.add("Identity", none), TensorProto.FLOAT, [f"{tag}_rows", *shape])]
        (name,) = self._if(tag, self._any(state.rows, tag), block, others, spec, ["hidden"])
        return _State(**{**vars(state), "hidden": name, "keep": None})

    def _run(self, block: _Block, group: Sequence[Part], state: _State) -> str:
        hidden = state.hidden
        if hidden is not None and state.keep is not None:
            hidden = block.add("Gather", hidden, state.keep, axis=0)
        gathered = {}
        for part in group:
            for name in part.takes:
                if name != "hidden" and name not in gathered:
                    gathered[name] = block.add("Gather", name, state.rows, axis=0)
            hidden = block.include(part, {**gathered, "hidden": hidden})
        return hidden

    def _final(self, group: Sequence[Part], state: _State) -> None:
        block, others = _Block("final/then/"), _Block("final/else/")
        answer, confidence, _, _ = self._evidence(block, self._run(block, group, state), state)
        after = self._write(block, state, answer, confidence, rows=state.rows)
        spec = [
            (after.logits, others.add("Identity", state.logits), TensorProto.FLOAT, [BATCH, self.classes]),
            (after.confidence, others.add("Identity", state.confidence), TensorProto.FLOAT, [BATCH]),
        ]
        logits, confidence = self._if(
            "final", self._any(state.rows, "final"), block, others, spec, ["logits", "confidence"]
        )
        for value, name in ((logits, "logits"), (state.exit_index, "exit_index"), (confidence, "confidence")):
            self.main.nodes.append(helper.make_node("Identity", [value], [name], name=f"output/{name}"))

    def _branch(self, tag: str, condition: str, block: _Block, after: _State, others: _Block, same: _State) -> _State:
        kinds = {
            "rows": (TensorProto.INT64, [f"{tag}_left"]),
            "logits": (TensorProto.FLOAT, [BATCH, self.classes]),
            "exit_index": (TensorProto.INT64, [BATCH]),
            "confidence": (TensorProto.FLOAT, [BATCH]),
            "evidence": (TensorProto.FLOAT, [f"{tag}_left", self.classes]),
            "seen": (TensorProto.FLOAT, []),
            "keep": (TensorProto.INT64, [f"{tag}_left"]),
        }
        fields = [name for name in kinds if getattr(after, name) is not None]
        spec = [(getattr(after, n), others.add("Identity", getattr(same, n)), *kinds[n]) for n in fields]
        return _State(**dict(zip(fields, self._if(tag, condition, block, others, spec, fields), strict=True)))

    def _if(self, tag, condition, block, others, spec, names) -> list[str]:
        outputs = [f"{tag}/{name}" for name in names]
        then = [helper.make_tensor_value_info(a, kind, shape) for a, _, kind, shape in spec]
        other = [helper.make_tensor_value_info(b, kind, _else_shape(shape)) for _, b, kind, shape in spec]
        self.main.nodes.append(
            helper.make_node(
                "If",
                [condition],
                outputs,
                name=tag,
                then_branch=block.graph(f"{tag}_then", then),
                else_branch=others.graph(f"{tag}_else", other),
            )
        )
        return outputs


def _else_shape(shape: Sequence[int | str]) -> list[int | str]:
    return [f"{dim}_else" if isinstance(dim, str) and dim != BATCH else dim for dim in shape]


def _scalar(value, dtype) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray([value], dtype=dtype))


def _positions(block: _Block, rows: str) -> str:
    return block.add("Range", block.constant(0, np.int64), block.add("Size", rows), block.constant(1, np.int64))


def stitch(
    chain: Chain,
    inputs: Sequence[onnx.ValueInfoProto],
    classes: int,
    thresholds: Sequence[float],
    metadata: Mapping[str, object],
) -> onnx.ModelProto:
    """Stitch a chain of parts into one ONNX model that skips what no row needs.

    Args:
        chain: The parts.
        inputs: The backbone's own inputs, batch first and free.
        classes: Number of classes C.
        thresholds: One for each stage before the final: the default of the optional input ``thresholds``.
        metadata: Written to the file as JSON strings, beside ``stages``.

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
    parts = [*chain.savers, *chain.segments, *(part for part, _ in chain.exits)]
    model = helper.make_model(graph, opset_imports=_opsets(parts), producer_name="dynamic_exit")
    model.ir_version = max(part.proto.ir_version for part in parts)
    helper.set_model_props(model, {k: json.dumps(v) for k, v in {"stages": chain.stages, **metadata}.items()})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the stitched file is not valid ONNX: {str(error).splitlines()[0]}") from error
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
