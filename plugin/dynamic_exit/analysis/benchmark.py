"""Times a written model against its backbone alone, and against the ideal; ONNX files in float and in int8."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..artifact.folder import MODEL_FILE, POINTS_FILE
from ..artifact.manifest import CONFIG_FILE, Manifest, read_manifest
from ..chain.names import FINAL
from ..chain.spec import ChainSpec
from ..chain.walk import Runnable, chain_steps, walk
from ..cost import ExitCost, chain_cost
from ..errors import DataError, ExportError
from ..guarantee.drop_checks import standard_error
from ..points.operating_point import BACKBONE, OperatingPoint, OperatingPoints, point_thresholds
from ..recipe.target_registry import DEFAULT_TARGET, TARGETS, TargetKind
from ..records.stage_table import exit_cost
from ..report.descriptions import Benchmark, BenchmarkRow
from ..runtime.stages import FLOAT
from ..targets.base import Feeds
from ..targets.measure import Variant, answer, make_call, time_calls, timed_slices
from .parts import BenchmarkParts, file_parts, runner_parts, segment_parts

#: Samples in one call that are timed.
BATCH_SIZES = (1, 8, 64)
# what rows are called that are not in float, if the folder does not name their numerics
_SHIPPED = "as shipped"


@dataclass(frozen=True)
class _Model:
    """A model in one numerics, whose sessions use some threads."""

    numerics: str
    parts: BenchmarkParts

    def variant(self, point: OperatingPoint | None) -> Variant:
        """Return what answers at a point; for None the backbone alone."""
        if point is None:
            return Variant(self.parts.static)
        return Variant(self.parts.dynamic, point_thresholds(point, self.parts.chain.names))


def benchmark_folder(
    folder: Path,
    inputs: Feeds | np.ndarray,
    labels: np.ndarray,
    *,
    operating_points: Sequence[str] | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    threads: int = 1,
    time_limit: float = 60.0,
) -> Benchmark:
    """Time a written model against its backbone alone, all in turn, on real samples.

    A folder whose files other runtimes take too, as those for OpenVINO, has rows for each of them.

    The float rows of a quantized model are the model as it was before, which the run keeps in its cache. On another
    machine they are the file's own graph without its static int8, if the run found that this answers as the float model
    does, and are called so. Else, and for torch, there are none.

    Args:
        folder: Written by a run, as one file or one a stage.
        inputs: By name, each (N, ...), or the only one: their mix of easy and hard decides what a dynamic file saves.
        labels: int64 (N,), -1 where unknown.
        operating_points: Names; None takes all.
        batch_sizes: Samples in one call.
        threads: Within an operator.
        time_limit: Seconds for one batch size, after which no further round is started.

    Raises:
        DynamicExitError: The folder, a name or the data cannot be used.
    """
    manifest = read_manifest(folder) if (folder / CONFIG_FILE).is_file() else None
    single = manifest is None or manifest.layout == "single"
    for name in (*[MODEL_FILE] * single, POINTS_FILE):
        if not (folder / name).is_file():
            raise ExportError(f"'{folder}' has no {name}; give a folder that `dynamic-exit run` wrote")
    points = OperatingPoints.read(folder / POINTS_FILE)
    chosen = [points.by_name(name) for name in operating_points or points.names]
    models, note = _open_models(folder, manifest, threads)
    feeds = _select_feeds(models[0], inputs)
    _check_batch_sizes(feeds, batch_sizes)
    table = _Table(models, points, feeds, labels)
    for point in (None, *chosen):
        for model in models:
            table.add_row(model, point)
    for size in batch_sizes:
        table.time(size, threads, time_limit)
    return {
        "rows": table.rows,
        "samples": len(labels),
        "runtime": " and ".join(kind.runtime() for kind in _kinds(manifest)),
        "threads": threads,
        "notes": list(filter(None, [note, _without_backbone(points)])),
    }


def _without_backbone(points: OperatingPoints) -> str | None:
    if points.last_stage is None:
        return None
    return (
        f"the file does not hold the whole backbone: '{points.last_stage}' answers last, and the first row, which "
        f"others are compared with, is the backbone up to there; times of '{BACKBONE}' are in the report of the run"
    )


def _kinds(manifest: Manifest | None) -> list[TargetKind]:
    """Return the folder's target, and those whose runtimes take its files too."""
    target = TARGETS.find(DEFAULT_TARGET if manifest is None else manifest.target)
    return [target, *map(TARGETS.find, target.compared_with)]


def _open_models(folder: Path, manifest: Manifest | None, threads: int) -> tuple[list[_Model], str | None]:
    """Open a folder's model in float, if that can be had, and as exported; with what users must know of the first."""
    numerics = manifest.numerics if manifest is not None else None
    models: list[_Model] = []
    kinds = _kinds(manifest)
    for kind in kinds:
        open_model = partial(kind.open_model, threads=threads)
        if manifest is None or manifest.layout == "single":
            opened, twin, note = file_parts(folder, manifest, open_model)
        elif manifest.has_onnx_parts:
            opened, twin, note = segment_parts(folder, manifest, open_model)
        else:
            return [_Model(numerics or _SHIPPED, runner_parts(folder, manifest))], None
        if numerics is None or numerics == FLOAT:
            numerics = _SHIPPED if twin or note else FLOAT
        where = f", {kind.runtime().partition(' ')[0]}" if len(kinds) > 1 else ""
        names = [*([twin.numerics] if twin else []), numerics]
        models += [_Model(f"{name}{where}", parts) for name, parts in zip(names, opened, strict=True)]
    return models, note


