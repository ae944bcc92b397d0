"""Where samples leave, as the rows of a picture: the page draws them, as no plotting library bends with a page."""

from collections.abc import Mapping
from dataclasses import dataclass

from .figures import PointAnswers, StageAnswers
from .metrics import Metrics, PointFigures

# of the 100 units of a row: what all samples together are wide, and what those that leave are high
_WIDTH, _HEIGHT, _TOP = 64.0, 52.0, 24.0


@dataclass(frozen=True)
class FlowRow:
    """One stage in the picture.

    Attributes:
        stage: Its name.
        reached: Share of all samples that reach it.
        left: Share of all samples that leave there.
        accuracy: Share of right answers among those that leave; None if there are none.
        backbone_accuracy: The backbone's on the same samples; None if unknown.
        samples: Number of samples that leave; None if unknown.
        on: Outline of those that go on, as a path in a square of 100 units.
        out: Outline of those that leave.
    """

    stage: str
    reached: float
    left: float
    accuracy: float | None
    backbone_accuracy: float | None
    samples: int | None
    on: str
    out: str


def flow_rows(row: PointFigures, metrics: Metrics) -> list[FlowRow]:
    """Return the stages that an operating point uses, in chain order, the one that answers last included."""
    answers = next((each for each in metrics.answers if each.name == row.name), None)
    used = _used(row, answers)
    rows, reached = [], 1.0
    for name, left in used.items():
        known = next((each for each in answers.stages if each.stage == name), None) if answers else None
        rows.append(_flow_row(name, reached, left, known))
        reached = max(round(reached - left, 9), 0.0)  # sums of shares are off by rounding
    return rows


def _used(row: PointFigures, answers: PointAnswers | None) -> Mapping[str, float]:
    """Return the share that leaves by stage in use; of an older file, the stages that anything leaves at."""
    if answers:
        return {each.stage: row.exit_rates.get(each.stage, 0.0) for each in answers.stages}
    return {name: rate for name, rate in row.exit_rates.items() if rate}


def _flow_row(name: str, reached: float, left: float, known: StageAnswers | None) -> FlowRow:
    stays, all_here = _WIDTH * max(reached - left, 0.0), _WIDTH * reached
    bottom = _TOP + _HEIGHT * left
    return FlowRow(
        stage=name,
        reached=reached,
        left=left,
        accuracy=known.correct / known.left if known and known.left else None,
        backbone_accuracy=known.backbone_correct / known.left if known and known.left else None,
        samples=known.left if known else None,
        on=f"M0 0H{stays:.2f}V100H0Z" if stays else "",
        out=f"M{stays:.2f} 0H{all_here:.2f}C{all_here:.2f} {_TOP:g} {all_here:.2f} {_TOP:g} 100 {_TOP:g}V{bottom:.2f}"
        f"C{stays:.2f} {bottom:.2f} {stays:.2f} {bottom:.2f} {stays:.2f} 0Z"
        if left
        else "",
    )
