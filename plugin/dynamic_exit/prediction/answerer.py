"""Answers shards of rows."""

import importlib
import logging
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.standalone import Answers, load_runner
from ..chain.names import FINAL
from ..errors import DataError, first_line
from .options import PredictionOptions
from .rows import Row, RowRequest, open_rows
from .summary import PredictionSummary

logger = logging.getLogger(__name__)

_NOT_FINITE = "it holds NaN or infinity, or the model answers it with NaN"


class ShardAnswerer:
    """Answers rows shard by shard; batches do not go over the end of a shard.

    So the answers of a shard hang on nothing but its rows, and an interrupted run ends as one that was not.

    Args:
        folder: A folder that ``dynamic-exit run`` wrote.
        data: What is answered.
        options: How.
        **loading: Further options of `load_runner`.

    Attributes:
        model: The model, at its operating point.
        source: The rows.

    Raises:
        DataError: The data cannot be used.
        DynamicExitError: As for `load_runner`.
    """

    def __init__(self, folder: Path, data: Path, options: PredictionOptions, **loading: Any):
        self.model = load_runner(folder, options.operating_point, non_finite="report", **loading)
        self.source = open_rows(RowRequest(data, folder, self.model.manifest, options.columns))
        self._options = options
        self._stages = (*self.model.stages, self.model.operating_points.last_stage or FINAL)

    def answer(self, rows: Iterator[Row], summary: PredictionSummary) -> Any:
        """Answer the next rows, as many as a shard takes.

        Args:
            rows: Those that are left.
            summary: Counts them.

        Returns:
            A table of pyarrow; one without columns if no rows are left.

        Raises:
            DataError: There are more bad rows than are allowed, or the model cannot take some.
        """
        arrow = importlib.import_module("pyarrow")
        left, began, blocks = self._options.shard_rows, time.monotonic(), []
        while batch := list(islice(rows, min(left, self._options.batch_size))):
            blocks.append(self._answer(batch, summary))
            left -= len(batch)
        if not blocks:
            return arrow.table({})
        table = arrow.concat_tables(blocks)
        summary.count_stages(table)
        logger.debug(f"{table.num_rows / max(1e-9, time.monotonic() - began):.0f} rows a second")
        return table

    def _answer(self, batch: Sequence[Row], summary: PredictionSummary) -> Any:
        """Answer a batch of rows."""
        prepared = self.source.prepare(batch)
        errors: list[str | None] = [prepared.faults.get(place) for place in range(len(batch))]
        places = np.asarray([place for place, error in enumerate(errors) if error is None], np.int64)
        labels, stages = np.zeros(len(batch), np.int64), np.zeros(len(batch), np.int64)
        confidence = np.zeros(len(batch), np.float32)
        if len(places):
            logits, stages[places], confidence[places] = self._run(batch, prepared.inputs)
            labels[places] = logits.argmax(axis=1)
        for place in np.flatnonzero(np.isnan(confidence)).tolist():
            errors[place] = f"row {batch[place].key}: {_NOT_FINITE}"
        summary.rows += len(batch)
        for error in filter(None, errors):
            summary.bad += 1
            summary.check_bad(error, self._options.max_bad)
        return self._table(batch, labels, stages, confidence, errors)

    def _run(self, batch: Sequence[Row], inputs: dict[str, np.ndarray]) -> Answers:
        """Call the model on the inputs of a batch."""
        try:
            return self.model(thresholds=None, **inputs)
        except Exception as error:
            if type(error).__name__ != "InvalidArgument":  # of onnxruntime, such as a token that is in no table
                raise
            raise DataError(
                f"the model cannot take the values of rows {batch[0].key} to {batch[-1].key}: {first_line(error)}"
            ) from error

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
        names = self.model.labels
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
