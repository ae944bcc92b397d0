"""Batch inference: rows in, shards of answers out."""

import importlib
import logging
import math
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..artifact.folder import POINTS_FILE, PROCESSOR_FILE
from ..artifact.manifest import CONFIG_FILE
from ..core import signals
from ..core.hashing import digest, file_fingerprint
from ..errors import DataError, OutputError
from .answerer import ShardAnswerer
from .on_ray import ShardTask, answer_on_ray
from .options import DEFAULTS, PredictionOptions
from .shards import Shards
from .summary import PredictionSummary

logger = logging.getLogger(__name__)


def predict(
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: PredictionOptions = DEFAULTS,
) -> PredictionSummary:
    """Answer data without labels and write the answers as parquet.

    A row of the output has ``key`` (path below the folder, or number of the row from 0), ``prediction`` (name of a
    class), ``label_index`` (int64), ``confidence`` (float32 in 0..1), ``stage`` (that answered) and ``error`` (null, or
    why there is no answer; the others are then null). Shards of an interrupted call with the same arguments are kept.

    Args:
        folder: A folder that ``dynamic-exit run`` wrote.
        data: A folder of pictures, nested or not; a text file; or an ``.npz`` file of inputs.
        output: One file if the name ends in ``.parquet``, else a folder of shards; it appears once all is answered.
        options: How. With `ray` all three must be at the same places on every machine of the cluster.

    Returns:
        What was answered.

    Raises:
        OutputError: The output is there, cannot be written, or parts of it were made of something else; or pyarrow is
            not installed.
        DataError: The data cannot be used, or have more bad rows than are allowed.
        ServingError: Ray is asked for and not installed, or does not start.
        DynamicExitError: As for `load_runner`.
    """
    _check_pyarrow()
    shards = Shards(Path(output), options.overwrite)
    try:
        answerer = ShardAnswerer(Path(folder), Path(data), options)
        made_of = {
            "model": _fingerprint(Path(folder), answerer.model.manifest.tokenizer_files),
            "data": answerer.source.stamp,
            "columns": answerer.source.settings,
            "operating_point": answerer.model.operating_point.name,
            "batch_size": options.batch_size,
            "shard_rows": options.shard_rows,
        }
        with signals.advise_on_interrupt(lambda: "interrupted; the same command goes on from the last finished shard"):
            if options.ray:
                return _answer_side_by_side(answerer, shards, made_of, ShardTask(str(folder), str(data), options))
            return _answer_in_turn(answerer, shards, made_of, options)
    finally:
        shards.release()


def _check_pyarrow() -> None:
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise OutputError(
            "predictions are written by pyarrow, which is not installed; install the extra `datasets`"
        ) from error


def _fingerprint(folder: Path, tokenizer_files: Sequence[str]) -> str:
    """Return what changes with a model, its points and its preparation of inputs; weights by their checksums."""
    names = (CONFIG_FILE, POINTS_FILE, PROCESSOR_FILE, *tokenizer_files)
    return digest([[name, file_fingerprint(folder / name)] for name in names if (folder / name).is_file()])


def _answer_in_turn(
    answerer: ShardAnswerer, shards: Shards, made_of: dict[str, Any], options: PredictionOptions
) -> PredictionSummary:
    """Answer what is not answered, one shard after the other, and put the output in its place."""
    number = shards.begin(made_of)
    summary = _kept(shards, range(number), options)
    if summary.rows == number * options.shard_rows:  # else the last one was reached
        with closing(answerer.source.rows(summary.rows)) as rows:
            while (table := answerer.answer(rows, summary)).num_rows:
                shards.write(number, table)
                number += 1
                logger.info(f"shard {number}: {summary.rows} rows are answered")
    if not number:
        raise DataError("the data hold no rows; there is nothing to answer")
    shards.finish(number)
    return summary


def _answer_side_by_side(
    answerer: ShardAnswerer, shards: Shards, made_of: dict[str, Any], task: ShardTask
) -> PredictionSummary:
    """Answer what is not answered on all processors that Ray has, and put the output in its place."""
    shards.begin(made_of)
    count = math.ceil(answerer.source.count() / task.options.shard_rows)
    if not count:
        raise DataError("the data hold no rows; there is nothing to answer")
    missing = shards.missing(count)
    summary = _kept(shards, sorted({*range(count)} - {*missing}), task.options)
    for each in answer_on_ray(task, shards, missing, answerer.source.stamp):
        summary.join(each)
        summary.check_bad(f"{summary.bad} rows have no answer", task.options.max_bad)
        logger.info(f"{summary.rows} rows are answered")
    shards.finish(count)
    return summary


def _kept(shards: Shards, finished: Sequence[int], options: PredictionOptions) -> PredictionSummary:
    """Count what shards of an interrupted run hold."""
    summary = PredictionSummary()
    for number in finished:
        summary.add(shards.read(number, ["stage", "error"]))
    summary.check_bad(f"{summary.bad} rows of the finished shards have no answer", options.max_bad)
    if finished:
        logger.info(f"{len(finished)} finished shards with {summary.rows} rows are kept")
    return summary
