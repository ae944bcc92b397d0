"""Features that exit heads are trained on: computed by the backbone for each batch, or read from a cache on disk."""

import json
import logging
import mmap
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from ...chain.names import HIDDEN
from ...chain.walk import Runnable, Step, chain_steps, walk
from ...core.atomic_write import atomic_write
from ...core.batching import DEFAULT_BATCH_SIZE
from ...core.hashing import array_fingerprint, digest
from ...core.memory_pages import release_pages
from ...errors import PassError
from ..augment import Augment, UserAugment
from .options import FrozenBackbone

logger = logging.getLogger(__name__)

#: Identifies features: index of the segment that they follow (-1: computed from the inputs alone), and their name.
Key = tuple[int, str]
#: Features by key, each (B, ...), and the final logits (B, C) of some samples.
Batch = tuple[dict[Key, Tensor], Tensor]
#: A saver: from inputs of the model to logits (N, C); it may state which in ``input_names``.
SaverModule = Callable[..., Tensor]
#: Samples that are recomputed to check that a cache, or a checkpoint, belongs to this backbone.
PROBE_SAMPLES = 16
# bytes read after which pages of the file are released, so that memory stays small however large the file is
_RELEASE_BYTES = 256e6
_LARGEST = float(np.finfo(np.float16).max)
# larger batches through the backbone take twice as long per sample: their hidden states exceed the processor's cache


@dataclass(frozen=True)
class FeatureRequest:
    """One kind of features at one cut.

    Attributes:
        module: Maps the tensors named by `input_names` to features (N, ...), without trained parameters.
        input_names: ``hidden``, and inputs of the model.
    """

    module: Callable[..., Tensor]
    input_names: tuple[str, ...]


class FeatureSource(Protocol):
    """Where a training gets features from."""

    part: range

    def batch(self, rows: Tensor, epoch: int) -> Batch:
        """Return the features and final logits, float32, of samples `rows` int64 (B,) in an epoch."""

    def probe(self) -> Tensor:
        """Return all features of the first samples in one row each, float32 (B, D)."""


class LiveFeatures:
    """Runs the frozen backbone for every batch: one pass serves all heads at all cuts.

    Features are rounded to float16, as in the cache.

    Args:
        backbone: The segments, and names of the cuts for messages.
        requests: Features by key.
        inputs: The model's inputs by name, each (N, ...).
        augment: Augments inputs, or None.
        part: Samples of this process; None means all.

    Attributes:
        samples: Number of samples N, of all processes.
        made_of: Digest of the code and files that features depend on.
    """

    def __init__(
        self,
        backbone: FrozenBackbone,
        requests: Mapping[Key, FeatureRequest],
        inputs: Mapping[str, Tensor],
        augment: Augment | UserAugment | None = None,
        part: range | None = None,
    ):
        self.segments, self.requests, self.inputs = backbone.segments, dict(requests), dict(inputs)
        self.augment, self._cut_names = augment, [cut.name for cut in backbone.cuts]
        self.made_of = augment.made_of if augment else ""
        self.samples = len(next(iter(self.inputs.values())))
        self.part = range(self.samples) if part is None else part

    def batch(self, rows: Tensor, epoch: int) -> Batch:
        """Return the features and final logits of some samples.

        Args:
            rows: int64 (B,), indices of samples.
            epoch: From 0; every epoch sees another view of each sample.

        Returns:
            Features by key, float32 (B, ...), and logits float32 (B, C).
        """
        parts = [self.half_batch(each, epoch) for each in rows.split(DEFAULT_BATCH_SIZE)]
        features = {key: torch.cat([features[key] for features, _ in parts]).float() for key in parts[0][0]}
        return features, torch.cat([logits for _, logits in parts]).float()

    @torch.no_grad()
    def half_batch(self, rows: Tensor, view: int) -> Batch:
        """Return the features and logits of one view in float16."""
        values = {name: tensor[rows] for name, tensor in self.inputs.items()}
        if self.augment:
            values = {name: self.augment(tensor, rows, view) for name, tensor in values.items()}
        features = self._features(-1, values, "the last saver gives NaN")

        def keep_features(step: Step, part: Runnable, arguments: Sequence[Tensor]) -> Tensor:
            hidden = cast(Tensor, part.run(*arguments))
            place = self._cut_names[step.place] if step.place < len(self._cut_names) else f"segment {step.place}"
            complaint = f"the backbone gives NaN at '{place}'"
            features.update(self._features(step.place, {**values, HIDDEN: hidden}, complaint))
            return hidden

        segments = [Runnable(segment, segment.input_names) for segment in self.segments]
        logits = walk(chain_steps((), segments, (), {}), values, call=keep_features)
        release_pages()
        return features, _to_half(cast(Tensor, logits), "the backbone gives NaN at its end")

    def _features(self, index: int, values: Mapping[str, Tensor], complaint: str) -> dict[Key, Tensor]:
        return {
            key: _to_half(request.module(*(values[name] for name in request.input_names)), complaint)
            for key, request in self.requests.items()
            if key[0] == index
        }

    def probe(self) -> Tensor:
        """Return all features of the first samples of `part` in one row each, float32 (B, D)."""
        return _flatten(*self.half_batch(torch.tensor(self.part[:PROBE_SAMPLES]), 0)).float()


def _to_half(values: Tensor, complaint: str) -> Tensor:
    if torch.isnan(values).any():
        raise PassError(f"{complaint} on the training split; check its weights and the inputs")
    return values.clamp(-_LARGEST, _LARGEST).half()


