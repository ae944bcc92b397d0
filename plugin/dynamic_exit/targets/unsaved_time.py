"""The verdict on a finished model whose multiply-adds shrink and whose time does not."""

from collections.abc import Sequence

from ..report.metrics import PointFigures

#: Shares of multiply-adds from which on a point that saves less than half as much time is named.
MIN_SAVED = 0.1


def unsaved_time(rows: Sequence[PointFigures]) -> str | None:
    """Say where multiply-adds are saved and hardly any time.

    Args:
        rows: The backbone alone, as it ships in the last row without a drop, and every point; costs in multiply-adds.

    Returns:
        One sentence on the point that falls shortest; None if at some batch size each saves at least half as much time
        as multiply-adds, or few of them.
    """
    backbone = [row for row in rows if row.accuracy_drop is None][-1].seconds_per_sample
    short = []
    for row in (row for row in rows if row.accuracy_drop is not None):
        times = {size: 1 - each.median / backbone[size].median for size, each in row.seconds_per_sample.items()}
        saved = 1 - row.cost_ratio
        if times and saved >= MIN_SAVED and max(times.values()) < saved / 2:
            short.append((saved - max(times.values()), row.name, saved, times))
    if not short:
        return None
    _, name, saved, times = max(short, key=lambda each: each[0])
    listed = ", ".join(f"{max(0.0, share):.0%} at batch {size}" for size, share in times.items())
    others = f"; the same holds for {len(short) - 1} more" if len(short) > 1 else ""
    return (
        f"{name} saves {saved:.0%} of the multiply-adds but of the time {listed}{others}: operations that are small or "
        "wait for memory take time that multiply-adds do not count; `tuning.cost: latency` counts seconds"
    )
