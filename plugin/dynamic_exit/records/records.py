"""Records: per sample and stage, what each stage would have answered and how sure it was. All tuning works on them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..core.atomic_write import written_whole
from ..errors import RecordsError, nearest
from .memory_map import REQUIRES, read_arrays
from .top_k import top_k
from .validation import check_answers, check_chain, check_costs, check_shapes

# arrays that files call otherwise than records do
_FILE_NAMES = {"requires": REQUIRES}
_FIELDS = {file_name: name for name, file_name in _FILE_NAMES.items()}


@dataclass(frozen=True, eq=False)
class Records:
    """What every stage of a chain answered for every sample, with what each stage costs.

    N samples, S stages in chain order (savers, exits by position, final), K kept classes.

    Attributes:
        labels: int64 (N,); the true class, -1 where unknown.
        stages: S unique names.
        kinds: S times ``saver``, ``exit`` or ``final``; exactly one final, last.
        positions: int64 (S,); savers -1, exits their cut's index, final more than every exit's.
        topk_classes: int32 (S, N, K); most probable first.
        topk_probabilities: float32 (S, N, K) in 0..1; decreasing along K.
        own_cost: float64 (S,) >= 0; saver: the whole model, exit: its head, final: 0.
        prefix_cost: float64 (S,) >= 0; saver: 0, exit: the backbone up to its cut, final: the whole backbone (> 0).
        cost_unit: ``macs`` or ``seconds``.
        requires: int64 (S,); the index of the saver that must be in use wherever this stage is, -1 for none; None if
            no stage requires another. The answers of a stage are those it gives behind the saver it requires.

    Raises:
        RecordsError: An array is malformed; the message names it, says what came in and what to do.
    """

    labels: np.ndarray
    stages: tuple[str, ...]
    kinds: tuple[str, ...]
    positions: np.ndarray
    topk_classes: np.ndarray
    topk_probabilities: np.ndarray
    own_cost: np.ndarray
    prefix_cost: np.ndarray
    cost_unit: str
    requires: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(str(name) for name in self.stages))
        object.__setattr__(self, "kinds", tuple(str(kind) for kind in self.kinds))
        object.__setattr__(self, "cost_unit", str(self.cost_unit))
        check_shapes(self)
        check_chain(self)
        check_costs(self)
        check_answers(self)

    @classmethod
    def _trusted(cls, **arrays: object) -> "Records":
        # parts of checked records need no second look at every answer
        records = object.__new__(cls)
        for name, value in arrays.items():
            object.__setattr__(records, name, value)
        return records

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def kept(self) -> int:
        """K, the number of classes kept per sample and stage."""
        return self.topk_classes.shape[2]

    @property
    def labelled(self) -> bool:
        """Whether every label is known."""
        return bool((np.asarray(self.labels) >= 0).all())

    @property
    def truth(self) -> np.ndarray:
        """int64 (N,): the class that counts as right: the label, or the final's answer where the label is unknown."""
        labels = np.asarray(self.labels)
        return np.where(labels >= 0, labels, self.topk_classes[-1, :, 0]).astype(np.int64)

    @property
    def baseline_cost(self) -> float:
        """What the backbone alone costs per sample, in ``cost_unit``."""
        return float(self.prefix_cost[-1])

    def index(self, stage: str) -> int:
        """Return a stage's place in the chain.

        Args:
            stage: Its name.

        Returns:
            0 .. S - 1.

        Raises:
            RecordsError: There is no such stage.
        """
        if stage not in self.stages:
            raise RecordsError(f"the records hold no stage '{stage}'; {nearest(stage, self.stages)}")
        return self.stages.index(stage)

    @classmethod
    def from_probabilities(
        cls,
        labels: np.ndarray,
        stages: Sequence[str],
        kinds: Sequence[str],
        positions: Sequence[int],
        probabilities: Sequence[np.ndarray],
        own_cost: Sequence[float],
        prefix_cost: Sequence[float],
        cost_unit: str = "macs",
        k: int = 5,
    ) -> "Records":
        """Make records from what every stage answered in full.

        Among equal probabilities the lowest class comes first, as argmax does at serving.

        Args:
            labels: integers (N,); -1 where unknown.
            stages: S names in chain order.
            kinds: S kinds.
            positions: S positions.
            probabilities: S arrays (N, C), each row a distribution over the C classes.
            own_cost: S costs.
            prefix_cost: S costs.
            cost_unit: ``macs`` or ``seconds``.
            k: How many classes to keep, at least 1; C if there are fewer.

        Returns:
            The records.

        Raises:
            RecordsError: The arrays do not fit each other or are malformed.
        """
        if k < 1:
            raise RecordsError(f"the number of kept classes must be at least 1; got {k}")
        arrays = [np.asarray(p, dtype=np.float32) for p in probabilities]
        shapes = {array.shape for array in arrays}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise RecordsError(
                "every stage's probabilities must have one shape (samples, classes); "
                f"got {', '.join(map(str, sorted(shapes))) or 'none'}"
            )
        k = min(k, arrays[0].shape[1])
        classes = np.empty((len(arrays), len(arrays[0]), k), dtype=np.int32)
        kept = np.empty(classes.shape, dtype=np.float32)
        for stage, array in enumerate(arrays):
            classes[stage], kept[stage] = top_k(array, k)
        return cls(
            labels=np.asarray(labels).astype(np.int64),
            stages=tuple(stages),
            kinds=tuple(kinds),
            positions=np.asarray(positions, dtype=np.int64),
            topk_classes=classes,
            topk_probabilities=kept,
            own_cost=np.asarray(own_cost, dtype=np.float64),
            prefix_cost=np.asarray(prefix_cost, dtype=np.float64),
            cost_unit=cost_unit,
        )

    @classmethod
    def from_logits(
        cls,
        labels: np.ndarray,
        stages: Sequence[str],
        kinds: Sequence[str],
        positions: Sequence[int],
        logits: Sequence[np.ndarray],
        own_cost: Sequence[float],
        prefix_cost: Sequence[float],
        cost_unit: str = "macs",
        k: int = 5,
    ) -> "Records":
        """Make records from logits: as ``from_probabilities`` after a softmax in float32 over each row.

        Args:
            labels: integers (N,); -1 where unknown.
            stages: S names in chain order.
            kinds: S kinds.
            positions: S positions.
            logits: S arrays (N, C) of finite numbers.
            own_cost: S costs.
            prefix_cost: S costs.
            cost_unit: ``macs`` or ``seconds``.
            k: How many classes to keep.

        Returns:
            The records.

        Raises:
            RecordsError: The arrays do not fit each other or are malformed.
        """
        probabilities = [_softmax(np.asarray(array, dtype=np.float32)) for array in logits]
        return cls.from_probabilities(
            labels, stages, kinds, positions, probabilities, own_cost, prefix_cost, cost_unit, k
        )

    @classmethod
    def read(cls, path: str | os.PathLike, *, mmap: bool = True) -> "Records":
        """Read a records file.

        Args:
            path: A file as ``write`` makes it.
            mmap: Map the large arrays instead of loading them, so that they need not fit in memory.

        Returns:
            The records, checked.

        Raises:
            RecordsError: The file is missing, is no archive of arrays, lacks an array or holds a malformed one.
        """
        arrays = read_arrays(Path(path), [_FILE_NAMES.get(field.name, field.name) for field in fields(cls)], mmap)
        arrays = {_FIELDS.get(name, name): array for name, array in arrays.items()}
        for name in ("stages", "kinds", "cost_unit"):
            wanted = 0 if name == "cost_unit" else 1
            if arrays[name].dtype.kind != "U" or arrays[name].ndim != wanted:
                raise RecordsError(
                    f"'{name}' must be {'one string' if wanted == 0 else 'a list of strings'}; "
                    f"got {arrays[name].dtype} of shape {arrays[name].shape}"
                )
        arrays["stages"] = tuple(arrays["stages"].tolist())
        arrays["kinds"] = tuple(arrays["kinds"].tolist())
        arrays["cost_unit"] = str(arrays["cost_unit"])
        return cls(**arrays)

    def write(self, path: str | os.PathLike) -> None:
        """Write the records, whole or not at all; the same records give the same bytes.

        Args:
            path: The file to write or replace; its folder must exist.

        Raises:
            RecordsError: The file cannot be written.
        """
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {_FILE_NAMES.get(name, name): np.asarray(value) for name, value in named.items() if value is not None}
        try:
            with written_whole(path) as file:
                np.savez(file, **arrays)
        except OSError as error:
            raise RecordsError(f"cannot write the records to '{path}': {error.strerror or error}") from error

    def take(self, rows: np.ndarray | slice) -> "Records":
        """Return the records of some samples.

        Args:
            rows: integers (n,), a mask (N,) or a slice.

        Returns:
            Records of those samples, in that order.

        Raises:
            RecordsError: No sample is left.
        """
        labels = self.labels[rows]
        if len(labels) == 0:
            raise RecordsError("the selection of samples is empty; take at least one")
        return self._trusted(
            labels=labels,
            stages=self.stages,
            kinds=self.kinds,
            positions=self.positions,
            topk_classes=self.topk_classes[:, rows],
            topk_probabilities=self.topk_probabilities[:, rows],
            own_cost=self.own_cost,
            prefix_cost=self.prefix_cost,
            cost_unit=self.cost_unit,
            requires=self.requires,
        )

    def select(self, stages: Sequence[str]) -> "Records":
        """Return the records of some stages, in chain order; the final always stays, and what a stage needs.

        Args:
            stages: Names of stages.

        Returns:
            Records of those stages, what they need and the final.

        Raises:
            RecordsError: A name is not there.
        """
        keep = sorted({self.index(name) for name in stages} | {len(self.stages) - 1})
        if self.requires is not None:
            keep = sorted({*keep, *(int(self.requires[i]) for i in keep if self.requires[i] >= 0)})
        return self._trusted(
            labels=self.labels,
            stages=tuple(self.stages[i] for i in keep),
            kinds=tuple(self.kinds[i] for i in keep),
            positions=self.positions[keep],
            topk_classes=self.topk_classes[keep],
            topk_probabilities=self.topk_probabilities[keep],
            own_cost=self.own_cost[keep],
            prefix_cost=self.prefix_cost[keep],
            cost_unit=self.cost_unit,
            requires=None if self.requires is None else _places(self.requires, keep),
        )

    def with_costs(self, own_cost: np.ndarray, prefix_cost: np.ndarray) -> "Records":
        """Return the same answers at other costs, which need not be those of any real chain.

        Args:
            own_cost: float64 (S,).
            prefix_cost: float64 (S,).

        Returns:
            Records for a search.
        """
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        return self._trusted(**{**kept, "own_cost": own_cost, "prefix_cost": prefix_cost})

    @classmethod
    def join(cls, parts: Sequence["Records"], *, along: str) -> "Records":
        """Join records.

        Args:
            parts: At least one.
            along: ``samples``: other samples of the same stages, one after the other; ``stages``: other stages of the
                same samples, put in chain order (savers by cost, exits by position, the first part's final).

        Returns:
            The joined records. The smallest K of the parts is kept.

        Raises:
            RecordsError: The parts do not fit each other.
        """
        if along not in ("samples", "stages") or not parts:
            raise RecordsError(f"join at least one part along 'samples' or 'stages'; got {len(parts)} along '{along}'")
        if len({part.cost_unit for part in parts}) != 1:
            raise RecordsError("the parts' costs are in different units; measure them in one")
        k = min(part.kept for part in parts)
        return _join_samples(parts, k) if along == "samples" else _join_stages(parts, k)


