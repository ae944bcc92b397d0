"""The target openvino: the parts and files of the target onnxruntime, whose numbers and times are OpenVINO's."""

from dataclasses import dataclass

import onnx

from ..onnx.part import Part
from ..onnx.session import PartSession
from .base import Session
from .kinds.openvino import KIND
from .onnxruntime import OnnxRuntimeTarget


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
