"""Inputs of models as manifests describe them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from onnx import ValueInfoProto, helper

from .manifest import InputSpec

if TYPE_CHECKING:  # a written folder is inspected without torch
    from torch import Tensor


def describe_tensor(name: str, tensor: "Tensor", dims: Mapping[int, str] = MappingProxyType({})) -> InputSpec:
    """Describe an input.

    Args:
        name: Of the input.
        tensor: Some samples, batch first.
        dims: Its free dimensions besides the batch: index -> name.
    """
    shape = [dims.get(place, side) for place, side in enumerate(tensor.shape)][1:]
    return {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": shape}


def describe_proto(value: ValueInfoProto) -> InputSpec:
    """Describe an input of an ONNX file, batch first."""
    tensor = value.type.tensor_type
    shape = [side.dim_value if side.HasField("dim_value") else side.dim_param for side in tensor.shape.dim[1:]]
    return {"name": value.name, "dtype": str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), "shape": shape}
