"""Static int8 quantization of single parts: each is calibrated on what it really gets, then stitched.

Quantizing the stitched file instead fails silently: onnxruntime's quantizer does not look inside branches.
"""

import logging
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..errors import ExportError, first_line
from .parts import Part

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
# operators on integers, besides those that quantize
_QUANTIZED = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_METHODS = {"minmax": CalibrationMethod.MinMax, "kl": CalibrationMethod.Entropy}


@dataclass(frozen=True)
class Int8Options:
    """How weights and activations become 8-bit integers (QDQ format).

    Attributes:
        weight_type: ``int8`` or ``uint8``.
        weight_symmetric: Zero point at 0 for weights.
        per_channel: One scale for each output channel of a weight instead of one for the whole.
        activation_type: ``int8`` or ``uint8``.
        activation_symmetric: Zero point in the middle for activations.
        calibration: How ranges of activations are found: ``minmax`` or ``kl``.
    """

    weight_type: Literal["int8", "uint8"] = "int8"
    weight_symmetric: bool = True
    per_channel: bool = True
    activation_type: Literal["int8", "uint8"] = "uint8"
    activation_symmetric: bool = False
    calibration: Literal["minmax", "kl"] = "minmax"


class _Feeds(CalibrationDataReader):
    def __init__(self, feeds: Iterable[Mapping[str, np.ndarray]]):
        self._feeds = iter(feeds)

    def get_next(self):
        return next(self._feeds, None)


def quantize_part(part: Part, feeds: Iterable[Mapping[str, np.ndarray]], options: Int8Options) -> Part:
    """Quantize one part.

    Args:
        part: A part in float; one that is quantized already, as an imported file may be, stays as it is.
        feeds: Batches of what the part really gets, by input name.
        options: Types, granularity and calibration.

    Returns:
        The part in int8, with the same inputs and output in float32.

    Raises:
        ExportError: The quantizer refuses the part.
    """
    if any("Quantize" in node.op_type or node.op_type in _QUANTIZED for node in part.proto.graph.node):
        return part
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, prepared, target = (str(Path(folder, f"{name}.onnx")) for name in ("source", "prepared", "target"))
        onnx.save(part.proto, source)
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                target,
                _Feeds(feeds),
                quant_format=QuantFormat.QDQ,
                per_channel=options.per_channel,
                weight_type=_TYPES[options.weight_type],
                activation_type=_TYPES[options.activation_type],
                calibrate_method=_METHODS[options.calibration],
                extra_options={
                    "WeightSymmetric": options.weight_symmetric,
                    "ActivationSymmetric": options.activation_symmetric,
                },
            )
        except Exception as error:  # the quantizer raises whatever its steps raise
            reason = first_line(error)
            raise ExportError(f"stage '{part.name}' cannot be quantized: {reason}; leave it in float") from error
        return part.with_proto(onnx.load(target))


@contextmanager
def _quiet():
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
