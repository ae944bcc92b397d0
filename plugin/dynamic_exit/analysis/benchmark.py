"""How fast a written model is: static and dynamic, beside the ideal; of ONNX files in float and int8."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from ..artifact.folder import CONFIG_FILE, MODEL_FILE, POINTS_FILE, check_files, read_config
from ..artifact.model_config import DynamicExitModelConfig
from ..chain.drop_checks import with_standard_error
from ..chain.operating_point import OperatingPoint, OperatingPoints
from ..chain.thresholds import point_thresholds
from ..errors import DataError, ExportError
from ..onnx.model_parts import ModelParts
from ..onnx.part import Part
from ..onnx.session import open_session
from ..onnx.stitch import stitch
from ..onnx.unstitch import static_model, unstitch
from ..pipeline.measure import Variant, answer, make_call, time_calls, timed_slices
from ..runtime.stages import FLOAT
from ..targets.float_twin import Twin, find_twin, roles
from .parts import onnx_parts, torch_parts

#: Samples in one call that are timed.
BATCH_SIZES = (1, 8, 64)

Feeds = Mapping[str, np.ndarray]
BenchmarkRow = dict[str, Any]
# what rows are called that are not in float, where the folder does not name their numerics
_SHIPPED = "as shipped"


@dataclass(frozen=True)
class _Model:
    """One numerics of a file: the backbone alone, the dynamic model, and each of its parts."""

    numerics: str
    chain: ModelParts
    static: onnxruntime.InferenceSession
    dynamic: onnxruntime.InferenceSession
    parts: Mapping[str, onnxruntime.InferenceSession]

    def variant(self, point: OperatingPoint | None) -> Variant:
        """Return what answers at a point; without one the backbone alone."""
        if point is None:
            return Variant(self.static)
        return Variant(self.dynamic, point_thresholds(point, self.chain.stages))


def benchmark_folder(
    folder: Path,
    inputs: Feeds | np.ndarray,
    labels: np.ndarray,
    *,
    operating_points: Sequence[str] | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    threads: int = 1,
    time_limit: float = 60.0,
) -> dict[str, Any]:
    """Time a written model against its backbone alone, all in turn, on real samples.

    The float rows of a quantized file are the model as it was before, which the run keeps in its cache; on another
    machine they are the file's own graph with static int8 taken out, if the run found that to answer as the float model
    does, and are called so. Else, and for torch, there are none. The ideal of a dynamic row is what its samples would
    take if each stage cost what it costs alone, at the same batch size, and nothing else did.

    Args:
        folder: What a run wrote, as one file or one a stage.
        inputs: By name, each (N, ...), or the only one: their mix of easy and hard decides what a dynamic file saves.
        labels: int64 (N,), -1 where unknown.
        operating_points: Names; None takes all.
        batch_sizes: Samples in one call.
        threads: Within an operator.
        time_limit: Seconds for one batch size, after which no further round is started.

    Returns:
        ``rows`` (each with ``name``, ``numerics``, ``operating_point``, ``accuracy``, ``accuracy_standard_error``,
        ``exit_rates`` and, by batch size, ``seconds_per_sample``, ``speed_up`` over the first row, and
        ``ideal_seconds_per_sample``), ``samples``, ``runtime``, ``threads`` and ``notes``: what must be known of the
        float rows, or why there are none.

    Raises:
        DynamicExitError: The folder, a name or the data cannot be used.
    """
    config = read_config(folder) if (folder / CONFIG_FILE).is_file() else None
    for_torch = config is not None and config.target == "torch"
    single = config is None or config.layout == "single"
    for name in (*[MODEL_FILE] * single, POINTS_FILE):
        if not (folder / name).is_file():
            raise ExportError(f"'{folder}' has no {name}; give a folder that `dynamic-exit run` wrote")
    points = OperatingPoints.read(folder / POINTS_FILE)
    chosen = [points.by_name(name) for name in operating_points or points.names]
    models, note = _opened(folder, config, threads)
    inputs = _named(models[0], inputs)
    _check(inputs, batch_sizes)
    rows = [_row(model, point, inputs, labels) for point in (None, *chosen) for model in models]
    for size in batch_sizes:
        _time(rows, {model.numerics: model for model in models}, points, inputs, size, time_limit, threads)
    return {
        "rows": rows,
        "samples": len(labels),
        "runtime": f"torch {torch.__version__}" if for_torch else f"onnxruntime {onnxruntime.__version__}",
        "threads": threads,
        "notes": [note] if note else [],
    }


def _opened(folder: Path, config: DynamicExitModelConfig | None, threads: int) -> tuple[list[_Model], str | None]:
    """A folder's model in float, where that can be had, and as it ships; and what users must know of the first."""
    told = config.numerics if config is not None else None
    if config is not None and config.target == "torch":
        return [_Model(told or _SHIPPED, *torch_parts(folder, config))], None
    if config is None or config.layout == "single":
        found, twin, note = _file_models(folder, config, threads)
    else:
        pieces, twin, note = onnx_parts(folder, config, threads)
        found = [_Model("", *each) for each in pieces]
    shipped = told if told not in (None, FLOAT) else _SHIPPED if twin or note else FLOAT
    names = [*([twin.numerics] if twin else []), shipped]
    return [replace(model, numerics=name) for model, name in zip(found, names, strict=True)], note


