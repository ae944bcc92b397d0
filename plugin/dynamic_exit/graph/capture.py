"""Capture of a model as one graph: torch.export with a free batch size, torch.fx where that fails."""

import logging
from collections.abc import Sequence

import sympy
import torch
from torch import Tensor, fx, nn
from torch.export import Dim

from ..errors import CaptureError
from . import fallback, symbolic_trace, validation
from .classifier import Classifier
from .direct_lowering import make_functional
from .operator_tables import one_pass_over_operators
from .program import Program, Route, is_text

Shapes = dict[str, tuple[int | str, ...]]
Dtypes = dict[str, torch.dtype]
Symbols = dict[sympy.Symbol, sympy.Symbol]

logger = logging.getLogger(__name__)

aten = torch.ops.aten
# nodes that change no values in evaluation mode
_TRANSPARENT = {aten.dropout.default, aten.detach.default, aten.alias.default, aten.feature_dropout.default}


def capture(classifier: Classifier, example_inputs: Sequence[Tensor], *, rows_mix: bool = False) -> Program:
    """Capture a classifier's graph, with a free batch size, without changing it.

    Args:
        classifier: The wrapped model, in evaluation mode.
        example_inputs: One tensor per input, with a batch of at least two first. Integer inputs (N, L) that are passed
            by keyword get a free length as well if the model allows it.
        rows_mix: Whether the logits of a row may depend on other rows, as with ranges computed for each batch.

    Returns:
        The program.

    Raises:
        CaptureError: The example inputs or the mode do not fit, or neither torch.export nor torch.fx captures the
            model; the message names the statement.
    """
    example_inputs = tuple(example_inputs)
    validation.check_before_capture(classifier, example_inputs)
    names = classifier.name_inputs(len(example_inputs))
    with torch.no_grad():
        try:
            program = _with_free_length(classifier, example_inputs, names)
        except CaptureError:
            raise
        except Exception as failure:  # torch.export raises dozens of types
            program = _by_fx(classifier, example_inputs, names, failure)
        if not rows_mix:
            validation.check_after_capture(program)
    return program


def _with_free_length(classifier: Classifier, example_inputs: tuple[Tensor, ...], names: tuple[str, ...]) -> Program:
    """Capture with a free number of tokens, else with that of the example."""
    if classifier.keywords is None or not any(map(is_text, example_inputs)):
        return _by_export(classifier, example_inputs, names)
    try:
        program = _by_export(classifier, example_inputs, names, lengths=True)
        reason = validation.length_is_fixed(program, classifier)
    except CaptureError:
        raise
    except Exception as failure:  # torch.export raises dozens of types; a graph of one length may still be possible
        reason = validation.explain(failure)
    if reason is None:
        return program
    logger.info("the length is fixed: %s", reason)
    program = _by_export(classifier, example_inputs, names)
    program.fixed_length = reason
    return program


def _by_fx(
    classifier: Classifier, example_inputs: tuple[Tensor, ...], names: tuple[str, ...], failure: Exception
) -> Program:
    reason = validation.explain(failure)
    try:
        module, tensors = fallback.trace(classifier, example_inputs)
    except Exception as second:
        raise CaptureError(
            f"{type(classifier.model).__name__} cannot be captured: {reason}; rewrite that statement with tensor "
            f"operations only (torch.fx failed too: {validation.explain(second)})"
        ) from failure
    logger.info("torch.export failed (%s); torch.fx captured the model", reason)
    return _program(module, classifier, example_inputs, names, tensors, "fx")


def _by_export(
    classifier: Classifier, example_inputs: tuple[Tensor, ...], names: tuple[str, ...], lengths: bool = False
) -> Program:
    batch = symbolic_trace.batch_dim(example_inputs)
    free = {1: Dim.AUTO} if lengths else {}
    dims = tuple({0: batch, **(free if is_text(tensor) else {})} for tensor in example_inputs)
    exported = symbolic_trace.export(classifier, example_inputs, "inputs", dims)
    signature = exported.graph_signature
    validation.check_signature(signature, names)
    with one_pass_over_operators():
        exported = make_functional(exported)
    validation.check_signature(exported.graph_signature, names)
    module = exported.module(check_guards=False)
    free_layout(_clean(module))
    return _program(module, classifier, example_inputs, names, _shapes(module), "export")


