"""Builder of one ONNX graph or subgraph."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from .names import with_short_names
from .part import OUTPUT, Part


class GraphBuilder:
    """A graph under construction; names of its values begin with `prefix`."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add a node with one output and return the name of the output."""
        name = f"{self.prefix}{out or len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def add_pair(self, operator: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """Add a node with two outputs and return their names."""
        names = f"{self.prefix}{len(self.nodes)}", f"{self.prefix}{len(self.nodes)}b"
        self.nodes.append(helper.make_node(operator, list(inputs), list(names), **attributes))
        return names

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Add a constant and return its name."""
        name = f"{self.prefix}c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def include(self, part: Part, feeds: Mapping[str, str]) -> str:
        """Add the nodes of a part, with the named values as inputs, and return the name of its output."""
        graph, prefix = with_short_names(part.name, part.proto.graph), f"{part.name}:"
        for name in part.input_names:
            self.nodes.append(helper.make_node("Identity", [feeds[name]], [prefix + name]))
        self.nodes.extend(graph.node)
        self.initializers.extend(graph.initializer)
        return prefix + OUTPUT

    def filled(self, shape: str, value: np.generic) -> str:
        """Add a tensor filled with a numpy scalar; `shape` is the name of a value with its sizes."""
        return self.add("ConstantOfShape", shape, value=numpy_helper.from_array(np.asarray([value])))

    def zeros(self, length: str, width: int) -> str:
        """Add zeros float32 (rows, width); `length` is the name of a value with the shape (rows,)."""
        return self.filled(self.add("Concat", length, self.constant([width], np.int64), axis=0), np.float32(0))

    def nothing(self, shape: Sequence[int | str]) -> str:
        """Add a tensor of zero rows of a shape; free dimensions, given by name, are empty too."""
        # no constant: OpenVINO reads one without values as a scalar, and refuses an `If` whose branches differ in rank
        sides = [0, *(side if isinstance(side, int) else 0 for side in shape)]
        return self.filled(self.constant(sides, np.int64), np.float32(0))

    def any(self, rows: str, out: str) -> str:
        """Add whether a value has at least one element."""
        size = self.add("Size", rows, out=f"{out}/size")
        return self.add("Greater", size, self.constant(0, np.int64), out=f"{out}/any")

    def graph(
        self, name: str, outputs: Sequence[onnx.ValueInfoProto], inputs: Sequence[onnx.ValueInfoProto] = ()
    ) -> onnx.GraphProto:
        """Return the finished graph."""
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), initializer=self.initializers)