def _file_models(
    folder: Path, config: DynamicExitModelConfig | None, threads: int
) -> tuple[list[_Model], Twin | None, str | None]:
    """The same of one file, its numerics not named yet; with the float twin."""
    if config is not None:
        check_files(folder, config.checksums, [MODEL_FILE, POINTS_FILE])
    file = onnx.load(folder / MODEL_FILE)
    chain = unstitch(file)
    inputs = [value for value in file.graph.input if value.name != "thresholds"]
    classes = file.graph.output[0].type.tensor_type.shape.dim[1].dim_value

    def opened(chain: ModelParts, dynamic: onnx.ModelProto) -> _Model:
        parts = [*chain.savers, *chain.segments, *(part for part, _ in chain.exits)]
        static = open_session(static_model(chain.segments, inputs), threads)
        sessions = {part.name: open_session(part.proto, threads) for part in parts}
        return _Model("", chain, static, open_session(dynamic, threads), sessions)

    by_role = roles(chain.savers, chain.segments, (part for part, _ in chain.exits))
    twin, note = find_twin(folder, config, by_role)
    if twin is None:
        return [opened(chain, file)], twin, note
    plain = {role: twin.part(role, part) for role, part in by_role.items()}
    savers, segments = ([plain[role] for role in plain if role.startswith(kind)] for kind in ("saver", "segment"))
    exits = [(plain[f"exit{place}"], index) for place, (_, index) in enumerate(chain.exits)]
    in_float = replace(chain, savers=savers, segments=segments, exits=exits)
    dynamic = stitch(in_float, inputs, classes, [np.inf] * len(chain.stages), {})
    return [opened(in_float, dynamic), opened(chain, file)], twin, note


def _named(model: _Model, inputs: Feeds | np.ndarray) -> Feeds:
    wanted = [value.name for value in model.static.get_inputs()]
    if isinstance(inputs, np.ndarray) and len(wanted) == 1:
        return {wanted[0]: inputs}
    given = list(inputs) if isinstance(inputs, Mapping) else ["one array"]
    if not set(wanted) <= set(given):
        raise DataError(f"the model takes the inputs {', '.join(wanted)}; the data hold {', '.join(given)}")
    return {name: inputs[name] for name in wanted}


def _check(inputs: Feeds, batch_sizes: Sequence[int]) -> None:
    count = len(next(iter(inputs.values())))
    if min(batch_sizes) < 1 or count < max(batch_sizes):
        raise DataError(f"batch sizes must lie within 1 and the {count} samples given; got {list(batch_sizes)}")


