"""What makes parts of modules, and a target, which also assembles, writes and verifies the model that they make."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..artifact.manifest import Manifest
from ..chain.walk import Runnable, Step, chain_steps, walk
from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE, batches
from ..core.cache import Cache
from ..core.file_archive import pack_files, unpack_files
from ..core.hashing import array_fingerprint, digest
from ..core.mapped_arrays import collect_blocks
from ..cost import count_macs
from ..data.run_inputs import RunInputs
from ..errors import ExportError, first_line
from ..graph.backbone import Backbone
from ..onnx.verification import Agreement, logit_differences
from ..points.operating_point import OperatingPoints
from ..runtime.stages import ExportedPart, Stage, StageSet
from .export_cache import export_key, find_parts

logger = logging.getLogger(__name__)

# largest difference of logits between a saver and its exported part, in units of the logits' size
_TOLERANCE = 1e-3

Feeds = Mapping[str, np.ndarray]
FreeDims = Mapping[str, dict[int, str]]
PartT = TypeVar("PartT", bound=ExportedPart)


class Session(Protocol):
    """What runs a whole model, as an onnxruntime session does."""

    def get_inputs(self) -> Sequence[Any]:
        """Return what it takes: objects with a ``name`` and a ``shape``."""

    def run(self, names: Sequence[str] | None, feeds: Feeds) -> Sequence[np.ndarray]:
        """Return the named outputs, all of them for None."""


class RunnableModel(Protocol):
    """A model that can be run and measured."""

    @property
    def session(self) -> Session:
        """Runs it."""

    @property
    def size(self) -> int:
        """Bytes of its files."""


class AssembledModel(Protocol):
    """The stages in use, put together for a target."""

    @property
    def files(self) -> Mapping[str, RunnableModel]:
        """``static`` (the backbone alone, in float) and, once it is written and verified, ``shipped``."""

    def write(self, folder: Path) -> Manifest:
        """Write the model's files, and return its manifest with them."""

    def verify(self, folder: Path, manifest: Manifest) -> dict[str, Agreement]:
        """Check that what was written answers as the model in memory, on every test sample, at every operating point.

        Args:
            folder: Where the model was written.
            manifest: What `write` returned.

        Raises:
            VerificationError: It answers differently.
        """


class Quantization(Protocol):
    """How a target quantizes stages; its text is part of cache keys."""

    @property
    def label(self) -> str:
        """What tables call the numbers, such as ``int8``."""


@dataclass(frozen=True)
class ExportRequest:
    """One module to export.

    Attributes:
        name: Of the part.
        module: In float, in evaluation mode.
        input_names: Names of its inputs, in order.
        output_kind: ``hidden``, ``memory`` or ``logits``.
        example: Its inputs of two samples.
        feeds: Its inputs of the calibration samples by name, each (N, ...); None leaves it in float.
    """

    name: str
    module: nn.Module
    input_names: Sequence[str]
    output_kind: str
    example: tuple[Tensor, ...]
    feeds: Feeds | None = None


