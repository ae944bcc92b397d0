"""What heads see of the training split: from the backbone anew, or from a file that holds it all."""

import json
import logging
import mmap
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...core.atomic_write import written_whole
from ...core.hashing import array_fingerprint, digest
from ...errors import PassError
from ..augment import Augment, UserAugment

logger = logging.getLogger(__name__)

#: Which features: index of the segment behind which they are taken (-1: of the inputs alone), and their key.
Key = tuple[int, str]
#: Samples that are run anew to see whether a file, or a checkpoint, is of this backbone.
PROBE = 16
# bytes read after which pages of the file are given back, so that memory stays small however large the file is
_RELEASE = 256e6
_LARGEST = float(np.finfo(np.float16).max)
# more samples at a time through the backbone take twice as long each: what they give does not fit the cache
_FORWARD = 64


@dataclass(frozen=True)
class FeatureRequest:
    """One kind of features at one cut.

    Attributes:
        module: Maps what `input_names` names to features (N, ...), with nothing trained in it.
        input_names: ``hidden``, and inputs of the model.
    """

    module: nn.Module
    input_names: tuple[str, ...]


class LiveFeatures:
    """Runs the frozen backbone for every batch: one pass serves all heads of all positions.

    Features are rounded to float16, as in a cache.

    Args:
        segments: Of the backbone, each with `input_names`; torch modules or sessions.
        wanted: Features by key.
        inputs: The model's inputs by name, each (N, ...).
        augment: Makes views, or None.
        names: Of the cuts, for messages.
        part: The samples that this process looks after; None for all.
    """

    def __init__(
        self,
        segments: Sequence[nn.Module],
        wanted: Mapping[Key, FeatureRequest],
        inputs: Mapping[str, Tensor],
        augment: Augment | UserAugment | None = None,
        names: Sequence[str] = (),
        part: range | None = None,
    ):
        self.segments, self.wanted, self.inputs = segments, dict(wanted), dict(inputs)
        self.augment, self.names = augment, names
        #: Covers code and files that features depend on.
        self.made_of = augment.made_of if augment else ""
        self.samples = len(next(iter(self.inputs.values())))
        self.part = range(self.samples) if part is None else part

    def batch(self, rows: Tensor, epoch: int) -> tuple[dict[Key, Tensor], Tensor]:
        """Return features and the final's logits of some samples.

        Args:
            rows: int64 (B,), indices of samples.
            epoch: From 0; every epoch sees another view.

        Returns:
            Features by key, float32 (B, ...), and logits float32 (B, C).
        """
        parts = [self.halves(each, epoch) for each in rows.split(_FORWARD)]
        features = {key: torch.cat([found[key] for found, _ in parts]).float() for key in parts[0][0]}
        return features, torch.cat([logits for _, logits in parts]).float()

    @torch.no_grad()
    def halves(self, rows: Tensor, view: int) -> tuple[dict[Key, Tensor], Tensor]:
        """Return what `batch` does of one view, in float16."""
        given = {name: tensor[rows] for name, tensor in self.inputs.items()}
        if self.augment:
            given = {name: self.augment(tensor, rows, view) for name, tensor in given.items()}
        found = self._taken(-1, given, "the last saver gives NaN")
        for index, segment in enumerate(self.segments):
            given["hidden"] = segment(*(given[name] for name in segment.input_names))
            place = self.names[index] if index < len(self.names) else f"segment {index}"
            found |= self._taken(index, given, f"the backbone gives NaN at '{place}'")
        return found, _half(given["hidden"], "the backbone gives NaN at its end")

    def _taken(self, index: int, given: Mapping[str, Tensor], wrong: str) -> dict[Key, Tensor]:
        return {
            key: _half(wanted.module(*(given[name] for name in wanted.input_names)), wrong)
            for key, wanted in self.wanted.items()
            if key[0] == index
        }

    def probe(self) -> Tensor:
        """Return all features of the first samples of `part` in one row each, float32 (B, D)."""
        return _flat(*self.halves(torch.tensor(self.part[:PROBE]), 0)).float()


def _half(values: Tensor, wrong: str) -> Tensor:
    if torch.isnan(values).any():
        raise PassError(f"{wrong} on the training split; check its weights and the inputs")
    return values.clamp(-_LARGEST, _LARGEST).half()


def _flat(features: Mapping[Key, Tensor], logits: Tensor) -> Tensor:
    return torch.cat([value.flatten(1) for value in (*features.values(), logits)], dim=1)


