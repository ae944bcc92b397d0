"""Savers and exits on a model in memory: trained on its own answers and tuned to agree with it, without labels."""

import warnings
from collections.abc import Callable, Sequence, Sized

from torch import nn

from ...candidates.pool import CandidatePool
from ...core.cache import Cache
from ...data.run_inputs import RunInputs
from ...errors import PassError
from ...graph import Cut, Program, Segment, check_objective, evaluation_mode
from ...graph.backbone import Backbone
from ...passes import EarlyExitStanza, TinySaverStanza
from ...pipeline.exits import add_exits
from ...pipeline.savers import add_savers
from ...pipeline.stages import Build, add_costs, export_backbone, record_split
from ...points.goal import Goal
from ...recipe.recipe import DynamicExit
from ...recipe.tuning import Tuning
from ...runtime.model import DynamicExitModel
from ...search.options import SearchOptions
from ...tuning.optimizer import optimize
from .calibration import CalibrationCalls
from .calibration_source import load_calibration
from .memory_exporter import MemoryExporter

#: Default of the largest share of answers that may differ from the model's, in 0..1.
MAX_DISAGREEMENT = 0.005


def make_dynamic_model(
    name: str,
    model: nn.Module,
    calls: CalibrationCalls,
    *,
    savers: TinySaverStanza | None = None,
    exits: EarlyExitStanza | None = None,
    limit: float = MAX_DISAGREEMENT,
    cut_quantized: Callable[[Program, Sequence[Cut]], Sequence[Segment]] | None = None,
) -> DynamicExitModel:
    """Put savers before a model and exits into it, with the thresholds of least cost at which it agrees with itself.

    Args:
        name: Name of the pass, for messages.
        model: Model of one input. It does not change; the result shares its float weights.
        calls: Calibration calls. With exits, every second sample trains them and the others serve all else.
        savers: None for no savers.
        exits: None for no exits.
        limit: Largest share of answers that may differ from the model's, in 0..1.
        cut_quantized: Returns the segments of the quantized model that runs in place of the given one; None if the
            given one runs itself.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    if exits and exits.sequence:
        raise PassError("pass 'early_exit' builds sequence networks only in a recipe; leave `sequence` out")
    if savers and savers.fine_tune:
        raise PassError(
            "pass 'tiny_saver' trains savers only in a recipe, on its training split; leave `fine_tune` out"
        )
    if savers and savers.makers:
        raise PassError(
            "pass 'tiny_saver' makes savers only in a recipe, from its training split; name models in `candidates`"
        )
    check_objective(model, "the model")

    def make_target(run_inputs: RunInputs, backbone: Backbone) -> tuple[MemoryExporter, tuple[()]]:
        quantized: dict[nn.Module, nn.Module] = {}
        if cut_quantized:
            quantized.update(zip(backbone.segments, cut_quantized(backbone.program, backbone.cuts), strict=True))
        return MemoryExporter(run_inputs.splits["calibration"].inputs, quantized), ()

    stanza = DynamicExit(tiny_saver=savers, early_exit=exits, tuning=Tuning(max_accuracy_drop=limit))
    cache = Cache(None)
    with evaluation_mode(model):
        build = export_backbone(load_calibration(name, model, calls, stanza), make_target)
        build = _add_savers(build, cache)
    build = add_costs(add_exits(build), cache)
    records, dynamic = record_split(build, "calibration"), build.stages.model("session")
    (best,) = optimize(records, [Goal(max_accuracy_drop=limit)], SearchOptions(dynamic.fuse))
    dynamic.fuse = best.fuse
    dynamic.records = records
    dynamic.set_thresholds(best.as_array(dynamic.chain).tolist())
    return dynamic


def _add_savers(build: Build, cache: Cache) -> Build:
    """Put savers before the backbone; the same build if none pays beside exits."""
    made = add_savers(build, _Pool.of(build.run_inputs, cache))
    if made is build or made.stages.savers:
        return made
    reasons = ", ".join(f"{row.stage} ({row.why})" for row in made.candidates if row.accuracy is not None)
    message = f"pass 'tiny_saver': none of {reasons} saves anything; give other candidates"
    if build.run_inputs.recipe.dynamic_exit.early_exit is None:
        raise PassError(message)
    warnings.warn(message, stacklevel=4)
    return build


class _Pool(CandidatePool):
    """Candidates for a model in memory, whose users look at Python's warnings."""

    def warn(self, sentence: str) -> None:
        """Warn the user."""
        warnings.warn(sentence, stacklevel=4)

    def check_not_empty(self, remaining: Sized) -> None:
        """Refuse a pool of which nothing remains."""
        if not remaining:
            first = self.skipped[0]
            problem = f"no candidate can be used, candidate '{first.stage}' is {first.why}"
            raise PassError(f"pass 'tiny_saver': {problem}; give others")
