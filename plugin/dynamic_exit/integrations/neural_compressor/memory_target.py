"""The target memory: stages as the torch modules that they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from ...chain.operating_point import OperatingPoints
from ...runtime.stages import StageSet
from ...sources.run_inputs import RunInputs
from ...targets.base import AssembledModel, ExportRequest, Feeds, Target


@dataclass(frozen=True)
class MemoryPart:
    """One saver, segment or exit head as a module.

    Attributes:
        name: Unique among the parts of a model.
        content: The number under which its target holds the module.
        input_names: Names of the inputs, as of every part.
        output_kind: What the output is: ``hidden`` or ``logits``.
    """

    name: str
    content: bytes
    input_names: tuple[str, ...]
    output_kind: str
    size: int = 0
    runtime: str = "torch"


class MemoryTarget(Target[MemoryPart]):
    """Keeps stages as they are, in this process.

    Args:
        calibration: The model's inputs by name, each (N, ...).
        quantized: By segment of the float backbone: the one that runs in its place. Costs are those in float.
    """

    extension = "module"

    def __init__(self, calibration: Feeds, quantized: Mapping[nn.Module, nn.Module]):
        super().__init__(None, calibration)
        self._quantized, self._modules = quantized, list[nn.Module]()

    def make_parts(self, request: ExportRequest) -> tuple[MemoryPart, MemoryPart]:
        """Keep one module and what runs in its place; result as for `export_parts`."""
        modules = dict.fromkeys([request.module, self._quantized.get(request.module, request.module)])
        first = len(self._modules)
        self._modules += modules
        parts = [
            self.load_part(request.name, str(place).encode(), request.input_names, request.output_kind)
            for place in range(first, len(self._modules))
        ]
        return parts[0], parts[-1]

    def load_part(self, name: str, content: bytes, input_names: Sequence[str], output_kind: str) -> MemoryPart:
        """Return the part whose `content` this is."""
        return MemoryPart(name, content, tuple(input_names), output_kind)

    def open_part(self, part: MemoryPart) -> nn.Module:
        """Return the module itself."""
        return self._modules[int(part.content)]

    def workers(self) -> int:
        """Return 1: torch itself uses all cores for a batch."""
        return 1

    def assemble(self, stages: StageSet, points: OperatingPoints, run_inputs: RunInputs) -> AssembledModel:
        """Refuse: a model in memory has no files."""
        raise NotImplementedError("a model in memory is `stages.model`")
