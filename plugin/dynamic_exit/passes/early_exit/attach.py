"""Attaches exit heads to the segments of a frozen backbone."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ...core import distributed
from ...core.hashing import digest
from ...cost import count_macs
from ...errors import PassError
from ...graph import Cut
from ..augment import make_augment
from .config import EarlyExitStanza, Training
from .exit_set import ExitSet, PlacedHead
from .features import CachedFeatures, FeatureRequest, Key, LiveFeatures, fingerprint
from .heads import ExitHead, build_head
from .heads.base import SEQUENCE
from .sequence import SequenceNetwork
from .train import Trainer

logger = logging.getLogger(__name__)


class AttachedExits(dict[str, tuple[int, nn.Module]]):
    """Exits by name in chain order: the index of the segment behind which each stands, and the head.

    Attributes:
        taps: What the exits of a sequence network read, as `runtime.model.DynamicExitModel` takes it.
    """

    taps: Mapping[int, ExitHead] = MappingProxyType({})


def attach_exits(
    segments: Sequence[nn.Module],
    cuts: Sequence[Cut],
    inputs: Mapping[str, Tensor],
    labels: Tensor,
    classes: int,
    stanza: EarlyExitStanza,
    seed: int,
    batch_size: int = 64,
    *,
    backbone_cost: float | None = None,
    unsure: Tensor | None = None,
    saver: nn.Module | None = None,
    workdir: str | Path | None = None,
    resume: bool = False,
    made_of: str = "",
    device: str | None = None,
) -> AttachedExits:
    """Train heads behind every cut on what the segments give; the segments stay as they are.

    Args:
        segments: One more than `cuts`, each with `input_names`; torch modules or sessions.
        cuts: Where heads go.
        inputs: The model's inputs by name, each (N, ...), of the training split. An input (N, L) called ``..mask``
            that a segment takes is the mask of tokens (N, L, C).
        labels: int64 (N,), -1 where unknown.
        classes: Number of classes C.
        stanza: Kinds of heads and training.
        seed: Starts every head's weights, decides the order of samples and their views.
        batch_size: Samples at a time through the segments.
        backbone_cost: Multiply-adds per sample of the whole backbone; a head that costs more than what an exit behind
            its cut could save is left out then.
        unsure: How unsure the savers are of each sample, float (N,) in 0..1, for the weighting of samples.
        saver: The last saver of the chain, from all inputs to logits (N, C): what a sequence network builds on.
        workdir: Folder of the cache of features and of the checkpoint; None takes one that is removed afterwards.
        resume: Go on from the checkpoint in `workdir`, where there is one.
        made_of: Covers what the segments are: what other ones have left in `workdir` is not taken.
        device: Where heads are trained; None takes the GPU where there is one.

    Returns:
        Exits by name, ``cut:head``, those of a sequence network ``cut:sequence``.

    Raises:
        PassError: A head does not fit its cut, the split has one class or fewer than two samples, the cache has no
            room, or a loss became NaN.
    """
    _check_split(labels)
    exits = _build(segments, cuts, inputs, classes, stanza, seed, backbone_cost)
    sequence = _sequence(segments, cuts, inputs, classes, stanza, seed, saver)
    heads = ExitSet(exits, sequence)
    wanted: dict[Key, FeatureRequest] = {
        each.key: FeatureRequest(each.head.features, each.head.input_names) for each in exits.values()
    }
    if sequence:
        wanted |= sequence[1].wanted(saver, list(inputs))
    augment = make_augment(stanza.training.augment, len(labels), seed)
    part = distributed.shard(len(labels), batch_size)
    live = LiveFeatures(segments, wanted, inputs, augment, [cut.name for cut in cuts], part)
    live.made_of = digest(made_of, live.made_of)
    settings = {
        "stanza": stanza.model_dump(mode="json"),
        "exits": list(exits) + (["saver"] if saver else []),
        "seed": seed,
        "samples": fingerprint(*inputs.values(), labels),
        "unsure": None if unsure is None else fingerprint(unsure),
        "made_of": live.made_of,
    }
    place = {"workdir": workdir, "resume": resume, "device": device}
    _train(heads, live, labels, stanza.training, settings, batch_size, unsure=unsure, **place)
    return _in_order(exits, sequence, cuts)


def _train(
    heads: ExitSet,
    live: LiveFeatures,
    labels: Tensor,
    training: Training,
    settings: dict[str, Any],
    batch_size: int,
    *,
    unsure: Tensor | None,
    workdir: str | Path | None,
    resume: bool,
    device: str | None,
) -> None:
    """Train heads in place; `settings` are what a checkpoint must have been made with."""
    seed = settings["seed"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(workdir or temporary)
        features = live
        if training.cache == "disk":
            name, limit = "features.f16", training.cache_limit * 1e9
            if distributed.world() > 1:
                name = f"features-{distributed.rank() + 1}of{distributed.world()}.f16"

            def keep() -> CachedFeatures | LiveFeatures:
                if not live.part:  # then nothing is ever asked
                    return live
                return CachedFeatures(live, training.views, folder / name, limit, seed, batch_size)

            features = distributed.together(keep)
        trainer = Trainer(
            heads,
            features,
            labels,
            training,
            seed,
            unsure=unsure,
            device=device or distributed.device(),
            checkpoint=folder / "exits.safetensors" if workdir else None,
            settings=settings,
            part=live.part,
        )
        trainer.run(resume)
        del features, trainer.features  # the file is unmapped before its folder goes


def _in_order(exits: Mapping[str, PlacedHead], sequence, cuts: Sequence[Cut]) -> AttachedExits:
    placed = [(each.index, name, each.head) for name, each in exits.items()]
    if sequence:
        names, network = sequence
        placed += [(at, name, head) for at, name, head in zip(network.places, names, network.heads, strict=True)]
    found = AttachedExits({name: (at, head) for at, name, head in sorted(placed, key=lambda each: each[0])})
    found.taps = sequence[1].taps if sequence else {}
    for name, (at, _) in found.items():
        logger.info(f"exit {name} behind {cuts[at].share:.0%} of the backbone")
    return found


def _sequence(segments, cuts, inputs, classes, stanza, seed, saver) -> tuple[list[str], SequenceNetwork] | None:
    """Build the sequence network over all cuts, where one is asked for."""
    if stanza.sequence is None:
        return None
    masks = [_mask(cut, segments, inputs) for cut in cuts]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SequenceNetwork(
            [cut.shape for cut in cuts],
            masks,
            range(len(cuts)),
            classes,
            saver=saver is not None,
            **stanza.sequence.model_dump(),
        )
    return [f"{cut.name}:{SEQUENCE}" for cut in cuts], network.eval()


def _check_split(labels: Tensor) -> None:
    if len(labels) < 2:
        raise PassError(f"exit heads need at least 2 training samples; got {len(labels)}")
    known = labels[labels >= 0].unique()
    if len(known) == 1:
        raise PassError(f"all labels of the training split are class {int(known)}; exit heads need two classes or more")


def _build(segments, cuts, inputs, classes, stanza, seed, backbone_cost) -> dict[str, PlacedHead]:
    """Build all heads, and leave out those that can never pay."""
    exits: dict[str, PlacedHead] = {}
    given = {name: tensor[:2] for name, tensor in inputs.items()}
    for index, cut in enumerate(cuts):
        with torch.no_grad():
            given["hidden"] = segments[index](*(given[name] for name in segments[index].input_names))
        mask = _mask(cut, segments, inputs)
        for entry in stanza.entries:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                head = build_head(entry, cut.shape, classes, cut=cut.name, mask=mask).eval()
            cost = count_macs(head, tuple(given[name] for name in head.input_names))
            name = f"{cut.name}:{entry.name}"
            if backbone_cost is not None and cut.share + cost / backbone_cost >= 1:
                logger.info(f"exit {name} is left out: it costs more than the rest of the backbone")
                continue
            exits[name] = PlacedHead(head, index)
    if not exits:
        raise PassError("no exit head costs less than what it could save; leave `early_exit` out of the recipe")
    return exits


def _mask(cut: Cut, segments: Sequence[nn.Module], inputs: Mapping[str, Tensor]) -> str | None:
    """Name the input that is the mask of the tokens at a cut."""
    if len(cut.shape) != 2:
        return None
    taken = [name for segment in segments for name in segment.input_names if name.endswith("mask") and name in inputs]
    fitting = [
        name
        for name in taken
        if inputs[name].dim() == 2 and (isinstance(cut.shape[0], str) or inputs[name].shape[1] == cut.shape[0])
    ]
    return fitting[0] if fitting else None
