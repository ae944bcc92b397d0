"""How the pieces of a dynamic model ship: exported, quantized, opened again; heads trained on what ships."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ..chain.names import MEMORY
from ..core import distributed
from ..core.batching import named_batches, run_in_batches
from ..core.file_archive import pack_files, unpack_files
from ..core.hashing import digest
from ..cost import count_macs
from ..errors import ExportError, first_line
from ..graph import Classifier
from ..graph.backbone import Backbone
from ..onnx.part import Part, export_part
from ..onnx.quantize import QuantizationOptions, quantize_part
from ..onnx.session import PartSession
from ..onnx.verification import logit_differences
from ..passes.early_exit import (
    EarlyExitStanza,
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
    uncertainty,
)
from ..passes.early_exit.heads import ExitHead
from ..passes.early_exit.sequence import SequenceHead
from ..runtime.stages import Stage, StageSet

logger = logging.getLogger(__name__)

#: Samples at a time while ranges for int8 are found.
BATCH_SIZE = 64
# largest difference of logits between a saver and what was exported of it, in units of their size
_APART = 1e-3


def export_whole(classifier: Classifier, example: Mapping[str, Tensor], dims: Mapping[str, dict[int, str]]) -> Part:
    """Export a classifier in one piece.

    Args:
        classifier: The backbone.
        example: The data's inputs of two samples, by name.
        dims: Free dimensions of inputs besides the batch: index -> name.
    """
    names = classifier.input_names or tuple(example)
    free = [dims.get(name, {}) for name in names]
    return export_part("backbone", classifier, names, "logits", classifier.select(example), free)


class OnnxRuntimeTarget:
    """Turns torch modules into stages as they ship: exported, and quantized where the recipe says so.

    This one ships for onnxruntime; one for another target has `make`, `load` and `open` of its own.

    Args:
        int8: Options, or None for float.
        calibration: The model's inputs by name, each (N, ...): what ranges are found on.
        threads: Threads of the sessions; None leaves it to onnxruntime.
        dims: Free dimensions of inputs besides the batch: index -> name.

    Attributes:
        ending: Of the files that it ships.
    """

    ending = "onnx"

    def __init__(
        self,
        int8: QuantizationOptions | None,
        calibration: Mapping[str, np.ndarray],
        threads: int | None = None,
        dims: Mapping[str, dict[int, str]] = MappingProxyType({}),
    ):
        self.int8, self.calibration, self.threads, self.dims = int8, dict(calibration), threads, dims

    def parts(
        self,
        name: str,
        module: nn.Module,
        input_names: Sequence[str],
        output_kind: str,
        example: tuple[Tensor, ...],
        feeds: Mapping[str, np.ndarray] | None,
    ) -> tuple[Part, Part]:
        """Return one module in float and as it ships: quantized, with `feeds` (what it really gets, by input name)."""

        def unpack(content: bytes) -> tuple[Part, Part]:
            return tuple(self.load(name, each, input_names, output_kind) for each in unpack_files(content).values())

        return distributed.run_on_main(
            lambda: self.make(name, module, input_names, output_kind, example, feeds), _pack_parts, unpack
        )

    def make(
        self,
        name: str,
        module: nn.Module,
        input_names: Sequence[str],
        output_kind: str,
        example: tuple[Tensor, ...],
        feeds: Mapping[str, np.ndarray] | None,
    ) -> tuple[Part, Part]:
        """Do in one process what `parts` says."""
        part = float_part = export_part(
            name, module, input_names, output_kind, example, self.free_dims(module, input_names)
        )
        if self.int8 and feeds is not None:
            part = quantize_part(part, named_batches(feeds, BATCH_SIZE), self.int8)
        return float_part, part

    def free_dims(self, module: nn.Module, input_names: Sequence[str]) -> list[dict[int, str]]:
        """Return, for each of its inputs, a module's free dimensions besides the batch: index -> name."""
        return getattr(module, "dynamic_dims", None) or [self.dims.get(each, {}) for each in input_names]

    def load(self, name: str, content: bytes, input_names: Sequence[str], output_kind: str) -> Part:
        """Return a part of its content."""
        return Part(name, onnx.load_from_string(content), tuple(input_names), output_kind)

    def open(self, part: Part) -> nn.Module:
        """Return what runs a part."""
        return PartSession(part, self.threads)

    def workers(self) -> int:
        """Return how many batches are run at a time, each in a thread of its own."""
        return distributed.workers(self.threads)

    def stage(self, module: nn.Module, float_part: Part, part: Part, example: tuple[Tensor, ...]) -> Stage:
        """Put a module and its parts together."""
        macs = count_macs(module, example)
        return Stage(module, part, self.open(part), macs, float_part, example)

    def export_stage(self, name: str, module: nn.Module, input_names, output_kind, example, feeds) -> Stage:
        """Make a stage of one module; arguments as for `parts`."""
        return self.stage(module, *self.parts(name, module, input_names, output_kind, example, feeds), example)

    def export_backbone(self, backbone: Backbone, quantize: bool = True) -> list[Stage]:
        """Ship all segments; each is calibrated on what the float segments before it give."""
        stages, hidden = [], None
        for index, segment in enumerate(backbone.segments):
            feeds = {name: hidden if name == "hidden" else self.calibration[name] for name in segment.input_names}
            name = f"segment{index}"
            seen = feeds if quantize else None
            stages.append(
                self.export_stage(name, segment, segment.input_names, segment.output_kind, segment.example_inputs, seen)
            )
            hidden = run_in_batches(segment, [torch.from_numpy(feeds[name]) for name in segment.input_names]).numpy()
            logger.info(f"segment {index + 1} of {len(backbone.segments)}: {stages[-1].macs / 1e6:.2f} M multiply-adds")
        return stages

    def export_saver(
        self, name: str, candidate: nn.Module, input_names: Sequence[str], quantize: bool = True
    ) -> tuple[Part, Part]:
        """Return a saver in float and as it ships; without `quantize` both are the same."""
        feeds = {each: self.calibration[each] for each in input_names}
        example = tuple(torch.from_numpy(array[:2]) for array in feeds.values())
        parts = self.parts(name, candidate, input_names, "logits", example, feeds if quantize else None)
        free = [each for each in input_names if self.dims.get(each)]
        for length in shorter_lengths(min((feeds[each].shape[1] for each in free), default=0)):
            cut = [x[:, :length] if each in free else x for each, x in zip(input_names, example, strict=True)]
            _demand_alike(name, candidate, self.open(parts[0]), cut, length)
        return parts


