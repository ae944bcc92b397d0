"""A folder of one file a stage in the pieces that the benchmark times."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from ..artifact.folder import POINTS_FILE, check_files
from ..artifact.model_config import DynamicExitModelConfig
from ..artifact.runner import SegmentsRunner, open_runner, part_files
from ..chain.names import HIDDEN
from ..errors import ExportError
from ..onnx.model_parts import ModelParts
from ..onnx.part import Part
from ..onnx.session import PartSession, open_session
from ..onnx.unstitch import static_model
from ..targets.float_twin import PartTransform, Twin, find_twin
from ..targets.torch import TorchSession

Feeds = Mapping[str, np.ndarray]
Session = TorchSession | onnxruntime.InferenceSession
BenchmarkParts = tuple[ModelParts, Session, TorchSession, dict[str, TorchSession]]


def torch_parts(folder: Path, config: DynamicExitModelConfig) -> BenchmarkParts:
    """Return the chain, the backbone alone, the dynamic model, and every stage by name.

    Args:
        folder: What a run wrote for torch.
        config: The folder's.

    Raises:
        ExportError: It cannot be read, or has exits of a sequence network.
    """
    runner = open_runner(folder, config)
    return _benchmark_parts(folder, config, runner, _static(runner, config))


def onnx_parts(
    folder: Path, config: DynamicExitModelConfig, threads: int
) -> tuple[list[BenchmarkParts], Twin | None, str | None]:
    """Return the same of a folder of one ONNX file a stage: first in float, where that can be had, then as it ships.

    With it come the float twin, and what users must know of it, as `find_twin` says.

    The backbone alone is one file here, too: it is what users would have without this project.

    Args:
        folder: What a run wrote in segments.
        config: The folder's.
        threads: Within an operator.

    Raises:
        ExportError: It cannot be read, or has exits of a sequence network.
    """
    check_files(folder, config.checksums, [POINTS_FILE, *part_files(config)])
    parts = {name: Part(Path(name).stem, onnx.load(folder / name), (), "") for name in part_files(config)}
    by_role = {part.name: part for part in parts.values() if not part.name.startswith("note")}
    twin, note = find_twin(folder, config, by_role)
    ways: list[PartTransform] = [*([twin.part] if twin else []), lambda role, part: part]
    found = [
        _benchmark_parts(
            folder,
            config,
            SegmentsRunner(folder, config, _opener(parts, folder, way, threads)),
            _joined(config, parts, way, threads),
        )
        for way in ways
    ]
    return found, twin, note


def _opener(parts: Mapping[str, Part], folder: Path, way: PartTransform, threads: int):
    def load(path: Path, input_names: Sequence[str]) -> PartSession:
        part = replace(parts[path.relative_to(folder).as_posix()], input_names=tuple(input_names))
        return PartSession(way(part.name, part), threads)

    return load


def _joined(
    config: DynamicExitModelConfig, parts: Mapping[str, Part], way: PartTransform, threads: int
) -> onnxruntime.InferenceSession:
    entries = enumerate(config.parts["segments"])
    named = [replace(parts[e["file"]], name=f"segment{i}", input_names=tuple(e["takes"])) for i, e in entries]
    segments = [way(part.name, part) for part in named]
    inputs = {value.name: value for part in segments for value in part.proto.graph.input if value.name != HIDDEN}
    return open_session(static_model(segments, list(inputs.values())), threads)


def _benchmark_parts(
    folder: Path, config: DynamicExitModelConfig, runner: SegmentsRunner, static: Session
) -> BenchmarkParts:
    if config.parts.get("notes"):
        raise ExportError(f"'{folder}' has exits of a sequence network, which are not timed; train others")
    model, carried = runner.model, [*config.inputs, {"name": HIDDEN, "shape": []}]
    last = len(model.segments) - 1
    segments = {f"segment{place}": each for place, each in enumerate(model.segments)}
    stages = {name: model.stage_module(name) for name in model.chain}
    parts = {
        name: Part(
            name, None, each.input_names, "hidden" if name in segments and name != f"segment{last}" else "logits"
        )
        for name, each in {**segments, **stages}.items()
    }
    places = dict(zip(model.chain, model.positions, strict=True))
    chain = ModelParts(
        [parts[name] for name, place in places.items() if place < 0],
        [parts[name] for name in segments],
        [(parts[name], place) for name, place in places.items() if place >= 0],
        model.fuse,
    )
    sessions = {
        name: TorchSession.of_module(each, each.input_names, carried) for name, each in {**segments, **stages}.items()
    }
    return chain, static, TorchSession(runner.run, config.inputs), sessions


def _static(runner: SegmentsRunner, config: DynamicExitModelConfig) -> TorchSession:
    """Return the backbone alone: its segments, one after the other."""
    segments = runner.model.segments
    taken = {name for segment in segments for name in segment.input_names}

    @torch.no_grad()
    def answer(feeds: Feeds, _: np.ndarray | None) -> list[np.ndarray]:
        values = {name: torch.from_numpy(array) for name, array in feeds.items()}
        for segment in segments:
            values[HIDDEN] = segment(*(values[name] for name in segment.input_names))
        return [values[HIDDEN].numpy()]

    return TorchSession(answer, [each for each in config.inputs if each["name"] in taken])
