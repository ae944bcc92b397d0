"""The model of a folder as a server holds it: it answers batches and says at which operating point."""

import functools
import logging
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..artifact.folder import PROCESSOR_FILE
from ..artifact.inputs import check_inputs
from ..artifact.manifest import CONFIG_FILE, InputSpec
from ..artifact.non_finite import DEFAULT, NonFinite, refuse_non_finite
from ..artifact.standalone import load_runner, threads_option
from ..chain.names import FINAL
from ..core.hashing import file_fingerprint
from ..errors import ExportError, first_line
from ..monitoring import ADAPTED
from ..points.operating_point import BACKBONE, OperatingPoint, point_thresholds
from .controller import LoadController
from .gears import gear_table, planned_seconds, read_point_times
from .options import ServingOptions, WatchOptions
from .refusals import RequestError, bad_request
from .watching import WatchedRunner

logger = logging.getLogger(__name__)


class Answered(NamedTuple):
    """Answers of the model.

    Attributes:
        logits: float32 (N, C).
        exit_index: int64 (N,): index of the stage that answered; the final stage is the last.
        confidence: float32 (N,) in 0..1.
        point: Name of the operating point that all rows were answered at; ``adapted`` for re-tuned thresholds.
    """

    logits: np.ndarray
    exit_index: np.ndarray
    confidence: np.ndarray
    point: str

    def part(self, rows: slice) -> "Answered":
        """Return some of the answers."""
        return Answered(self.logits[rows], self.exit_index[rows], self.confidence[rows], self.point)


