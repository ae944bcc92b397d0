"""Quantization of one segment of a model for torch, by Neural Compressor itself."""

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
from .apply import algorithm_config, quiet
from .config import STATIC_CHOICES, check_algorithms, check_choices, known_algorithms
from .packed import pack_linears

aten = torch.ops.aten
# operators of a captured graph -> the function with the same arguments, and its further keyword arguments
_FUNCTIONS = {
    aten.conv2d.default: (F.conv2d, {}),
    aten.linear.default: (F.linear, {}),
    aten.relu.default: (F.relu, {}),
    aten.relu_.default: (F.relu, {"inplace": True}),
    aten.add.Tensor: (torch.add, {}),
}
_WEIGHT_ONLY = "rtn"
_TORCH_CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "static_quant": STATIC_CHOICES,
    "pt2e_dynamic_quant": STATIC_CHOICES | {"act_sym": (False, True)},
    _WEIGHT_ONLY: {"dtype": ("int",), "bits": (2, 3, 4, 5, 6, 7, 8), "use_sym": (True, False)},
}


@dataclass(frozen=True)
class TorchOptions:
    """How segments are quantized for torch.

    Attributes:
        algorithm: Name in Neural Compressor.
        parameters: As in the recipe.
    """

    algorithm: str
    parameters: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Its name in tables."""
        if self.algorithm != _WEIGHT_ONLY:
            return "int8"
        return f"{algorithm_config(self.algorithm, self.parameters).bits}-bit weights"


def torch_options(stanza: Mapping[str, Mapping[str, Any] | None] | None) -> TorchOptions | None:
    """Translate a `quantization` stanza for torch; None if it is empty.

    Raises:
        RecipeError: An algorithm or parameter that is unknown, several algorithms, or one whose result cannot be
            written without pickle.
    """
    if not stanza:
        return None
    check_algorithms(stanza, several=True)
    for name in stanza:
        if name not in _TORCH_CHOICES:
            said = "cannot be written to a folder without pickle for `target: torch`"
            raise RecipeError(f"key 'quantization.{name}' {said}; use {' or '.join(map(repr, _TORCH_CHOICES))}")
    if len(stanza) > 1:
        raise RecipeError(
            f"key 'quantization' names {', '.join(stanza)}, of which measurements choose only for "
            "`target: onnxruntime`; name one for `target: torch`"
        )
    ((name, parameters),) = stanza.items()
    parameters = dict(parameters or {})
    check_choices(name, known_algorithms()[name] | parameters, _TORCH_CHOICES[name], "torch")
    algorithm_config(name, parameters)
    return TorchOptions(name, parameters)


def quantize_for_torch(name: str, segment: Segment, feeds: Sequence[Tensor], options: TorchOptions) -> nn.Module:
    """Quantize one segment with Neural Compressor.

    Args:
        name: Of its stage, for messages.
        segment: In float; it stays as it is.
        feeds: Its inputs on the calibration samples, each (N, ...).
        options: Algorithm and parameters.

    Returns:
        A module with the inputs of the segment; if there was nothing to quantize, its outputs are equal.

    Raises:
        PassError: It cannot be quantized.
    """
    try:
        with torch.no_grad(), quiet():
            if options.algorithm == _WEIGHT_ONLY:
                return pack_linears(segment.body, algorithm_config(options.algorithm, options.parameters))
            return _quantize_exported(segment, feeds, options)
    except DynamicExitError:
        raise
    except Exception as error:  # Neural Compressor and torch.export may raise anything
        said = f"Neural Compressor's '{options.algorithm}' cannot quantize stage '{name}'"
        raise PassError(f"{said}: {first_line(error)}; keep it in float with `quantize: false`") from error


def _quantize_exported(segment: Segment, feeds: Sequence[Tensor], options: TorchOptions) -> nn.Module:
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import quantize

    def run(body: nn.Module) -> None:
        for batch in batches(list(feeds), DEFAULT_BATCH_SIZE):
            body(*batch)

    # torch derives the bounds of a text's length, such as from a table of positions
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim.AUTO
    shapes = tuple({0: batch} | {dimension: length for dimension in dims if dimension} for dims in segment.dynamic_dims)
    body = export(_with_functions(segment.body), segment.example_inputs, dynamic_shapes=shapes)
    made = fold_weights(quantize(body, algorithm_config(options.algorithm, options.parameters), run_fn=run))
    for module in made.modules():
        module.training = False  # an exported module refuses `eval()`
    return made


def fold_weights(made: fx.GraphModule) -> fx.GraphModule:
    """Replace the float weights of a model quantized by PT2E with their integers.

    Args:
        made: An exported model that Neural Compressor quantized; it is changed.
    """
    from torchao.quantization.pt2e.constant_fold import constant_fold
    from torchao.quantization.pt2e.quantize_pt2e import _quant_node_constraint

    constant_fold(made, _quant_node_constraint)
    return fx.GraphModule(made, made.graph)  # drops the float weights


def _with_functions(body: fx.GraphModule) -> fx.GraphModule:
    """Return a copy that calls torch's functions, which the quantizer looks for, instead of operators."""
    body = copy.deepcopy(body)
    for node in body.graph.nodes:
        if node.target in _FUNCTIONS:
            node.target, named = _FUNCTIONS[node.target]
            node.kwargs = {**node.kwargs, **named}
    body.recompile()
    return body
