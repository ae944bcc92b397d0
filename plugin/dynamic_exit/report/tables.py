"""The tables and sentences that the report, the model card and the command line show, as data."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..guarantee.drop_checks import DropCheck, standard_error
from ..points.operating_point import OperatingPoints
from .descriptions import Benchmark, FolderDescription
from .figures import UpgradeFigures
from .metrics import GoalFigures, LatencyFigures, Metrics, StaticPassEffect, StaticSearchFigures

#: Classes that `class_table` shows at most.
MAX_CLASSES_SHOWN = 10


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        header: The column titles.
        rows: One cell per column.
        title: Shown above the table; may be empty.
        importance: Indices of columns, those that are kept longest where space is short first; others follow in order.
        names: Number of the first columns that name a row; they and one more always stay, and go over several lines
            where space is short.
    """

    header: list[str]
    rows: list[list[str]]
    title: str = ""
    importance: tuple[int, ...] = ()
    names: int = 1

    def keep(self, columns: Sequence[int]) -> "Table":
        """Return the table with some of its columns, by index."""
        cut = [[row[i] for i in columns] for row in (self.header, *self.rows)]
        return Table(cut[0], cut[1:], self.title)


def percent(share: float | None, error: float | None = None, digits: int = 1) -> str:
    """Format a share, such as an accuracy, in percent with its standard error.

    Args:
        share: In 0..1; None, if it was not measured, gives an empty string.
        error: Standard error of the share; None if unknown.
        digits: Number of decimals.
    """
    if share is None:
        return ""
    return f"{share:.{digits}%}" if error is None else f"{100 * share:.{digits}f} ± {100 * error:.{digits}f} %"


def metrics_table(metrics: Metrics) -> Table:
    """Return the table of operating points that a run writes and prints.

    Args:
        metrics: Content of ``metrics.json``.
    """
    sizes, rows = list(metrics.rows[0].seconds_per_sample), metrics.rows
    stages = [stage for stage in rows[0].exit_rates if any(row.exit_rates[stage] for row in rows)]
    goals = [row.goal for row in rows if row.goal]
    risk, limited = next((goal.risk for goal in goals if goal.risk != "accuracy"), None), any(g.limited for g in goals)
    header = ["", "accuracy", *([f"loss of {risk}"] if risk else []), *(["lost most"] if limited else []), "cost"]
    for size in sizes:
        header += [f"µs/sample, batch {size}", "speed-up"]
    cells = []
    for row in rows:
        line = [row.name, percent(row.accuracy, row.accuracy_standard_error)]
        line += [_risk_cell(row.goal)] * (risk is not None) + [_limit_cell(row.goal)] * limited
        line.append(f"{row.cost_ratio:.3f}")
        for size in sizes:
            line += [_microseconds(row.seconds_per_sample[size]), f"{row.speed_up[size]:.1f}x"]
        cells.append(line + [f"{row.exit_rates[stage]:.0%}" for stage in stages])
    timed = [i for i, title in enumerate(header) if title == "speed-up"]
    micro = [i for i, title in enumerate(header) if title.startswith("µs")]
    costs = [header.index("cost"), *timed]
    order = [0, 1, *costs, *(i for i in range(len(header + stages)) if i not in micro), *micro]
    return Table(header + stages, cells, importance=tuple(dict.fromkeys(order)))


def class_table(metrics: Metrics) -> Table | None:
    """Return the table of accuracies by class; of many classes, those that lose most at some operating point.

    Args:
        metrics: Content of ``metrics.json``.

    Returns:
        The table, whose title says which classes it holds; None if nothing is known by class.
    """
    rows = [row for row in metrics.rows if row.class_accuracy]
    known = [place for place, samples in enumerate(metrics.class_samples) if samples]
    if not rows or not known:
        return None
    # a point has a drop; the last row without one is what it is relative to
    before = next(row for row in reversed(rows) if row.accuracy_drop is None)

    def most_lost(place: int) -> float:
        return max((before.class_accuracy[place] or 0.0) - (row.class_accuracy[place] or 0.0) for row in rows)

    shown = sorted(sorted(known, key=most_lost, reverse=True)[:MAX_CLASSES_SHOWN])
    names = [f"{metrics.class_names[place]} ({metrics.class_samples[place]})" for place in shown]
    cells = [[row.name, *(percent(row.class_accuracy[place]) for place in shown)] for row in rows]
    which = f": those of {len(known)} classes that lose most" if len(known) > len(shown) else ""
    return Table(["", *names], cells, f"Accuracy by class, with the number of test samples{which}")


