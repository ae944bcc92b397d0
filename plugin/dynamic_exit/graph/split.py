"""Segments of a captured model: modules in sequence that share the tensors of the original."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Self, cast

import sympy
import torch
from torch import Tensor, fx, nn

from ..chain.names import HIDDEN, LOGITS
from ..chain.walk import Runnable, chain_steps, walk
from ..errors import CutError, nearest
from .cuts import Cut
from .export import ORIGIN, origin
from .in_place import in_place_operator
from .program import Program
from .relocation import constants_follow, working_place
from .slicing import slice_back


class Segment(nn.Module):
    """The backbone between two cuts.

    Attributes:
        input_names: Names of the arguments of ``forward``, in order: ``hidden`` is the output of the previous segment,
            any other name is an input of the model.
        output_kind: ``hidden``, or ``logits`` for the last segment.
        dynamic_dims: Free dimensions of each input: index -> expression in ``batch`` and ``length``.
        classes: Number of classes of the model.
    """

    def __init__(
        self,
        body: fx.GraphModule,
        *,
        input_names: Sequence[str],
        output_kind: str,
        dynamic_dims: Sequence[dict[int, str]],
        examples: Sequence[Tensor | tuple[tuple[int, ...], torch.dtype]],
        classes: int,
    ):
        super().__init__()
        self.body = body
        self.input_names = tuple(input_names)
        self.output_kind = output_kind
        self.dynamic_dims = tuple(dict(dims) for dims in dynamic_dims)
        self.classes = classes
        self._examples = tuple(examples)
        self.eval()

    def forward(self, *tensors: Tensor) -> Tensor:
        """Run the segment.

        Args:
            *tensors: In the order of ``input_names``, each with the same batch size first, of at least one row.

        Returns:
            The hidden state, batch first, or (N, C) logits.
        """
        return self.body(*tensors)

    @property
    def example_inputs(self) -> tuple[Tensor, ...]:
        """Arguments for ``forward``: the program's example inputs, and noise for the hidden state."""
        return tuple(each if isinstance(each, Tensor) else self._noise(*each) for each in self._examples)

    def _noise(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        working = working_place(self)
        return noise.to(dtype=dtype, device="cpu" if working is None else working[1])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = working_place(self)
        with constants_follow(self):
            super()._apply(fn, recurse)
        after = working_place(self)
        if before is not None and after is not None and before != after:
            self._examples = tuple(
                each.to(after[1])
                if isinstance(each, Tensor)
                else (each[0], after[0] if each[1] == before[0] else each[1])
                for each in self._examples
            )
        return self

    def extra_repr(self) -> str:
        """Return the names of inputs and output, for ``print(segment)``."""
        return f"input_names={self.input_names}, output_kind={self.output_kind}"


class SegmentSequence(nn.Module):
    """The whole backbone as its segments one after the other; the model has one input.

    Args:
        segments: The segments in order.
    """

    def __init__(self, segments: Sequence[Segment]):
        super().__init__()
        self.segments = nn.ModuleList(segments)
        self.input_names = [segment.input_names for segment in segments]
        self.training = False

    def forward(self, *inputs: Tensor, **keywords: Tensor) -> Tensor:
        """Return logits (N, C) for the one input, by position or by name."""
        (given,) = (*inputs, *keywords.values())
        parts = map(Runnable, self.segments, self.input_names)
        values = {name: given for names in self.input_names for name in names if name != HIDDEN}
        return cast(Tensor, walk(chain_steps((), list(parts), (), {}), values))


def split(program: Program, cuts: Sequence[Cut]) -> list[Segment]:
    """Split a captured model at cuts.

    Args:
        program: The captured model.
        cuts: Cuts of ``find_cuts``, each once, in any order.

    Returns:
        One segment more than cuts, by depth; in sequence they compute the logits of the model. Parameters and buffers
        are those of the original.

    Raises:
        CutError: A cut is not in this program, is given twice, or does not follow from the one before.
    """
    nodes = {node.name: node for node in program.graph_module.graph.nodes}
    order = {name: place for place, name in enumerate(nodes)}
    for cut in cuts:
        if cut.node not in nodes:
            raise CutError(f"cut '{cut.name}' is not in this model: it has no node '{cut.node}'; find its cuts anew")
    cuts = sorted(cuts, key=lambda cut: order[cut.node])
    for one, two in zip(cuts, cuts[1:], strict=False):
        if one.node == two.node:
            raise CutError(f"the cuts '{one.name}' and '{two.name}' are the same place; give it once")
    ends = [nodes[cut.node] for cut in cuts] + [program.output]
    starts: list[fx.Node | None] = [None, *ends[:-1]]
    return [_segment(program, start, end, last=end is ends[-1]) for start, end in zip(starts, ends, strict=True)]


def select_cuts(cuts: Sequence[Cut], names: Sequence[str]) -> list[Cut]:
    """Pick cuts by name.

    Args:
        cuts: The cuts of ``find_cuts``.
        names: Names of some of them.

    Returns:
        The named cuts by depth.

    Raises:
        CutError: A name does not exist, or is given twice.
    """
    known = {cut.name: cut for cut in cuts}
    for name in names:
        if name not in known:
            raise CutError(f"there is no cut '{name}'; {nearest(name, known)}")
        if list(names).count(name) > 1:
            raise CutError(f"cut '{name}' is named twice; give it once")
    return sorted((known[name] for name in names), key=lambda cut: cut.index)


def _segment(program: Program, start: fx.Node | None, end: fx.Node, last: bool) -> Segment:
    found, sizes = slice_back(program, end, start)
    if start is not None and not _uses(found, sizes, start):
        raise CutError(f"node '{end.name}' does not follow from '{start.name}'; cut at one of them only")
    inputs = dict(zip(program.placeholders, program.input_names, strict=True))
    carried = {} if start is None else {start: HIDDEN}
    taken = carried | {node: name for node, name in inputs.items() if node in found}
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node, name in taken.items():
        copies[node] = graph.placeholder(re.sub(r"\W", "_", name))
    for node in program.graph_module.graph.nodes:
        if node not in found or node in copies:
            continue
        if node in sizes:
            source, dimension = sizes[node]
            copies[node] = graph.call_function(torch.ops.aten.sym_size.int, (copies[source], dimension))
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            copies[node].meta = {ORIGIN: origin(node)}
            copies[node].target = in_place_operator(program, node, start) or node.target
    graph.output(copies[end])
    graph.lint()
    shapes = [program.shapes[node.name] for node in taken]
    return Segment(
        fx.GraphModule(program.graph_module, graph),
        input_names=tuple(taken.values()),
        output_kind=LOGITS if last else HIDDEN,
        dynamic_dims=[{place: side for place, side in enumerate(shape) if isinstance(side, str)} for shape in shapes],
        examples=[_example(program, node) for node in taken],
        classes=program.classes,
    )


def _uses(found: set[fx.Node], sizes: Mapping[fx.Node, object], start: fx.Node) -> bool:
    return any(start in node.all_input_nodes for node in found if node not in sizes)


def _example(program: Program, node: fx.Node) -> Tensor | tuple[tuple[int, ...], torch.dtype]:
    if node.op == "placeholder":
        return program.example_inputs[program.placeholders.index(node)]
    values: dict[int | str, int] = {}
    for place, tensor in zip(program.placeholders, program.example_inputs, strict=True):
        for side, size in zip(program.shapes[place.name], tensor.shape, strict=True):
            values[side] = size
    shape = tuple(side if isinstance(side, int) else evaluate(side, values) for side in program.shapes[node.name])
    return shape, program.dtypes[node.name]


def evaluate(expression: str, values: Mapping[int | str, int]) -> int:
    """Evaluate a size such as ``2*length`` for known free sizes.

    Raises:
        CutError: The size does not follow from the sizes of the inputs.
    """
    names = {name: sympy.Symbol(name) for name in values if isinstance(name, str) and name.isidentifier()}
    result = sympy.sympify(expression, locals=names).subs({symbol: values[name] for name, symbol in names.items()})
    if not result.is_Integer:
        raise CutError(f"the size {expression} of a hidden state does not follow from the inputs' sizes")
    return int(result)
