"""Checks of a model before and after it is captured; each failure is one sentence."""

import traceback
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx
from torch.export import ExportGraphSignature

from ..errors import CaptureError
from .classifier import Classifier
from .program import Program

# relative difference of logits; rows that influence each other differ by far more than rounding does
_ROUNDING = 1e-2


def check_before_capture(classifier: Classifier, example_inputs: Sequence[Tensor]) -> None:
    """Check the mode of the model and the example inputs before any work is done.

    Raises:
        CaptureError: A module is in training mode, or the inputs are not tensors with one batch of two rows or more
            on the model's device.
    """
    name = type(classifier.model).__name__
    for path, module in classifier.model.named_modules():
        if module.training:
            where = f"its module '{path}'" if path else "it"
            raise CaptureError(f"{name} cannot be captured while {where} is in training mode; call .eval() first")
    if not example_inputs or not all(isinstance(x, Tensor) and x.dim() > 0 for x in example_inputs):
        came = [type(x).__name__ for x in example_inputs]
        raise CaptureError(f"example inputs must be tensors with the batch first; got {came}")
    places = sorted({str(tensor.device) for tensor in (*classifier.parameters(), *classifier.buffers())})
    for x in example_inputs:
        if places and str(x.device) not in places:
            raise CaptureError(f"{name} is on {places[0]} and an example input on {x.device}; move one to the other")
    batches = [x.shape[0] for x in example_inputs]
    if len(set(batches)) > 1:
        shapes = [tuple(x.shape) for x in example_inputs]
        raise CaptureError(f"the first dimension of every input must be the batch; got the shapes {shapes}")
    if batches[0] < 2:
        raise CaptureError(f"an example batch of {batches[0]} would fix the batch size; give two or more rows")


def check_signature(signature: ExportGraphSignature, names: Sequence[str]) -> None:
    """Check that a model does not write to its inputs or buffers.

    Args:
        signature: Of the exported program.
        names: Names of the inputs, in order, for messages.

    Raises:
        CaptureError: It writes to an input or buffer, which the message names.
    """
    inputs = list(getattr(signature, "user_inputs_to_mutate", {}).values())
    if inputs:
        order = list(signature.user_inputs)
        named = [names[order.index(each)] if each in order else each for each in inputs]
        raise CaptureError(f"the model changes its input '{named[0]}' in place; let it work on a clone")
    buffers = list(signature.buffers_to_mutate.values())
    if buffers:
        buffer = buffers[0].removeprefix("model.")
        raise CaptureError(f"the model changes its buffer '{buffer}' in the forward pass; make it read only")


def count_classes(
    shapes: Mapping[str, tuple[int | str, ...]], dtypes: Mapping[str, torch.dtype], output: object, names: Sequence[str]
) -> int:
    """Check the shape of the output and return the number of classes.

    Args:
        shapes: By node name.
        dtypes: By node name.
        output: What the graph returns, for example its last node.
        names: Names of the inputs, for messages.

    Raises:
        CaptureError: The output is not floating (N, C) with the batch first.
    """
    shape = shapes.get(output.name) if isinstance(output, fx.Node) else None
    if not isinstance(output, fx.Node) or shape is None or len(shape) != 2 or not dtypes[output.name].is_floating_point:
        raise CaptureError(f"the output must be floating logits (N, C); got the shape {shape}")
    if shape[0] != "batch":
        raise CaptureError(
            f"the output's first dimension is {shape[0]}, not the batch of '{names[0]}'; the batch must come first in "
            f"every input and in the output"
        )
    if not isinstance(shape[1], int):
        raise CaptureError(f"the number of classes must be fixed; got the output shape {shape}")
    return shape[1]


