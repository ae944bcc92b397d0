"""How records are shown in a console and a notebook, and handed to pandas."""

import html
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import RecordsError


def html_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a small table for a notebook.

    Args:
        title: Shown above it.
        header: The column titles.
        rows: One cell per column.
    """

    def line(kind: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<p>{html.escape(title)}</p><table><thead>{line('th', header)}</thead><tbody>{body}</tbody></table>"


class RecordsDisplay:
    """What `Records` show of themselves; its attributes are theirs."""

    labels: np.ndarray
    stages: tuple[str, ...]
    kinds: tuple[str, ...]
    topk_classes: np.ndarray
    topk_probabilities: np.ndarray
    own_cost: np.ndarray
    prefix_cost: np.ndarray
    cost_unit: str

    def __repr__(self) -> str:
        """Return sizes and stages, no arrays."""
        count, kept = self.topk_classes.shape[1:]
        return (
            f"Records({count} samples, {kept} kept classes, stages {', '.join(self.stages)}, costs in {self.cost_unit})"
        )

    def _repr_html_(self) -> str:
        accuracy = self._accuracy()
        rows = [
            [
                stage,
                self.kinds[place],
                f"{accuracy[place]:.1%}" if np.isfinite(accuracy[place]) else "",
                f"{(self.own_cost[place] + self.prefix_cost[place]) / self.prefix_cost[-1]:.4f}",
            ]
            for place, stage in enumerate(self.stages)
        ]
        return html_table(repr(self), ["stage", "kind", "accuracy alone", "cost alone"], rows)

    def _accuracy(self) -> np.ndarray:
        """Return how often each stage alone is right on samples with labels, (S,)."""
        known = np.asarray(self.labels) >= 0
        if not known.any():
            return np.full(len(self.stages), np.nan)
        right: np.ndarray = self.topk_classes[:, known, 0] == np.asarray(self.labels)[known]
        return right.mean(axis=1)

    def to_dataframe(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each sample and stage: N x S rows, by sample.

        Its columns: ``sample`` (0..N-1), ``label`` (-1 if unknown), ``stage``, ``kind``, ``prediction``, ``confidence``
        (the largest probability, 0..1), ``correct`` (false where the label is unknown), ``own_cost`` and
        ``prefix_cost``.

        Raises:
            RecordsError: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise RecordsError("a data frame needs the package pandas; run `pip install pandas`") from error
        stages, samples = self.topk_classes.shape[:2]
        labels, answers = np.repeat(np.asarray(self.labels), stages), self.topk_classes[:, :, 0].T.reshape(-1)
        return pandas.DataFrame(
            {
                "sample": np.repeat(np.arange(samples), stages),
                "label": labels,
                "stage": np.tile(np.asarray(self.stages), samples),
                "kind": np.tile(np.asarray(self.kinds), samples),
                "prediction": answers,
                "confidence": self.topk_probabilities[:, :, 0].T.reshape(-1),
                "correct": answers == labels,
                "own_cost": np.tile(self.own_cost, samples),
                "prefix_cost": np.tile(self.prefix_cost, samples),
            }
        )