def _risk_cell(goal: GoalFigures | None) -> str:
    return "" if goal is None else percent(goal.risk_increase, goal.risk_increase_standard_error)


def _limit_cell(goal: GoalFigures | None) -> str:
    if goal is None or goal.limited is None:
        return ""
    return f"{goal.limited}: {percent(goal.limited_drop, goal.limited_drop_standard_error)}"


def folder_table(description: FolderDescription) -> Table:
    """Return the table of a written folder's operating points.

    Args:
        description: Returned by `analysis.inspect.inspect_folder`.
    """
    rows = []
    for point in description["operating_points"]["points"]:
        thresholds = (f"{stage['stage']} > {stage['threshold']:.4f}" for stage in point["stages"])
        rows.append(
            [
                point["name"],
                percent(point["accuracy"], standard_error(point["accuracy"], point["samples"]), 2),
                percent(point["accuracy_drop"], description["drop_errors"].get(point["name"]), 2),
                f"{point['cost_ratio']:.3f}",
                ", ".join(thresholds) or "none",
            ]
        )
    return Table(["operating point", "accuracy", "drop", "cost", "thresholds"], rows)


def tuned_points_table(points: OperatingPoints, checks: Sequence[DropCheck]) -> Table:
    """Return the table of operating points that were tuned.

    Args:
        points: The points.
        checks: The drop of each point on held-out samples.
    """
    header = ["operating point", "accuracy", "drop", "cost", "guarantee"]
    rows = [
        [
            point.name,
            percent(point.accuracy, standard_error(point.accuracy, point.samples), 2),
            percent(check.accuracy_drop, check.drop_error, 2),
            f"{point.cost_ratio:.3f}",
            f"{point.guarantee.probability:.0%}" if point.guarantee else "none",
        ]
        for point, check in zip(points.points, checks, strict=True)
    ]
    if any(check.risk != "accuracy" for check in checks):
        header.insert(3, f"loss of {checks[0].risk}")
        for row, check in zip(rows, checks, strict=True):
            row.insert(3, percent(check.risk_increase, check.risk_error, 2))
    if any(check.groups for check in checks):
        header.append("lost most")
        for row, check in zip(rows, checks, strict=True):
            row.append(
                f"{check.groups.what}: {percent(check.groups.drop, check.groups.error, 2)}" if check.groups else ""
            )
    return Table(header, rows)


def candidates_table(metrics: Metrics) -> Table:
    """Return the table of saver candidates; cells of figures that were not measured are empty.

    Args:
        metrics: Content of ``metrics.json``.
    """
    header = ["candidate", "accuracy", "cost", "answers", "saves alone", "saves in the chain", "chosen", "why"]
    rows = []
    for row in metrics.candidates:
        ratio = None if row.cost is None else row.cost / metrics.baseline_cost
        cells = [row.stage, percent(row.accuracy, row.accuracy_standard_error), _text(ratio, ".4f")]
        cells += [_text(share, ".1%") for share in (row.answered, row.saving_alone, row.saving_in_chain)]
        rows.append([*cells, "yes" if row.chosen else "no", row.why])
    return Table(header, rows)


