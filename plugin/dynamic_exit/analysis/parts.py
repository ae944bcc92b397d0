"""Opens a written folder for the benchmark: the backbone alone, the dynamic model, and every part by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
import onnx
import torch
from torch import nn

from ..artifact.file_runner import Runner
from ..artifact.folder import MODEL_FILE, POINTS_FILE, check_files
from ..artifact.model_config import DynamicExitModelConfig
from ..artifact.runner import SegmentsRunner, open_runner, part_files
from ..chain.names import HIDDEN
from ..chain.walk import Runnable, chain_steps, walk
from ..errors import ExportError
from ..onnx.model_parts import ModelParts
from ..onnx.part import Part
from ..onnx.session import PartSession, open_session
from ..onnx.stitch import stitch
from ..onnx.unstitch import static_model, unstitch
from ..runtime.stages import NamedPart
from ..targets.base import Feeds, Session
from ..targets.float_twin import PartTransform, Twin, find_twin, roles
from ..targets.torch import TorchSession


class PartChain(Protocol):
    """The parts of a model in the order in which they run, as `onnx.stitch.ModelParts` holds them."""

    @property
    def savers(self) -> Sequence[NamedPart]:
        """Savers in chain order."""

    @property
    def segments(self) -> Sequence[NamedPart]:
        """Segments of the backbone, in order."""

    @property
    def exits(self) -> Sequence[tuple[NamedPart, int]]:
        """Exit heads, each with the index of the segment after which it stands, by position."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages before the final, in the order of thresholds."""


@dataclass(frozen=True)
class _PartNames:
    """A part of which only the names are known; a `NamedPart`."""

    name: str
    input_names: tuple[str, ...]
    output_kind: str


