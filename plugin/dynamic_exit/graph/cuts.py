"""Find the places where a captured model can be cut: ends of blocks where one tensor carries everything onwards."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from .capture import Program
from .slicing import slice_back

# two cuts closer than this share of the cost would make the same trade-off twice
_MIN_GAP = 0.005
# a stretch without a block end longer than this is searched for ends of single layers
_MAX_GAP = 0.5
# up to this share of the cost an operation may be computed twice: rotary positions are a product of matrices
_NOTHING = 1e-4
# what a runtime fuses with the layer before it, or what makes the hidden state smaller at no cost
_FOLLOWERS = ("batch_norm", "relu", "hardtanh", "hardswish", "silu", "gelu", "max_pool2d")


@dataclass(frozen=True)
class Cut:
    """One place to cut.

    Attributes:
        index: Position among the cuts, by depth, from 0.
        name: The user's module that ends there, such as ``layer2.1``, or right before the norm, activation and pooling
            that end there; a module's second call is ``name@1``.
        shape: Shape of the hidden state without its batch; free sizes are expressions in ``length``.
        share: Cost of the backbone before the cut over the whole, in (0, 1).
        node: Name of the graph node that crosses.
    """

    index: int
    name: str
    shape: tuple[int | str, ...]
    share: float
    node: str


def find_cuts(program: Program, node_macs: Mapping[str, float]) -> list[Cut]:
    """Find the cuts of a captured model.

    A place qualifies when all that is needed afterwards can be computed from one floating, batch-first tensor and from
    the raw inputs, with nothing dear computed twice. Not dear is what needs no multiply-add and applies no parameter to
    an input: masks, positions, constants (one operation below 1/10,000 of the cost counts as no multiply-add). Of these
    places, the ends of blocks are kept: modules that hold at least two parametrised ones, under the deepest such name.
    Where more than half of the cost lies between two block ends, ends of single layers are taken too, and where that is
    still so, any place that qualifies, under the name of the module that ran last.

    Args:
        program: The captured model.
        node_macs: Multiply-adds per sample of each graph node, as ``cost.node_macs`` counts them.

    Returns:
        The cuts ordered by depth; empty when there is none.
    """
    costs = {node.name: node_macs.get(node.name, 0.0) for node in program.graph_module.graph.nodes}
    if not any(costs.values()):
        # nothing counted: every operation counts as one
        costs = {node.name: float(node.op == "call_function") for node in program.graph_module.graph.nodes}
    total = sum(costs.values())
    dear = _not_recomputable(program, costs)
    chosen: list[tuple[float, fx.Node, str]] = []
    for tier in _places(program):
        wide = _wide_gaps(chosen)
        if not wide:
            break
        # backwards, so that of equal places the last is kept: after the activation, not before it
        found = _with_shares(program, tier[::-1], costs, dear, total)
        found = [each for each in found if any(low < each[0] < high for low, high in wide)]
        chosen = _spread(program, chosen + found)
    cuts, taken = [], set()
    for index, (share, node, name) in enumerate(chosen):
        node = _settled(program, node)
        while name in taken:
            name += "+"
        taken.add(name)
        cuts.append(Cut(index, name, program.shapes[node.name][1:], share, node.name))
    return cuts


def _not_recomputable(program: Program, costs: Mapping[str, float]) -> set[fx.Node]:
    """Nodes too dear to compute twice: with multiply-adds before them, or parameters applied to inputs."""
    total = sum(costs.values())
    parameters = dict(program.graph_module.named_parameters(remove_duplicate=False))
    dear: set[fx.Node] = set()
    of_input: set[fx.Node] = set()
    of_parameter: set[fx.Node] = set()
    for node in program.graph_module.graph.nodes:
        sources = node.all_input_nodes
        # a size follows from the batch alone, whatever tensor it is read from
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
        if costs[node.name] > total * _NOTHING or mixed or any(each in dear for each in sources):
            dear.add(node)
    return dear


def _submodule(program: Program, node: fx.Node):
    return program.graph_module.get_submodule(node.target)


def _can_carry(program: Program, node: fx.Node) -> bool:
    shape = program.shapes.get(node.name)
    if node.op not in ("call_function", "call_module", "call_method") or shape is None or len(shape) < 2:
        return False
    return shape[0] == "batch" and program.dtypes[node.name].is_floating_point


def _places(program: Program) -> tuple[list, list, list]:
    """Collect (node, name) of block ends, of ends of single layers, and of all other candidates."""
    blocks, layers, others = [], [], []
    deepest: tuple[str, ...] = ()
    for node in program.graph_module.graph.nodes:
        stack = program.stacks[node.name]
        if stack and node.op != "get_attr":
            deepest = deepest if _inside(deepest, stack) else stack
        if not _can_carry(program, node):
            continue
        block, layer = _names(program, node)
        if block is not None:
            blocks.append((node, block))
        elif layer is not None:
            layers.append((node, layer))
        elif len(deepest) > len(stack):
            others.append((node, deepest[len(stack)]))
    return blocks, layers, others


def _inside(stack: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    """Whether a call lies within another: what runs between two calls is named after the first of them."""
    return len(stack) > len(outer) and stack[: len(outer)] == outer


def _names(program: Program, node: fx.Node) -> tuple[str | None, str | None]:
    """Name the block and the single layer that end at a node, deepest first."""
    block = leaf = None
    users = [set(program.stacks[user.name]) for user in node.users]
    for name in reversed(program.stacks[node.name]):
        if any(name in stack for stack in users):
            break
        count = program.parametrised.get(name.partition("@")[0], 0)
        leaf = leaf or name
        # itself may own parameters too, and counts as one
        if count >= 2:
            block = name
            break
    return block, leaf


def _with_shares(program: Program, places: list, costs, dear: set[fx.Node], total: float) -> list[tuple]:
    found = []
    for node, name in places:
        share = _share(program, node, costs, dear, total)
        if share is not None and _MIN_GAP <= share <= 1 - _MIN_GAP:
            found.append((share, node, name))
    return found


def _share(program: Program, node: fx.Node, costs, dear: set[fx.Node], total: float) -> float | None:
    """Cost before a node over the whole, or None where something dear would have to cross with it."""
    output = program.graph_module.graph.output_node().args[0]
    after, sizes = slice_back(program, output, node)
    if not any(node in each.all_input_nodes for each in after if each not in sizes):
        return None
    before, _ = slice_back(program, node, None)
    if any(each in dear and each in before for each in after):
        return None
    return 1 - sum(costs[each.name] for each in after) / total


def _settled(program: Program, node: fx.Node) -> fx.Node:
    """Move a cut behind the norm, activation and pooling that follow alone: runtimes fuse them with what is before."""
    while len(node.users) == 1:
        (follower,) = node.users
        if not any(name in str(follower.target) for name in _FOLLOWERS):
            break
        if follower.name not in program.shapes and len(follower.users) == 1:
            (follower,) = follower.users  # a norm gives a tuple, of which one item goes on
        if not _can_carry(program, follower):
            break
        node = follower
    return node


def _spread(program: Program, found: list[tuple[float, fx.Node, str]]) -> list[tuple[float, fx.Node, str]]:
    """Keep places that lie apart and one behind the other; of parallel branches, the one with more before it."""
    chosen: list[tuple[float, fx.Node, str]] = []
    needed: set[fx.Node] = set()
    for each in sorted(found, key=lambda item: -item[0]):
        if not chosen or (chosen[-1][0] - each[0] >= _MIN_GAP and each[1] in needed):
            chosen.append(each)
            needed = _computed_from(program, each[1])
    return chosen[::-1]


def _computed_from(program: Program, node: fx.Node) -> set[fx.Node]:
    before, sizes = slice_back(program, node, None)
    return {source for each in before if each not in sizes for source in each.all_input_nodes}


def _wide_gaps(chosen: list[tuple[float, fx.Node, str]]) -> list[tuple[float, float]]:
    shares = [0.0, *(share for share, _, _ in chosen), 1.0]
    return [(low, high) for low, high in zip(shares, shares[1:], strict=False) if high - low > _MAX_GAP]
