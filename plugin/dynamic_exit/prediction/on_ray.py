"""Shards answered side by side by Ray Data: on all processors of this machine, or of a cluster."""

import json
import logging
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .. import errors
from ..artifact.manifest import read_manifest
from ..artifact.standalone import threads_option
from ..errors import DataError, DynamicExitError
from ..recipe.target_registry import TARGETS
from ..serving.ray_runtime import import_ray, running_ray
from .answerer import ShardAnswerer
from .options import PredictionOptions
from .rows import Row
from .shards import ShardFiles
from .summary import PredictionSummary


@dataclass(frozen=True)
class ShardTask:
    """What is answered, at the same places on all machines.

    Attributes:
        folder: The model's folder.
        data: The rows.
        options: How they are answered.
    """

    folder: str
    data: str
    options: PredictionOptions

    def absolute(self) -> "ShardTask":
        """Return the task for processes that run in other folders."""
        return replace(self, folder=str(Path(self.folder).absolute()), data=str(Path(self.data).absolute()))


class ShardWorker:
    """Answers and writes some of the shards, in a process that Ray starts and, if it is lost, starts again.

    Args:
        task: What is answered.
        files: Where shards are written.
        stamp: Of the data, as the process sees them that asks.
    """

    def __init__(self, task: ShardTask, files: ShardFiles, stamp: str):
        self._task, self._files, self._stamp = task, files, stamp
        self._answerer: ShardAnswerer | None = None
        self._rows: Generator[Row, None, None] | None = None
        self._place = 0

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Answer one shard; what goes wrong is said rather than raised, for Ray would try again.

        Args:
            batch: ``shard``, int64 (1,), its number.

        Returns:
            ``rows`` and ``bad``, their numbers; ``stages``, as JSON; and of what went wrong the ``error``'s name and
            ``message``, else empty.
        """
        try:
            found, fault = self._answer(int(batch["shard"][0])), ("", "")
        except DynamicExitError as error:
            found, fault = PredictionSummary(), (type(error).__name__, str(error))
        said = {"rows": found.rows, "bad": found.bad, "stages": json.dumps(found.stages)}
        said |= {"error": fault[0], "message": fault[1]}
        return {name: [value] for name, value in said.items()}

    def _answer(self, number: int) -> PredictionSummary:
        task, summary = self._task, PredictionSummary()
        if self._answerer is None:
            self._answerer = ShardAnswerer(
                Path(task.folder), Path(task.data), task.options, **_one_thread(Path(task.folder))
            )
        if self._answerer.source.stamp != self._stamp:
            raise DataError(f"data '{task.data}' are not the same on all machines; put them where all of them see them")
        rows = self._rows_from(self._answerer, number * task.options.shard_rows)
        table = self._answerer.answer(rows, summary)
        self._place += summary.rows
        self._files.write(number, table)
        return summary

    def _rows_from(self, answerer: ShardAnswerer, start: int) -> Iterator[Row]:
        """Return the rows from one on; shards come in rising order, so that those between are read once."""
        if self._rows is None or start < self._place:
            self._rows, self._place = answerer.source.rows(start), start
        for _ in islice(self._rows, start - self._place):
            self._place += 1
        return self._rows


def answer_on_ray(
    task: ShardTask, files: ShardFiles, numbers: Sequence[int], stamp: str
) -> Generator[PredictionSummary, None, None]:
    """Answer shards and yield what was answered, in whatever order they end.

    Args:
        task: What is answered.
        files: Where shards are written.
        numbers: Of the shards.
        stamp: Of the data, as they are here.

    Raises:
        ServingError: Ray is not installed, or does not start.
        DynamicExitError: A shard cannot be answered or written.
    """
    import_ray()
    if not numbers:
        return
    with running_ray():
        import ray
        from ray import data

        quiet = data.DataContext.get_current()
        quiet.enable_progress_bars = quiet.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        most = max(1, min(len(numbers), int(ray.cluster_resources().get("CPU", 1))))
        shards = data.from_items([{"shard": number} for number in numbers], override_num_blocks=len(numbers))
        answered = shards.map_batches(
            ShardWorker,
            fn_constructor_args=(task.absolute(), ShardFiles(files.output, files.partial), stamp),
            batch_size=1,
            compute=data.ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=1,
        )
        for row in answered.iter_rows():
            if row["error"]:
                raise getattr(errors, row["error"], DataError)(row["message"])
            yield PredictionSummary(row["rows"], row["bad"], Counter(json.loads(row["stages"])))


def _one_thread(folder: Path) -> dict[str, Any]:
    """Return options that leave other processors to other workers, where the runtime takes some."""
    takes = TARGETS.find(read_manifest(folder).target).loading
    return {"session_options": threads_option(1)} if "session_options" in takes else {}
