"""The target torch: stages as torch.export archives, quantized by Neural Compressor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..artifact.description import describe_model
from ..artifact.file_runner import Runner
from ..artifact.input_specs import describe_tensor
from ..artifact.layout import write_stages
from ..artifact.manifest import Manifest
from ..artifact.runner import open_runner
from ..core.batching import DEFAULT_BATCH_SIZE
from ..core.cache import Cache
from ..core.hashing import digest
from ..core.model_fingerprint import classifier_fingerprint
from ..data.run_inputs import RunInputs
from ..errors import ExportError, VerificationError
from ..graph import Classifier, Segment, capture, export_program, split
from ..onnx.verification import LOGIT_TOLERANCE, Agreement, logit_differences
from ..passes.quantization import TorchOptions, quantize_for_torch
from ..points.operating_point import OperatingPoints, point_thresholds
from ..runtime.archive import ArchivedPart, pack, unpack
from ..runtime.compile import compile_part, fold_constants
from ..runtime.stages import Stage, StageSet
from .base import ExportRequest, Feeds, FreeDims, Target
from .export_cache import export_key, find_parts
from .verification import check_answers


@dataclass(frozen=True)
class TorchPart:
    """One saver, segment or exit head as a torch.export archive.

    Attributes:
        name: Unique among the parts of a model.
        content: The archive.
        input_names: Names of the inputs: ``hidden`` is the output of the previous segment, any other name an input of
            the model.
        output_kind: What the output is: ``hidden`` or ``logits``.
        compiled: Whether it runs compiled.
    """

    name: str
    content: bytes
    input_names: tuple[str, ...]
    output_kind: str
    compiled: bool = False

    @property
    def size(self) -> int:
        """Bytes of the archive."""
        return len(self.content)

    @property
    def runtime(self) -> str:
        """What runs it."""
        return f"torch {torch.__version__}{', compiled with inductor' if self.compiled else ''}"

    @property
    def oldest_runtime(self) -> tuple[int, ...]:
        """Unknown: archives are for the version of torch that wrote them, and others may take them."""
        return ()

    def open(self, threads: int | None = None) -> ArchivedPart:
        """Return what runs it; `threads` are those of compiled operators."""
        part = unpack(self.content, self.input_names, self.name)
        return compile_part(part, self.name, threads) if self.compiled else fold_constants(part)


def export_whole(run_inputs: RunInputs, dims: FreeDims, cache: Cache | None = None) -> TorchPart:
    """Export a run's backbone in one piece, in float.

    Args:
        run_inputs: The recipe, the backbone and an example of the inputs.
        dims: Free dimensions of inputs besides the batch: input -> index -> name.
        cache: Keeps what is exported, and finds what was; None does not.

    Raises:
        CaptureError: It cannot be exported.
    """
    classifier, example = run_inputs.backbone, run_inputs.example
    names = tuple(classifier.input_names or example)
    free, inputs = [dims.get(name, {}) for name in names], classifier.select(example)

    def key() -> str:
        answers = classifier_fingerprint(classifier, inputs)
        return export_key(export_whole, classifier, inputs, answers, digest(names), str(free))

    def load(content: bytes) -> TorchPart:
        return TorchPart("backbone", content, names, "logits", run_inputs.recipe.export.compile)

    def make() -> tuple[TorchPart, TorchPart]:
        part = load(pack(export_program(classifier, inputs, free)))
        return part, part

    return find_parts(cache, key, load, make)[0]


class TorchTarget(Target[TorchPart]):
    """Exports stages as torch.export archives.

    Args:
        quantization: How; None for float.
        calibration: The model's inputs by name, each (N, ...): ranges of activations are found on them.
        compiled: Whether stages run compiled.
        threads: Threads of compiled operators; None leaves it to torch.
        dims: Free dimensions of inputs besides the batch: input -> index -> name.
        cache: Keeps exported segments and exits; None keeps none.
    """

    extension = "pt2"

    def __init__(
        self,
        quantization: TorchOptions | None,
        calibration: Feeds,
        compiled: bool = False,
        threads: int | None = None,
        dims: FreeDims = MappingProxyType({}),
        cache: Cache | None = None,
    ):
        super().__init__(quantization, calibration, threads, dims, cache)
        self._options, self.compiled = quantization, compiled

    def make_parts(self, request: ExportRequest) -> tuple[TorchPart, TorchPart]:
        """Export one module in this process; result as for `export_parts`."""
        name, module, names = request.name, request.module, request.input_names
        if hasattr(getattr(module, "model", None), "compose_part"):
            raise ExportError(f"stage '{name}' is an ONNX file, which only `target: onnxruntime` runs; leave it out")
        dims = self.free_dims(module, names)

        def packed(body: nn.Module) -> TorchPart:
            content = pack(export_program(body, request.example, dims))
            return self.load_part(name, content, names, request.output_kind)

        part = float_part = packed(module)
        if self._options and request.feeds is not None:
            tensors = [torch.from_numpy(request.feeds[each]) for each in names]
            quantized = _quantize(name, module, tensors, self._options)
            part = packed(quantized)
            _check_archive(part, quantized, module, [tensor[:DEFAULT_BATCH_SIZE] for tensor in tensors])
        return float_part, part

    def load_part(self, name: str, content: bytes, input_names: Sequence[str], output_kind: str) -> TorchPart:
        """Return the part whose `content` this is."""
        return TorchPart(name, content, tuple(input_names), output_kind, self.compiled)

    def open_part(self, part: TorchPart) -> ArchivedPart:
        """Return what runs a part."""
        return part.open(self.threads)

    def workers(self) -> int:
        """Return 1: torch itself uses all cores for a batch."""
        return 1

    def assemble(self, stages: StageSet, points: OperatingPoints, run_inputs: RunInputs) -> "TorchModel":
        """Put stages together; arguments as for `Target.assemble`."""
        return TorchModel(stages, points, run_inputs, self.dims)


class _SelectInputs(nn.Module):
    """Hands a module those of the inputs, by position, that it takes."""

    def __init__(self, body: nn.Module, places: Sequence[int]):
        super().__init__()
        self.body, self.places, self.training = body, tuple(places), False

    def forward(self, *tensors: Tensor) -> Tensor:
        """Run the module."""
        return self.body(*(tensors[place] for place in self.places))


def _quantize(name: str, module: nn.Module, tensors: Sequence[Tensor], options: TorchOptions) -> nn.Module:
    """Quantize a module; the result takes the same inputs by position."""
    if isinstance(module, Segment):
        return quantize_for_torch(name, module, tensors, options)
    # a saver or the backbone; Neural Compressor quantizes graphs
    program = capture(cast(Classifier, module), tuple(tensor[:2] for tensor in tensors))
    (segment,) = split(program, [])
    places = [program.input_names.index(each) for each in segment.input_names]
    return _SelectInputs(quantize_for_torch(name, segment, [tensors[place] for place in places], options), places)


@torch.no_grad()
def _check_archive(part: TorchPart, quantized: nn.Module, plain: nn.Module, tensors: Sequence[Tensor]) -> None:
    """Refuse an archive that answers differently from what it was made of; rounding may fall on either of two steps."""
    loaded, expected = fold_constants(unpack(part.content, part.input_names, part.name))(*tensors), quantized(*tensors)
    difference, step = (_largest_difference(each, expected) for each in (loaded, plain(*tensors)))
    if not difference <= max(LOGIT_TOLERANCE, step):
        problem = f"answers otherwise than what Neural Compressor made, by up to {difference:.2g} of its values' size"
        raise VerificationError(f"stage '{part.name}', once written, {problem}; please report this model")


def _largest_difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference between values of any shape (N, ...), in units of their size in each row."""
    return float(logit_differences(expected.flatten(1).numpy(), found.flatten(1).numpy()).max())


