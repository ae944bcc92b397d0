"""Chooses the quantization: if a recipe names several algorithms, measurements on the backbone decide."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE, batches, named_batches
from ..cost import measure_latency
from ..data.run_inputs import RunInputs
from ..errors import ExportError
from ..graph import is_text
from ..graph.backbone import Backbone
from ..onnx.part import Part
from ..onnx.quantize import PRODUCTS, QuantizationOptions, quantize_part
from ..onnx.session import PartSession
from ..passes.quantization import int8_options
from ..runtime.stages import FLOAT
from .onnxruntime import export_whole

logger = logging.getLogger(__name__)

# share of the default point's allowed drop that quantization alone may use up
_QUANTIZATION_SHARE = 0.5
_ROUNDS, _TIME_LIMIT = 10, 20.0


@dataclass
class QuantizationTrial:
    """What the whole backbone does with one algorithm, on calibration samples.

    Attributes:
        algorithm: Neural Compressor's name, or ``float``.
        accuracy: 0..1; None if the backbone cannot be quantized this way, as are the next two.
        seconds_per_sample: Median, in batches.
        bytes: Size of the file.
        why: Why it was chosen or not, in a few words.
        chosen: Whether it is the one that is exported.
    """

    algorithm: str
    accuracy: float | None
    seconds_per_sample: float | None
    bytes: int | None
    why: str = ""
    chosen: bool = False


def choose_numerics(
    run_inputs: RunInputs, backbone: Backbone, open_part: Callable[[Part, int], PartSession] = PartSession
) -> tuple[QuantizationOptions | None, list[QuantizationTrial]]:
    """Choose how stages are quantized.

    If the recipe names several algorithms, the whole backbone is quantized with each, and the fastest one is taken that
    loses at most half of the default point's allowed drop on calibration samples; that may be no quantization at all.
    If the backbone is to stay in float, the first algorithm is for savers.

    Args:
        run_inputs: The recipe, the backbone and calibration samples.
        backbone: Knows which dimensions of the inputs are free.
        open_part: Returns what runs a part with a number of threads.

    Returns:
        The options, None for float, and what was measured: nothing if there was nothing to choose.

    Raises:
        ExportError: The backbone cannot be exported.
    """
    recipe = run_inputs.recipe
    options = dict(zip(recipe.quantization or {}, int8_options(recipe.quantization), strict=True))
    if run_inputs.by_name and any(map(is_text, run_inputs.example.values())):
        options = {name: replace(each, operators=PRODUCTS) for name, each in options.items()}
    # stanzas of other targets have no such key
    reduce_range = getattr(recipe.export, "reduce_range", None)
    if reduce_range is not None:
        options = {name: replace(each, reduce_range=reduce_range) for name, each in options.items()}
    elif any(each.reduce_range for each in options.values()):
        logger.info("8-bit weights keep to 7 bits: this processor has no VNNI, without which products of 8 overflow")
    if len(options) < 2 or not recipe.model.quantize:
        return next(iter(options.values()), None), []
    measured = distributed.run_on_main(
        lambda: [asdict(trial) for trial in _measure(run_inputs, backbone, options, open_part)]
    )
    trials = [QuantizationTrial(**each) for each in measured]
    allowed = _QUANTIZATION_SHARE * recipe.dynamic_exit.tuning.max_accuracy_drop
    best = _best(trials, allowed)
    for trial in trials:
        trial.chosen = trial is best
        trial.why = trial.why or _reason(trial, best, (trials[0].accuracy or 0.0) - allowed)
        logger.info(f"quantization {trial.algorithm}: {trial.why}")
    return options.get(best.algorithm), trials


def _best(trials: Sequence[QuantizationTrial], allowed: float) -> QuantizationTrial:
    """The fastest that keeps enough accuracy; the first one is float, which always does."""
    measured = [(trial.accuracy, trial.seconds_per_sample, trial) for trial in trials]
    known = [(accuracy, time, trial) for accuracy, time, trial in measured if accuracy is not None and time is not None]
    least = known[0][0] - allowed
    return min((each for each in known if each[0] >= least), key=lambda each: each[1])[2]


def _reason(trial: QuantizationTrial, best: QuantizationTrial, least: float) -> str:
    accuracy, seconds = trial.accuracy or 0.0, trial.seconds_per_sample or 0.0
    figures = f"{accuracy:.2%} right, {seconds * 1e6:.1f} µs a sample"
    if trial is best:
        return f"chosen, {figures}"
    return f"{figures}; {'slower' if accuracy >= least else f'less than the {least:.2%} that it should keep'}"


def _measure(
    run_inputs: RunInputs,
    backbone: Backbone,
    options: Mapping[str, QuantizationOptions],
    open_part: Callable[[Part, int], PartSession],
) -> list[QuantizationTrial]:
    """Measure the whole backbone in float and with every algorithm."""
    split, tuning = run_inputs.splits["calibration"], run_inputs.recipe.dynamic_exit.tuning
    cache = run_inputs.recipe.dynamic_exit.cache.open()
    float_part = export_whole(run_inputs, backbone.dims, cache)
    feeds = split.feeds(float_part.input_names)
    parts: dict[str, Part] = {FLOAT: float_part}
    failed: dict[str, str] = {}
    for name, each in options.items():
        try:
            parts[name] = quantize_part(float_part, named_batches(feeds, DEFAULT_BATCH_SIZE), each)
        except ExportError as error:
            failed[name] = str(error)
    sessions = {name: open_part(part, tuning.threads) for name, part in parts.items()}
    batch = [array[: tuning.batch_size] for array in feeds.values()]
    calls = {name: partial(session.run, *batch) for name, session in sessions.items()}
    times = measure_latency(calls, batch=len(batch[0]), rounds=_ROUNDS, warmup=1, time_limit=_TIME_LIMIT)
    trials = []
    for name in (FLOAT, *options):
        if name in failed:
            trials.append(QuantizationTrial(name, None, None, None, failed[name]))
            continue
        answers = [sessions[name].run(*each).argmax(1) for each in batches([*feeds.values()], DEFAULT_BATCH_SIZE)]
        accuracy = float((np.concatenate(answers) == split.labels).mean())
        trials.append(QuantizationTrial(name, accuracy, times[name].median, parts[name].size))
    return trials
