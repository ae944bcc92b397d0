"""Stitches the ONNX file of a model, and checks that exported files answer as their models do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx
import torch

from ..artifact.manifest import Manifest
from ..core.batching import DEFAULT_BATCH_SIZE, batches
from ..data.run_inputs import RunInputs
from ..onnx.model_parts import ModelParts
from ..onnx.part import Part
from ..onnx.stitch import stitch
from ..onnx.verification import LOGIT_TOLERANCE, Agreement, assert_equivalent, compare, is_equivalent, logit_differences
from ..points.operating_point import BACKBONE, OperatingPoints, point_thresholds
from ..runtime.model import DynamicExitModel
from ..runtime.stages import Stage, StageSet
from .base import Feeds, Session, shorter_lengths

# batch sizes at which a few samples are compared besides the usual one
_ODD_SIZES = (1, 2, 7)
# samples that are compared at those, and cut short
_FEW_SAMPLES = 15


@dataclass(frozen=True)
class File:
    """A stitched file and the session that runs it.

    Attributes:
        model: The file's content.
        session: On one thread.
    """

    model: onnx.ModelProto
    session: Session

    @property
    def size(self) -> int:
        """Bytes of the model."""
        return self.model.ByteSize()


def stitch_file(
    stages: StageSet,
    form: str,
    inputs: Sequence[onnx.ValueInfoProto],
    points: OperatingPoints,
    manifest: Manifest,
) -> onnx.ModelProto:
    """Stitch the stages in use into one file.

    Args:
        stages: Those that some operating point uses, exported as ONNX.
        form: ``part`` (as exported) or ``float_part``.
        inputs: Of the file, as `input_protos` returns them.
        points: For the file's metadata; the thresholds of the default one are the file's.
        manifest: Of the model: the file's metadata are written from it.

    Returns:
        The file.

    Raises:
        ExportError: The parts do not fit together.
    """

    def part(stage: Stage) -> Part:
        return cast(Part, getattr(stage, form))

    model_parts = ModelParts(
        [part(stage) for stage in stages.savers.values()],
        [part(stage) for stage in stages.segments],
        [(part(stage), index) for index, stage in stages.exits.values()],
        stages.fuse,
        {index: part(stage) for index, stage in stages.taps.items()},
    )
    metadata = {**manifest.metadata(), "operating_points": points.model_dump(mode="json", by_alias=True)}
    thresholds = point_thresholds(points.by_name(manifest.default or BACKBONE), model_parts.stages)
    return stitch(model_parts, inputs, len(manifest.labels), thresholds, metadata)


def input_protos(stages: StageSet) -> list[onnx.ValueInfoProto]:
    """Return the inputs of a file of stages that are exported as ONNX, as its parts declare them."""
    parts = [cast(Part, stage.part) for stage in stages.by_role.values()]
    declared = {value.name: value for part in reversed(parts) for value in part.proto.graph.input}
    return [declared[name] for name in stages.input_names]


def verify(
    stages: StageSet, files: Mapping[str, File], points: OperatingPoints, run_inputs: RunInputs
) -> dict[str, Agreement]:
    """Check that files answer as their models do: on every test sample, at every point and with all stages off.

    The float file is compared with the torch model, the file that ships with the sessions of its single parts. A few
    samples are also compared cut short, if the number of tokens is free. Logits may differ by `LOGIT_TOLERANCE` of
    their size; with int8, where a number can be rounded to either of two steps, by as much as int8 changes them.

    Args:
        stages: Those in the files.
        files: ``float`` and ``shipped``.
        points: Where to compare.
        run_inputs: The test samples.

    Returns:
        How well they agree.

    Raises:
        VerificationError: They do not.
    """
    feeds = run_inputs.splits["test"].feeds(stages.input_names)
    thresholds = [point_thresholds(point, stages.chain) for point in (*points.points, points.backbone)]
    found = {}
    for key, form in (("float", "module"), ("shipped", "session")):
        what = f"the {'file and the torch model' if key == 'float' else 'file that ships and its single stages'}"
        quantized = stages if stages.quantized and key == "shipped" else None
        found[key] = check_answers(stages.model(form), files[key].session, feeds, thresholds, what, quantized)
    return found


def check_answers(
    model: DynamicExitModel,
    session: Session,
    feeds: Feeds,
    thresholds: Sequence[np.ndarray],
    what: str,
    quantized: StageSet | None = None,
) -> Agreement:
    """Check that a session answers as a model does, at several batch sizes and lengths.

    Args:
        model: In memory.
        session: Runs what was exported.
        feeds: Inputs by name, each (N, ...).
        thresholds: float32 (S,) of each point at which they are compared.
        what: Is compared, for messages.
        quantized: The stages, if logits may differ by as much as int8 changes them.

    Returns:
        How well they agree.

    Raises:
        VerificationError: They do not.
    """
    for size, inputs, when in _cases(feeds, session):
        agreement, limit = compare(model, session, inputs, thresholds, size), LOGIT_TOLERANCE
        if quantized and not is_equivalent(agreement, limit):
            step = _int8_change(quantized, inputs)
            agreement, limit = compare(model, session, inputs, thresholds, size, step), max(limit, step)
        found = assert_equivalent(agreement, f"{when}{what}", limit)
    return found


def _cases(feeds: Feeds, session: Session) -> Iterator[tuple[int, dict[str, np.ndarray], str]]:
    """Yield batch size, inputs and a name of what is compared; all samples at the usual size come last."""
    few = {name: array[:_FEW_SAMPLES] for name, array in feeds.items()}
    yield from ((size, few, f"at batch size {size} ") for size in _ODD_SIZES)
    free = [value.name for value in session.get_inputs() if len(value.shape) > 1 and isinstance(value.shape[1], str)]
    for length in shorter_lengths(max((few[name].shape[1] for name in free), default=0)):
        cut = {name: array[:, :length] if name in free else array for name, array in few.items()}
        yield _FEW_SAMPLES, cut, f"with {length} tokens "
    yield DEFAULT_BATCH_SIZE, dict(feeds), ""


@torch.no_grad()
def _int8_change(stages: StageSet, feeds: Feeds) -> float:
    """Largest change of a logit of any stage by int8, in units of the logits' size."""
    models = [stages.model(form) for form in ("module", "session")]
    largest = 0.0
    for batch in batches([*feeds.values()], DEFAULT_BATCH_SIZE):
        tensors = [torch.from_numpy(array) for array in batch]
        plain, shipped = (model.all_stage_logits(*tensors) for model in models)
        changes = [logit_differences(plain[stage].numpy(), shipped[stage].numpy()).max() for stage in plain]
        largest = float(np.max([largest, *changes]))
    return largest