class TorchSession:
    """A torch model behind the interface of an onnxruntime session, so that both are compared and timed alike.

    Args:
        answer: Inputs by name, and thresholds or None -> outputs.
        inputs: For each input ``name`` and ``shape`` without the batch dimension; a free dimension is its name.
    """

    def __init__(self, answer: Callable[[Feeds, np.ndarray | None], Sequence[np.ndarray]], inputs: Sequence[Mapping]):
        self._answer = answer
        self._inputs = [SimpleNamespace(name=each["name"], shape=["batch", *each["shape"]]) for each in inputs]

    def get_inputs(self) -> list[SimpleNamespace]:
        """Return what it takes."""
        return self._inputs

    def run(self, names: Sequence[str] | None, feeds: Feeds) -> Sequence[np.ndarray]:
        """Return all outputs, whatever their names; thresholds may be among the feeds."""
        inputs = {name: array for name, array in feeds.items() if name != "thresholds"}
        return self._answer(inputs, feeds.get("thresholds"))

    @classmethod
    def of_runner(cls, runner: Runner) -> "TorchSession":
        """Run a dynamic model, which needs thresholds."""

        def answer(feeds: Feeds, thresholds: np.ndarray | None) -> Sequence[np.ndarray]:
            assert thresholds is not None, "a dynamic model runs at thresholds"
            return runner.run(feeds, thresholds)

        return cls(answer, runner.manifest.inputs)

    @classmethod
    def of_module(cls, module: nn.Module, input_names: Sequence[str], inputs: Sequence[Mapping]) -> "TorchSession":
        """Run one module without thresholds."""

        @torch.no_grad()
        def answer(feeds: Feeds, _: np.ndarray | None) -> list[np.ndarray]:
            return [module(*(torch.from_numpy(feeds[name]) for name in input_names)).numpy()]

        return cls(answer, [each for each in inputs if each["name"] in input_names])


