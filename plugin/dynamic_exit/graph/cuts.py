"""Search for cuts: ends of blocks of a captured model after which one tensor carries all that follows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import fx, nn

from .program import Program
from .slicing import slice_back

# share of the cost between two cuts; closer ones would make the same trade-off
_MIN_GAP = 0.005
# share of the cost between two block ends from which ends of single layers are cuts too
_MAX_GAP = 0.5
# share of the cost below which an operation may be computed twice: rotary positions are a matrix product
_NEGLIGIBLE = 1e-4
# operators that a runtime fuses with the layer before, or that make the hidden state smaller at no cost
_FOLLOWERS = ("batch_norm", "relu", "hardtanh", "hardswish", "silu", "gelu", "max_pool2d")


@dataclass(frozen=True)
class Cut:
    """A place to cut a model.

    Attributes:
        index: Position among the cuts, by depth, from 0.
        name: The user's module that ends there, such as ``layer2.1``, possibly followed by a norm, an activation and
            pooling that end there; a module's second call is ``name@1``.
        shape: Shape of the hidden state without its batch; free sizes are expressions in ``length``.
        share: Cost of the backbone before the cut over the whole cost, in (0, 1).
        node: Name of the graph node that crosses the cut.
    """

    index: int
    name: str
    shape: tuple[int | str, ...]
    share: float
    node: str


class _Boundary(NamedTuple):
    node: fx.Node
    name: str


class _Candidate(NamedTuple):
    share: float
    node: fx.Node
    name: str


def find_cuts(program: Program, node_macs: Mapping[str, float]) -> list[Cut]:
    """Find the cuts of a captured model.

    A node qualifies if all that follows can be computed from this one floating, batch-first tensor and from the inputs
    without computing anything expensive twice. Masks, positions and constants are not expensive: they need no
    multiply-adds (at most 1/10,000 of the cost in one operation) and apply no parameter to an input. Of these nodes,
    the ends of blocks are cuts: modules that hold at least two modules with parameters, under the deepest such name. If
    more than half of the cost lies between two block ends, ends of single layers are cuts too, and if it still does,
    all nodes that qualify, under the name of the module that ran last.

    Args:
        program: The captured model.
        node_macs: Multiply-adds per sample of each graph node, as ``cost.node_macs`` counts them.

    Returns:
        The cuts ordered by depth; empty if there is none.
    """
    costs = {node.name: node_macs.get(node.name, 0.0) for node in program.graph_module.graph.nodes}
    if not any(costs.values()):
        # without multiply-adds, every operation counts as one
        costs = {node.name: float(node.op == "call_function") for node in program.graph_module.graph.nodes}
    total = sum(costs.values())
    expensive = _expensive_nodes(program, costs)
    chosen: list[_Candidate] = []
    for boundaries in _module_boundaries(program):
        wide = _wide_gaps(chosen)
        if not wide:
            break
        # backwards, so that of nodes with equal shares the last is kept: after the activation, not before it
        found = _with_shares(program, boundaries[::-1], costs, expensive, total)
        found = [each for each in found if any(low < each.share < high for low, high in wide)]
        chosen = _thin_out(program, chosen + found)
    cuts: list[Cut] = []
    taken: set[str] = set()
    for index, (share, node, name) in enumerate(chosen):
        node = _producer(program, node)
        while name in taken:
            name += "+"
        taken.add(name)
        cuts.append(Cut(index, name, program.shapes[node.name][1:], share, node.name))
    return cuts


def _expensive_nodes(program: Program, costs: Mapping[str, float]) -> set[fx.Node]:
    """Return the nodes too expensive to compute twice: they depend on multiply-adds, or on parameters and inputs."""
    total = sum(costs.values())
    parameters = dict(program.graph_module.named_parameters(remove_duplicate=False))
    expensive: set[fx.Node] = set()
    of_input: set[fx.Node] = set()
    of_parameter: set[fx.Node] = set()
    for node in program.graph_module.graph.nodes:
        sources = node.all_input_nodes
        # a size depends on the batch alone, whatever tensor it is read from
        if node.name not in program.shapes and "sym_size" in str(node.target):
            continue
        if node.op == "placeholder" or any(each in of_input for each in sources):
            of_input.add(node)
        holds = node.op == "call_module" and any(True for _ in _submodule(program, node).parameters())
        if (node.op == "get_attr" and node.target in parameters) or holds:
            of_parameter.add(node)
        if any(each in of_parameter for each in sources):
            of_parameter.add(node)
        mixed = node in of_input and node in of_parameter
        if costs[node.name] > total * _NEGLIGIBLE or mixed or any(each in expensive for each in sources):
            expensive.add(node)
    return expensive


def _submodule(program: Program, node: fx.Node) -> nn.Module:
    return program.graph_module.get_submodule(str(node.target))


def _can_carry(program: Program, node: fx.Node) -> bool:
    shape = program.shapes.get(node.name)
    if node.op not in ("call_function", "call_module", "call_method") or shape is None or len(shape) < 2:
        return False
    return shape[0] == "batch" and program.dtypes[node.name].is_floating_point


def _module_boundaries(program: Program) -> tuple[list[_Boundary], list[_Boundary], list[_Boundary]]:
    """Return the ends of blocks, the ends of single layers, and all other nodes that can carry a hidden state."""
    blocks: list[_Boundary] = []
    layers: list[_Boundary] = []
    others: list[_Boundary] = []
    deepest: tuple[str, ...] = ()
    for node in program.graph_module.graph.nodes:
        stack = program.stacks[node.name]
        if stack and node.op != "get_attr":
            deepest = deepest if _inside(deepest, stack) else stack
        if not _can_carry(program, node):
            continue
        block, layer = _names(program, node)
        if block is not None:
            blocks.append(_Boundary(node, block))
        elif layer is not None:
            layers.append(_Boundary(node, layer))
        elif len(deepest) > len(stack):
            others.append(_Boundary(node, deepest[len(stack)]))
    return blocks, layers, others


def _inside(stack: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    """Return whether a call lies within another; nodes between two calls are named after the first."""
    return len(stack) > len(outer) and stack[: len(outer)] == outer


def _names(program: Program, node: fx.Node) -> tuple[str | None, str | None]:
    """Return the names of the deepest block and of the deepest layer that end at a node."""
    block = leaf = None
    users = [set(program.stacks[user.name]) for user in node.users]
    for name in reversed(program.stacks[node.name]):
        if any(name in stack for stack in users):
            break
        count = program.parametrised.get(name.partition("@")[0], 0)
        leaf = leaf or name
        # a module that owns parameters itself counts as one of them
        if count >= 2:
            block = name
            break
    return block, leaf


def _with_shares(
    program: Program, boundaries: list[_Boundary], costs: Mapping[str, float], expensive: set[fx.Node], total: float
) -> list[_Candidate]:
    found = []
    for node, name in boundaries:
        share = _share(program, node, costs, expensive, total)
        if share is not None and _MIN_GAP <= share <= 1 - _MIN_GAP:
            found.append(_Candidate(share, node, name))
    return found


def _share(
    program: Program, node: fx.Node, costs: Mapping[str, float], expensive: set[fx.Node], total: float
) -> float | None:
    """Return the cost before a node over the whole cost; None if something expensive would have to cross with it."""
    output = program.output
    after, sizes = slice_back(program, output, node)
    if not any(node in each.all_input_nodes for each in after if each not in sizes):
        return None
    before, _ = slice_back(program, node, None)
    if any(each in expensive and each in before for each in after):
        return None
    return 1 - sum(costs[each.name] for each in after) / total


def _producer(program: Program, node: fx.Node) -> fx.Node:
    """Return the node that produces the hidden state: after the norm, activation and pooling that alone follow.

    Runtimes fuse these with the layer before.
    """
    while len(node.users) == 1:
        (follower,) = node.users
        if not any(name in str(follower.target) for name in _FOLLOWERS):
            break
        if follower.name not in program.shapes and len(follower.users) == 1:
            (follower,) = follower.users  # a norm returns a tuple, of which one item is used
        if not _can_carry(program, follower):
            break
        node = follower
    return node


def _thin_out(program: Program, found: list[_Candidate]) -> list[_Candidate]:
    """Keep candidates that lie apart and in sequence; of parallel branches, the one with the larger share."""
    chosen: list[_Candidate] = []
    needed: set[fx.Node] = set()
    for each in sorted(found, key=lambda item: -item.share):
        if not chosen or (chosen[-1].share - each.share >= _MIN_GAP and each.node in needed):
            chosen.append(each)
            needed = _computed_from(program, each.node)
    return chosen[::-1]


def _computed_from(program: Program, node: fx.Node) -> set[fx.Node]:
    before, sizes = slice_back(program, node, None)
    return {source for each in before if each not in sizes for source in each.all_input_nodes}


def _wide_gaps(chosen: list[_Candidate]) -> list[tuple[float, float]]:
    shares = [0.0, *(share for share, _, _ in chosen), 1.0]
    return [(low, high) for low, high in zip(shares, shares[1:], strict=False) if high - low > _MAX_GAP]
