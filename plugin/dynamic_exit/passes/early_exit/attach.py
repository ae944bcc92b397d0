"""Attaches exit heads to the segments of a frozen backbone."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ...chain.names import HIDDEN
from ...core import distributed
from ...core.code_fingerprint import CodeFingerprint
from ...core.hashing import digest
from ...core.placement import check_on_cpu
from ...cost import count_macs
from ...errors import PassError
from ...graph import Cut
from ..augment import make_augment
from .checkpoint import TrainingCheckpoint
from .exit_set import ExitSet, PlacedHead, SequenceExits
from .features import CachedFeatures, FeatureRequest, FeatureSource, Key, LiveFeatures, SaverModule, fingerprint
from .heads import ExitHead, FeatureLayout, build_head
from .heads.base import SEQUENCE
from .heads.feature_layout import is_padded_left
from .options import ExitTraining, FrozenBackbone, TrainingSamples
from .sequence import SequenceNetwork
from .train import Trainer

logger = logging.getLogger(__name__)


class AttachedExits(dict[str, tuple[int, nn.Module]]):
    """Exits by name in chain order: the index of the segment that each follows, and the head.

    Attributes:
        taps: What the exits of a sequence network read, as `runtime.model.DynamicExitModel` takes it.
    """

    taps: Mapping[int, ExitHead] = MappingProxyType({})


def attach_exits(
    backbone: FrozenBackbone, samples: TrainingSamples, training: ExitTraining, *, saver: SaverModule | None = None
) -> AttachedExits:
    """Train heads at every cut on the outputs of the segments, which stay as they are.

    Args:
        backbone: The segments and the cuts between them.
        samples: The training split.
        training: Kinds of heads and how they are trained.
        saver: The last saver of the chain, from all inputs, or those in its `input_names`, to logits (N, C). A sequence
            network builds on it.

    Returns:
        Exits by name: ``cut:head``, those of a sequence network ``cut:sequence``.

    Raises:
        PassError: A head does not fit its cut, the split has one class or fewer than two samples, the cache has no
            room, or a loss became NaN.
        ModelError: A segment, the saver or a sample is not on the CPU; training alone uses a GPU.
    """
    for segment in backbone.segments:
        check_on_cpu(segment, "the backbone")
    for name, held in (*samples.inputs.items(), ("labels", samples.labels), ("saver", saver)):
        check_on_cpu(held, f"'{name}'")
    _check_labels(samples.labels)
    exits = _build_heads(backbone, samples.inputs, training)
    sequence = _build_sequence(backbone, samples.inputs, training, saver is not None)
    live = _live_features(backbone, samples, training, _requests(exits, sequence, saver, samples.inputs))
    settings = {
        "stanza": training.stanza.model_dump(mode="json"),
        "exits": list(exits) + (["saver"] if saver else []),
        "seed": training.seed,
        "samples": fingerprint(*samples.inputs.values(), samples.labels),
        "unsure": None if samples.uncertainty is None else fingerprint(samples.uncertainty),
        "made_of": live.made_of,
        "code": _code_of(exits),
    }
    _train(ExitSet(exits, sequence), live, samples, training, settings)
    return _in_chain_order(exits, sequence, backbone)


def _code_of(exits: Mapping[str, PlacedHead]) -> str:
    """Return the fingerprint of all that heads run: those of others may change between two runs."""
    code = CodeFingerprint()
    for each in exits.values():
        code.value(type(each.head))
    return code.sum()


def _requests(
    exits: Mapping[str, PlacedHead],
    sequence: SequenceExits | None,
    saver: SaverModule | None,
    inputs: Mapping[str, Tensor],
) -> dict[Key, FeatureRequest]:
    """Return the features that all heads read, each once."""
    requests = {each.key: FeatureRequest(each.head.features, each.head.input_names) for each in exits.values()}
    return requests | sequence.network.requests(saver, list(inputs)) if sequence else requests


def _live_features(
    backbone: FrozenBackbone, samples: TrainingSamples, training: ExitTraining, requests: Mapping[Key, FeatureRequest]
) -> LiveFeatures:
    count = len(samples.labels)
    augment = make_augment(training.stanza.training.augment, count, training.seed)
    part = distributed.shard(count, training.batch_size)
    live = LiveFeatures(backbone, requests, samples.inputs, augment, part)
    live.made_of = digest(backbone.digest, live.made_of)
    return live


def _train(
    heads: ExitSet,
    live: LiveFeatures,
    samples: TrainingSamples,
    training: ExitTraining,
    settings: Mapping[str, object],
) -> None:
    """Train heads in place; `settings` identify the training that a checkpoint belongs to."""
    options = training.stanza.training
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(training.workdir or temporary)
        features: FeatureSource = live
        if options.cache == "disk":
            name = "features.f16"
            if distributed.world_size() > 1:
                name = f"features-{distributed.rank() + 1}of{distributed.world_size()}.f16"

            def fill_cache() -> FeatureSource:
                if not live.part:  # this process has no samples
                    return live
                return CachedFeatures(
                    live,
                    folder / name,
                    views=options.views,
                    limit=options.cache_limit * 1e9,
                    seed=training.seed,
                    batch_size=training.batch_size,
                )

            features = distributed.run_on_all(fill_cache)
        checkpoint = TrainingCheckpoint(folder / "exits.safetensors", settings) if training.workdir else None
        trainer = Trainer(
            heads, features, samples.labels, training, uncertainty=samples.uncertainty, checkpoint=checkpoint
        )
        trainer.run(training.resume)
        del features, trainer.features  # unmaps the file before its folder is removed


def _in_chain_order(
    exits: Mapping[str, PlacedHead], sequence: SequenceExits | None, backbone: FrozenBackbone
) -> AttachedExits:
    placed: list[tuple[int, str, nn.Module]] = [(each.index, name, each.head) for name, each in exits.items()]
    if sequence:
        network = sequence.network
        placed += zip(network.positions, sequence.names, network.heads, strict=True)
    attached = AttachedExits({name: (at, head) for at, name, head in sorted(placed, key=lambda each: each[0])})
    attached.taps = sequence.network.taps if sequence else {}
    for name, (at, _) in attached.items():
        logger.info(f"exit {name} behind {backbone.cuts[at].share:.0%} of the backbone")
    return attached


def _build_sequence(
    backbone: FrozenBackbone, inputs: Mapping[str, Tensor], training: ExitTraining, with_saver: bool
) -> SequenceExits | None:
    """Build the sequence network over all cuts, if the stanza asks for one."""
    options = training.stanza.sequence
    if options is None:
        return None
    cuts = backbone.cuts
    masks, class_token = [_mask(cut, backbone, inputs) for cut in cuts], _has_class_token(backbone, inputs)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        layouts = [
            FeatureLayout.of(cut.shape, mask is not None, class_token) for cut, mask in zip(cuts, masks, strict=True)
        ]
        network = SequenceNetwork(layouts, masks, backbone.classes, options, with_saver)
    return SequenceExits([f"{cut.name}:{SEQUENCE}" for cut in cuts], network.eval())


def _check_labels(labels: Tensor) -> None:
    if len(labels) < 2:
        raise PassError(f"exit heads need at least 2 training samples; got {len(labels)}")
    known = labels[labels >= 0].unique()
    if len(known) == 1:
        raise PassError(f"all labels of the training split are class {int(known)}; exit heads need two classes or more")


def _build_heads(
    backbone: FrozenBackbone, inputs: Mapping[str, Tensor], training: ExitTraining
) -> dict[str, PlacedHead]:
    """Build all heads but those that cost more than they could ever save."""
    exits: dict[str, PlacedHead] = {}
    values = {name: tensor[:2] for name, tensor in inputs.items()}
    class_token = _has_class_token(backbone, inputs)
    for index, (cut, segment) in enumerate(zip(backbone.cuts, backbone.segments, strict=False)):
        with torch.no_grad():
            values[HIDDEN] = segment(*(values[name] for name in segment.input_names))
        mask = _mask(cut, backbone, inputs)
        for entry in training.stanza.entries:
            with torch.random.fork_rng():
                torch.manual_seed(training.seed)
                head = build_head(
                    entry, cut.shape, backbone.classes, cut=cut.name, mask=mask, class_token=class_token
                ).eval()
            cost = count_macs(head, tuple(values[name] for name in head.input_names))
            name = f"{cut.name}:{entry.name}"
            if backbone.macs is not None and cut.share + cost / backbone.macs >= 1:
                logger.info(f"exit {name} is left out: it costs more than the rest of the backbone")
                continue
            exits[name] = PlacedHead(head, index)
    if not exits:
        raise PassError("no exit head costs less than what it could save; leave `early_exit` out of the recipe")
    return exits


def _has_class_token(backbone: FrozenBackbone, inputs: Mapping[str, Tensor]) -> bool:
    """Whether the first of masked tokens may stand for all: not in causal models, nor where it may be padding."""
    mask = next(filter(None, (_mask(cut, backbone, inputs) for cut in backbone.cuts)), None)
    if mask is None or is_padded_left(inputs[mask]):
        return mask is None
    whole = {name: tensor[:2] for name, tensor in inputs.items()}
    alone = {**whole, mask: torch.zeros_like(whole[mask])}
    alone[mask][:, 0] = 1
    with torch.no_grad():
        for segment in backbone.segments[: len(backbone.cuts)]:
            for values in (whole, alone):
                values[HIDDEN] = segment(*(values[name] for name in segment.input_names))
    tokens = whole[HIDDEN].dim() == 3
    return not (tokens and torch.allclose(whole[HIDDEN][:, 0], alone[HIDDEN][:, 0], rtol=1e-4, atol=1e-5))


def _mask(cut: Cut, backbone: FrozenBackbone, inputs: Mapping[str, Tensor]) -> str | None:
    """Return the name of the input that is the mask of the tokens at a cut, or None."""
    if len(cut.shape) != 2:
        return None
    names = [name for segment in backbone.segments for name in segment.input_names]
    for name in names:
        if name.endswith("mask") and name in inputs and inputs[name].dim() == 2:
            if isinstance(cut.shape[0], str) or inputs[name].shape[1] == cut.shape[0]:
                return name
    return None