def _flatten(features: Mapping[Key, Tensor], logits: Tensor) -> Tensor:
    return torch.cat([value.flatten(1) for value in (*features.values(), logits)], dim=1)


class CachedFeatures:
    """Features of all samples in `live.part` and all views in one memory-mapped file of float16, one row each.

    The file is filled once. A file of an earlier run is reused if it was computed from the same inputs, views, features
    and backbone.

    Args:
        live: Runs the backbone.
        path: The file; its description is written next to it as JSON.
        views: Views of each sample; epochs take turns, each sample starting with its own.
        limit: Size in bytes that it may have.
        seed: Decides which view a sample starts with.
        batch_size: Samples per run of the backbone.

    Raises:
        PassError: It would exceed `limit` or the free disk space; nothing is written then.
    """

    def __init__(
        self,
        live: LiveFeatures,
        path: Path,
        *,
        views: int = 1,
        limit: float,
        seed: int = 0,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ):
        self.part, self.samples, self.views = live.part, len(live.part), views
        features, logits = live.half_batch(torch.tensor(live.part[:2]), 0)
        self._shapes = {key: tuple(value.shape[1:]) for key, value in features.items()}
        self._shapes[(len(live.segments), "logits")] = tuple(logits.shape[1:])
        self.columns = sum(int(np.prod(shape)) for shape in self._shapes.values())
        self._starts = torch.randint(views, (live.samples,), generator=torch.Generator().manual_seed(seed))
        self._path, self._probe = Path(path), live.probe()
        self._bytes_read = 0
        size = f"{self.samples} samples x {views} views x {self.columns} values, {self.bytes / 1e6:,.1f} MB"
        description = self._describe(live, seed)
        if self._is_filled(description):
            logger.info(f"features: taken from '{path}' ({size})")
        else:
            self._check_room(limit)
            logger.info(f"features: {size} in '{path}'")
            self._fill(live, batch_size)
            with atomic_write(self._path.with_suffix(".json")) as file:
                file.write(json.dumps(description).encode())
        with open(self._path, "rb") as stream:
            self._mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._rows = np.frombuffer(self._mapped, np.float16).reshape(self.samples * views, self.columns)

    @property
    def bytes(self) -> int:
        """Size of the file in bytes."""
        return self.samples * self.views * self.columns * 2

    def batch(self, rows: Tensor, epoch: int) -> Batch:
        """Return the features and final logits of some samples.

        Args:
            rows: int64 (B,), indices of samples in `live.part`.
            epoch: From 0; every epoch sees another view of each sample, until all views were seen.

        Returns:
            Features by key, float32 (B, ...), and logits float32 (B, C).
        """
        views = (self._starts[rows] + epoch) % self.views
        values = torch.from_numpy(self._rows[(views * self.samples + rows - self.part.start).numpy()])
        self._bytes_read += values.nbytes
        if self._bytes_read > _RELEASE_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)
            self._bytes_read = 0
        features, start = {}, 0
        for key, shape in self._shapes.items():
            width = int(np.prod(shape))
            features[key] = values[:, start : start + width].float().view(len(rows), *shape)
            start += width
        logits = features.pop(list(self._shapes)[-1])
        return features, logits

    def probe(self) -> Tensor:
        """Return all features of the first samples in one row each, float32 (B, D)."""
        return self._probe

    def _describe(self, live: LiveFeatures, seed: int) -> dict[str, object]:
        """Return everything that the content of the file depends on, the backbone excepted."""
        augment = [getattr(live.augment, "name", type(live.augment).__name__), seed] if live.augment else None
        return {
            "shapes": [[*key, shape] for key, shape in self._shapes.items()],
            "views": self.views,
            "augment": augment,
            "inputs": fingerprint(*live.inputs.values()),
            "made_of": live.made_of,
            "part": [live.part.start, live.part.stop],
        }

    def _is_filled(self, description: Mapping[str, object]) -> bool:
        note = self._path.with_suffix(".json")
        if not (note.is_file() and self._path.is_file() and self._path.stat().st_size == self.bytes):
            return False
        if json.loads(note.read_text()) != json.loads(json.dumps(description)):
            return False
        kept = np.fromfile(self._path, np.float16, len(self._probe) * self.columns)
        return are_close(torch.from_numpy(kept.reshape(len(self._probe), -1)).float(), self._probe)

    def _check_room(self, limit: float) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        needs = f"the features of the training split take {self.bytes / 1e6:,.1f} MB"
        if self.bytes > limit:
            raise PassError(
                f"{needs}, more than the `cache_limit` of {limit / 1e9:g} GB; raise it, set `cache: none`, or take "
                "fewer views, positions or samples"
            )
        free = shutil.disk_usage(self._path.parent).free
        if self.bytes > free:
            raise PassError(
                f"{needs}, '{self._path.parent}' has {free / 1e6:,.1f} MB left; make room or set `cache: none`"
            )

    def _fill(self, live: LiveFeatures, batch_size: int) -> None:
        with atomic_write(self._path) as file:
            for view in range(self.views):
                for rows in torch.tensor(self.part).split(batch_size):
                    file.write(_flatten(*live.half_batch(rows, view)).numpy().data)
                logger.info(f"features: view {view + 1} of {self.views} is done")


def are_close(one: Tensor, other: Tensor) -> bool:
    """Whether two sets of features can come from one backbone: equal up to rounding."""
    return one.shape == other.shape and bool((one - other).norm() <= 1e-2 * one.norm())


def fingerprint(*tensors: Tensor) -> str:
    """Return a short hash of the dtypes, shapes and values of tensors."""
    return digest([array_fingerprint(tensor.numpy()) for tensor in tensors])