def _row(model: _Model, point: OperatingPoint | None, inputs: Feeds, labels: np.ndarray) -> dict[str, Any]:
    """One line of the table, without its times; without a point it is the backbone alone."""
    stages = (*model.chain.stages, "final")
    logits, exits = answer(model.variant(point), inputs, len(stages) - 1)
    known = labels >= 0
    row = {
        "name": "backbone" if point is None else point.name,
        "numerics": model.numerics,
        "operating_point": None if point is None else point.name,
        "accuracy": float((logits.argmax(1) == labels)[known].mean()) if known.any() else None,
        "exit_rates": {stage: float((exits == index).mean()) for index, stage in enumerate(stages)},
        "seconds_per_sample": {},
        "speed_up": {},
        "ideal_seconds_per_sample": {},
    }
    return with_standard_error(row, int(known.sum()))


def _time(
    rows: list[dict[str, Any]],
    models: Mapping[str, _Model],
    points: OperatingPoints,
    inputs: Feeds,
    size: int,
    time_limit: float,
    threads: int,
) -> None:
    """Add the times at one batch size to all rows."""
    slices = timed_slices(inputs, size)
    calls: dict[str, Callable[[], None]] = {}
    for row in rows:
        model, name = models[row["numerics"]], row["operating_point"]
        calls[_row_key(row)] = make_call(model.variant(name and points.by_name(name)), slices)
    for model in models.values():
        for name, feeds in _part_feeds(model, slices[0]).items():
            calls[_part_key(name, model)] = make_call(Variant(model.parts[name]), [feeds] * len(slices))
    measured = time_calls(calls, slices, threads, time_limit)
    key, base = str(size), measured[_row_key(rows[0])]
    for row in rows:
        found = measured[_row_key(row)]
        row["seconds_per_sample"][key] = found._asdict()
        row["speed_up"][key] = base.median / found.median
        if row["operating_point"] is not None:
            model = models[row["numerics"]]
            seconds = {name: measured[_part_key(name, model)].median for name in model.parts}
            used = {stage.stage for stage in points.by_name(row["operating_point"]).stages}
            row["ideal_seconds_per_sample"][key] = ideal_seconds(model.chain, used, row["exit_rates"], seconds)


def _row_key(row: BenchmarkRow) -> str:
    return f"row {row['name']}, {row['numerics']}"


def _part_key(name: str, model: _Model) -> str:
    return f"part {name}, {model.numerics}"


def ideal_seconds(
    chain: ModelParts, used: set[str], exit_rates: Mapping[str, float], seconds: Mapping[str, float]
) -> float:
    """Return what a sample takes on the mean if nothing but the stages that it needs cost time.

    Args:
        chain: The model.
        used: Names of the stages that are on.
        exit_rates: Share of samples that leave at each stage, ``final`` included.
        seconds: Per sample, by part.

    Returns:
        Seconds per sample.
    """
    stages: list[tuple[str, list[Part]]] = [(part.name, [part]) for part in chain.savers]
    begun = 0  # first segment that no stage so far has run
    for part, behind in chain.exits:
        stages.append((part.name, [*chain.segments[begun : behind + 1], part]))
        begun = behind + 1
    stages.append(("final", list(chain.segments[begun:])))
    total, reaching, waiting = 0.0, 1.0, 0.0
    for name, parts in stages:
        on = name in used or name == "final"
        waiting += sum(seconds[part.name] for part in parts if on or part.output_kind == "hidden")
        if on:  # segments before an exit that is off run with those behind it
            total, waiting = total + reaching * waiting, 0.0
            reaching -= exit_rates.get(name, 0.0)
    return total


def _part_feeds(model: _Model, batch: Feeds) -> dict[str, Feeds]:
    """What each part takes when a whole batch reaches it."""
    hidden: dict[str, np.ndarray] = {}
    feeds: dict[str, Feeds] = {}

    def given(part: Part) -> Feeds:
        return {name: hidden["hidden"] if name == "hidden" else batch[name] for name in part.input_names}

    for part in model.chain.savers:
        feeds[part.name] = given(part)
    for index, segment in enumerate(model.chain.segments):
        feeds[segment.name] = given(segment)
        hidden["hidden"] = model.parts[segment.name].run(None, feeds[segment.name])[0]
        if index < len(model.chain.segments) - 1:
            for part, behind in model.chain.exits:
                if behind == index:
                    feeds[part.name] = given(part)
    return feeds
