"""Neural Compressor's own result for one piece of a model, as torch runs it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ...core.batching import DEFAULT_BATCH_SIZE, batches
from ...errors import DynamicExitError, PassError, RecipeError, first_line
from ...graph import Segment
from .apply import config_of, quiet
from .config import STATIC, check_algorithms, check_choices, known_algorithms
from .packed import pack_linears

aten = torch.ops.aten
# operators of a captured graph, the functions with the same arguments, and what tells those apart
_FUNCTIONS = {
    aten.conv2d.default: (F.conv2d, {}),
    aten.linear.default: (F.linear, {}),
    aten.relu.default: (F.relu, {}),
    aten.relu_.default: (F.relu, {"inplace": True}),
    aten.add.Tensor: (torch.add, {}),
}
_WEIGHTS = "rtn"
_CHOICES = {
    "static_quant": STATIC,
    "pt2e_dynamic_quant": STATIC | {"act_sym": (False, True)},
    _WEIGHTS: {"dtype": ("int",), "bits": (2, 3, 4, 5, 6, 7, 8), "use_sym": (True, False)},
}
# samples at a time while ranges are found


@dataclass(frozen=True)
class TorchOptions:
    """How pieces are quantized for torch.

    Attributes:
        algorithm: Neural Compressor's name of it.
        parameters: Its parameters, as in the recipe.
    """

    algorithm: str
    parameters: Mapping[str, Any]

    @property
    def label(self) -> str:
        """What tables call it."""
        if self.algorithm != _WEIGHTS:
            return "int8"
        return f"{config_of(self.algorithm, self.parameters).bits}-bit weights"


def torch_options(stanza: Mapping[str, Mapping[str, Any] | None] | None) -> TorchOptions | None:
    """Return how a `quantization` stanza quantizes for torch, or None where it is empty.

    Raises:
        RecipeError: An algorithm or parameter that is unknown, several algorithms, or one whose result cannot be
            written without pickle.
    """
    if not stanza:
        return None
    check_algorithms(stanza, several=True)
    for name in stanza:
        if name not in _CHOICES:
            said = "cannot be written to a folder without pickle for `target: torch`"
            raise RecipeError(f"key 'quantization.{name}' {said}; use {' or '.join(map(repr, _CHOICES))}")
    if len(stanza) > 1:
        raise RecipeError(
            f"key 'quantization' names {', '.join(stanza)}, of which measurements choose only for "
            "`target: onnxruntime`; name one for `target: torch`"
        )
    ((name, parameters),) = stanza.items()
    parameters = dict(parameters or {})
    check_choices(name, known_algorithms()[name] | parameters, _CHOICES[name], "torch")
    config_of(name, parameters)
    return TorchOptions(name, parameters)


def quantize_for_torch(name: str, segment: Segment, feeds: Sequence[Tensor], options: TorchOptions) -> nn.Module:
    """Quantize one piece with Neural Compressor.

    Args:
        name: For messages.
        segment: In float; it stays as it was.
        feeds: What it is calibrated on: what it takes, each (N, ...).
        options: How.

    Returns:
        A module that takes what the segment takes; where there was nothing to quantize it answers as the segment does.

    Raises:
        PassError: It cannot be quantized.
    """
    try:
        with torch.no_grad(), quiet():
            if options.algorithm == _WEIGHTS:
                return pack_linears(segment.body, config_of(options.algorithm, options.parameters))
            return _exported(segment, feeds, options)
    except DynamicExitError:
        raise
    except Exception as error:  # Neural Compressor and torch.export raise anything
        said = f"Neural Compressor's '{options.algorithm}' cannot quantize stage '{name}'"
        raise PassError(f"{said}: {first_line(error)}; keep it in float with `quantize: false`") from error


def _exported(segment: Segment, feeds: Sequence[Tensor], options: TorchOptions) -> nn.Module:
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import quantize

    def run(body: nn.Module) -> None:
        for batch in batches(list(feeds), DEFAULT_BATCH_SIZE):
            body(*batch)

    # the length of texts is worked out: a model's table of positions bounds it
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim.AUTO
    shapes = tuple({0: batch} | {place: length for place in dims if place} for dims in segment.dynamic_dims)
    body = export(_in_functions(segment.body), segment.example_inputs, dynamic_shapes=shapes)
    made = fold_weights(quantize(body, config_of(options.algorithm, options.parameters), run_fn=run))
    for module in made.modules():
        module.training = False  # an exported body refuses to change its mode
    return made


def fold_weights(made: fx.GraphModule) -> fx.GraphModule:
    """Return what PT2E made of a model with integers in place of the weights that they were made of.

    Args:
        made: As Neural Compressor quantizes an exported model; it is changed.
    """
    from torchao.quantization.pt2e.constant_fold import constant_fold
    from torchao.quantization.pt2e.quantize_pt2e import _quant_node_constraint

    constant_fold(made, _quant_node_constraint)
    return fx.GraphModule(made, made.graph)  # without those weights


def _in_functions(body: fx.GraphModule) -> fx.GraphModule:
    """Return a copy that calls torch's functions: the quantizer looks for them, and finds nothing in operators."""
    body = copy.deepcopy(body)
    for node in body.graph.nodes:
        if node.target in _FUNCTIONS:
            node.target, named = _FUNCTIONS[node.target]
            node.kwargs = {**node.kwargs, **named}
    body.recompile()
    return body
