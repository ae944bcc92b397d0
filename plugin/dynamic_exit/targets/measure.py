"""Measures a finished model from its files: answers and seconds, in turn with the backbone alone."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..chain.thresholds import ALWAYS_EXIT, Configuration
from ..core.batching import named_batches
from ..cost import ROUND_SECONDS, Latency, measure_latency
from ..cost.processor import instruction_set
from ..data.run_inputs import RunInputs
from ..onnx.verification import run_session
from ..points.operating_point import OperatingPoints, point_thresholds
from ..report.metrics import FileSizes, LatencyFigures, PointFigures, Timing
from ..runtime.stages import FLOAT, StageSet
from . import stage_costs
from .base import RunnableModel, Session

# as many samples as a steady mean needs: one at a time, and in batches
_TIMED_SINGLES, _TIMED_IN_BATCHES = 128, 512
# samples in a call while answers are compared with labels
_ANSWER_BATCH = 64


@dataclass(frozen=True)
class Variant:
    """One way to answer: a session and, for a dynamic file, its thresholds (float32, one for each stage)."""

    session: Session
    thresholds: np.ndarray | None = None


@dataclass(frozen=True)
class Measured:
    """What was measured of a finished model.

    Attributes:
        rows: The backbone alone in float, as exported if that differs, or what is in its place, and every operating
            point; of a file with a `last_stage`, the backbone in float and every point.
        saver_seconds: Of each saver in the file, where it answers all samples, by its name and batch size.
        timing: How times were measured.
        sizes: Of the backbone alone, of the file, and of its parts together.
    """

    rows: list[PointFigures]
    saver_seconds: dict[str, dict[str, LatencyFigures]]
    timing: Timing
    sizes: FileSizes


def measure(
    stages: StageSet, files: Mapping[str, RunnableModel], points: OperatingPoints, run_inputs: RunInputs
) -> Measured:
    """Measure accuracy and time of the backbone alone and of every operating point, on the test samples.

    Args:
        stages: Those in the files.
        files: ``static`` (the backbone alone, in float) and ``shipped``.
        points: With their costs.
        run_inputs: Backbone and test samples.
    """
    split, backbone, chain = run_inputs.splits["test"], run_inputs.backbone, stages.chain
    tuning, names = run_inputs.recipe.dynamic_exit.tuning, backbone.input_names or tuple(run_inputs.example)
    feeds = split.feeds([*dict.fromkeys((*stages.input_names, *names))])
    static, shipped = files["static"], files["shipped"]
    variants = {f"backbone, {FLOAT}": Variant(static.session)}
    if not points.last_stage and (stages.in_place or stages.numerics != FLOAT):
        alone = f"{stages.in_place}, in its place" if stages.in_place else f"backbone, {stages.numerics}"
        variants[alone] = Variant(shipped.session, point_thresholds(points.backbone, chain))
    for point in points.points:
        variants[point.name] = Variant(shipped.session, point_thresholds(point, chain))
    savers = _savers_alone(stages, shipped.session)
    # a point may be called as a saver is
    timed = {**{f"row {key}": each for key, each in variants.items()}, **savers}
    seconds = time_variants(timed, feeds, sorted({1, tuning.batch_size}), tuning.threads)
    rows, base = [], seconds[f"row backbone, {FLOAT}"]
    for key, variant in variants.items():
        point = points.by_name(key) if key in points.names else points.backbone
        logits, exits = answer(variant, feeds, len(chain))
        rows.append(
            PointFigures(
                name=key,
                accuracy=float((logits.argmax(1) == split.labels).mean()),
                cost_ratio=point.cost_ratio,
                seconds_per_sample=_figures(seconds[f"row {key}"]),
                speed_up={str(size): base[size].median / each.median for size, each in seconds[f"row {key}"].items()},
                exit_rates={name: float((exits == i).mean()) for i, name in enumerate((*chain, "final"))},
                class_accuracy=_by_class(logits.argmax(1) == split.labels, split.labels, run_inputs.classes),
            )
        )
    timing = Timing(
        runtime=stages.segments[0].part.runtime,
        threads=tuning.threads,
        machine=platform.machine(),
        instruction_set=instruction_set(),
        oldest_runtime=_oldest_runtime(stages),
        measure=f"median over rounds of {ROUND_SECONDS * 1e3:g} ms or more of the mean per sample, in turn, "
        "without waits for a processor; low and high: quartiles",
    )
    parts = sum(stage.part.size for stage in stages.all_stages)
    saver_seconds = {name: _figures(seconds[f"saver {name}"]) for name in stages.savers}
    return Measured(rows, saver_seconds, timing, FileSizes(static=static.size, model=shipped.size, parts=parts))


def _savers_alone(stages: StageSet, session: Session) -> dict[str, Variant]:
    """Return each saver as it answers every sample, as ``saver NAME``."""
    return {
        f"saver {name}": Variant(session, Configuration(((name, ALWAYS_EXIT),)).as_array(stages.chain))
        for name in stages.savers
    }


def _figures(seconds: Mapping[int, Latency]) -> dict[str, LatencyFigures]:
    return {str(size): LatencyFigures(**latency._asdict()) for size, latency in seconds.items()}


def _by_class(correct: np.ndarray, labels: np.ndarray, classes: int) -> list[float | None]:
    """Return the share of correct answers of each class; None for a class without samples."""
    counts, hits = (np.bincount(labels[rows], minlength=classes) for rows in (labels >= 0, correct & (labels >= 0)))
    return [float(hit / count) if count else None for hit, count in zip(hits, counts, strict=True)]


def _oldest_runtime(stages: StageSet) -> str:
    versions = [stage.part.oldest_runtime for stage in stages.all_stages]
    return ".".join(map(str, max(versions))) if all(versions) else ""


def time_variants(
    variants: Mapping[str, Variant],
    feeds: Mapping[str, np.ndarray],
    batch_sizes: Sequence[int],
    threads: int | None = None,
) -> dict[str, dict[int, Latency]]:
    """Time variants on real samples, in turn within every round.

    Args:
        variants: By name.
        feeds: Inputs by name, each (N, ...); their mix of easy and hard samples decides what a dynamic file saves.
        batch_sizes: Samples in one call.
        threads: torch's, within an operator; onnxruntime's sessions have their own.

    Returns:
        Seconds per sample by variant and batch size: median over rounds, with quartiles.
    """
    results: dict[str, dict[int, Latency]] = {name: {} for name in variants}
    for size in batch_sizes:
        slices = timed_slices(feeds, size)
        calls = {name: make_call(variant, slices) for name, variant in variants.items()}
        for name, latency in time_calls(calls, slices, threads).items():
            results[name][size] = latency
    return results


def time_calls(
    calls: Mapping[str, Callable[[], object]],
    slices: Sequence[Mapping[str, np.ndarray]],
    threads: int | None = None,
    time_limit: float | None = None,
) -> dict[str, Latency]:
    """Time calls that each answer all samples of some slices.

    Args:
        calls: By name, as `make_call` makes them.
        slices: As `timed_slices` makes them.
        threads: torch's, within an operator.
        time_limit: Seconds after which no further round is started; None takes the usual one.

    Returns:
        Seconds per sample by name.
    """
    return measure_latency(
        calls,
        batch=sum(len(next(iter(each.values()))) for each in slices),
        rounds=stage_costs.ROUNDS,
        warmup=1,
        time_limit=stage_costs.TIME_LIMIT if time_limit is None else time_limit,
        threads=threads,
    )


def timed_slices(feeds: Mapping[str, np.ndarray], size: int) -> list[dict[str, np.ndarray]]:
    """Return the samples that are timed, as many as a steady mean needs, in slices of one size.

    Fewer samples than that make one shorter slice.
    """
    count = len(next(iter(feeds.values())))
    samples = min(count, _TIMED_SINGLES if size == 1 else max(_TIMED_IN_BATCHES, size))
    starts = range(0, max(samples - samples % size, 1), size)
    return [{name: array[start : start + size] for name, array in feeds.items()} for start in starts]


def answer(variant: Variant, feeds: Mapping[str, np.ndarray], final: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (N, C) and exit index (N,); the backbone alone always answers with the final."""
    feeds = _select_feeds(variant, feeds)
    if variant.thresholds is not None:
        return run_session(variant.session, feeds, variant.thresholds, _ANSWER_BATCH)[:2]
    answers = [variant.session.run(None, each)[0] for each in named_batches(feeds, _ANSWER_BATCH)]
    logits = np.concatenate(answers)
    return logits, np.full(len(logits), final)


def _select_feeds(variant: Variant, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return those of the inputs that a variant takes: a saver may take more than the backbone, or less."""
    return {value.name: feeds[value.name] for value in variant.session.get_inputs() if value.name in feeds}


def make_call(variant: Variant, slices: Sequence[Mapping[str, np.ndarray]]) -> Callable[[], None]:
    """Return a call that runs a variant once over slices of samples."""
    extra = {} if variant.thresholds is None else {"thresholds": variant.thresholds}
    ready = [{**_select_feeds(variant, each), **extra} for each in slices]

    def call() -> None:
        for batch in ready:
            variant.session.run(None, batch)

    return call