def benchmark_tables(result: Benchmark) -> list[Table]:
    """Return one table per batch size.

    Args:
        result: Returned by `analysis.benchmark.benchmark_folder`.
    """
    tables = []
    for size in result["rows"][0]["seconds_per_sample"]:
        cells = []
        for row in result["rows"]:
            time, ideal = row["seconds_per_sample"][size], row["ideal_seconds_per_sample"].get(size)
            ratio = None if ideal is None else time["median"] / ideal
            cells.append(
                [
                    f"{row['name']}, {row['numerics']}",
                    percent(row["accuracy"], row["accuracy_standard_error"]),
                    _microseconds(LatencyFigures(**time)),
                    f"{row['speed_up'][size]:.2f}x",
                    _text(None if ideal is None else ideal * 1e6, ".1f"),
                    _text(ratio, ".2f"),
                ]
            )
        header = ["", "accuracy", "µs/sample", "speed-up", "ideal", "measured / ideal"]
        tables.append(Table(header, cells, f"batch {size}"))
    return tables


def _microseconds(time: LatencyFigures) -> str:
    """Format a median and half the interquartile range, in microseconds; a single round has no spread."""
    median = f"{time.median * 1e6:.1f}"
    return median if time.rounds < 2 else f"{median} ± {(time.high - time.low) / 2 * 1e6:.1f}"


def quantization_table(metrics: Metrics) -> Table:
    """Return the table of quantizations that were tried.

    Args:
        metrics: Content of ``metrics.json``.
    """
    rows = [
        [
            row.algorithm,
            percent(row.accuracy, row.accuracy_standard_error, 2),
            _text(row.seconds_per_sample and row.seconds_per_sample * 1e6, ".1f"),
            _text(row.size and row.size / 1e6, ".2f"),
            row.why,
        ]
        for row in metrics.numerics
    ]
    return Table(["quantization", "accuracy", "µs/sample, batch 64", "MB", "why"], rows)


def static_search_table(search: StaticSearchFigures) -> Table:
    """Return the table of static choices; cells of figures that were not measured are empty.

    Args:
        search: ``static_search`` of ``metrics.json``.
    """
    rows = [
        [
            row.pruning,
            row.quantization,
            percent(row.backbone_accuracy, row.backbone_accuracy_standard_error, 2),
            _text(row.backbone_cost_ratio, ".3f"),
            percent(row.accuracy, row.accuracy_standard_error, 2),
            _text(row.cost_ratio, ".4f"),
            _text(row.seconds, ".0f"),
            row.why,
        ]
        for row in search.variants
    ]
    header = ["pruning", "quantization", "backbone", "its cost", "with dynamic passes", "its cost", "s", "why"]
    return Table(header, rows)


def static_search_summary(search: StaticSearchFigures) -> str:
    """Compare the result of a static search with the original backbone, on test samples, in one sentence.

    Args:
        search: ``static_search`` of ``metrics.json``.
    """
    points = "; ".join(
        f"{row.name} loses {percent(row.accuracy_drop, row.accuracy_drop_standard_error, 2)} "
        f"at {row.cost_ratio:.4f} of its cost"
        for row in search.points
    )
    correct = percent(search.given.accuracy, search.given.accuracy_standard_error, 2)
    return f"Compared with the original backbone (accuracy {correct} on the test samples): {points}."


def upgrade_table(upgrade: UpgradeFigures) -> Table:
    """Return the table of backbones of an upgrade, on samples searched."""
    rows = [
        [each.name, f"{each.cost_ratio:.3g}", f"{each.alone:.1%}", f"{each.accuracy:.1%}", "chosen" * each.chosen]
        for each in upgrade.backbones
    ]
    return Table(["backbone", f"its cost, over {upgrade.model}'s", "alone", "accuracy at the budget", ""], rows)


def static_pass_notes(effect: StaticPassEffect | None) -> list[str]:
    """Describe the effect of static passes on the backbone in one sentence; empty if none has run.

    Args:
        effect: ``static_passes`` of ``metrics.json``.
    """
    if effect is None:
        return []
    given, made = effect.given, effect.made
    remain = f"{made.multiply_adds / given.multiply_adds:.1%} of the multiply-adds remain"
    correct = ""
    if given.accuracy is not None:
        shown = percent(made.accuracy, made.accuracy_standard_error, 2)
        before = percent(given.accuracy, given.accuracy_standard_error, 2)
        correct = f", {shown} of the test samples are right, {before} before (both in float)"
    return [f"{' and '.join(effect.passes)}: {remain}{correct}; other figures are against the backbone after that."]


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
