"""Accuracy by class before and after, and which classes pay."""

from dataclasses import dataclass

from .metrics import Metrics, PointFigures
from .summary import backbone_row
from .tables import Table, percent

#: Classes that are shown without being asked for.
MAX_ROWS = 12


@dataclass(frozen=True)
class ClassRow:
    """One class at an operating point: samples, accuracy of the backbone and here, and the share that leaves early."""

    name: str
    samples: int
    before: float
    after: float
    early: float | None

    @property
    def change(self) -> float:
        """What it gains; negative for a loss."""
        return self.after - self.before


def class_rows(row: PointFigures, metrics: Metrics) -> list[ClassRow]:
    """Return the classes that have test samples, those that lose most first; empty if nothing is known by class."""
    before = backbone_row(metrics).class_accuracy
    answers = next((each for each in metrics.answers if each.name == row.name), None)
    last = answers.class_exit_rates.get(answers.stages[-1].stage) if answers else None
    rows = []
    for place, (name, samples) in enumerate(zip(metrics.class_names, metrics.class_samples, strict=False)):
        if place >= min(len(before), len(row.class_accuracy)):
            break
        was, now = before[place], row.class_accuracy[place]
        if samples and was is not None and now is not None:
            behind = last[place] if last else None
            rows.append(ClassRow(name, samples, was, now, None if behind is None else 1 - behind))
    return sorted(rows, key=lambda each: each.change)


def paying(rows: list[ClassRow]) -> str:
    """Say how many classes lose, and which loses most."""
    losing = [each for each in rows if each.change < 0]
    if not rows:
        return ""
    if not losing:
        return f"None of {len(rows)} classes loses."
    most, others = losing[0], len(rows) - len(losing)
    keep = f", {others} do not" if others else ""
    lost = f"{-100 * most.change:.1f} points on {most.samples} samples"
    return f"{len(losing)} of {len(rows)} classes lose{keep}; '{most.name}' pays most: {lost}."


def all_classes_table(metrics: Metrics) -> Table | None:
    """Return the table of all classes at all points; None if the open ones are all."""
    backbone = backbone_row(metrics)
    points = [row for row in metrics.rows if row.accuracy_drop is not None and row.class_accuracy]
    known = [place for place, samples in enumerate(metrics.class_samples) if samples]
    if len(known) <= MAX_ROWS or not points or not backbone.class_accuracy:
        return None
    rows = [
        [
            metrics.class_names[place],
            str(metrics.class_samples[place]),
            *(percent(row.class_accuracy[place]) for row in (backbone, *points)),
        ]
        for place in known
    ]
    return Table(["class", "samples", backbone.name, *(row.name for row in points)], rows, f"All {len(rows)} classes")
