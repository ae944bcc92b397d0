"""What a manifest says of a model before its files are written."""

from collections.abc import Sequence

from ..data.run_inputs import RunInputs
from ..graph import Classifier, find_max_tokens
from ..passes.stanza import Preprocessing
from ..passes.tiny_saver import FINE_TUNED_SUFFIX
from ..points.operating_point import OperatingPoints
from ..runtime.stages import StageSet
from .manifest import InputSpec, Manifest, infer_task


def describe_model(
    run_inputs: RunInputs, stages: StageSet, points: OperatingPoints, inputs: Sequence[InputSpec]
) -> Manifest:
    """Describe the model of a run, without its files.

    Args:
        run_inputs: The recipe and its labels.
        stages: The stages in use.
        points: The operating points.
        inputs: The model's inputs.
    """
    export, chain = run_inputs.recipe.export, stages.spec
    return Manifest(
        task=infer_task(inputs),
        inputs=tuple(inputs),
        chain=chain,
        stages=chain.names,
        last_stage=points.last_stage,
        default=points.by_name(run_inputs.recipe.dynamic_exit.tuning.default_goal).name,
        layout=export.layout,
        target=export.target,
        compile=export.compile,
        numerics=stages.numerics,
        labels=tuple(run_inputs.labels),
        max_tokens=_max_tokens(run_inputs, stages, inputs),
        preprocessing=_preprocessing(run_inputs, stages),
    )


def _preprocessing(run_inputs: RunInputs, stages: StageSet) -> dict[str, dict[str, object]]:
    def of_saver(name: str) -> Preprocessing:
        source = run_inputs.candidates.get(name.removesuffix(FINE_TUNED_SUFFIX))
        return source.preprocessing if source else Preprocessing()  # savers that were made hold it themselves

    steps = {"final": run_inputs.recipe.model.preprocessing, **{name: of_saver(name) for name in stages.savers}}
    if stages.in_place and len(stages.segments) == 1:  # a saver
        steps["final"] = of_saver(stages.in_place)
    return {name: each.model_dump(mode="json") for name, each in steps.items()}


def _max_tokens(run_inputs: RunInputs, stages: StageSet, inputs: Sequence[InputSpec]) -> int | None:
    """Return the maximum number of tokens that all stages take; None if the length is fixed."""
    if not any(isinstance(side, str) for each in inputs for side in each["shape"]):
        return None
    savers = [stage.module for stage in stages.savers.values()]
    models = [model for model in (run_inputs.backbone, *savers) if isinstance(model, Classifier)]
    return find_max_tokens(models, run_inputs.example)
