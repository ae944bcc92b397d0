"""Quantization of single parts before they are stitched; static int8 is calibrated on the inputs of each part.

Quantizing the stitched file instead would fail silently: onnxruntime's quantizer does not look inside branches.
"""

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

from ..errors import ExportError, first_line
from .external_data import is_large, save_model
from .isolated_quantizer import (
    QUANT_INPUT_SUFFIX,
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
    weights_quantizer,
)
from .opset import operator_version, set_opset
from .part import Part

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
#: Operators on integers, besides those that quantize.
INTEGER_OPERATORS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulNBits")
# activations that the quantizer merges into quantizing nodes
_CLIPPING = ("Relu", "Clip")
#: Key in the metadata of a quantizing node for the activations that were merged into it.
ACTIVATION = "dynamic_exit.activation"
#: Operators to quantize in models of text, whose masks, positions and norms lose too much in 8 bits.
PRODUCTS = ("MatMul", "Gemm")
_CALIBRATIONS = {"minmax": CalibrationMethod.MinMax, "kl": CalibrationMethod.Entropy}


def lacks_vnni() -> bool:
    """Return whether onnxruntime adds products of int8 in 16 bits on this processor, where those of 8 bits overflow."""
    # needs torch, which importing this room does not
    from ..cost.processor import instruction_set

    return instruction_set() in ("AVX2", "AVX-512")


@dataclass(frozen=True)
class QuantizationOptions:
    """How weights and activations are quantized.

    Attributes:
        method: ``static`` (ranges of activations from calibration, QDQ format), ``dynamic`` (ranges of each batch;
            matrix products only) or ``weights`` (activations in float; matrix products only).
        weight_type: ``int8`` or ``uint8``.
        weight_symmetric: Zero point of weights at 0.
        per_channel: One scale per output channel of a weight instead of one per weight.
        activation_type: ``int8`` or ``uint8``.
        activation_symmetric: Zero point of activations in the middle of the range.
        calibration: How ranges of activations are found: ``minmax`` or ``kl`` (entropy).
        operators: Types of operators to quantize; None quantizes all that can be.
        bits: Bits per weight with ``weights``: 4 or 8.
        group: Number of weights that share a scale with ``weights``.
        reduce_range: 8-bit weights use 7 bits, so that sums of two products fit 16 bits; by default where this
            processor has no VNNI, which adds them in 32 bits.
    """

    method: Literal["static", "dynamic", "weights"] = "static"
    weight_type: Literal["int8", "uint8"] = "int8"
    weight_symmetric: bool = True
    per_channel: bool = True
    activation_type: Literal["int8", "uint8"] = "uint8"
    activation_symmetric: bool = False
    calibration: Literal["minmax", "kl"] = "minmax"
    operators: tuple[str, ...] | None = None
    bits: Literal[4, 8] = 8
    group: int = 32
    reduce_range: bool = field(default_factory=lacks_vnni)

    @property
    def label(self) -> str:
        """Name of the numerics in tables."""
        return f"{self.bits}-bit weights" if self.method == "weights" else "int8"


_Batches = Iterable[Mapping[str, np.ndarray]]


class _Feeds(CalibrationDataReader):
    def __init__(self, feeds: _Batches):
        self._feeds = iter(feeds)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self._feeds, None)


def is_quantized(part: Part) -> bool:
    """Return whether any operator of a part quantizes, or works on integers."""
    return any("Quantize" in node.op_type or node.op_type in INTEGER_OPERATORS for node in part.proto.graph.node)