class CachedFeatures:
    """Features of all samples in `live.part` and all views in one memory-mapped file of float16, one row each.

    It is filled once. A file of an earlier run is used again where it was made of the same inputs, views, features and
    backbone.

    Args:
        live: Runs the backbone.
        views: Views of each sample; epochs take turns, each sample starting with a view of its own.
        path: The file; a description is written beside it.
        limit: Bytes that it may take.
        seed: Decides which view a sample starts with.
        batch_size: Samples at a time through the backbone.

    Raises:
        PassError: It would take more than `limit` or than the disk has left; nothing is written then.
    """

    def __init__(
        self,
        live: LiveFeatures,
        views: int,
        path: Path,
        limit: float,
        seed: int,
        batch_size: int = 64,
    ):
        self.part, self.samples, self.views = live.part, len(live.part), views
        features, logits = live.halves(torch.tensor(live.part[:2]), 0)
        self._shapes = {key: tuple(value.shape[1:]) for key, value in features.items()}
        self._shapes[(len(live.segments), "logits")] = tuple(logits.shape[1:])
        self.columns = sum(int(np.prod(shape)) for shape in self._shapes.values())
        self._starts = torch.randint(views, (live.samples,), generator=torch.Generator().manual_seed(seed))
        self._path, self._probe = Path(path), live.probe()
        self._read = 0
        size = f"{self.samples} samples x {views} views x {self.columns} values, {self.bytes / 1e9:.2f} GB"
        description = {
            "shapes": [[*key, shape] for key, shape in self._shapes.items()],
            "views": views,
            "augment": [getattr(live.augment, "name", type(live.augment).__name__), seed] if live.augment else None,
            "inputs": fingerprint(*live.inputs.values()),
            "made_of": live.made_of,
            "part": [live.part.start, live.part.stop],
        }
        if self._is_filled(description):
            logger.info(f"features: taken from '{path}' ({size})")
        else:
            self._check_room(limit)
            logger.info(f"features: {size} in '{path}'")
            self._fill(live, batch_size)
            with written_whole(self._path.with_suffix(".json")) as file:
                file.write(json.dumps(description).encode())
        self._rows = np.memmap(self._path, np.float16, "r", shape=(self.samples * views, self.columns))

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.samples * self.views * self.columns * 2

    def batch(self, rows: Tensor, epoch: int) -> tuple[dict[Key, Tensor], Tensor]:
        """Return features and the final's logits of some samples.

        Args:
            rows: int64 (B,), indices of samples in `live.part`.
            epoch: From 0; every epoch sees another view, until all were seen.

        Returns:
            Features by key, float32 (B, ...), and logits float32 (B, C).
        """
        views = (self._starts[rows] + epoch) % self.views
        values = torch.from_numpy(self._rows[(views * self.samples + rows - self.part.start).numpy()])
        self._read += values.nbytes
        if self._read > _RELEASE and hasattr(mmap, "MADV_DONTNEED"):
            self._rows._mmap.madvise(mmap.MADV_DONTNEED)
            self._read = 0
        found, start = {}, 0
        for key, shape in self._shapes.items():
            width = int(np.prod(shape))
            found[key] = values[:, start : start + width].float().view(len(rows), *shape)
            start += width
        logits = found.pop(list(self._shapes)[-1])
        return found, logits

    def probe(self) -> Tensor:
        """Return all features of the first samples in one row each, float32 (B, D)."""
        return self._probe

    def _is_filled(self, description: Mapping[str, object]) -> bool:
        note = self._path.with_suffix(".json")
        if not (note.is_file() and self._path.is_file() and self._path.stat().st_size == self.bytes):
            return False
        if json.loads(note.read_text()) != json.loads(json.dumps(description)):
            return False
        kept = np.fromfile(self._path, np.float16, len(self._probe) * self.columns)
        return alike(torch.from_numpy(kept.reshape(len(self._probe), -1)).float(), self._probe)

    def _check_room(self, limit: float) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        needs = f"the features of the training split take {self.bytes / 1e9:.2f} GB"
        if self.bytes > limit:
            raise PassError(
                f"{needs}, more than the `cache_limit` of {limit / 1e9:.2f} GB; raise it, set `cache: none`, or take "
                "fewer views, positions or samples"
            )
        free = shutil.disk_usage(self._path.parent).free
        if self.bytes > free:
            raise PassError(
                f"{needs}, '{self._path.parent}' has {free / 1e9:.2f} GB left; make room or set `cache: none`"
            )

    def _fill(self, live: LiveFeatures, batch_size: int) -> None:
        with written_whole(self._path) as file:
            for view in range(self.views):
                for rows in torch.tensor(self.part).split(batch_size):
                    file.write(_flat(*live.halves(rows, view)).numpy().data)
                logger.info(f"features: view {view + 1} of {self.views} is done")


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether two sets of features can come from one backbone: equal but for rounding."""
    return one.shape == other.shape and bool((one - other).norm() <= 1e-2 * one.norm())


def fingerprint(*tensors: Tensor) -> str:
    """Return a short text that differs where types, shapes or values do."""
    return digest([array_fingerprint(tensor.numpy()) for tensor in tensors])