@dataclass(frozen=True)
class TorchFiles:
    """The files of a model and the session that runs them.

    Attributes:
        session: Runs it.
        size: Of its files, in bytes.
    """

    session: TorchSession
    size: int


class TorchModel:
    """The stages in use, one archive a stage; an `AssembledModel`. `files` has ``shipped`` once it is verified."""

    def __init__(self, stages: StageSet, points: OperatingPoints, run_inputs: RunInputs, dims: FreeDims):
        self.stages, self.points, self.run_inputs = stages, points, run_inputs
        inputs = [describe_tensor(name, tensor, dims.get(name, {})) for name, tensor in run_inputs.example.items()]
        used = [each for each in inputs if each["name"] in stages.input_names]
        self.manifest = describe_model(run_inputs, stages, points, used)
        recipe = run_inputs.recipe.dynamic_exit
        static = export_whole(run_inputs, dims, recipe.cache.open())
        session = TorchSession.of_module(static.open(recipe.tuning.threads), static.input_names, inputs)
        self.files = {"static": TorchFiles(session, static.size)}

    def write(self, folder: Path) -> Manifest:
        """Write the archives, and return the manifest with them."""

        def write(part: TorchPart, path: Path) -> list[Path]:
            path.write_bytes(part.content)
            return [path]

        return write_stages(folder, self.stages, self.manifest, TorchTarget.extension, write)

    def verify(self, folder: Path, manifest: Manifest) -> dict[str, Agreement]:
        """Check what is loaded from the folder against the model in memory, which is not compiled."""
        session = TorchSession.of_runner(open_runner(folder, manifest))
        self.files["shipped"] = TorchFiles(session, sum(stage.part.size for stage in self.stages.all_stages))
        points = (*self.points.points, self.points.backbone)
        thresholds = [point_thresholds(point, self.stages.chain) for point in points]
        feeds = self.run_inputs.splits["test"].feeds(self.stages.input_names)
        model = self.stages.model(_not_compiled if self.stages.quantized else "module")
        stepped = self.stages if self.stages.quantized else None
        what = "the folder and the model in memory"
        return {"shipped": check_answers(model, session, feeds, thresholds, what, stepped)}


def _not_compiled(stage: Stage) -> nn.Module:
    """Return what runs a stage, not compiled."""
    part = stage.part
    return replace(part, compiled=False).open() if isinstance(part, TorchPart) and part.compiled else stage.session