class ServedFolder:
    """A loaded folder; safe from any thread.

    Args:
        folder: A folder that ``dynamic-exit run`` wrote.
        name: Name of the model in addresses; None is the folder's own.
        operating_point: Name of the initial point; None is the folder's default.
        threads: Threads within an operator; None leaves it to onnxruntime.
        watching: How a monitor watches the answers; None: none does.
        non_finite: What is done where an input or an answer is not finite, as for `load_runner`.

    Attributes:
        inputs: The model's inputs.
        labels: Class names in the order of the logits.
        stages: Names of all stages, the one that ends the chain included.
        point_names: Names of the operating points that it can be switched to.
        shown_points: The same, and ``adapted`` where thresholds may be re-tuned.
        monitor: None if there is none.

    Raises:
        DynamicExitError: As for `load_runner` and `WatchedRunner`.
    """

    def __init__(
        self,
        folder: Path,
        name: str | None = None,
        operating_point: str | None = None,
        threads: int | None = None,
        watching: WatchOptions | None = None,
        non_finite: NonFinite = DEFAULT,
    ):
        self.folder = folder
        # first, so that a folder that is swapped while it is read is noticed later
        self.stamp = self._stamp() if folder.is_dir() else {}
        options = None if threads is None else threads_option(threads)
        self._runner = load_runner(folder, operating_point, session_options=options, non_finite=non_finite)
        self._refuses = non_finite == DEFAULT
        self.name = name or folder.resolve().name
        if not self.name or "/" in self.name:
            raise ExportError(f"'{self.name}' cannot name a model in an address; give another --name")
        manifest = self._runner.manifest
        self.inputs, self.max_tokens = manifest.inputs, manifest.max_tokens
        self.target, self.tokenizer_files = manifest.target, manifest.tokenizer_files
        self.labels = manifest.labels
        points = self._runner.operating_points
        self.stages = (*self._runner.stages, points.last_stage or FINAL)
        self.point_names = (*points.names, *([] if points.last_stage else [BACKBONE]))
        adapts = watching is not None and watching.adapt
        self.shown_points = (*self.point_names, *([ADAPTED] if adapts else []))
        self._thresholds = functools.cache(
            lambda point: point_thresholds(points.by_name(point), self._runner.stages).tolist()
        )
        self._points = points
        self._watched = None if watching is None else WatchedRunner(self._runner, folder, watching)
        self.monitor = None if self._watched is None else self._watched.monitor

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    @property
    def operating_point(self) -> OperatingPoint:
        """The current operating point."""
        return self._runner.operating_point

    def set_operating_point(self, **goal: str | float) -> OperatingPoint:
        """Switch as `DynamicExitRunner.set_operating_point` does; batches that have begun end at their own point."""
        if self._watched is not None:
            point: OperatingPoint = self._watched.set_operating_point(**goal)
            return point
        return self._runner.set_operating_point(**goal)  # type: ignore[arg-type]  # pydantic checked the types

    @property
    def point_in_use(self) -> str:
        """Name of the current operating point; ``adapted`` while re-tuned thresholds answer."""
        return self.operating_point.name if self._watched is None else self._watched.in_use[0]

    def close(self) -> None:
        """Write what the monitor knows, where it has a file."""
        if self._watched is not None:
            self._watched.keep_state(now=True)

    def load_controller(self, p99: float, options: ServingOptions) -> LoadController:
        """Return what chooses the points of this model by load.

        Args:
            p99: Seconds that 99 % of the requests of any second may take.
            options: Limits of the server.

        Raises:
            ServingError: The folder has no times, the lowest point is unknown, or the delay leaves hardly any time.
        """
        times, max_batch = read_point_times(self.folder, self._points), options.max_batch
        gears = gear_table(times, p99, max_batch, options.max_delay, options.lowest_point)
        for gear in gears:
            logger.info(f"'{gear.point}' up to {gear.rows_per_second:.0f} rows a second, in batches of {gear.batch}")
        slowest = 1000 * gears[-1].times.batch_seconds(1)
        if not gears[-1].rows_per_second:
            logger.warning(
                f"a goal of {1000 * p99:g} ms cannot be kept by the times of the run: '{gears[-1].point}', the fastest "
                f"point that is allowed, takes {slowest:.3g} ms for one row; allow a lower point, or more time"
            )
        elif len(gears) == 1:
            logger.warning(f"'{gears[0].point}' is the only point to choose; allow a lower one for more load")
        return LoadController(gears, p99, planned_seconds(p99, options.max_delay), max_batch)

    def check(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Check the inputs of one request and convert them to the model's types.

        Raises:
            InputError: As for `check_inputs`, or an input holds NaN or infinity and is refused.
            RequestError: An input is empty, or a whole number does not fit the model's type.
        """
        for spec in self.inputs:
            array, wanted = inputs.get(spec["name"]), np.dtype(spec["dtype"])
            if array is not None and not array.size:
                raise bad_request(f"input '{spec['name']}' of shape {list(array.shape)} is empty")
            if array is not None and array.dtype.kind in "iu" and wanted.kind in "iu":
                limits = np.iinfo(wanted)
                if array.min() < limits.min or array.max() > limits.max:
                    raise bad_request(f"input '{spec['name']}' has numbers that do not fit the model's type {wanted}")
        feeds = check_inputs(inputs, [spec["name"] for spec in self.inputs], self.inputs, self.max_tokens)
        if self._refuses:
            refuse_non_finite(feeds)
        return feeds

    def run(self, feeds: Mapping[str, np.ndarray]) -> Answered:
        """Answer a batch, all of it at one operating point.

        Args:
            feeds: What `check` returned.

        Raises:
            RequestError: The runtime refuses values of this batch.
        """
        # another thread may switch meanwhile: name and thresholds are of one
        point, own = (self.operating_point.name, None) if self._watched is None else self._watched.in_use
        try:
            answers = self._runner(**feeds, thresholds=self._thresholds(point) if own is None else own.tolist())
        except Exception as error:
            if type(error).__name__ == "InvalidArgument":  # of onnxruntime, such as a token that is in no table
                raise bad_request(f"the model cannot take these values: {first_line(error)}") from error
            raise
        if self._watched is not None:
            self._watched.watch(point, answers, **feeds)
            self._watched.keep_state()
        return Answered(answers.logits, answers.exit_index, answers.confidence, point)

    def count_stages(self, answered: Answered) -> dict[str, int]:
        """Return how many rows each stage answered, of those that answered any."""
        counts = np.bincount(answered.exit_index, minlength=len(self.stages)).tolist()
        return {stage: count for stage, count in zip(self.stages, counts, strict=True) if count}

    def check_unchanged(self) -> None:
        """Check that files of the folder that are read late belong to the model that was loaded.

        Raises:
            RequestError: They have changed since.
        """
        if self._stamp() != self.stamp:
            raise RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"folder '{self.folder.name}' has changed since the server loaded it; restart the server",
            )

    def _stamp(self) -> dict[str, str]:
        files = (self.folder / name for name in (CONFIG_FILE, PROCESSOR_FILE, "tokenizer.json"))
        return {file.name: file_fingerprint(file) for file in files if file.is_file()}


def shape_of(spec: InputSpec) -> list[int]:
    """Return the shape of an input as the protocol writes it, with -1 for what is free."""
    return [-1, *(side if isinstance(side, int) else -1 for side in spec["shape"])]


def is_finite(answered: Answered) -> bool:
    """Whether all numbers of answers can be written as JSON."""
    return bool(np.isfinite(answered.logits).all() and np.isfinite(answered.confidence).all())