def quantize_part(part: Part, feeds: _Batches, options: QuantizationOptions, limit: int | None = None) -> Part:
    """Quantize one part.

    Args:
        part: A part in float; a part that is quantized already, such as an imported file, is returned as it is.
        feeds: Batches of the part's inputs, by name.
        options: Types, granularity and calibration.
        limit: Bytes of weights above which they go through separate files; None is `external_data.LIMIT`.

    Returns:
        The quantized part, with the same inputs and output in float32.

    Raises:
        ExportError: The quantizer refuses the part.
    """
    if is_quantized(part):
        return part
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, prepared, target = (str(Path(folder, f"{name}.onnx")) for name in ("source", "prepared", "target"))
        save_model(part.proto, source, limit)
        apart = is_large(part.proto, limit)
        try:
            beside = {"save_as_external_data": apart, "all_tensors_to_one_file": apart}
            quant_pre_process(source, prepared, skip_symbolic_shape=True, **beside)
            _METHODS[options.method](prepared, target, feeds, options, apart)
        except Exception as error:  # the quantizer raises dozens of types
            reason = first_line(error)
            raise ExportError(f"stage '{part.name}' cannot be quantized: {reason}; leave it in float") from error
        quantized = onnx.load(target)
        set_opset(quantized, operator_version(quantized), part.name)  # the quantizer states more than it uses
        return part.with_proto(
            _with_activations(quantized, onnx.load(prepared)) if options.method == "static" else quantized
        )


def _static(prepared: str, target: str, feeds: _Batches, options: QuantizationOptions, apart: bool) -> None:
    quantize_static(
        prepared,
        target,
        _Feeds(feeds),
        quant_format=QuantFormat.QDQ,
        per_channel=options.per_channel,
        reduce_range=options.reduce_range,
        weight_type=_TYPES[options.weight_type],
        activation_type=_TYPES[options.activation_type],
        calibrate_method=_CALIBRATIONS[options.calibration],
        op_types_to_quantize=options.operators,
        use_external_data_format=apart,
        extra_options={
            "WeightSymmetric": options.weight_symmetric,
            "ActivationSymmetric": options.activation_symmetric,
        },
    )


def _dynamic(prepared: str, target: str, feeds: _Batches, options: QuantizationOptions, apart: bool) -> None:
    model = onnx.load(prepared)
    del model.graph.value_info[:]  # the quantizer transposes weights and fails on their old shapes
    source = f"{prepared}.free.onnx"
    onnx.save(model, source, save_as_external_data=apart, location=f"{Path(source).name}.data")
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul"],  # the quantizer turns every Gemm into one
        per_channel=options.per_channel,
        reduce_range=options.reduce_range,
        weight_type=_TYPES[options.weight_type],
        use_external_data_format=apart,
        extra_options={"WeightSymmetric": options.weight_symmetric},
    )


def _weights(prepared: str, target: str, feeds: _Batches, options: QuantizationOptions, apart: bool) -> None:
    quantizer = weights_quantizer()(
        prepared, options.bits, options.group, is_symmetric=options.weight_symmetric, accuracy_level=4
    )
    quantizer.process()
    quantizer.model.save_model_to_file(target, apart)


_METHODS = {"static": _static, "dynamic": _dynamic, "weights": _weights}


def _with_activations(quantized: onnx.ModelProto, plain: onnx.ModelProto) -> onnx.ModelProto:
    """Record at each quantizing node the activations that the quantizer merged into it, as it clips in their place.

    Their input then has the name of their output, with a suffix if that is the output of the graph.
    """
    clipping = {node.output[0]: node for node in plain.graph.node if node.op_type in _CLIPPING}
    names = {node.output[0] for node in quantized.graph.node if node.op_type in _CLIPPING}
    kept = {name.removesuffix(QUANT_INPUT_SUFFIX) for name in names}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    for node in quantized.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        name = node.input[0].removesuffix(QUANT_INPUT_SUFFIX)
        merged: list[list[str | float | None]] = []
        while name in clipping.keys() - kept:
            limits = [float(values[limit]) if limit else None for limit in clipping[name].input[1:]]
            merged.insert(0, [clipping[name].op_type, *limits])
            name = clipping[name].input[0]
        if merged:
            node.metadata_props.add(key=ACTIVATION, value=json.dumps(merged))
    return quantized


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the quantizer's warnings."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