def check_after_capture(program: Program) -> None:
    """Check that the logits of a row do not depend on the other rows of its batch.

    Raises:
        CaptureError: The model uses batch statistics or mixes rows in another way.
    """
    module = program.graph_module
    for node in module.graph.nodes:
        if "batch_norm" not in str(node.target) or not _takes_batch_statistics(node):
            continue
        # weight standardization uses the same operator, on tensors without a batch
        source = node.args[0]
        if isinstance(source, fx.Node) and program.shapes.get(source.name, ("batch",))[0] == "batch":
            where = program.stacks[node.name][-1:] or ("the model",)
            raise CaptureError(f"'{where[0]}' normalizes with batch statistics; give it running statistics")
    inputs = tuple(_varied(x) for x in program.example_inputs)
    both, first = module(*inputs), module(*(x[:1] for x in inputs))
    scale = both.abs().max().clamp(min=1e-6)
    if torch.isfinite(both).all() and ((both[:1] - first).abs().max() / scale) > _ROUNDING:
        raise CaptureError("a sample's logits depend on its neighbours in the batch; rows must be independent")


def length_is_fixed(program: Program, classifier: Classifier) -> str | None:
    """Return why a graph is not valid for token indices of other lengths; None if it is.

    It is run with two tokens, with half the example's length, and with one and a half times that length if the model
    accepts so many.
    """
    texts = [place for place in program.placeholders if place.users and _is_text(program, place)]
    fixed = [place for place in texts if isinstance(program.shapes[place.name][1], int)]
    if fixed:
        return f"the model's code treats the length {program.shapes[fixed[0].name][1]} as a constant"
    if not texts:
        return None
    length = program.example_inputs[program.placeholders.index(texts[0])].shape[1]
    for tried in dict.fromkeys((max(2, (length + 1) // 2), 2, length + (length + 1) // 2)):
        inputs = [_cut_or_repeated(x, length, tried) for x in program.example_inputs]
        try:
            expected = classifier(*inputs)
        except Exception:  # the model itself does not accept this length
            continue
        try:
            found = program.graph_module(*inputs)
        except Exception as failure:  # such as a guard on the example's length
            return f"its graph fails with {tried} tokens: {explain(failure)}"
        scale = expected.abs().nan_to_num().max().clamp(min=1e-6)
        if not torch.allclose(found / scale, expected / scale, atol=_ROUNDING, equal_nan=True):
            return f"its code takes another branch for {tried} tokens than for {length}"
    return None


def _is_text(program: Program, place: fx.Node) -> bool:
    dtype = program.dtypes[place.name]
    return len(program.shapes[place.name]) == 2 and not (dtype.is_floating_point or dtype.is_complex)


def _cut_or_repeated(tensor: Tensor, length: int, wanted: int) -> Tensor:
    """Return token indices (N, `length`) cut or repeated to another length; other inputs as they are."""
    if tensor.dim() != 2 or tensor.is_floating_point() or tensor.shape[1] != length:
        return tensor
    return torch.cat([tensor] * -(-wanted // length), dim=1)[:, :wanted]


def _takes_batch_statistics(node: fx.Node) -> bool:
    name = str(node.target)
    if "no_training" in name:
        return False
    if "no_stats" in name:
        return True
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema else []
    for flag in ("training", "train"):
        if flag in names and names.index(flag) < len(node.args):
            return bool(node.args[names.index(flag)])
    return False


def _varied(tensor: Tensor) -> Tensor:
    """Return a tensor whose rows differ, since an example of equal rows would hide that they are mixed."""
    if not tensor.is_floating_point():
        return tensor
    ramp = torch.linspace(0.5, 1.5, tensor.shape[0], dtype=torch.float32, device=tensor.device)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(tensor.shape, generator=generator).to(tensor.device)
    return (tensor + (noise * ramp.view(-1, *[1] * (tensor.dim() - 1))).to(tensor.dtype)).to(tensor.dtype)


def explain(failure: BaseException) -> str:
    """Return in one line why a capture failed: the user's statement and the first line of the message."""
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    message = (lines[0] if lines else type(failure).__name__)[:300].rstrip(".")
    statement = None
    for frame in traceback.extract_tb(failure.__traceback__):
        ours = "/torch/" in frame.filename or "/dynamic_exit/" in frame.filename or frame.filename.startswith("<")
        if not ours and frame.line:
            statement = f"`{frame.line.strip()[:120]}` ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})"
    kind = type(failure).__name__
    return f"{statement}: {kind}: {message}" if statement else f"{kind}: {message}"
