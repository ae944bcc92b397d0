"""The exporter of models in memory: stages as the torch modules that they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from ...targets.base import Exporter, ExportRequest, Feeds


@dataclass(frozen=True)
class MemoryPart:
    """One saver, segment or exit head; its `content` is the number under which its exporter holds the module."""

    name: str
    content: bytes
    input_names: tuple[str, ...]
    output_kind: str
    size: int = 0
    runtime: str = "torch"
    oldest_runtime: tuple[int, ...] = ()


class MemoryExporter(Exporter[MemoryPart]):
    """Keeps stages as they are, in this process.

    Args:
        calibration: The model's inputs by name, each (N, ...).
        quantized: By segment of the float backbone: the one that runs in its place.
    """

    extension = "module"

    def __init__(self, calibration: Feeds, quantized: Mapping[nn.Module, nn.Module]):
        super().__init__(None, calibration)
        self._quantized, self._modules = quantized, list[nn.Module]()

    def make_parts(self, request: ExportRequest) -> tuple[MemoryPart, MemoryPart]:
        """Keep one module, and the one that runs in its place; result as for `export_parts`."""
        float_part = part = self._keep(request, request.module)
        if request.module in self._quantized:
            part = self._keep(request, self._quantized[request.module])
        return float_part, part

    def _keep(self, request: ExportRequest, module: nn.Module) -> MemoryPart:
        self._modules.append(module)
        content = str(len(self._modules) - 1).encode()
        return self.load_part(request.name, content, request.input_names, request.output_kind)

    def load_part(self, name: str, content: bytes, input_names: Sequence[str], output_kind: str) -> MemoryPart:
        """Return the part whose `content` this is."""
        return MemoryPart(name, content, tuple(input_names), output_kind)

    def open_part(self, part: MemoryPart) -> nn.Module:
        """Return the module itself."""
        return self._modules[int(part.content)]

    def workers(self) -> int:
        """Return 1: torch itself uses all cores for a batch."""
        return 1
