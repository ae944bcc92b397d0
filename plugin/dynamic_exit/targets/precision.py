"""Which quantization ships: where a recipe names several, measurements on the backbone decide."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..core import distributed
from ..core.batching import batches, named_batches
from ..cost import measure_latency
from ..errors import ExportError
from ..graph import is_text
from ..graph.backbone import Backbone
from ..onnx.part import Part
from ..onnx.quantize import PRODUCTS, QuantizationOptions, quantize_part
from ..onnx.session import PartSession
from ..passes.quantization import int8_options
from ..runtime.stages import FLOAT
from ..sources.run_inputs import RunInputs
from .onnxruntime import BATCH_SIZE, export_whole

logger = logging.getLogger(__name__)

# share of the default point's allowed drop that quantization alone may use up
_SHARE = 0.5
_ROUNDS, _TIME_LIMIT = 10, 20.0


def choose_numerics(
    run_inputs: RunInputs, backbone: Backbone
) -> tuple[QuantizationOptions | None, list[dict[str, Any]]]:
    """Choose how stages are quantized.

    With several algorithms in the recipe the whole backbone is quantized each way, and the fastest is taken that loses
    at most half of the default point's allowed drop on calibration samples; that may be no quantization at all. Where
    the backbone is to stay in float, the first algorithm is for savers.

    Args:
        run_inputs: The recipe, the backbone and calibration samples.
        backbone: Knows which dimensions of the inputs are free.

    Returns:
        The options, None for float, and what was measured: ``algorithm``, ``accuracy``, ``seconds_per_sample``,
        ``bytes``, ``chosen`` and ``why``; nothing where there was nothing to choose.

    Raises:
        ExportError: The backbone cannot be exported.
    """
    recipe = run_inputs.recipe
    ways = dict(zip(recipe.quantization or {}, int8_options(recipe.quantization), strict=True))
    if run_inputs.by_name and any(map(is_text, run_inputs.example.values())):
        ways = {name: replace(options, operators=PRODUCTS) for name, options in ways.items()}
    if len(ways) < 2 or not recipe.model.quantize:
        return next(iter(ways.values()), None), []
    rows = distributed.run_on_main(lambda: _measured(run_inputs, backbone, ways))
    allowed = _SHARE * recipe.dynamic_exit.tuning.max_accuracy_drop
    best = _best(rows, allowed)
    for row in rows:
        row["chosen"] = row is best
        row["why"] = row["why"] or _reason(row, best, rows[0]["accuracy"] - allowed)
        logger.info(f"quantization {row['algorithm']}: {row['why']}")
    return ways.get(best["algorithm"]), rows


def _best(rows: Sequence[dict[str, Any]], allowed: float) -> dict[str, Any]:
    """The fastest that is right often enough; the first row is float, which always is."""
    measured = [row for row in rows if row["accuracy"] is not None]
    fitting = [row for row in measured if row["accuracy"] >= measured[0]["accuracy"] - allowed]
    return min(fitting, key=lambda row: row["seconds_per_sample"])


def _reason(row: dict[str, Any], best: dict[str, Any], least: float) -> str:
    said = f"{row['accuracy']:.2%} right, {row['seconds_per_sample'] * 1e6:.1f} µs a sample"
    if row is best:
        return f"chosen, {said}"
    return f"{said}; {'slower' if row['accuracy'] >= least else f'less than the {least:.2%} that it should keep'}"


def _measured(run_inputs: RunInputs, backbone: Backbone, ways: dict[str, QuantizationOptions]) -> list[dict[str, Any]]:
    classifier, split = run_inputs.backbone, run_inputs.splits["calibration"]
    plain = export_whole(classifier, run_inputs.example, backbone.dims)
    feeds = split.feeds(plain.input_names)
    parts: dict[str, Part] = {FLOAT: plain}
    failed = {}
    for name, options in ways.items():
        try:
            parts[name] = quantize_part(plain, named_batches(feeds, BATCH_SIZE), options)
        except ExportError as error:
            failed[name] = str(error)
    tuning = run_inputs.recipe.dynamic_exit.tuning
    sessions = {name: PartSession(part, threads=tuning.threads) for name, part in parts.items()}
    first = [array[: tuning.batch_size] for array in feeds.values()]
    calls = {name: (lambda session=session: session.run(*first)) for name, session in sessions.items()}
    times = measure_latency(calls, batch=len(first[0]), rounds=_ROUNDS, warmup=1, time_limit=_TIME_LIMIT)
    rows = []
    for name in (FLOAT, *ways):
        if name in failed:
            rows.append(_row(name, None, None, None, failed[name]))
            continue
        answers = [sessions[name].run(*batch).argmax(1) for batch in batches([*feeds.values()], BATCH_SIZE)]
        accuracy = float((np.concatenate(answers) == split.labels).mean())
        rows.append(_row(name, accuracy, times[name].median, parts[name].proto.ByteSize()))
    return rows


def _row(name: str, accuracy, seconds, size, why: str = "") -> dict[str, Any]:
    return {"algorithm": name, "accuracy": accuracy, "seconds_per_sample": seconds, "bytes": size, "why": why}
