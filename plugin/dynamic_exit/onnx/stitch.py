"""One ONNX file of many parts: a flat chain of `If` nodes, in which stages that no row needs do not run.

For every stage the rows still in play are gathered, the stage runs in the then-branch if any remain, and its output is
scattered to the order of the input. Exits and the final stage are in one more branch, which is skipped if the savers
answer all rows. Weights are inside the branches, since onnxruntime uses its fast memory layouts only for those.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..chain.names import FINAL, HIDDEN, LOGITS, MEMORY
from ..chain.thresholds import STAGE_OFF
from ..errors import ExportError, first_line
from .external_data import for_onnx
from .graph_builder import GraphBuilder
from .memory_format import with_layout
from .model_parts import ModelParts
from .opset import EXPORTED_FROM, lower_operators, operator_version
from .part import BATCH, Part

_TINY = float(np.finfo(np.float32).tiny)
# name of the value with the shape (batch size,)
_ALL = "batch_size"


@dataclass
class _State:
    """Names of the values that one stage passes to the next; empty if there is no such value yet."""

    rows: str = ""  # indices of the rows still in play; empty while these are all rows
    logits: str = ""  # of all rows, of the stage that answered last; its evidence, if the rule does not keep logits
    exit_index: str = ""
    confidence: str = ""
    evidence: str = ""  # what the evidence rule hands on, of the rows in play
    hidden: str = ""  # with rows that are no longer in play, before `stay` is applied
    stay: str = ""  # which rows of `hidden`, or of the last stage, are still in play
    hidden_shape: tuple[int | str, ...] = ()
    memory: str = ""  # features of all taps so far side by side, with the rows of `hidden`
    memory_width: int = 0


class _Stitcher:
    """Builds the graph; every stage writes its output for all rows in play, and later stages overwrite it."""

    def __init__(self, chain: ModelParts, inputs: Sequence[onnx.ValueInfoProto], classes: int):
        self.chain, self.inputs, self.classes = chain, inputs, classes
        self.main = GraphBuilder("")
        self.rule = chain.fuse.evidence_rule
        first = len(chain.savers)
        # position -> indices of the exits from there on that read taps
        reading = [(at, first + i) for i, (part, at) in enumerate(chain.exits) if MEMORY in part.input_names]
        self.readers = {at: [index for behind, index in reading if behind >= at] for at in chain.taps}
        self.last_reading = max((index for _, index in reading), default=-1)

    def stitch(self) -> onnx.GraphProto:
        main, state = self.main, _State()
        self._start()
        for index, part in enumerate(self.chain.savers):
            state = self._saver(index, part, state)
        done = self._backbone(len(self.chain.savers), state)
        names = {done.logits: "logits" if self.rule.keeps_logits else "answers"}
        names |= {done.exit_index: "exit_index", done.confidence: "confidence"}
        main.nodes[-1].output[:] = [names.get(name, name) for name in main.nodes[-1].output]
        if not self.rule.keeps_logits:
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
            on = main.add("Less", "thresholds", main.constant(STAGE_OFF, np.float32), out="stages_on")
            sizes = main.constant([1] * count, np.int64)
            for source, parts in (("thresholds", "threshold"), (on, "on")):
                names = [f"{parts}_{index}" for index in range(count)]
                main.nodes.append(helper.make_node("Split", [source, sizes], names, name=parts, axis=0))
        # here, as runtimes that take `thresholds` for a constant could not make it an input where a branch reads it
        for position in filter(self.readers.get, self.readers):
            limits = main.add("Gather", "thresholds", main.constant(self.readers[position], np.int64), axis=0)
            least = main.add("ReduceMin", limits, main.constant([0], np.int64), keepdims=0)
            main.add("Less", least, main.constant(STAGE_OFF, np.float32), out=f"tap_on_{position}")

    def _backbone(self, index: int, state: _State) -> _State:
        """Add all that follows the savers in one branch, which costs one comparison if no row remains."""
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
            for head in heads.get(position, ()):  # a second head at a position has no segments left to run
                after = self._exit(block, index, group, head, after)
                group, index = [], index + 1
        after = self._final(block, [*group, (len(self.chain.segments) - 1, self.chain.segments[-1])], after)
        anything = self._any(self.main, state, "backbone")
        return self._branch(self.main, "backbone", anything, block, after, GraphBuilder("backbone/no/"), state)

    def _saver(self, index: int, part: Part, state: _State) -> _State:
        """Add a saver, which runs if it is on and rows remain."""
        tag = f"stage{index}"
        block, others = GraphBuilder(f"{tag}/"), GraphBuilder(f"{tag}/no/")
        logits = block.include(part, {name: self._gathered(block, name, state) for name in part.input_names})
        after, same = self._try_exit(block, index, logits, state), state
        if index == len(self.chain.savers) - 1 and self.readers.get(-1):
            width = _width(self.chain.taps[-1])
            tap = self._record_tap(block, -1, {LOGITS: logits}, state)
            after.memory, after.memory_width = block.add("Compress", tap, after.stay, axis=0), width
            same = replace(state, memory=others.zeros(_length(others, state), width))
        after.stay = ""
        runs = self.main.add("And", f"on_{index}", self._any(self.main, state, tag), out=f"{tag}/runs")
        return self._branch(self.main, tag, runs, block, after, others, same)

    def _record_tap(self, block: GraphBuilder, position: int, feeds: Mapping[str, str], state: _State) -> str:
        """Add a tap, which runs if an exit that reads it is on; else its features are zeros."""
        part, tag = self.chain.taps[position], f"{block.prefix}note_{position}"
        then, other = GraphBuilder(f"{tag}/"), GraphBuilder(f"{tag}/no/")
        width = _width(part)
        shape: list[int | str] = [f"{tag}_rows", width]
        out = [
            helper.make_tensor_value_info(then.include(part, feeds), TensorProto.FLOAT, shape),
            helper.make_tensor_value_info(
                other.zeros(_length(other, state), width), TensorProto.FLOAT, _else_shape(shape)
            ),
        ]
        branches = {
            "then_branch": then.graph(f"{tag}_then", out[:1]),
            "else_branch": other.graph(f"{tag}_else", out[1:]),
        }
        block.nodes.append(helper.make_node("If", [f"tap_on_{position}"], [tag], name=tag, **branches))
        return tag

    def _gathered(self, block: GraphBuilder, name: str, state: _State) -> str:
        """Return an input of the model for the rows in play."""
        return block.add("Gather", name, state.rows, axis=0) if state.rows else name

    def _any(self, into: GraphBuilder, state: _State, out: str) -> str:
        return into.any(state.rows or self.inputs[0].name, out)

    def _exit(
        self, into: GraphBuilder, index: int, group: Sequence[tuple[int, Part]], head: Part, state: _State
    ) -> _State:
        """Add the segments up to an exit, which run if rows remain, and its head, which runs if the exit is on."""
        tag, first = f"stage{index}", not state.hidden
        block = into if first else GraphBuilder(f"{tag}/")  # rows remain where the backbone begins
        hidden, memory, width = self._run(block, group, state)
        inner, off = GraphBuilder(f"{tag}/head/"), GraphBuilder(f"{tag}/head/no/")
        carried = {HIDDEN: hidden, MEMORY: memory}
        feeds = {name: self._gathered(inner, name, state) for name in head.input_names if name not in carried}
        offered = self._try_exit(inner, index, inner.include(head, {**feeds, **carried}), state)
        stays = replace(state, stay=off.filled(_length(off, state), np.True_))
        after = self._branch(block, f"{tag}/head", f"on_{index}", inner, offered, off, stays)
        after.hidden, after.hidden_shape = hidden, group[-1][1].output_shape if group else state.hidden_shape
        if memory and index < self.last_reading:
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
        """Write the output of a stage and keep the rows that are not confident enough in play."""
        answer, confidence, evidence = self._evidence(block, self.chain.stages[index], logits, state)
        stay = block.add(
            "Not", block.add("Greater", confidence, f"threshold_{index}")
        )  # a row with a confidence of NaN stays
        after = self._write(block, state, answer, confidence, index)
        after.stay = stay
        if state.rows:
            after.rows = block.add("Compress", state.rows, stay, axis=0)
        else:
            after.rows = block.add("Squeeze", block.add("NonZero", stay), block.constant([0], np.int64))
        if evidence:
            after.evidence = block.add("Compress", evidence, stay, axis=0)
        return after

    def _evidence(self, block: GraphBuilder, stage: str, logits: str, state: _State) -> tuple[str, str, str]:
        """Return logits or evidence, confidence, and what the rule hands on, of the rows in play."""
        probabilities = block.add("Softmax", logits, axis=1)
        carried, evidence = self.chain.fuse.rule_of(stage).onnx(block, state.evidence, probabilities)
        confidence = self.chain.fuse.confidence_of(stage).onnx(block, evidence)
        return logits if self.rule.keeps_logits else evidence, confidence, carried

    def _write(self, block: GraphBuilder, state: _State, answer: str, confidence: str, index: int) -> _State:
        """Scatter the output of all rows in play to the order of the input."""
        exits = block.filled(_length(block, state), np.int64(index))
        written: dict[str, Any] = {"logits": answer, "exit_index": exits, "confidence": confidence}
        if state.rows:
            where = block.add("Unsqueeze", state.rows, block.constant([1], np.int64))
            written = {
                name: block.add("ScatterND", getattr(state, name), where, value) for name, value in written.items()
            }
        return _State(rows=state.rows, **written)

    def _run(self, block: GraphBuilder, group: Sequence[tuple[int, Part]], state: _State) -> tuple[str, str, int]:
        """Add segments and their taps; return hidden state, memory and the width of the memory."""
        hidden, memory, width = state.hidden, state.memory, state.memory_width
        if hidden:
            hidden = block.add("Compress", hidden, state.stay, axis=0)
            memory = block.add("Compress", memory, state.stay, axis=0) if memory else ""
        gathered: dict[str, str] = {}

        def feeds(part: Part) -> dict[str, str]:
            for name in part.input_names:
                if name != HIDDEN and name not in gathered:
                    gathered[name] = self._gathered(block, name, state)
            return {**gathered, HIDDEN: hidden}

        for position, part in group:
            hidden = block.include(with_layout(part), feeds(part))
            if self.readers.get(position):
                part = self.chain.taps[position]
                tap = self._record_tap(block, position, feeds(part), state)
                memory = block.add("Concat", memory, tap, axis=1) if memory else tap
                width += _width(part)
        return hidden, memory, width

    def _final(self, into: GraphBuilder, group: Sequence[tuple[int, Part]], state: _State) -> _State:
        block = GraphBuilder("final/")
        answer, confidence, _ = self._evidence(block, FINAL, self._run(block, group, state)[0], state)
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
        """Add an `If`; `after` is the state after its then-branch, `same` after its else-branch."""
        kinds: dict[str, tuple[int, list[int | str]]] = {
            "rows": (TensorProto.INT64, [f"{tag}_left"]),
            "logits": (TensorProto.FLOAT, [BATCH, self.classes]),
            "exit_index": (TensorProto.INT64, [BATCH]),
            "confidence": (TensorProto.FLOAT, [BATCH]),
            "evidence": (TensorProto.FLOAT, [f"{tag}_left", self.rule.onnx_width(self.classes)]),
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
        named: dict[str, Any] = dict(zip(fields, outputs, strict=True))
        return _State(**named, hidden_shape=after.hidden_shape, memory_width=after.memory_width)

    def _unwritten(self, block: GraphBuilder, name: str, state: _State) -> str:
        """Return a placeholder while no stage has answered; it is overwritten, or there are no rows."""
        length = _length(block, state)
        if name == "rows":
            zero, one = block.constant(0, np.int64), block.constant(1, np.int64)
            return block.add("Range", zero, block.add("Squeeze", length), one)
        if name == "exit_index":
            return block.filled(length, np.int64(len(self.chain.stages)))
        if name == "confidence":
            return block.filled(length, np.float32(0))
        return block.zeros(length, self.rule.onnx_width(self.classes) if name == "evidence" else self.classes)


def _length(block: GraphBuilder, state: _State) -> str:
    """Return the name of a value with the shape (rows in play,)."""
    return block.add("Shape", state.rows) if state.rows else _ALL


def _width(tap: Part) -> int:
    """Return the number of features of a tap."""
    return int(tap.output_shape[0])


def _else_shape(shape: Sequence[int | str]) -> list[int | str]:
    return [f"{dim}_else" if isinstance(dim, str) and dim != BATCH else dim for dim in shape]


def stitch(
    chain: ModelParts,
    inputs: Sequence[onnx.ValueInfoProto],
    classes: int,
    thresholds: Sequence[float] | np.ndarray,
    metadata: Mapping[str, object],
    limit: int | None = None,
) -> onnx.ModelProto:
    """Stitch parts into one ONNX model that runs only what some row needs.

    Args:
        chain: The parts.
        inputs: The inputs of the model, with a free batch first.
        classes: Number of classes C.
        thresholds: One per stage before the final one: the default of the optional input ``thresholds``.
        metadata: Written to the model as JSON strings, beside ``stages`` and ``chain``.
        limit: Bytes of weights above which the model is checked in a file; None is `external_data.LIMIT`.

    Returns:
        A valid model with the given inputs and ``thresholds`` float32 (S,), and the outputs ``logits``
        float32 (N, C), ``exit_index`` int64 (N,) and ``confidence`` float32 (N,).

    Raises:
        ExportError: The parts do not fit together.
    """
    if len(thresholds) != len(chain.stages):
        raise ExportError(f"{len(thresholds)} thresholds for {len(chain.stages)} stages; give one for each stage")
    graph = _Stitcher(chain, inputs, classes).stitch()
    graph.initializer.append(numpy_helper.from_array(np.asarray(thresholds, np.float32), "thresholds"))
    parts = chain.all
    model = helper.make_model(graph, opset_imports=_opsets(parts), producer_name="dynamic_exit")
    model.ir_version = max(part.proto.ir_version for part in parts)
    if operator_version(model) < EXPORTED_FROM:
        lower_operators(model.graph)
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
