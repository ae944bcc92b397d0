"""Quantization of single parts: in static int8 each is calibrated on what it really gets; then they are stitched.

Quantizing the stitched file instead fails silently: onnxruntime's quantizer does not look inside branches.
"""

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import ExportError, first_line
from .external_data import is_large, save_model
from .part import Part
from .quantizer import (
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

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
# operators on integers, besides those that quantize
_QUANTIZED = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulNBits")
# what the quantizer takes in, and the key of a node's metadata that tells of it
_CLIPPING = ("Relu", "Clip")
_ACTIVATION = "dynamic_exit.activation"
#: What is quantized of models that read text: masks, positions and norms do not survive 8 bits.
PRODUCTS = ("MatMul", "Gemm")
_METHODS = {"minmax": CalibrationMethod.MinMax, "kl": CalibrationMethod.Entropy}


@dataclass(frozen=True)
class QuantizationOptions:
    """How weights and activations become small integers.

    Attributes:
        method: ``static`` (ranges of activations from calibration, QDQ format), ``dynamic`` (found anew for every
            batch; products alone) or ``weights`` (activations stay in float; products alone).
        weight_type: ``int8`` or ``uint8``.
        weight_symmetric: Zero point at 0 for weights.
        per_channel: One scale for each output channel of a weight instead of one for the whole.
        activation_type: ``int8`` or ``uint8``.
        activation_symmetric: Zero point in the middle for activations.
        calibration: How ranges of activations are found: ``minmax`` or ``kl``.
        operators: Kinds of operators that are quantized; None takes all that can be.
        bits: Of weights, with ``weights``: 4 or 8.
        group: Weights that share a scale, with ``weights``.
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

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self.bits}-bit weights" if self.method == "weights" else "int8"


class _Feeds(CalibrationDataReader):
    def __init__(self, feeds: Iterable[Mapping[str, np.ndarray]]):
        self._feeds = iter(feeds)

    def get_next(self):
        return next(self._feeds, None)


def is_quantized(part: Part) -> bool:
    """Tell whether any operator of a part works on, or makes, quantized numbers."""
    return any("Quantize" in node.op_type or node.op_type in _QUANTIZED for node in part.proto.graph.node)


def quantize_part(
    part: Part, feeds: Iterable[Mapping[str, np.ndarray]], options: QuantizationOptions, limit: int | None = None
) -> Part:
    """Quantize one part.

    Args:
        part: A part in float; one that is quantized already, as an imported file may be, stays as it is.
        feeds: Batches of what the part really gets, by input name.
        options: Types, granularity and calibration.
        limit: Bytes of weights from which they go through files of their own; None is `large.LIMIT`.

    Returns:
        The part in int8, with the same inputs and output in float32.

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
            _METHOD[options.method](prepared, target, feeds, options, apart)
        except Exception as error:  # the quantizer raises whatever its steps raise
            reason = first_line(error)
            raise ExportError(f"stage '{part.name}' cannot be quantized: {reason}; leave it in float") from error
        quantized = onnx.load(target)
        return part.with_proto(_with_notes(quantized, onnx.load(prepared)) if options.method == "static" else quantized)


def _static(prepared: str, target: str, feeds, options: QuantizationOptions, apart: bool) -> None:
    quantize_static(
        prepared,
        target,
        _Feeds(feeds),
        quant_format=QuantFormat.QDQ,
        per_channel=options.per_channel,
        weight_type=_TYPES[options.weight_type],
        activation_type=_TYPES[options.activation_type],
        calibrate_method=_METHODS[options.calibration],
        op_types_to_quantize=options.operators,
        use_external_data_format=apart,
        extra_options={
            "WeightSymmetric": options.weight_symmetric,
            "ActivationSymmetric": options.activation_symmetric,
        },
    )


def _dynamic(prepared: str, target: str, feeds, options: QuantizationOptions, apart: bool) -> None:
    model = onnx.load(prepared)
    del model.graph.value_info[:]  # the quantizer turns weights round, and trips over the shapes that they had
    source = f"{prepared}.free.onnx"
    onnx.save(model, source, save_as_external_data=apart, location=f"{Path(source).name}.data")
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul"],  # it makes one of every Gemm
        per_channel=options.per_channel,
        weight_type=_TYPES[options.weight_type],
        use_external_data_format=apart,
        extra_options={"WeightSymmetric": options.weight_symmetric},
    )


