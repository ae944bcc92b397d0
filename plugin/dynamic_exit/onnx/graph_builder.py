"""Nodes and constants of one (sub)graph while it is being written."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .names import with_short_names
from .part import OUTPUT, Part


class GraphBuilder:
    """A graph in the making; names of its own values begin with `prefix`."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, out: str | None = None, **attributes) -> str:
        """Add a node of one output and return the output's name."""
        name = f"{self.prefix}{out or len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, value, dtype) -> str:
        """Add a constant and return its name."""
        name = f"{self.prefix}c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def include(self, part: Part, feeds: Mapping[str, str]) -> str:
        """Copy a part's nodes in, fed by the named values, and return the name of what it gives."""
        graph, prefix = with_short_names(part.name, part.proto.graph), f"{part.name}:"
        for name in part.input_names:
            self.nodes.append(helper.make_node("Identity", [feeds[name]], [prefix + name]))
        self.nodes.extend(graph.node)
        self.initializers.extend(graph.initializer)
        return prefix + OUTPUT

    def filled(self, shape: str, value) -> str:
        """Add one value, a numpy scalar, throughout a shape, which is the name of its numbers."""
        return self.add("ConstantOfShape", shape, value=numpy_helper.from_array(np.asarray([value])))

    def zeros(self, length: str, width: int) -> str:
        """Add zeros float32 (rows, width), `length` being the shape (rows)."""
        return self.filled(self.add("Concat", length, self.constant([width], np.int64), axis=0), np.float32(0))

    def nothing(self, shape: Sequence[int | str]) -> str:
        """Add zero rows of a shape whose free dimensions are their names."""
        values = np.zeros([0] + [side if isinstance(side, int) else 0 for side in shape], np.float32)
        return self.add("Identity", self.constant(values, np.float32))

    def any(self, rows: str, out: str) -> str:
        """Add whether a value has any element."""
        return self.add(
            "Greater", self.add("Size", rows, out=f"{out}/size"), self.constant(0, np.int64), out=f"{out}/any"
        )

    def graph(self, name: str, outputs: Sequence[onnx.ValueInfoProto], inputs=()) -> onnx.GraphProto:
        """Return the finished graph."""
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), initializer=self.initializers)
