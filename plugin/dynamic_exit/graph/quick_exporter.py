"""Spares torch's ONNX exporter what it does anew for every program, without any difference in what it makes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any
from unittest import mock

from torch import fx
from torch.export import ExportedProgram

from .direct_lowering import is_float_alone, lower


@contextmanager
def quick_exporter() -> Iterator[None]:
    """Inside, the table of operators is built once, and programs are traced again only where that changes them."""
    try:
        from torch.onnx._internal.exporter import _fx_passes
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        make = ONNXRegistry.__dict__["from_torchlib"].__get__(None, ONNXRegistry)
        decompose, cast = _fx_passes.decompose_with_registry, _fx_passes.insert_type_promotion_nodes
    except (ImportError, KeyError, AttributeError):  # private to torch; without them an export only takes longer
        yield
        return
    with (
        mock.patch.object(ONNXRegistry, "from_torchlib", staticmethod(partial(_table, make))),
        mock.patch.object(_fx_passes, "decompose_with_registry", partial(_decompose, decompose)),
        mock.patch.object(_fx_passes, "insert_type_promotion_nodes", partial(_cast, cast)),
    ):
        yield


@cache
def _table(make: Callable[..., Any], opset_version: int) -> Any:
    return make(opset_version=opset_version)


def _decompose(decompose: Callable[..., ExportedProgram], program: ExportedProgram, registry: Any) -> ExportedProgram:
    def is_known(target: object) -> bool:
        return any(not found.is_complex for found in registry.get_decomps(target))

    return program if lower(program, is_known) else decompose(program, registry)


def _cast(cast: Callable[[fx.GraphModule], None], graph_module: fx.GraphModule) -> None:
    if not is_float_alone(graph_module.graph):
        cast(graph_module)
