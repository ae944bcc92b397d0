"""One ONNX file out of many parts: a flat chain of `If` nodes, in which a stage that nobody needs does not run.

For every stage the rows still in play are gathered, the stage runs in the then-branch only if any remain, and what it
answers is written back to the caller's order. Exits and the final stand in one more branch, which is skipped where the
savers leave nothing over. Weights live inside the branches: onnxruntime keeps its fast memory
layouts only for those.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..chain.names import FINAL
from ..errors import ExportError, first_line
from .external_data import for_onnx
from .graph_builder import GraphBuilder
from .memory_format import with_layout
from .model_parts import ModelParts
from .part import BATCH, Part

_TINY = float(np.finfo(np.float32).tiny)
# name of the batch size, as a shape
_ALL = "batch_size"


@dataclass
class _State:
    """Names of the values that one stage hands to the next; empty where there is no such value yet."""

    rows: str = ""  # caller's indices of the rows still in play; empty while these are all
    logits: str = ""  # of all rows, the latest answer; with `fuse: mean` its probabilities
    exit_index: str = ""
    confidence: str = ""
    evidence: str = ""  # sum of probabilities, for the rows in play
    hidden: str = ""  # before those rows are taken out of it that do not `stay`
    stay: str = ""  # which rows of `hidden`, or of those offered an answer, are still in play
    hidden_shape: tuple[int | str, ...] = ()
    memory: str = ""  # features of all taps so far side by side, with the rows of `hidden`
    memory_width: int = 0


class _Stitcher:
    """Every stage writes its answers for all rows in play; those that go on are written over by a later stage."""

    def __init__(self, chain: ModelParts, inputs: Sequence[onnx.ValueInfoProto], classes: int):
        self.chain, self.inputs, self.classes = chain, inputs, classes
        self.main = GraphBuilder("")
        self.fused = chain.fuse == "mean"
        first = len(chain.savers)
        # position -> indices of the exits from there on that read taps
        seeing = [(at, first + i) for i, (part, at) in enumerate(chain.exits) if "memory" in part.input_names]
        self.wanted = {at: [index for behind, index in seeing if behind >= at] for at in chain.taps}
        self.last_seeing = max((index for _, index in seeing), default=-1)

    def stitch(self) -> onnx.GraphProto:
        main, state = self.main, _State()
        self._start()
        for index, part in enumerate(self.chain.savers):
            state = self._saver(index, part, state)
        done = self._backbone(len(self.chain.savers), state)
        names = {done.logits: "answers" if self.fused else "logits"}
        names |= {done.exit_index: "exit_index", done.confidence: "confidence"}
        main.nodes[-1].output[:] = [names.get(name, name) for name in main.nodes[-1].output]
        if self.fused:
            main.add("Log", main.add("Max", "answers", main.constant(_TINY, np.float32)), out="logits")
        outputs = [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [BATCH, self.classes]),
            helper.make_tensor_value_info("exit_index", TensorProto.INT64, [BATCH]),
            helper.make_tensor_value_info("confidence", TensorProto.FLOAT, [BATCH]),
        ]
        thresholds = helper.make_tensor_value_info("thresholds", TensorProto.FLOAT, [len(self.chain.stages)])
        return main.graph("dynamic_exit", outputs, [*self.inputs, thresholds])

    def _start(self) -> None:
        main, count = self.main, len(self.chain.stages)
        main.add("Shape", self.inputs[0].name, start=0, end=1, out=_ALL)
        if count:
            on = main.add("Less", "thresholds", main.constant(np.inf, np.float32), out="stages_on")
            for source, parts in (("thresholds", "threshold"), (on, "on")):
                names = [f"{parts}_{index}" for index in range(count)]
                main.nodes.append(helper.make_node("Split", [source], names, name=parts, axis=0, num_outputs=count))

    def _backbone(self, index: int, state: _State) -> _State:
        """All behind the savers, in one branch: where they leave nothing over, one look at it is all it costs."""
        if not self.chain.exits:
            return self._final(self.main, [*enumerate(self.chain.segments)], state)
        block = GraphBuilder("backbone/")
        heads: dict[int, list[Part]] = {}
        for part, position in self.chain.exits:
            heads.setdefault(position, []).append(part)
        group: list[tuple[int, Part]] = []
        after = state
        for position, segment in enumerate(self.chain.segments[:-1]):
            group.append((position, segment))
            for head in heads.get(position, ()):  # a second head finds its segments run
                after = self._exit(block, index, group, head, after)
                group, index = [], index + 1
        after = self._final(block, [*group, (len(self.chain.segments) - 1, self.chain.segments[-1])], after)
        anything = self._any(self.main, state, "backbone")
        return self._branch(self.main, "backbone", anything, block, after, GraphBuilder("backbone/no/"), state)

    def _saver(self, index: int, part: Part, state: _State) -> _State:
        """Runs when it is on and rows remain."""
        tag = f"stage{index}"
        block, others = GraphBuilder(f"{tag}/"), GraphBuilder(f"{tag}/no/")
        logits = block.include(part, {name: self._gathered(block, name, state) for name in part.input_names})
        after, same = self._try_exit(block, index, logits, state), state
        if index == len(self.chain.savers) - 1 and self.wanted.get(-1):
            width = self.chain.taps[-1].output_shape[0]
            tap = self._record_tap(block, -1, {"logits": logits}, state)
            after.memory, after.memory_width = block.add("Compress", tap, after.stay, axis=0), width
            same = replace(state, memory=others.zeros(_length(others, state), width))
        after.stay = ""
        runs = self.main.add("And", f"on_{index}", self._any(self.main, state, tag), out=f"{tag}/runs")
        return self._branch(self.main, tag, runs, block, after, others, same)

    def _record_tap(self, block: GraphBuilder, position: int, feeds: Mapping[str, str], state: _State) -> str:
        """Run a tap if an exit that reads it is on; else its features are zeros, which nothing reads."""
        part, tag = self.chain.taps[position], f"{block.prefix}note_{position}"
        limits = block.add("Gather", "thresholds", block.constant(self.wanted[position], np.int64), axis=0)
        least = block.add("ReduceMin", limits, block.constant([0], np.int64), keepdims=0)
        on = block.add("Less", least, block.constant(np.inf, np.float32))
        then, other = GraphBuilder(f"{tag}/"), GraphBuilder(f"{tag}/no/")
        shape = [f"{tag}_rows", part.output_shape[0]]
        out = [
            helper.make_tensor_value_info(then.include(part, feeds), TensorProto.FLOAT, shape),
            helper.make_tensor_value_info(
                other.zeros(_length(other, state), shape[1]), TensorProto.FLOAT, _else_shape(shape)
            ),
        ]
        branches = {
            "then_branch": then.graph(f"{tag}_then", out[:1]),
            "else_branch": other.graph(f"{tag}_else", out[1:]),
        }
        block.nodes.append(helper.make_node("If", [on], [tag], name=tag, **branches))
        return tag

    def _gathered(self, block: GraphBuilder, name: str, state: _State) -> str:
        """One of the model's inputs, of the rows in play."""
        return block.add("Gather", name, state.rows, axis=0) if state.rows else name

    def _any(self, into: GraphBuilder, state: _State, out: str) -> str:
        return into.any(state.rows or self.inputs[0].name, out)

    def _exit(
        self, into: GraphBuilder, index: int, group: Sequence[tuple[int, Part]], head: Part, state: _State
    ) -> _State:
        """Runs the segments up to an exit when rows remain, and its head when it is on."""
        tag, first = f"stage{index}", not state.hidden
        block = into if first else GraphBuilder(f"{tag}/")  # rows remain wherever the backbone begins
        hidden, memory, width = self._run(block, group, state)
        inner, off = GraphBuilder(f"{tag}/head/"), GraphBuilder(f"{tag}/head/no/")
        carried = {"hidden": hidden, "memory": memory}
        feeds = {name: self._gathered(inner, name, state) for name in head.input_names if name not in carried}
        offered = self._try_exit(inner, index, inner.include(head, {**feeds, **carried}), state)
        stays = replace(state, stay=off.filled(_length(off, state), np.True_))
        after = self._branch(block, f"{tag}/head", f"on_{index}", inner, offered, off, stays)
        after.hidden, after.hidden_shape = hidden, group[-1][1].output_shape if group else state.hidden_shape
        if memory and index < self.last_seeing:
            after.memory, after.memory_width = memory, width
        if first:
            return after
        others = GraphBuilder(f"{tag}/no/")
        same = replace(state, hidden=others.nothing(after.hidden_shape))
        same.stay = others.filled(_length(others, state), np.True_)
        if after.memory:
            same.memory = others.nothing((width,))
        return self._branch(into, tag, self._any(into, state, tag), block, after, others, same)

    def _try_exit(self, block: GraphBuilder, index: int, logits: str, state: _State) -> _State:
        """Let the rows leave that a stage is sure of."""
        answer, confidence, evidence = self._evidence(block, logits, state)
        stay = block.add("Not", block.add("Greater", confidence, f"threshold_{index}"))  # a confidence of NaN goes on
        after = self._write(block, state, answer, confidence, index)
        after.stay = stay
        if state.rows:
            after.rows = block.add("Compress", state.rows, stay, axis=0)
        else:
            after.rows = block.add("Squeeze", block.add("NonZero", stay), block.constant([0], np.int64))
        if self.fused:
            after.evidence = block.add("Compress", evidence, stay, axis=0)
        return after

    def _evidence(self, block: GraphBuilder, logits: str, state: _State) -> tuple[str, str, str]:
        """Return answer, confidence and the sum of evidence so far, of the rows in play."""
        probabilities, answer, evidence = block.add("Softmax", logits, axis=1), logits, ""
        if self.fused:
            # the softmax of a row with a NaN is NaN throughout: that stage gives the row no evidence
            unknown = block.add("IsNaN", probabilities)
            evidence = block.add("Where", unknown, block.constant(0, np.float32), probabilities)
            if state.evidence:
                evidence = block.add("Add", state.evidence, evidence)
                # each stage's probabilities add up to 1: the sum of all, rounded, is how many there are
                total = block.add("ReduceSum", evidence, block.constant([1], np.int64), keepdims=1)
                probabilities = block.add("Div", evidence, block.add("Round", total))
            answer = probabilities
        # over axis 1: onnxruntime's reduction over axis -1 gives a wrong shape on zero rows
        confidence = block.add("ReduceMax", probabilities, block.constant([1], np.int64), keepdims=0)
        return answer, confidence, evidence

    def _write(self, block: GraphBuilder, state: _State, answer: str, confidence: str, index: int) -> _State:
        """Write the answers of all rows in play in the caller's order."""
        exits = block.filled(_length(block, state), np.int64(index))
        written = {"logits": answer, "exit_index": exits, "confidence": confidence}
        if state.rows:
            where = block.add("Unsqueeze", state.rows, block.constant([1], np.int64))
            written = {
                name: block.add("ScatterND", getattr(state, name), where, value) for name, value in written.items()
            }
        return _State(rows=state.rows, **written)

    def _run(self, block: GraphBuilder, group: Sequence[tuple[int, Part]], state: _State) -> tuple[str, str, int]:
        """Run segments and their taps; return hidden state, memory and the memory's width."""
        hidden, memory, width = state.hidden, state.memory, state.memory_width
        if hidden:
            hidden = block.add("Compress", hidden, state.stay, axis=0)
            memory = block.add("Compress", memory, state.stay, axis=0) if memory else ""
        gathered: dict[str, str] = {}

        def feeds(part: Part) -> dict[str, str]:
            for name in part.input_names:
                if name != "hidden" and name not in gathered:
                    gathered[name] = self._gathered(block, name, state)
            return {**gathered, "hidden": hidden}

        for position, part in group:
            hidden = block.include(with_layout(part), feeds(part))
            if self.wanted.get(position):
                part = self.chain.taps[position]
                tap = self._record_tap(block, position, feeds(part), state)
                memory = block.add("Concat", memory, tap, axis=1) if memory else tap
                width += part.output_shape[0]
        return hidden, memory, width

    def _final(self, into: GraphBuilder, group: Sequence[tuple[int, Part]], state: _State) -> _State:
        block = GraphBuilder("final/")
        answer, confidence, _ = self._evidence(block, self._run(block, group, state)[0], state)
        after = self._write(block, state, answer, confidence, len(self.chain.stages))
        after.rows = ""
        return self._branch(into, FINAL, self._any(into, state, FINAL), block, after, GraphBuilder("final/no/"), state)

    def _branch(
        self,
        into: GraphBuilder,
        tag: str,
        condition: str,
        block: GraphBuilder,
        after: _State,
        others: GraphBuilder,
        same: _State,
    ) -> _State:
        """Add an `If`: `after` is what its then-branch leaves, `same` what the else-branch hands through."""
        kinds = {
            "rows": (TensorProto.INT64, [f"{tag}_left"]),
            "logits": (TensorProto.FLOAT, [BATCH, self.classes]),
            "exit_index": (TensorProto.INT64, [BATCH]),
            "confidence": (TensorProto.FLOAT, [BATCH]),
            "evidence": (TensorProto.FLOAT, [f"{tag}_left", self.classes]),
            "stay": (TensorProto.BOOL, [f"{tag}_rows"]),
            "hidden": (TensorProto.FLOAT, [f"{tag}_rows", *after.hidden_shape]),
            "memory": (TensorProto.FLOAT, [f"{tag}_rows" if after.hidden else f"{tag}_left", after.memory_width]),
        }
        fields = [name for name in kinds if getattr(after, name)]
        then, other = [], []
        for name in fields:
            kind, shape = kinds[name]
            handed = others.add("Identity", getattr(same, name) or self._unwritten(others, name, same))
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

    def _unwritten(self, block: GraphBuilder, name: str, state: _State) -> str:
        """What is handed on while no stage has answered; it is written over, or there are no rows at all."""
        length = _length(block, state)
        if name == "rows":
            zero, one = block.constant(0, np.int64), block.constant(1, np.int64)
            return block.add("Range", zero, block.add("Squeeze", length), one)
        if name == "exit_index":
            return block.filled(length, np.int64(len(self.chain.stages)))
        return block.filled(length, np.float32(0)) if name == "confidence" else block.zeros(length, self.classes)


def _length(block: GraphBuilder, state: _State) -> str:
    """How many rows are in play, as a shape."""
    return block.add("Shape", state.rows) if state.rows else _ALL


def _else_shape(shape: Sequence[int | str]) -> list[int | str]:
    return [f"{dim}_else" if isinstance(dim, str) and dim != BATCH else dim for dim in shape]


def stitch(
    chain: ModelParts,
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
    parts = [*chain.savers, *chain.segments, *(part for part, _ in chain.exits), *chain.taps.values()]
    model = helper.make_model(graph, opset_imports=_opsets(parts), producer_name="dynamic_exit")
    model.ir_version = max(part.proto.ir_version for part in parts)
    metadata = {"stages": chain.stages, "chain": chain.describe(), **metadata}
    helper.set_model_props(model, {key: json.dumps(value, separators=(",", ":")) for key, value in metadata.items()})
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
