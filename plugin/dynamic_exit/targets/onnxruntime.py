"""The target onnxruntime: stages as ONNX models, in one file or one file a stage."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import onnx
from torch import nn

from ..artifact.description import describe_model
from ..artifact.input_specs import describe_proto
from ..artifact.layout import write_model
from ..artifact.manifest import Manifest
from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE, named_batches
from ..core.cache import Cache
from ..core.hashing import digest
from ..core.model_fingerprint import classifier_fingerprint
from ..data.run_inputs import RunInputs
from ..onnx.export import export_part
from ..onnx.opset import OPSET
from ..onnx.part import Part
from ..onnx.quantize import QuantizationOptions, quantize_part
from ..onnx.session import PartSession, open_session
from ..onnx.verification import Agreement
from ..points.operating_point import OperatingPoints
from ..runtime.stages import StageSet
from .base import ExportRequest, Feeds, FreeDims, Session, Target
from .export_cache import export_key, find_parts
from .float_twin import check_twin, keep_twin
from .verification import File, input_protos, stitch_file, verify


def export_whole(run_inputs: RunInputs, dims: FreeDims, cache: Cache | None = None) -> Part:
    """Export a run's backbone in one piece, with the opset that its recipe asks for.

    Args:
        run_inputs: The recipe, the backbone and an example of the inputs.
        dims: Free dimensions of inputs besides the batch: input -> index -> name.
        cache: Keeps what is exported, and finds what was; None does not.

    Raises:
        ExportError: It cannot be exported.
    """
    classifier, example = run_inputs.backbone, run_inputs.example
    names = classifier.input_names or tuple(example)
    free = [dims.get(name, {}) for name in names]
    inputs, opset = classifier.select(example), recipe_opset(run_inputs)

    def key() -> str:
        answers = classifier_fingerprint(classifier, inputs)
        return export_key(export_whole, classifier, inputs, answers, digest(names), str(free), f"opset {opset}")

    def load(content: bytes) -> Part:
        return Part("backbone", onnx.load_from_string(content), tuple(names), "logits")

    def make() -> tuple[Part, Part]:
        part = export_part("backbone", classifier, names, "logits", inputs, free, opset=opset)
        return part, part

    return find_parts(cache, key, load, make)[0]


def recipe_opset(run_inputs: RunInputs) -> int:
    """Return the opset that a run's recipe asks for; stanzas of other targets have no such key."""
    return getattr(run_inputs.recipe.export, "opset", OPSET)


class OnnxRuntimeTarget(Target[Part]):
    """Exports stages as ONNX models with the operators of version `opset`; other arguments as for `Target`."""

    extension = "onnx"
    part_class: ClassVar[type[Part]] = Part

    def __init__(
        self,
        quantization: QuantizationOptions | None,
        calibration: Feeds,
        threads: int | None = None,
        dims: FreeDims = MappingProxyType({}),
        opset: int = OPSET,
        cache: Cache | None = None,
    ):
        super().__init__(quantization, calibration, threads, dims, cache)
        self._options, self._opset = quantization, opset

    @property
    def variant(self) -> str:
        """What parts depend on besides the module and the quantization; part of cache keys."""
        return f"opset {self._opset}"

    def make_parts(self, request: ExportRequest) -> tuple[Part, Part]:
        """Export one module in this process; result as for `export_parts`."""
        names, dims = request.input_names, self.free_dims(request.module, request.input_names)
        exported = export_part(
            request.name, request.module, names, request.output_kind, request.example, dims, opset=self._opset
        )
        part = float_part = self.part_class(**vars(exported))
        if self._options and request.feeds is not None:
            part = quantize_part(part, named_batches(request.feeds, DEFAULT_BATCH_SIZE), self._options)
        return float_part, part

    def load_part(self, name: str, content: bytes, input_names: Sequence[str], output_kind: str) -> Part:
        """Return the part whose `content` this is."""
        return self.part_class(name, onnx.load_from_string(content), tuple(input_names), output_kind)

    def open_model(self, model: onnx.ModelProto) -> Session:
        """Return what runs a model."""
        return open_session(model, self.threads)

    def open_part(self, part: Part) -> nn.Module:
        """Return what runs a part."""
        return PartSession(part, session=self.open_model(part.proto))

    def workers(self) -> int:
        """Return how many batches are run at a time, each in a thread of its own."""
        return distributed.workers(self.threads or 1)

    def assemble(self, stages: StageSet, points: OperatingPoints, run_inputs: RunInputs) -> "OnnxModel":
        """Put stages together; arguments as for `Target.assemble`."""
        return OnnxModel(stages, points, run_inputs, self.dims, self.open_model)


class OnnxModel:
    """The stages in use as one ONNX file, or one file a stage; an `AssembledModel`."""

    def __init__(
        self,
        stages: StageSet,
        points: OperatingPoints,
        run_inputs: RunInputs,
        dims: FreeDims,
        open_model: Callable[[onnx.ModelProto], Session],
    ):
        self.stages, self.points, self.run_inputs = stages, points, run_inputs
        self.cache = run_inputs.recipe.dynamic_exit.cache.open()
        protos = input_protos(stages)
        self.manifest = describe_model(run_inputs, stages, points, [describe_proto(value) for value in protos])
        models = {
            "static": export_whole(run_inputs, dims, self.cache).proto,
            "float": stitch_file(stages, "float_part", protos, points, self.manifest),
            "shipped": stitch_file(stages, "part", protos, points, self.manifest),
        }
        self.files = {name: File(model, open_model(model)) for name, model in models.items()}

    def write(self, folder: Path) -> Manifest:
        """Write the model's files, and return its manifest with them."""
        manifest = write_model(folder, self.stages, self.files["shipped"].model, self.manifest)
        keep_twin(self.stages, folder, manifest.checksums, self.cache)
        twin = check_twin(self.stages, self.run_inputs.splits["calibration"].inputs)
        return manifest.model_copy(update={"float_twin": twin})

    def verify(self, folder: Path, manifest: Manifest) -> dict[str, Agreement]:
        """Check the float file against the torch model, and the shipped file against its single stages."""
        return verify(self.stages, self.files, self.points, self.run_inputs)
