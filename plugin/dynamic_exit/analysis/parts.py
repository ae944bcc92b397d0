"""Opens a written folder for the benchmark: the backbone alone, the dynamic model, and every part by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import onnx
import torch
from torch import nn

from ..artifact.file_metadata import file_chain, read_metadata
from ..artifact.file_runner import Runner
from ..artifact.folder import MODEL_FILE, POINTS_FILE, check_files
from ..artifact.input_specs import describe_proto
from ..artifact.manifest import Manifest
from ..artifact.runner import LoadPart, SegmentsRunner, open_runner
from ..chain.names import HIDDEN
from ..chain.spec import ChainSpec, by_role
from ..chain.thresholds import STAGE_OFF
from ..chain.walk import Runnable, chain_steps, walk
from ..errors import ExportError
from ..onnx.links import without_links
from ..onnx.model_parts import ModelParts
from ..onnx.part import Part
from ..onnx.session import PartSession
from ..onnx.stitch import stitch
from ..onnx.unstitch import static_model, unstitch
from ..targets.base import Feeds, Session
from ..targets.float_twin import PartTransform, Twin, find_twin
from ..targets.torch import TorchSession

#: Returns what runs an ONNX model.
OpenModel = Callable[[onnx.ModelProto], Session]


@dataclass(frozen=True)
class BenchmarkParts:
    """A model as the benchmark runs it.

    Attributes:
        chain: Its parts, without taps.
        static: Runs the backbone alone.
        dynamic: Runs the dynamic model.
        sessions: Run one part each: by the name of its stage, segments by their role.
    """

    chain: ChainSpec
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


def runner_parts(folder: Path, manifest: Manifest) -> BenchmarkParts:
    """Open a folder of one file a stage as its target does.

    Args:
        folder: Written by a run.
        manifest: Its manifest.

    Raises:
        ExportError: It cannot be read, or has exits of a sequence network.
    """
    runner = _segments_runner(open_runner(folder, manifest))
    return _benchmark_parts(folder, manifest, runner, _static_session(runner))


def file_parts(folder: Path, manifest: Manifest | None, open_model: OpenModel) -> OpenedParts:
    """Open a folder of one ONNX file.

    Args:
        folder: Written by a run.
        manifest: Its manifest; None if it has none.
        open_model: Returns what runs a model.

    Raises:
        ExportError: It cannot be read.
    """
    if manifest is not None:
        check_files(folder, manifest, [MODEL_FILE, POINTS_FILE])
    with without_links(folder / MODEL_FILE) as path:
        file = onnx.load(path)
    shipped = unstitch(file)
    inputs = [value for value in file.graph.input if value.name != "thresholds"]
    classes = file.graph.output[0].type.tensor_type.shape.dim[1].dim_value

    chain = file_chain(read_metadata(file), [describe_proto(value) for value in inputs])
    assert chain is not None, "a file that is taken apart describes its chain"

    def opened(parts: ModelParts, dynamic: onnx.ModelProto) -> BenchmarkParts:
        named = {part.name: part for part in (*parts.savers, *(part for part, _ in parts.exits))}
        named |= by_role(parts.segments, (), ())
        sessions = {name: open_model(part.proto) for name, part in named.items()}
        return BenchmarkParts(chain, open_model(static_model(parts.segments, inputs)), open_model(dynamic), sessions)

    roles = by_role(shipped.segments, shipped.savers, (part for part, _ in shipped.exits))
    twin, note = find_twin(folder, manifest, roles)
    if twin is None:
        return OpenedParts([opened(shipped, file)], twin, note)
    float_parts = {role: twin.part(role, part) for role, part in roles.items()}
    in_float = replace(
        shipped,
        savers=[part for role, part in float_parts.items() if role.startswith("saver")],
        segments=[part for role, part in float_parts.items() if role.startswith("segment")],
        exits=[(float_parts[f"exit{place}"], index) for place, (_, index) in enumerate(shipped.exits)],
    )
    dynamic = stitch(in_float, inputs, classes, [STAGE_OFF] * len(shipped.stages), {})
    return OpenedParts([opened(in_float, dynamic), opened(shipped, file)], twin, note)


def segment_parts(folder: Path, manifest: Manifest, open_model: OpenModel) -> OpenedParts:
    """Open a folder of one ONNX file a stage.

    The backbone alone is one file here, too: that is what users would have without this project.

    Args:
        folder: Written by a run in segments.
        manifest: Its manifest.
        open_model: Returns what runs a model.

    Raises:
        ExportError: It cannot be read, or has exits of a sequence network.
    """
    check_files(folder, manifest, [POINTS_FILE, *manifest.files.values()])
    names = manifest.chain.roles if manifest.chain else {}
    parts = {}
    for role in names:
        with without_links(folder / manifest.files[role]) as path:
            parts[role] = Part(role, onnx.load(path), names[role], "")
    roles = {role: part for role, part in parts.items() if not role.startswith("tap")}
    twin, note = find_twin(folder, manifest, roles)
    transforms: list[PartTransform] = [*([twin.part] if twin else []), lambda role, part: part]
    models = []
    for transform in transforms:
        runner = SegmentsRunner(folder, manifest, _opener(folder, manifest, parts, transform, open_model))
        models.append(_benchmark_parts(folder, manifest, runner, _joined(roles, transform, open_model)))
    return OpenedParts(models, twin, note)


def _opener(
    folder: Path, manifest: Manifest, parts: Mapping[str, Part], transform: PartTransform, open_model: OpenModel
) -> LoadPart:
    """Return what opens the files of a folder, transformed."""
    by_path = {folder / manifest.files[role]: role for role in parts}

    def load(path: Path, input_names: Sequence[str]) -> PartSession:
        part = transform(by_path[path], parts[by_path[path]])
        return PartSession(part, session=open_model(part.proto))

    return load


def _joined(parts: Mapping[str, Part], transform: PartTransform, open_model: OpenModel) -> Session:
    """Open the backbone alone as one file."""
    segments = [transform(role, part) for role, part in parts.items() if role.startswith("segment")]
    inputs = {value.name: value for part in segments for value in part.proto.graph.input if value.name != HIDDEN}
    return open_model(static_model(segments, list(inputs.values())))


def _benchmark_parts(folder: Path, manifest: Manifest, runner: SegmentsRunner, static: Session) -> BenchmarkParts:
    if manifest.chain is None or manifest.chain.taps:
        raise ExportError(f"'{folder}' has exits of a sequence network, which are not timed; train others")
    model, carried = runner.model, [*manifest.inputs, {"name": HIDDEN, "shape": []}]
    modules = by_role(model.segments, (), ()) | {name: model.stage_module(name) for name in model.chain}
    sessions = {name: TorchSession.of_module(each, _input_names(each), carried) for name, each in modules.items()}
    return BenchmarkParts(manifest.chain, static, TorchSession.of_runner(runner), sessions)


def _segments_runner(runner: Runner) -> SegmentsRunner:
    assert isinstance(runner, SegmentsRunner), "a folder for torch holds one file a stage"
    return runner


def _input_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the inputs that a part's module states."""
    return tuple(cast(Sequence[str], module.input_names))


def _static_session(runner: SegmentsRunner) -> Session:
    """Return what runs the backbone alone: its segments, one after the other."""
    segments = [Runnable(segment, _input_names(segment)) for segment in runner.model.segments]
    taken = {name for segment in segments for name in segment.input_names}

    @torch.no_grad()
    def answer(feeds: Feeds, _: np.ndarray | None) -> list[np.ndarray]:
        values = {name: torch.from_numpy(array) for name, array in feeds.items()}
        return [cast(torch.Tensor, walk(chain_steps((), segments, (), {}), values)).numpy()]

    return TorchSession(answer, [each for each in runner.manifest.inputs if each["name"] in taken])