def _weights(prepared: str, target: str, feeds, options: QuantizationOptions, apart: bool) -> None:
    quantizer = weights_quantizer()(
        prepared, options.bits, options.group, is_symmetric=options.weight_symmetric, accuracy_level=4
    )
    quantizer.process()
    quantizer.model.save_model_to_file(target, apart)


_METHOD = {"static": _static, "dynamic": _dynamic, "weights": _weights}


def _with_notes(quantized: onnx.ModelProto, plain: onnx.ModelProto) -> onnx.ModelProto:
    """Note at each quantizing node the activations that it stands for: the quantizer lets it clip in their place.

    What they took then goes by the name of what they gave, with an ending where that is the output of the graph.
    """
    clipping = {node.output[0]: node for node in plain.graph.node if node.op_type in _CLIPPING}
    names = {node.output[0] for node in quantized.graph.node if node.op_type in _CLIPPING}
    kept = {name.removesuffix(QUANT_INPUT_SUFFIX) for name in names}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    for node in quantized.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        name, lost = node.input[0].removesuffix(QUANT_INPUT_SUFFIX), []
        while name in clipping.keys() - kept:
            limits = [float(values[limit]) if limit else None for limit in clipping[name].input[1:]]
            lost.insert(0, [clipping[name].op_type, *limits])
            name = clipping[name].input[0]
        if lost:
            node.metadata_props.add(key=_ACTIVATION, value=json.dumps(lost))
    return quantized


def dequantize_part(part: Part) -> Part:
    """Take static quantization out of a part: the same graph in float, with weights rounded as they were.

    Args:
        part: What `quantize_part` gave; in float it comes back as it is.

    Returns:
        The part, for instance to time what int8 saves.

    Raises:
        ExportError: It is quantized in another way.
    """
    others = other_quantization(part)
    if others:
        raise ExportError(f"stage '{part.name}' holds {others[0]}: only static int8 can be taken out again")
    proto = onnx.ModelProto()
    proto.CopyFrom(part.proto)
    graph = proto.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes, float_name = [], {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            source = float_name.get(node.input[0], node.input[0])
            for place, (kind, *limits) in enumerate(_noted(node)):
                given = f"{node.output[0]}/float{place}"
                names = [f"{given}/{index}" if limit is not None else "" for index, limit in enumerate(limits)]
                graph.initializer.extend(
                    numpy_helper.from_array(np.float32(limit), name)
                    for name, limit in zip(names, limits, strict=True)
                    if name
                )
                nodes.append(helper.make_node(kind, [source, *names], [given]))
                source = given
            float_name[node.output[0]] = source
        elif node.op_type == "DequantizeLinear" and node.input[0] in values:
            axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
            whole = _dequantized([values[name] for name in node.input], axis)
            graph.initializer.append(numpy_helper.from_array(whole, node.output[0]))
        elif node.op_type == "DequantizeLinear":
            float_name[node.output[0]] = float_name[node.input[0]]
        else:
            node.input[:] = [float_name.get(name, name) for name in node.input]
            nodes.append(node)
    ends = [value.name for value in graph.output if value.name in float_name]
    nodes += [helper.make_node("Identity", [float_name[name]], [name]) for name in ends]
    used = {name for node in nodes for name in node.input}
    held = [tensor for tensor in graph.initializer if tensor.name in used]
    plain = helper.make_graph(nodes, graph.name, graph.input, graph.output, initializer=held)
    return part.with_proto(helper.make_model(plain, opset_imports=proto.opset_import, ir_version=proto.ir_version))


def other_quantization(part: Part) -> list[str]:
    """Return the operators of a part that work on quantized numbers, and that `dequantize_part` cannot take out."""
    return [node.op_type for node in part.proto.graph.node if node.op_type in (*_QUANTIZED, "DynamicQuantizeLinear")]


def _noted(node: onnx.NodeProto) -> list[list]:
    """The activations that a quantizing node stands for, first to last, each with its limits."""
    told = [json.loads(entry.value) for entry in node.metadata_props if entry.key == _ACTIVATION]
    return told[0] if told else []


def _dequantized(inputs: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Numbers from whole numbers, scale and zero point, one for all or one for each slice along an axis."""
    whole, scale = inputs[0], inputs[1]
    zero = inputs[2] if len(inputs) > 2 else np.zeros_like(scale, dtype=whole.dtype)
    shape = [-1 if place == axis else 1 for place in range(whole.ndim)] if scale.ndim else []
    return ((whole.astype(np.int64) - zero.astype(np.int64).reshape(shape)) * scale.reshape(shape)).astype(np.float32)


@contextmanager
def _quiet():
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
