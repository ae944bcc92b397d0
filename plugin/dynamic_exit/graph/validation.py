"""What a model must be like to be captured, checked before and after, each failure in one sentence."""

import traceback

import torch
from torch import Tensor

from ..errors import CaptureError

# rows that see each other differ by far more than rounding does
_ROUNDING = 1e-2


def before(classifier, example_inputs: tuple) -> None:
    """Check mode and example before any work is done.

    Raises:
        CaptureError: Training mode; no tensors; batches that differ; an example of one row.
    """
    name = type(classifier.model).__name__
    for path, module in classifier.model.named_modules():
        if module.training:
            where = f"its module '{path}'" if path else "it"
            raise CaptureError(f"{name} cannot be captured while {where} is in training mode; call .eval() first")
    if not example_inputs or not all(isinstance(x, Tensor) and x.dim() > 0 for x in example_inputs):
        came = [type(x).__name__ for x in example_inputs]
        raise CaptureError(f"example inputs must be tensors with the batch first; got {came}")
    batches = [x.shape[0] for x in example_inputs]
    if len(set(batches)) > 1:
        shapes = [tuple(x.shape) for x in example_inputs]
        raise CaptureError(f"the first dimension of every input must be the batch; got the shapes {shapes}")
    if batches[0] < 2:
        raise CaptureError(f"an example batch of {batches[0]} would fix the batch size; give two or more rows")


def unchanged(signature, names: tuple[str, ...]) -> None:
    """Refuse a model that writes to its inputs or its buffers.

    Raises:
        CaptureError: Names the input or buffer.
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


def classes(shapes: dict, dtypes: dict, output, names: tuple[str, ...]) -> int:
    """Check the answer's shape and return its number of classes.

    Raises:
        CaptureError: Not floating (N, C) with the batch first.
    """
    shape = shapes.get(getattr(output, "name", None))
    if shape is None or len(shape) != 2 or not dtypes[output.name].is_floating_point:
        raise CaptureError(f"the output must be floating logits (N, C); got the shape {shape}")
    if shape[0] != "batch":
        raise CaptureError(
            f"the output's first dimension is {shape[0]}, not the batch of '{names[0]}'; the batch must come first in "
            f"every input and in the output"
        )
    if not isinstance(shape[1], int):
        raise CaptureError(f"the number of classes must be fixed; got the output shape {shape}")
    return shape[1]


def after(program) -> None:
    """Check that one row's answer does not depend on the other rows of its batch.

    Raises:
        CaptureError: Batch statistics or another mixing of rows.
    """
    module = program.graph_module
    for node in module.graph.nodes:
        if "batch_norm" not in str(node.target) or not _takes_batch_statistics(node):
            continue
        # some models standardise their weights by the same operator, which is no business of the batch
        if program.shapes.get(node.args[0].name, ("batch",))[0] == "batch":
            where = program.stacks[node.name][-1:] or ("the model",)
            raise CaptureError(f"'{where[0]}' normalises with batch statistics; give it running statistics")
    inputs = tuple(_varied(x) for x in program.example_inputs)
    both, first = module(*inputs), module(*(x[:1] for x in inputs))
    scale = both.abs().max().clamp(min=1e-6)
    if torch.isfinite(both).all() and ((both[:1] - first).abs().max() / scale) > _ROUNDING:
        raise CaptureError("a sample's logits depend on its neighbours in the batch; rows must be independent")


def length_is_fixed(program, classifier) -> str | None:
    """Say why a graph does not hold for token indices of other lengths; None where it does.

    Tried are half the example's length, two tokens, and one and a half times the length where the model allows it.
    """
    texts = [place for place in program.placeholders if place.users and _is_text(program, place)]
    fixed = [place for place in texts if isinstance(program.shapes[place.name][1], int)]
    if fixed:
        return f"the model's code works with {program.shapes[fixed[0].name][1]} tokens as with a constant"
    if not texts:
        return None
    length = program.example_inputs[program.placeholders.index(texts[0])].shape[1]
    for tried in dict.fromkeys((max(2, (length + 1) // 2), 2, length + (length + 1) // 2)):
        inputs = [_cut_or_repeated(x, length, tried) for x in program.example_inputs]
        try:
            expected = classifier(*inputs)
        except Exception:  # a model that has no place for more, or fewer, tokens promises nothing for them
            continue
        try:
            found = program.graph_module(*inputs)
        except Exception as failure:  # a guard of the example's length, which only other lengths trip over
            return f"its graph fails with {tried} tokens: {explain(failure)}"
        scale = expected.abs().nan_to_num().max().clamp(min=1e-6)
        if not torch.allclose(found / scale, expected / scale, atol=_ROUNDING, equal_nan=True):
            return f"its code takes another way with {tried} tokens than with {length}"
    return None


def _is_text(program, place) -> bool:
    dtype = program.dtypes[place.name]
    return len(program.shapes[place.name]) == 2 and not (dtype.is_floating_point or dtype.is_complex)


def _cut_or_repeated(tensor: Tensor, length: int, wanted: int) -> Tensor:
    """Bring an input (N, `length`) of whole numbers to another length; others stay as they are."""
    if tensor.dim() != 2 or tensor.is_floating_point() or tensor.shape[1] != length:
        return tensor
    return torch.cat([tensor] * -(-wanted // length), dim=1)[:, :wanted]


def _takes_batch_statistics(node) -> bool:
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
    """Make the rows differ, so that mixing them shows: zeros as an example would hide it."""
    if not tensor.is_floating_point():
        return tensor
    ramp = torch.linspace(0.5, 1.5, tensor.shape[0], dtype=torch.float32, device=tensor.device)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(tensor.shape, generator=generator).to(tensor.device)
    return (tensor + (noise * ramp.view(-1, *[1] * (tensor.dim() - 1))).to(tensor.dtype)).to(tensor.dtype)


def explain(failure: BaseException) -> str:
    """Say in one line what stopped a capture: the message's first line and the statement of the user's code."""
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    message = (lines[0] if lines else type(failure).__name__)[:300].rstrip(".")
    statement = None
    for frame in traceback.extract_tb(failure.__traceback__):
        ours = "/torch/" in frame.filename or "/dynamic_exit/" in frame.filename or frame.filename.startswith("<")
        if not ours and frame.line:
            statement = f"`{frame.line.strip()[:120]}` ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})"
    kind = type(failure).__name__
    return f"{statement}: {kind}: {message}" if statement else f"{kind}: {message}"
