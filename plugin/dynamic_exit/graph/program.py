"""A captured model and what is known about each node of its graph."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, fx

#: How a model was captured.
Route = Literal["export", "fx"]


@dataclass
class Program:
    """A captured model.

    Attributes:
        graph_module: The graph, which returns logits (N, C); parameters and buffers are the user's own tensors.
        input_names: Names of the inputs, in order.
        example_inputs: The tensors it was captured with, with a batch of two or more.
        classes: Number of classes C.
        shapes: Node name -> shape; a free dimension is an expression in ``batch`` and ``length``.
        dtypes: Node name -> dtype.
        stacks: Node name -> names of the module calls around it, outermost first; the second call of a module is
            ``name@1``.
        parametrised: Module name -> number of modules in it that own parameters, itself included.
        route: ``export`` (torch.export) or ``fx`` (torch.fx).
        fixed_length: Why the number of tokens is that of the example inputs; None if it is free or there are none.
    """

    graph_module: fx.GraphModule
    input_names: tuple[str, ...]
    example_inputs: tuple[Tensor, ...]
    classes: int
    shapes: dict[str, tuple[int | str, ...]] = field(repr=False)
    dtypes: dict[str, torch.dtype] = field(repr=False)
    stacks: dict[str, tuple[str, ...]] = field(repr=False)
    parametrised: dict[str, int] = field(repr=False)
    route: Route = "export"
    fixed_length: str | None = None

    @property
    def output(self) -> fx.Node:
        """The node that computes the logits."""
        (node,) = self.graph_module.graph.output_node().args
        assert isinstance(node, fx.Node)
        return node

    @property
    def placeholders(self) -> list[fx.Node]:
        """Input nodes of the graph, in the order of ``input_names``."""
        return [node for node in self.graph_module.graph.nodes if node.op == "placeholder"]


def is_text(tensor: Tensor) -> bool:
    """Return whether an input looks like token indices or a mask: integer or bool (N, L)."""
    return tensor.dim() == 2 and not tensor.is_floating_point() and not tensor.is_complex()