class Exporter(ABC, Generic[PartT]):
    """Exports torch modules as stages for one runtime, quantized where the recipe says so.

    Args:
        quantization: How; None for float.
        calibration: The model's inputs by name, each (N, ...): ranges of activations are found on them.
        threads: Threads within an operator; None leaves it to the runtime.
        dims: Free dimensions of inputs besides the batch: input -> index -> name.
        cache: Keeps exported segments and exits; None keeps none.

    Attributes:
        extension: Of files of its parts, without the dot.
    """

    extension: ClassVar[str]

    def __init__(
        self,
        quantization: Quantization | None,
        calibration: Feeds,
        threads: int | None = None,
        dims: FreeDims = MappingProxyType({}),
        cache: Cache | None = None,
    ):
        self.quantization, self.calibration, self.threads, self.dims = quantization, dict(calibration), threads, dims
        self.cache = cache

    @property
    def variant(self) -> str:
        """What parts depend on besides the module and the quantization; part of cache keys."""
        return ""

    @abstractmethod
    def make_parts(self, request: ExportRequest) -> tuple[PartT, PartT]:
        """Export one module in this process; result as for `export_parts`."""

    @abstractmethod
    def load_part(self, name: str, content: bytes, input_names: Sequence[str], output_kind: str) -> PartT:
        """Return the part whose `content` this is."""

    @abstractmethod
    def open_part(self, part: PartT) -> nn.Module:
        """Return what runs a part."""

    @abstractmethod
    def workers(self) -> int:
        """Return how many batches are run at a time, each in a thread of its own."""

    def export_parts(
        self, request: ExportRequest, make: Callable[[], tuple[PartT, PartT]] | None = None
    ) -> tuple[PartT, PartT]:
        """Export one module; of several processes the main one does.

        Args:
            request: The module.
            make: Does it; None takes `make_parts`.

        Returns:
            The part in float, and as exported: quantized, or the same object.

        Raises:
            ExportError: It cannot be exported or quantized.
        """

        def pack(parts: tuple[PartT, PartT]) -> bytes:
            return pack_files({str(index): part.content for index, part in enumerate(parts)})

        def unpack(content: bytes) -> tuple[PartT, PartT]:
            plain, shipped = (
                self.load_part(request.name, each, request.input_names, request.output_kind)
                for each in unpack_files(content).values()
            )
            return plain, shipped

        return distributed.run_on_main(make or (lambda: self.make_parts(request)), pack, unpack)

    def free_dims(self, module: nn.Module, input_names: Sequence[str]) -> list[dict[int, str]]:
        """Return, for each of its inputs, a module's free dimensions besides the batch: index -> name."""
        return getattr(module, "dynamic_dims", None) or [self.dims.get(each, {}) for each in input_names]

    def make_stage(self, module: nn.Module, float_part: PartT, part: PartT, example: tuple[Tensor, ...]) -> Stage:
        """Put a module and its parts together."""
        macs = count_macs(module, example)
        return Stage(module, part, self.open_part(part), macs, float_part, example)

    def export_stage(self, request: ExportRequest) -> Stage:
        """Export one module as a stage, or find what was exported before; arguments as for `export_parts`."""

        def load(content: bytes) -> PartT:
            return self.load_part(request.name, content, request.input_names, request.output_kind)

        def find() -> tuple[PartT, PartT]:
            return find_parts(self.cache, lambda: self._key(request), load, lambda: self.make_parts(request))

        return self.make_stage(request.module, *self.export_parts(request, find), request.example)

    def _key(self, request: ExportRequest) -> str:
        feeds = [] if request.feeds is None else [(key, array_fingerprint(x)) for key, x in request.feeds.items()]
        named = [request.name, request.output_kind, *request.input_names]
        dims = str(self.free_dims(request.module, request.input_names))
        numerics = digest(str(self.quantization), feeds) if feeds else ""
        return export_key(type(self), request.module, request.example, digest(named), dims, numerics, self.variant)

    def export_backbone(self, backbone: Backbone, quantize: bool = True) -> list[Stage]:
        """Export all segments; each is calibrated on what the float segments before it give.

        Args:
            backbone: The cut backbone.
            quantize: False leaves it in float whatever the target's quantization.

        Raises:
            ExportError: A segment cannot be exported or quantized.
        """
        stages: list[Stage] = []
        count, calibrated = len(backbone.segments), quantize and self.quantization is not None

        def export(step: Step, part: Runnable, arguments: Sequence[np.ndarray]) -> np.ndarray | None:
            segment, names = backbone.segments[step.place], part.input_names
            feeds = dict(zip(names, arguments, strict=True)) if calibrated else None
            request = ExportRequest(
                f"segment{step.place}", segment, names, segment.output_kind, segment.example_inputs, feeds
            )
            stages.append(self.export_stage(request))
            logger.info(f"segment {step.place + 1} of {count}: {stages[-1].macs / 1e6:.2f} M multiply-adds")
            if not calibrated or len(stages) == count:
                return None
            return _run_segment(segment, [*map(torch.from_numpy, arguments)])

        segments = [Runnable(segment, segment.input_names) for segment in backbone.segments]
        walk(chain_steps((), segments, (), {}), self.calibration, call=export)
        return stages

    def export_saver(
        self, name: str, candidate: nn.Module, input_names: Sequence[str], quantize: bool = True
    ) -> tuple[PartT, PartT]:
        """Export a saver.

        Args:
            name: Of its stage.
            candidate: In float, in evaluation mode.
            input_names: Names of its inputs, in order.
            quantize: False leaves it in float whatever the target's quantization.

        Returns:
            The part in float, and as exported.

        Raises:
            ExportError: It cannot be exported or quantized, or takes only one number of tokens.
        """
        feeds = {each: self.calibration[each] for each in input_names}
        example = tuple(torch.from_numpy(array[:2]) for array in feeds.values())
        seen = feeds if quantize else None
        parts = self.export_parts(ExportRequest(name, candidate, input_names, "logits", example, seen))
        free = [each for each in input_names if self.dims.get(each)]
        for length in shorter_lengths(min((feeds[each].shape[1] for each in free), default=0)):
            cut = [x[:, :length] if each in free else x for each, x in zip(input_names, example, strict=True)]
            _check_length(name, candidate, self.open_part(parts[0]), cut, length)
        return parts


class Target(Exporter[PartT]):
    """Exports stages, and assembles those of a model to be written; arguments as for `Exporter`."""

    @abstractmethod
    def assemble(self, stages: StageSet, points: OperatingPoints, run_inputs: RunInputs) -> AssembledModel:
        """Put stages together.

        Args:
            stages: Those that some operating point uses.
            points: The operating points.
            run_inputs: The recipe, the backbone and the samples.
        """


def _run_segment(segment: nn.Module, inputs: Sequence[Tensor]) -> np.ndarray:
    """Return what a segment gives for all samples; hidden states may be far larger than the samples."""

    @torch.no_grad()
    def blocks() -> Iterator[np.ndarray]:
        for batch in batches(inputs, DEFAULT_BATCH_SIZE):
            yield segment(*batch).numpy()

    return collect_blocks(blocks(), len(inputs[0]))


def shorter_lengths(length: int) -> list[int]:
    """Return numbers of tokens below a length: the fewest that a text has with its special tokens, and half."""
    return sorted({tried for tried in (2, (length + 1) // 2) if 2 <= tried < length})


def _check_length(name: str, candidate: nn.Module, exported: nn.Module, inputs: Sequence[Tensor], length: int) -> None:
    """Refuse a saver that takes only one number of tokens, be it once exported or at all."""
    try:
        with torch.no_grad():
            difference = logit_differences(candidate(*inputs).numpy(), exported(*inputs).numpy()).max()
    except Exception as error:  # user code and onnxruntime raise anything
        reason = first_line(error)
        raise ExportError(f"stage '{name}' cannot take {length} tokens, the backbone can: {reason}") from error
    if not difference <= _TOLERANCE:
        raise ExportError(f"stage '{name}' answers otherwise with {length} tokens once it is exported; leave it out")
