"""Records: what every stage answers for every sample, and how sure it is. All tuning works on them."""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..core.atomic_write import atomic_write
from ..errors import RecordsError, nearest
from .display import RecordsDisplay
from .memory_map import REQUIRES, read_arrays
from .risk.base import Accuracy, Risk, probable_worth
from .stage_table import StageTable
from .top_k import softmax, top_k
from .validation import check_answers, check_costs, check_shapes, check_stages

# attributes whose array has another name in files, and those that are in no file
_FILE_NAMES = {"requires": REQUIRES}
_NOT_IN_FILES = ("risk", "posterior", "reference")


@dataclass(frozen=True, eq=False, repr=False)
class Records(RecordsDisplay):
    """What every stage of a chain answers for every sample, and what each stage costs.

    N samples, S stages in chain order (savers, exits by position, final), K kept classes.

    Attributes:
        labels: int64 (N,); the true class, -1 if unknown.
        stages: S unique names.
        kinds: S times ``saver``, ``exit`` or ``final``; exactly one final, last.
        positions: int64 (S,); -1 for savers, the index of the cut for exits, above all exits for the final.
        topk_classes: int32 (S, N, K); most probable first.
        topk_probabilities: float32 (S, N, K) in 0..1; not rising along K.
        own_cost: float64 (S,) >= 0; saver: the whole model, exit: its head, final: 0.
        prefix_cost: float64 (S,) >= 0; saver: 0, exit: the backbone up to its cut, final: the whole backbone (> 0).
        cost_unit: ``macs`` or ``seconds``.
        requires: int64 (S,); the index of the saver that must be in use wherever this stage is, -1 for none; None if
            no stage requires another. The answers of a stage are those it gives behind the saver it requires.
        groups: int64 (N,) >= 0; what limits on losses are kept for; the true classes if None.
        risk: How answers are judged; it, posterior and reference are not in files.
        posterior: int32 (N, L) classes, -1 for none, and float32 (N, L) their probabilities, in place of labels.
        reference: as `worth`, of the model that losses are relative to; the final if None.

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
    groups: np.ndarray | None = None
    risk: Risk = Accuracy()
    posterior: tuple[np.ndarray, np.ndarray] | None = None
    reference: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(str(name) for name in self.stages))
        object.__setattr__(self, "kinds", tuple(str(kind) for kind in self.kinds))
        object.__setattr__(self, "cost_unit", str(self.cost_unit))
        check_shapes(self)
        check_stages(self.stage_table)
        check_costs(self.stage_table, self.cost_unit)
        check_answers(self)

    def _replace(self, **changes: Any) -> "Records":
        # parts of checked records need no second look at every answer
        records = object.__new__(Records)
        for field in fields(self):
            object.__setattr__(records, field.name, changes.get(field.name, getattr(self, field.name)))
        return records

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def stage_table(self) -> StageTable:
        """The stages as a table."""
        return StageTable(self.stages, self.kinds, self.positions, self.own_cost, self.prefix_cost, self.requires)

    @property
    def kept(self) -> int:
        """K, the number of classes kept per sample and stage."""
        return self.topk_classes.shape[2]

    @property
    def labelled(self) -> bool:
        """Whether every label is known."""
        return bool((np.asarray(self.labels) >= 0).all())

    @property
    def classes(self) -> int:
        """The number of classes, as far as labels and answers tell."""
        return 1 + max(int(self.topk_classes.max()), int(np.asarray(self.labels).max()))

    @property
    def truth(self) -> np.ndarray:
        """int64 (N,): the class that counts as correct: the label, or the final's answer if unknown or not needed."""
        return self.labelled_truth if self.risk.needs_labels else self.topk_classes[-1, :, 0].astype(np.int64)

    @functools.cached_property
    def labelled_truth(self) -> np.ndarray:
        """int64 (N,): the label, or the final's answer if the label is unknown, whatever the risk."""
        labels = np.asarray(self.labels)
        return np.where(labels >= 0, labels, self.topk_classes[-1, :, 0]).astype(np.int64)

    @property
    def group(self) -> np.ndarray:
        """int64 (N,): the group of each sample; its true class where no groups are given."""
        return self.truth if self.groups is None else np.asarray(self.groups)

    def worth(self, classes: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return what answers are worth to the risk.

        Args:
            classes: int64 (n,), or (n, depth) of the risk; the answers.
            rows: The samples.

        Returns:
            As `Risk.worth`.
        """
        if self.posterior is None:
            return self.risk.worth(self.truth[rows], classes)
        return probable_worth(self.risk, self.posterior[0][rows], self.posterior[1][rows], classes)

    @property
    def judged_by_labels(self) -> "Records":
        """The samples that have labels, judged by these; the same records if they have no posterior."""
        return self if self.posterior is None else self._replace(posterior=None).take(np.asarray(self.labels) >= 0)

    @functools.cached_property
    def final_worth(self) -> np.ndarray:
        """What the final's answers are worth, as `worth` of all samples."""
        kept = self.topk_classes[-1, :, : self.risk.depth].astype(np.int64)
        return self.worth(kept[:, 0] if self.risk.depth == 1 else kept)

    @property
    def reference_worth(self) -> np.ndarray:
        """What the answers are worth that losses are relative to."""
        return self.final_worth if self.reference is None else self.reference

    @property
    def is_counted(self) -> bool:
        """Whether answers are worth 0 or 1, so that worth is a count."""
        return self.final_worth.dtype == bool

    @property
    def baseline_cost(self) -> float:
        """Cost of the backbone alone, per sample, in ``cost_unit``."""
        return float(self.prefix_cost[-1])

    def index(self, stage: str) -> int:
        """Return the index of a stage in the chain, 0 .. S - 1.

        Args:
            stage: Its name.

        Raises:
            RecordsError: There is no such stage.
        """
        if stage not in self.stages:
            raise RecordsError(f"the records hold no stage '{stage}'; {nearest(stage, self.stages)}")
        return self.stages.index(stage)

    @classmethod
    def from_probabilities(
        cls,
        labels: np.ndarray | Sequence[int],
        stages: StageTable,
        probabilities: Sequence[np.ndarray],
        *,
        cost_unit: str = "macs",
        k: int = 5,
    ) -> "Records":
        """Make records of the probabilities of all classes.

        Among equal probabilities the lowest class comes first, as with argmax at inference.

        Args:
            labels: integers (N,); -1 if unknown.
            stages: The S stages.
            probabilities: S arrays (N, C), each row a distribution over the C classes.
            cost_unit: ``macs`` or ``seconds``.
            k: Number of classes to keep, at least 1; C if there are fewer.

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
            topk_classes=classes,
            topk_probabilities=kept,
            cost_unit=cost_unit,
            **stages.columns(),
        )

    @classmethod
    def from_logits(
        cls,
        labels: np.ndarray | Sequence[int],
        stages: StageTable,
        logits: Sequence[np.ndarray],
        *,
        cost_unit: str = "macs",
        k: int = 5,
    ) -> "Records":
        """Make records of logits: as ``from_probabilities`` after a softmax in float32 over each row.

        Args:
            labels: integers (N,); -1 if unknown.
            stages: The S stages.
            logits: S arrays (N, C) of finite numbers.
            cost_unit: ``macs`` or ``seconds``.
            k: Number of classes to keep.

        Returns:
            The records.

        Raises:
            RecordsError: The arrays do not fit each other or are malformed.
        """
        probabilities = [softmax(np.asarray(array, dtype=np.float32)) for array in logits]
        return cls.from_probabilities(labels, stages, probabilities, cost_unit=cost_unit, k=k)

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
        named = [field.name for field in fields(cls) if field.name not in _NOT_IN_FILES]
        file_names = {name: _FILE_NAMES.get(name, name) for name in named}
        arrays = read_arrays(Path(path), list(file_names.values()), mmap)
        values: dict[str, Any] = {name: arrays[key] for name, key in file_names.items() if key in arrays}
        for name, ndim in (("stages", 1), ("kinds", 1), ("cost_unit", 0)):
            array = values[name]
            if array.dtype.kind != "U" or array.ndim != ndim:
                expected = "a list of strings" if ndim else "one string"
                raise RecordsError(f"'{name}' must be {expected}; got {array.dtype} of shape {array.shape}")
            values[name] = tuple(array.tolist()) if ndim else str(array)
        return cls(**values)

    def write(self, path: str | os.PathLike) -> None:
        """Write the records atomically; the same records give the same bytes.

        Args:
            path: The file to write or replace; its folder must exist.

        Raises:
            RecordsError: The file cannot be written.
        """
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _NOT_IN_FILES}
        arrays: dict[str, Any] = {
            _FILE_NAMES.get(name, name): np.asarray(value) for name, value in named.items() if value is not None
        }
        try:
            with atomic_write(path) as file:
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
        return self._replace(
            labels=labels,
            topk_classes=self.topk_classes[:, rows],
            topk_probabilities=self.topk_probabilities[:, rows],
            groups=None if self.groups is None else self.groups[rows],
            posterior=None if self.posterior is None else tuple(each[rows] for each in self.posterior),
            reference=None if self.reference is None else self.reference[rows],
        )

    def with_risk(self, risk: Risk) -> "Records":
        """Return the same answers, judged by another risk.

        Args:
            risk: It must know what it needs of samples, see `Risk.fit`.

        Raises:
            RecordsError: The records keep fewer classes than it looks at.
        """
        if self.kept < min(risk.depth, self.classes):
            raise RecordsError(
                f"the risk '{risk.name}' looks at {risk.depth} classes of an answer, the records keep {self.kept}; "
                "record more"
            )
        return self._replace(risk=risk)

    def with_posterior(self, *posterior: np.ndarray) -> "Records":
        """Return the same answers, worth what they are likely to be: the two arrays of `posterior`."""
        return self._replace(posterior=posterior)

    def with_reference(self, worth: np.ndarray) -> "Records":
        """Return the same answers, whose losses are relative to others: worth as of `reference`."""
        return self._replace(reference=worth)

    def select(self, stages: Sequence[str]) -> "Records":
        """Return the records of some stages, in chain order, with the savers they require and the final.

        Args:
            stages: Names of stages.

        Returns:
            Records of those stages.

        Raises:
            RecordsError: There is no stage of one of the names.
        """
        table = self.stage_table
        named = {self.index(name) for name in stages} | {table.final}
        keep = sorted(named | table.required_savers(named))
        return self._replace(
            topk_classes=self.topk_classes[keep],
            topk_probabilities=self.topk_probabilities[keep],
            **table.select(keep).columns(),
        )

    def with_costs(self, own_cost: np.ndarray, prefix_cost: np.ndarray) -> "Records":
        """Return the same answers at other costs, which need not be those of a real chain.

        Args:
            own_cost: float64 (S,).
            prefix_cost: float64 (S,).

        Returns:
            Records for a search.
        """
        return self._replace(own_cost=own_cost, prefix_cost=prefix_cost)

    @classmethod
    def join(cls, parts: Sequence["Records"], *, along: str) -> "Records":
        """Join records.

        Args:
            parts: At least one.
            along: ``samples``: other samples of the same stages, one after the other; ``stages``: other stages of the
                same samples, put in chain order (savers by cost, exits by position, the final of the first part).

        Returns:
            The joined records, with the smallest K of the parts.

        Raises:
            RecordsError: The parts do not fit each other.
        """
        if along not in ("samples", "stages") or not parts:
            raise RecordsError(f"join at least one part along 'samples' or 'stages'; got {len(parts)} along '{along}'")
        if len({part.cost_unit for part in parts}) != 1:
            raise RecordsError("the parts' costs are in different units; measure them in one")
        from .joining import join_samples, join_stages  # they make records

        return join_samples(parts) if along == "samples" else join_stages(parts)