def _select_feeds(model: _Model, inputs: Feeds | np.ndarray) -> Feeds:
    wanted = [value.name for value in model.parts.static.get_inputs()]
    if not isinstance(inputs, Mapping):
        if len(wanted) == 1:
            return {wanted[0]: inputs}
        raise DataError(f"the model takes the inputs {', '.join(wanted)}; the data hold one array")
    if not set(wanted) <= set(inputs):
        raise DataError(f"the model takes the inputs {', '.join(wanted)}; the data hold {', '.join(inputs)}")
    return {name: inputs[name] for name in wanted}


def _check_batch_sizes(feeds: Feeds, batch_sizes: Sequence[int]) -> None:
    count = len(next(iter(feeds.values())))
    if min(batch_sizes) < 1 or count < max(batch_sizes):
        raise DataError(f"batch sizes must lie within 1 and the {count} samples given; got {list(batch_sizes)}")


class _Table:
    """The rows of a benchmark while they are measured.

    Args:
        models: One for each numerics.
        points: All points of the folder.
        feeds: Inputs by name, each (N, ...).
        labels: int64 (N,), -1 where unknown.
    """

    def __init__(self, models: Sequence[_Model], points: OperatingPoints, feeds: Feeds, labels: np.ndarray):
        self.models = {model.numerics: model for model in models}
        self.points, self.feeds, self.labels = points, feeds, labels
        self.rows: list[BenchmarkRow] = []

    def add_row(self, model: _Model, point: OperatingPoint | None) -> None:
        """Add a row without its times; for None it is the backbone alone."""
        stages = (*model.parts.chain.names, FINAL)
        logits, exits = answer(model.variant(point), self.feeds, len(stages) - 1)
        known = self.labels >= 0
        accuracy = float((logits.argmax(1) == self.labels)[known].mean()) if known.any() else None
        self.rows.append(
            {
                "name": self.points.last_stage or BACKBONE if point is None else point.name,
                "numerics": model.numerics,
                "operating_point": None if point is None else point.name,
                "accuracy": accuracy,
                "exit_rates": {stage: float((exits == index).mean()) for index, stage in enumerate(stages)},
                "seconds_per_sample": {},
                "speed_up": {},
                "ideal_seconds_per_sample": {},
                "accuracy_standard_error": None if accuracy is None else standard_error(accuracy, int(known.sum())),
            }
        )

    def time(self, size: int, threads: int, time_limit: float) -> None:
        """Add the times at one batch size to all rows."""
        slices = timed_slices(self.feeds, size)
        calls: dict[str, Callable[[], None]] = {}
        for row in self.rows:
            calls[_row_key(row)] = make_call(self.models[row["numerics"]].variant(self._point(row)), slices)
        for model in self.models.values():
            for name, feeds in _part_feeds(model.parts, slices[0]).items():
                variant = Variant(model.parts.sessions[name])
                calls[_part_key(name, model)] = make_call(variant, [feeds] * len(slices))
        measured = time_calls(calls, slices, threads, time_limit)
        key, base = str(size), measured[_row_key(self.rows[0])]
        for row in self.rows:
            found, point = measured[_row_key(row)], self._point(row)
            row["seconds_per_sample"][key] = found._asdict()
            row["speed_up"][key] = base.median / found.median
            if point is not None:
                model = self.models[row["numerics"]]
                seconds = {name: measured[_part_key(name, model)].median for name in model.parts.sessions}
                used = {stage.stage for stage in point.stages}
                ideal = ideal_seconds(model.parts.chain, used, row["exit_rates"], seconds)
                row["ideal_seconds_per_sample"][key] = ideal

    def _point(self, row: BenchmarkRow) -> OperatingPoint | None:
        name = row["operating_point"]
        return None if name is None else self.points.by_name(name)


def _row_key(row: BenchmarkRow) -> str:
    return f"row {row['name']}, {row['numerics']}"


def _part_key(name: str, model: _Model) -> str:
    return f"part {name}, {model.numerics}"


def ideal_seconds(
    chain: ChainSpec, used: set[str], exit_rates: Mapping[str, float], seconds: Mapping[str, float]
) -> float:
    """Return the mean time of a sample if nothing but the stages that it needs took time.

    Args:
        chain: The parts of the model.
        used: Names of the stages that are on.
        exit_rates: Share of samples that each stage answers, ``final`` included.
        seconds: Per sample, by stage; of segments by role.

    Returns:
        Seconds per sample.
    """
    costs = chain_cost(
        {stage.name: seconds[stage.name] for stage in chain.savers},
        [seconds[f"segment{place}"] for place in range(len(chain.segments))],
        {stage.name: ExitCost(stage.position, seconds[stage.name]) for stage in chain.exits},
        unit="seconds",
    )
    stages = [name for name in chain.names if name in used] + [FINAL]
    own, prefix = (np.array([each[name] for name in stages]) for each in (costs.own, costs.prefix))
    return float(exit_cost(own, prefix) @ [exit_rates.get(name, 0.0) for name in stages])


def _part_feeds(parts: BenchmarkParts, batch: Feeds) -> dict[str, Feeds]:
    """Return what each part takes when a whole batch reaches it."""
    feeds: dict[str, Feeds] = {}

    def part(name: str, input_names: Sequence[str]) -> Runnable:
        def run(*arguments: np.ndarray) -> np.ndarray:
            feeds[name] = dict(zip(input_names, arguments, strict=True))
            return parts.sessions[name].run(None, feeds[name])[0]

        return Runnable(run, input_names)

    chain = parts.chain
    savers = [(stage.name, part(stage.name, stage.inputs)) for stage in chain.savers]
    segments = [part(f"segment{place}", names) for place, names in enumerate(chain.segments)]
    exits = [(stage.name, stage.position, part(stage.name, stage.inputs)) for stage in chain.exits]
    walk(chain_steps(savers, segments, exits, {}), batch)
    return feeds
