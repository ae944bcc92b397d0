"""The target openvino: the parts and files of the target onnxruntime, whose numbers and times are OpenVINO's."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx

from ..artifact.manifest import Manifest
from ..artifact.runner import SegmentsRunner
from ..data.run_inputs import RunInputs
from ..onnx.part import Part
from ..onnx.session import PartSession
from ..onnx.verification import Agreement
from ..points.operating_point import OperatingPoints
from ..runtime.stages import StageSet
from .base import Session
from .kinds.openvino import KIND, load_part
from .onnxruntime import OnnxModel, OnnxRuntimeTarget
from .torch import TorchSession
from .verification import File


@dataclass(frozen=True)
class OpenVinoPart(Part):
    """A part that OpenVINO runs."""

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""
        return KIND.runtime()

    @property
    def oldest_runtime(self) -> tuple[int, ...]:
        """Unknown."""
        return ()


def open_part(part: Part, threads: int | None = None) -> PartSession:
    """Return what runs a part on the CPU."""
    return PartSession(part, session=KIND.open_model(part.proto, threads))


class OpenVinoTarget(OnnxRuntimeTarget):
    """Exports stages as ONNX models that OpenVINO runs; arguments as for `OnnxRuntimeTarget`."""

    part_class = OpenVinoPart

    def open_model(self, model: onnx.ModelProto) -> Session:
        """Return what runs a model."""
        return KIND.open_model(model, self.threads)

    def workers(self) -> int:
        """Return 1: sessions have one stream, in which batches would wait for each other."""
        return 1

    def assemble(self, stages: StageSet, points: OperatingPoints, run_inputs: RunInputs) -> OnnxModel:
        """Put stages together; arguments as for `Target.assemble`."""
        made = OpenVinoSegments if run_inputs.recipe.export.layout == "segments" else OnnxModel
        return made(stages, points, run_inputs, self.dims, self.open_model)


class OpenVinoSegments(OnnxModel):
    """The stages in use, one file a stage; figures are those of the folder as it is driven."""

    def verify(self, folder: Path, manifest: Manifest) -> dict[str, Agreement]:
        """Check the float stages in one file against the torch model, and the folder against its single stages."""
        threads = self.run_inputs.recipe.dynamic_exit.tuning.threads
        runner = SegmentsRunner(folder, manifest, partial(load_part, "CPU", threads))
        session = TorchSession.of_runner(runner)
        self.files["shipped"] = File(self.files["shipped"].model, session)
        return super().verify(folder, manifest)
