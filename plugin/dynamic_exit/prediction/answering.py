"""Batch inference: rows in, shards of answers out."""

import importlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.folder import POINTS_FILE, PROCESSOR_FILE
from ..artifact.manifest import CONFIG_FILE
from ..artifact.standalone import Answers, DynamicExitRunner, load_runner
from ..chain.names import FINAL
from ..core import signals
from ..core.hashing import digest, file_fingerprint
from ..errors import DataError, OutputError, first_line
from .options import DEFAULTS, PredictionOptions
from .rows import Row, RowRequest, RowSource, open_rows
from .shards import Shards

logger = logging.getLogger(__name__)

_NOT_FINITE = "it holds NaN or infinity, or the model answers it with NaN"


@dataclass
class PredictionSummary:
    """What was answered.

    Attributes:
        rows: All rows.
        bad: Rows without an answer.
        stages: Stage -> rows that it answered.
        resumed: Rows among them that an interrupted run had answered.
    """

    rows: int = 0
    bad: int = 0
    stages: Counter[str] = field(default_factory=Counter)
    resumed: int = 0

    def add(self, table: Any) -> None:
        """Count the rows of a shard."""
        self.rows += table.num_rows
        self.bad += table.num_rows - table["error"].null_count
        self.stages.update(each for each in table["stage"].to_pylist() if each is not None)


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
        options: How.

    Returns:
        What was answered.

    Raises:
        OutputError: The output is there, cannot be written, or parts of it were made of something else; or pyarrow is
            not installed.
        DataError: The data cannot be used, or have more bad rows than are allowed.
        DynamicExitError: As for `load_runner`.
    """
    _check_pyarrow()
    shards = Shards(Path(output), options.overwrite)
    try:
        model = load_runner(folder, options.operating_point, non_finite="report")
        source = open_rows(RowRequest(Path(data), Path(folder), model.manifest, options.columns))
        made_of = {
            "model": _fingerprint(Path(folder), model.manifest.tokenizer_files),
            "data": source.stamp,
            "columns": source.settings,
            "operating_point": model.operating_point.name,
            "batch_size": options.batch_size,
            "shard_rows": options.shard_rows,
        }
        with signals.advise_on_interrupt(lambda: "interrupted; the same command goes on from the last finished shard"):
            return _Prediction(model, source, shards, options).run(made_of)
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


class _Prediction:
    """Answers the rows of a source, shard by shard; batches do not go over the end of a shard.

    So the answers of a shard hang on nothing but its rows, and an interrupted run ends as one that was not.
    """

    def __init__(self, model: DynamicExitRunner, source: RowSource, shards: Shards, options: PredictionOptions):
        self._model, self._source, self._shards, self._options = model, source, shards, options
        self._stages = (*model.stages, model.operating_points.last_stage or FINAL)
        self._summary = PredictionSummary()

    def run(self, made_of: dict[str, Any]) -> PredictionSummary:
        """Answer what is not answered, put the output in its place, and return what was answered."""
        summary, width = self._summary, self._options.shard_rows
        number = self._shards.begin(made_of)
        for finished in range(number):
            summary.add(self._shards.read(finished, ["stage", "error"]))
        summary.resumed = summary.rows
        self._check_bad(f"{summary.bad} rows of the finished shards have no answer")
        if number:
            logger.info(f"{number} finished shards with {summary.rows} rows are kept")
        if summary.rows == number * width:  # else the last one was reached
            with closing(self._source.rows(summary.rows)) as rows:
                while (table := self._answer_shard(rows)).num_rows:
                    self._shards.write(number, table)
                    summary.stages.update(each for each in table["stage"].to_pylist() if each is not None)
                    number += 1
                    logger.info(f"shard {number}: {summary.rows} rows are answered")
        if not number:
            raise DataError("the data hold no rows; there is nothing to answer")
        self._shards.finish(number)
        return summary

    def _answer_shard(self, rows: Iterator[Row]) -> Any:
        """Answer the next rows, as many as a shard takes."""
        arrow = importlib.import_module("pyarrow")
        left, began, blocks = self._options.shard_rows, time.monotonic(), []
        while batch := list(islice(rows, min(left, self._options.batch_size))):
            blocks.append(self._answer(batch))
            left -= len(batch)
        if not blocks:
            return arrow.table({})
        table = arrow.concat_tables(blocks)
        logger.debug(f"{table.num_rows / max(1e-9, time.monotonic() - began):.0f} rows a second")
        return table

    def _answer(self, batch: Sequence[Row]) -> Any:
        """Answer a batch of rows."""
        prepared = self._source.prepare(batch)
        errors: list[str | None] = [prepared.faults.get(place) for place in range(len(batch))]
        places = np.asarray([place for place, error in enumerate(errors) if error is None], np.int64)
        labels, stages = np.zeros(len(batch), np.int64), np.zeros(len(batch), np.int64)
        confidence = np.zeros(len(batch), np.float32)
        if len(places):
            logits, stages[places], confidence[places] = self._run(batch, prepared.inputs)
            labels[places] = logits.argmax(axis=1)
        for place in np.flatnonzero(np.isnan(confidence)).tolist():
            errors[place] = f"row {batch[place].key}: {_NOT_FINITE}"
        self._summary.rows += len(batch)
        for error in filter(None, errors):
            self._summary.bad += 1
            self._check_bad(error)
        return self._table(batch, labels, stages, confidence, errors)

    def _run(self, batch: Sequence[Row], inputs: dict[str, np.ndarray]) -> Answers:
        """Call the model on the inputs of a batch."""
        try:
            return self._model(thresholds=None, **inputs)
        except Exception as error:
            if type(error).__name__ != "InvalidArgument":  # of onnxruntime, such as a token that is in no table
                raise
            raise DataError(
                f"the model cannot take the values of rows {batch[0].key} to {batch[-1].key}: {first_line(error)}"
            ) from error

    def _check_bad(self, said: str) -> None:
        """Refuse one bad row too many."""
        allowed = self._options.max_bad
        if self._summary.bad > allowed:
            more = f"it is one of more than {allowed} bad rows (--max-bad)" if allowed else "--max-bad allows bad rows"
            raise DataError(f"{said}; {more}")

    def _table(
        self,
        batch: Sequence[Row],
        labels: np.ndarray,
        stages: np.ndarray,
        confidence: np.ndarray,
        errors: Sequence[str | None],
    ) -> Any:
        arrow = importlib.import_module("pyarrow")
        bad = np.asarray([error is not None for error in errors])
        names = self._model.labels
        text = arrow.string()
        return arrow.table(
            {
                "key": arrow.array([row.key for row in batch]),
                "prediction": arrow.array([names[i] if names else str(i) for i in labels], text, mask=bad),
                "label_index": arrow.array(labels, mask=bad),
                "confidence": arrow.array(confidence, arrow.float32(), mask=bad),
                "stage": arrow.array([self._stages[i] for i in stages], text, mask=bad),
                "error": arrow.array(errors, text),
            }
        )