def shorter_lengths(length: int) -> list[int]:
    """Numbers of tokens below a length: the fewest that a text has with its marks, and half."""
    return sorted({tried for tried in (2, (length + 1) // 2) if 2 <= tried < length})


def _demand_alike(name: str, candidate: nn.Module, shipped: nn.Module, inputs: Sequence[Tensor], length: int) -> None:
    """Refuse a saver that takes, once exported or at all, one number of tokens alone."""
    try:
        with torch.no_grad():
            apart = logit_differences(candidate(*inputs).numpy(), shipped(*inputs).numpy()).max()
    except Exception as error:  # own code and onnxruntime raise anything
        reason = first_line(error)
        raise ExportError(f"stage '{name}' cannot take {length} tokens, the backbone can: {reason}") from error
    if not apart <= _APART:
        raise ExportError(f"stage '{name}' answers otherwise with {length} tokens once it is exported; leave it out")


def _pack_parts(parts: tuple[Part, Part]) -> bytes:
    return pack_files({str(index): part.content for index, part in enumerate(parts)})


def _uncertainty(savers: Sequence[PartSession], inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Return the uncertainty of the most certain saver for each sample; each process runs its own rows."""
    rows = distributed.shard(len(next(iter(inputs.values()))), BATCH_SIZE)
    mine = {name: tensor[rows.start : rows.stop] for name, tensor in inputs.items()}

    def answers() -> list[np.ndarray]:
        return [run_in_batches(saver, [mine[name] for name in saver.input_names]).numpy() for saver in savers if rows]

    return uncertainty([torch.from_numpy(each) for each in distributed.all_gather_rows(answers)])


def export_exits(
    stages: StageSet,
    backbone: Backbone,
    target: OnnxRuntimeTarget,
    stanza: EarlyExitStanza,
    given: Mapping[str, Tensor],
    labels: np.ndarray,
    seed: int,
    workdir: Path | None = None,
    resume: bool = False,
) -> None:
    """Train exits on what the shipped segments give on the training split, and ship them in float: they are tiny.

    Args:
        stages: The shipped segments; the exits and their positions are added to it.
        backbone: The cuts.
        target: Exports the heads.
        stanza: Kinds of heads and training.
        given: Inputs of the training split by name, each (N, ...).
        labels: int64 (N,), -1 where unknown.
        seed: Starts every head's weights and decides the order of samples.
        workdir: Folder of the cached features and the checkpoint; None keeps neither.
        resume: Go on from the checkpoint in `workdir`, where there is one.
    """
    savers = [stage.session for stage in stages.savers.values()] if stanza.training.weighting != "none" else []
    frozen = FrozenBackbone(
        [stage.session for stage in stages.segments],
        backbone.cuts,
        backbone.classes,
        macs=sum(stage.macs for stage in stages.segments),
        digest=digest([stage.part.content for stage in stages.segments]),
    )
    samples = TrainingSamples(given, torch.from_numpy(labels), _uncertainty(savers, given))
    training = ExitTraining(stanza, seed, workdir=workdir, resume=resume)
    last_saver = list(stages.savers.values())[-1].session if stages.savers and stanza.sequence else None
    heads = attach_exits(frozen, samples, training, saver=last_saver)
    for index, tap in heads.taps.items():
        example = _example(backbone, index, tap, given)
        stages.taps[index] = target.export_stage(f"note{index + 1}", tap, tap.input_names, MEMORY, example, None)
    for name, (index, head) in heads.items():
        example = _example(backbone, index, head, given)
        stages.exits[name] = (index, target.export_stage(name, head, head.input_names, "logits", example, None))
        stages.positions[name] = backbone.cuts[index].index


def _example(
    backbone: Backbone, index: int, head: ExitHead | SequenceHead, given: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """Example inputs of a head or a tap behind the segment of an index, for two samples."""
    if isinstance(head, SequenceHead):
        return (torch.zeros(2, head.columns),)
    if index < 0:
        return (torch.zeros(2, backbone.classes),)
    following = backbone.segments[index + 1]
    hidden = following.example_inputs[following.input_names.index("hidden")]
    return tuple(hidden if name == "hidden" else given[name][:2] for name in head.input_names)