def _places(requires: np.ndarray, keep: Sequence[int]) -> np.ndarray | None:
    # None where nothing that is kept needs anything: then the rule has no cost
    found = np.array([keep.index(int(requires[i])) if requires[i] >= 0 else -1 for i in keep], dtype=np.int64)
    return found if (found >= 0).any() else None


def _needed(part: Records, stage: int, places: dict[tuple[Records, int], int]) -> int:
    return -1 if part.requires is None or part.requires[stage] < 0 else places[part, int(part.requires[stage])]


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _join_samples(parts: Sequence[Records], k: int) -> Records:
    first = parts[0]
    for part in parts[1:]:
        same = (
            part.stages == first.stages and part.kinds == first.kinds and np.array_equal(part.requires, first.requires)
        )
        numbers = ("positions", "own_cost", "prefix_cost")
        if not same or any(not np.array_equal(getattr(part, n), getattr(first, n)) for n in numbers):
            raise RecordsError("only records of the same stages, positions and costs can be joined along samples")
    return Records(
        labels=np.concatenate([part.labels for part in parts]),
        stages=first.stages,
        kinds=first.kinds,
        positions=first.positions,
        topk_classes=np.concatenate([part.topk_classes[:, :, :k] for part in parts], axis=1),
        topk_probabilities=np.concatenate([part.topk_probabilities[:, :, :k] for part in parts], axis=1),
        own_cost=first.own_cost,
        prefix_cost=first.prefix_cost,
        cost_unit=first.cost_unit,
        requires=first.requires,
    )