@dataclass(frozen=True)
class _NamedChain:
    """A chain of such parts; a `PartChain`."""

    savers: Sequence[_PartNames]
    segments: Sequence[_PartNames]
    exits: Sequence[tuple[_PartNames, int]]

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages before the final, in the order of thresholds."""
        return (*(part.name for part in self.savers), *(part.name for part, _ in self.exits))


@dataclass(frozen=True)
class BenchmarkParts:
    """A model as the benchmark runs it.

    Attributes:
        chain: Its parts.
        static: Runs the backbone alone.
        dynamic: Runs the dynamic model.
        sessions: Run one part each, by name.
    """

    chain: PartChain
    static: Session
    dynamic: Session
    sessions: Mapping[str, Session]


class OpenedParts(NamedTuple):
    """The models of a folder of ONNX files.

    Attributes:
        models: In float if that can be had, then as exported.
        twin: The float twin; None if there is none.
        note: What users must know of the twin, or why there is none; None if nothing was quantized.
    """

    models: list[BenchmarkParts]
    twin: Twin | None
    note: str | None


def torch_parts(folder: Path, config: DynamicExitModelConfig) -> BenchmarkParts:
    """Open a folder for torch.

    Args:
        folder: Written by a run for torch.
        config: Its configuration.

    Raises:
        ExportError: It cannot be read, or has exits of a sequence network.
    """
    runner = _segments_runner(open_runner(folder, config))
    return _benchmark_parts(folder, config, runner, _static_session(runner, config))


def file_parts(folder: Path, config: DynamicExitModelConfig | None, threads: int) -> OpenedParts:
    """Open a folder of one ONNX file.

    Args:
        folder: Written by a run.
        config: Its configuration; None if it has none.
        threads: Within an operator.

    Raises:
        ExportError: It cannot be read.
    """
    if config is not None:
        check_files(folder, config.checksums, [MODEL_FILE, POINTS_FILE])
    file = onnx.load(folder / MODEL_FILE)
    shipped = unstitch(file)
    inputs = [value for value in file.graph.input if value.name != "thresholds"]
    classes = file.graph.output[0].type.tensor_type.shape.dim[1].dim_value

    def opened(chain: ModelParts, dynamic: onnx.ModelProto) -> BenchmarkParts:
        parts = [*chain.savers, *chain.segments, *(part for part, _ in chain.exits)]
        static = open_session(static_model(chain.segments, inputs), threads)
        sessions = {part.name: open_session(part.proto, threads) for part in parts}
        return BenchmarkParts(chain, static, open_session(dynamic, threads), sessions)

    by_role = roles(shipped.savers, shipped.segments, (part for part, _ in shipped.exits))
    twin, note = find_twin(folder, config, by_role)
    if twin is None:
        return OpenedParts([opened(shipped, file)], twin, note)
    float_parts = {role: twin.part(role, part) for role, part in by_role.items()}
    in_float = replace(
        shipped,
        savers=[part for role, part in float_parts.items() if role.startswith("saver")],
        segments=[part for role, part in float_parts.items() if role.startswith("segment")],
        exits=[(float_parts[f"exit{place}"], index) for place, (_, index) in enumerate(shipped.exits)],
    )
    dynamic = stitch(in_float, inputs, classes, [np.inf] * len(shipped.stages), {})
    return OpenedParts([opened(in_float, dynamic), opened(shipped, file)], twin, note)


def segment_parts(folder: Path, config: DynamicExitModelConfig, threads: int) -> OpenedParts:
    """Open a folder of one ONNX file a stage.

    The backbone alone is one file here, too: that is what users would have without this project.

    Args:
        folder: Written by a run in segments.
        config: Its configuration.
        threads: Within an operator.

    Raises:
        ExportError: It cannot be read, or has exits of a sequence network.
    """
    check_files(folder, config.checksums, [POINTS_FILE, *part_files(config)])
    parts = {name: Part(Path(name).stem, onnx.load(folder / name), (), "") for name in part_files(config)}
    by_role = {part.name: part for part in parts.values() if not part.name.startswith("note")}
    twin, note = find_twin(folder, config, by_role)
    transforms: list[PartTransform] = [*([twin.part] if twin else []), lambda role, part: part]
    models = []
    for transform in transforms:
        runner = SegmentsRunner(folder, config, _opener(parts, folder, transform, threads))
        models.append(_benchmark_parts(folder, config, runner, _joined(config, parts, transform, threads)))
    return OpenedParts(models, twin, note)


def _opener(
    parts: Mapping[str, Part], folder: Path, transform: PartTransform, threads: int
) -> Callable[[Path, Sequence[str]], nn.Module]:
    """Return what opens one file of a folder, for inputs of given names."""

    def load(path: Path, input_names: Sequence[str]) -> PartSession:
        part = replace(parts[path.relative_to(folder).as_posix()], input_names=tuple(input_names))
        return PartSession(transform(part.name, part), threads)

    return load


def _joined(
    config: DynamicExitModelConfig, parts: Mapping[str, Part], transform: PartTransform, threads: int
) -> Session:
    """Open the backbone alone as one file."""
    entries = enumerate(config.parts["segments"])
    named = [replace(parts[e["file"]], name=f"segment{i}", input_names=tuple(e["takes"])) for i, e in entries]
    segments = [transform(part.name, part) for part in named]
    inputs = {value.name: value for part in segments for value in part.proto.graph.input if value.name != HIDDEN}
    return open_session(static_model(segments, list(inputs.values())), threads)


def _benchmark_parts(
    folder: Path, config: DynamicExitModelConfig, runner: SegmentsRunner, static: Session
) -> BenchmarkParts:
    if config.parts.get("notes"):
        raise ExportError(f"'{folder}' has exits of a sequence network, which are not timed; train others")
    model, carried = runner.model, [*config.inputs, {"name": HIDDEN, "shape": []}]
    last = f"segment{len(model.segments) - 1}"
    segments = {f"segment{place}": each for place, each in enumerate(model.segments)}
    modules = segments | {name: model.stage_module(name) for name in model.chain}
    parts = {
        name: _PartNames(name, _input_names(each), HIDDEN if name in segments and name != last else "logits")
        for name, each in modules.items()
    }
    positions = dict(zip(model.chain, model.positions, strict=True))
    chain = _NamedChain(
        [parts[name] for name, place in positions.items() if place < 0],
        [parts[name] for name in segments],
        [(parts[name], place) for name, place in positions.items() if place >= 0],
    )
    sessions = {name: TorchSession.of_module(each, _input_names(each), carried) for name, each in modules.items()}
    return BenchmarkParts(chain, static, TorchSession.of_runner(runner, config.inputs), sessions)


def _segments_runner(runner: Runner) -> SegmentsRunner:
    assert isinstance(runner, SegmentsRunner), "a folder for torch holds one file a stage"
    return runner


def _input_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the inputs that a part's module states."""
    return tuple(cast(Sequence[str], module.input_names))


def _static_session(runner: SegmentsRunner, config: DynamicExitModelConfig) -> Session:
    """Return what runs the backbone alone: its segments, one after the other."""
    segments = [Runnable(segment, _input_names(segment)) for segment in runner.model.segments]
    taken = {name for segment in segments for name in segment.input_names}

    @torch.no_grad()
    def answer(feeds: Feeds, _: np.ndarray | None) -> list[np.ndarray]:
        values = {name: torch.from_numpy(array) for name, array in feeds.items()}
        return [cast(torch.Tensor, walk(chain_steps((), segments, (), {}), values)).numpy()]

    return TorchSession(answer, [each for each in config.inputs if each["name"] in taken])