def free_layout(module: fx.GraphModule) -> fx.GraphModule:
    """Make a graph accept rows with another memory layout than those it was traced with.

    ``reshape`` is traced as ``view`` if the example allowed it; gathered rows may not allow it.

    Args:
        module: Changed in place.

    Returns:
        The same module.
    """
    for node in module.graph.nodes:
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default
    module.recompile()
    return module


def _clean(module: fx.GraphModule) -> fx.GraphModule:
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "call_module" or (node.op == "call_function" and "assert" in str(node.target)):
            graph.erase_node(node)
        elif node.op == "call_function" and "sym_constrain_range" in str(node.target):
            graph.erase_node(node)
        elif node.target in _TRANSPARENT:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    output = graph.output_node()
    if isinstance(output.args[0], tuple | list):
        output.args = (output.args[0][0],)
    graph.eliminate_dead_code()
    graph._codegen = fx.graph.CodeGen()
    module.recompile()
    return module


def _shapes(module: fx.GraphModule) -> tuple[Shapes, Dtypes]:
    shapes: Shapes = {}
    dtypes: Dtypes = {}
    symbols = _name_symbols(module)
    for node in module.graph.nodes:
        value = node.meta.get("val")
        if node.op == "get_attr":
            value = attribute(module, str(node.target))
        if isinstance(value, Tensor):
            shapes[node.name] = tuple(_dimension(side, symbols) for side in value.shape)
            dtypes[node.name] = value.dtype
    return shapes, dtypes


def _program(
    module: fx.GraphModule,
    classifier: Classifier,
    example_inputs: tuple[Tensor, ...],
    names: tuple[str, ...],
    tensors: tuple[Shapes, Dtypes],
    route: Route,
) -> Program:
    shapes, dtypes = tensors
    last = module.graph.output_node().args[0]
    return Program(
        graph_module=module,
        input_names=names,
        example_inputs=example_inputs,
        classes=validation.count_classes(shapes, dtypes, last, names),
        shapes=shapes,
        dtypes=dtypes,
        stacks={node.name: _stack(node) for node in module.graph.nodes},
        parametrised=_parametrised(classifier.model),
        route=route,
    )


def attribute(module: nn.Module, target: str) -> object:
    """Return the attribute of a module with a dotted name."""
    found: object = module
    for atom in target.split("."):
        found = getattr(found, atom)
    return found


def _name_symbols(module: fx.GraphModule) -> Symbols:
    """Name the free sizes: ``batch`` for the first of the first input, then ``length``, ``length_1`` and so on."""
    names: Symbols = {}
    for node in module.graph.nodes:
        if node.op != "placeholder" or not isinstance(node.meta.get("val"), Tensor):
            continue
        for side in node.meta["val"].shape:
            if isinstance(side, torch.SymInt):
                for symbol in side.node.expr.free_symbols:
                    lengths = len(names) - 1
                    name = "batch" if not names else "length" if not lengths else f"length_{lengths}"
                    names.setdefault(symbol, sympy.Symbol(name, integer=True, positive=True))
    return names


def _dimension(side: int | torch.SymInt, symbols: Symbols) -> int | str:
    if isinstance(side, int):
        return side
    expression = side.node.expr.xreplace(symbols)
    return int(expression) if expression.is_number else str(expression)


def _stack(node: fx.Node) -> tuple[str, ...]:
    """Return the names of the module calls around a node, outermost first; a second call is ``name@1``."""
    names = []
    for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
        if path.startswith("model."):
            call = str(key).partition("@")[2]
            names.append(path[len("model.") :] + (f"@{call}" if call else ""))
    return tuple(names)


def _parametrised(model: nn.Module) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if next(module.parameters(recurse=False), None) is None:
            continue
        atoms = name.split(".") if name else []
        for depth in range(len(atoms) + 1):
            path = ".".join(atoms[:depth])
            counts[path] = counts.get(path, 0) + 1
    return counts