def _join_stages(parts: Sequence[Records], k: int) -> Records:
    first = parts[0]
    if any(not np.array_equal(part.labels, first.labels) for part in parts[1:]):
        raise RecordsError("only records of the same samples can be joined along stages; the labels differ")
    # the first part's final stays, the others' finals are the same backbone again
    chosen = [(part, s) for part in parts for s in range(len(part.stages) - 1)]
    chosen.sort(key=lambda item: (item[0].positions[item[1]], item[0].own_cost[item[1]]))
    chosen.append((first, len(first.stages) - 1))
    places = {item: place for place, item in enumerate(chosen)}
    linked = any(part.requires is not None for part in parts)
    positions = np.array([part.positions[s] for part, s in chosen], dtype=np.int64)
    positions[-1] = max(part.positions[-1] for part in parts)
    return Records(
        labels=first.labels,
        stages=tuple(part.stages[s] for part, s in chosen),
        kinds=tuple(part.kinds[s] for part, s in chosen),
        positions=positions,
        topk_classes=np.stack([part.topk_classes[s, :, :k] for part, s in chosen]),
        topk_probabilities=np.stack([part.topk_probabilities[s, :, :k] for part, s in chosen]),
        own_cost=np.array([part.own_cost[s] for part, s in chosen]),
        prefix_cost=np.array([part.prefix_cost[s] for part, s in chosen]),
        cost_unit=first.cost_unit,
        requires=np.array([_needed(part, s, places) for part, s in chosen], dtype=np.int64) if linked else None,
    )
