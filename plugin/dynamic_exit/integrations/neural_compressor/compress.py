"""Compression of a model in memory: by recipe, or by Neural Compressor's own configs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from neural_compressor.common.base_config import BaseConfig
from torch import nn

from ...core.process_state import preserve_process_state
from ...errors import ModelError, PassError, RecipeError
from ...modeling import load_any
from ...modeling.base import DynamicExitClassifier
from ...pipeline.run import run
from ...recipe.yaml_io import parse_recipe, read_stanzas
from ...sources.data.loading import Split, check_samples, refuse_overlaps
from .calibration import record_calibration
from .evaluator import Evaluator, check_tolerable_loss
from .in_memory import evaluation_mode
from .plan import Plan
from .support import refuse_dynamic, refuse_quantized

Passes = BaseConfig | Mapping[str, Any] | Sequence[BaseConfig | Mapping[str, Any]]
Data = Mapping[str, tuple[np.ndarray | Mapping[str, np.ndarray], np.ndarray]]

# keys that only a whole recipe has; it shares the others with a mapping of algorithms
_RECIPE_KEYS = {"seed", "model", "data", "quantization", "export"}


def compress(
    model: nn.Module,
    recipe: str | Path | Passes,
    *,
    data: Data | None = None,
    run_fn: Callable | None = None,
    run_args: Any = None,
    eval_fn: Callable | None = None,
    eval_args: Any = None,
    example_inputs: Any = None,
    tolerable_loss: float | None = None,
    inplace: bool = False,
) -> nn.Module | DynamicExitClassifier:
    """Compress a classifier: by a recipe into a folder, or by passes in memory.

    A recipe is a file, or a mapping with `export`; it learns from labelled samples. Passes are Neural Compressor's
    configs (this project's and its own), mappings of algorithm names and parameters, or a list of both: they run in the
    written order, on what `run_fn` feeds the model. Everything is checked before the first pass begins, and passes
    work on copies: where one fails, nothing has changed.

    Args:
        model: Maps (N, ...), or its inputs by name, to logits (N, C), in float.
        recipe: A recipe without the stanza `model`, and without `data` where the samples are given here; or passes.
        data: Of a recipe: ``train``, ``calibration`` and ``test``: inputs (N, ...), or several by the names under which
            the models take them, and labels int64 (N,), disjoint; None uses the recipe's.
        run_fn: Of passes: calls the model that it is given on calibration batches; it is called once.
        run_args: Its further positional arguments.
        eval_fn: Model in, one score out, above 0 and larger is better; called before and after.
        eval_args: Its further positional arguments.
        example_inputs: As Neural Compressor's `quantize` takes them.
        tolerable_loss: Of passes: largest relative loss of the score, in 0..1; with a larger one nothing is returned.
        inplace: Of passes: the given object itself becomes the compressed model, once all has succeeded.

    Returns:
        Of a recipe, the model that was written to its `export.directory`; of passes, the compressed model.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why; the model is as it was.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"a model must be a torch.nn.Module; got {type(model).__name__}")
    by_recipe = _is_recipe(recipe, data)
    _check_goals(by_recipe, run_fn, eval_fn, tolerable_loss, inplace, data)
    evaluator = Evaluator(eval_fn, eval_args, tolerable_loss) if eval_fn else None
    if by_recipe:
        make = _prepare_recipe(model, recipe, data)
    else:
        make = _prepare_passes(model, Plan(recipe), run_fn, run_args, example_inputs)
    if evaluator:
        with evaluation_mode(model):
            evaluator.score_baseline(model)
    made = make()
    if evaluator:
        evaluator.check(made)
    return _become(model, made) if inplace else made


def _is_recipe(recipe: Any, data: Data | None) -> bool:
    if isinstance(recipe, str | Path):
        return True
    return isinstance(recipe, Mapping) and (data is not None or bool(_RECIPE_KEYS & recipe.keys()))


def _check_goals(by_recipe: bool, run_fn, eval_fn, tolerable_loss, inplace: bool, data: Data | None) -> None:
    """Refuse arguments that contradict each other."""
    for name, value in {"run_fn": run_fn, "eval_fn": eval_fn}.items():
        if value is not None and not callable(value):
            raise PassError(f"`{name}` must be a function of the model; got {type(value).__name__}")
    if by_recipe:
        if run_fn is not None:
            raise RecipeError("a recipe calibrates on its own split; leave `run_fn` out")
        if tolerable_loss is not None:
            raise RecipeError("a recipe sets its goals under `dynamic_exit.tuning`; leave `tolerable_loss` out")
        if inplace:
            raise RecipeError("a recipe writes a folder and leaves the model as it was; leave `inplace` out")
    elif data is not None:
        raise RecipeError("passes in memory use no labelled `data`; give `run_fn` or a recipe")
    if tolerable_loss is not None:
        check_tolerable_loss(tolerable_loss)
        if eval_fn is None:
            raise PassError("`tolerable_loss` is a loss of what `eval_fn` returns; give that function as well")


def _prepare_passes(model: nn.Module, plan: Plan, run_fn, run_args, example_inputs) -> Callable[[], nn.Module]:
    """Check all that can be checked before the first pass, and return what runs the passes."""
    plan.check(model)
    needy = plan.needs_calls(example_inputs)
    if needy and run_fn is None:
        raise PassError(f"pass '{needy}' needs `run_fn`, which calls the model on calibration batches")
    calls = None
    if run_fn is not None:
        with evaluation_mode(model):
            calls = record_calibration(model, run_fn, run_args)

    def make() -> nn.Module:
        with preserve_process_state():
            return plan.run(model, calls, example_inputs)

    return make


def _prepare_recipe(
    model: nn.Module, recipe: Mapping[str, Any] | str | Path, data: Data | None
) -> Callable[[], DynamicExitClassifier]:
    refuse_dynamic("dynamic_exit", model)
    refuse_quantized(model)
    splits = None
    if data is not None:
        if set(data) != {"train", "calibration", "test"}:
            raise RecipeError(f"data must hold train, calibration and test; got {', '.join(data) or 'nothing'}")
        splits = {key: Split(key, *check_samples(*data[key], split=key)) for key in data}
        splits = refuse_overlaps(splits)
    given, base = (recipe, Path.cwd()) if isinstance(recipe, Mapping) else (read_stanzas(recipe), Path(recipe).parent)
    if given and isinstance(given, Mapping):
        here = {"source": "python", "name": type(model).__name__}
        names = {"source": "python", "path": "memory", "splits": {key: key for key in ("train", "calibration", "test")}}
        given = {"model": here, **({"data": names} if splits else {}), **given}
    loaded = parse_recipe(given, base)
    return lambda: load_any(run(loaded, model=model, splits=splits).folder)


def _become(model: nn.Module, made: nn.Module) -> nn.Module:
    """Turn a model into another one, in one step."""
    try:
        model.__class__ = type(made)
    except TypeError as error:
        kinds = f"{type(model).__name__} into a {type(made).__name__}"
        raise PassError(f"Python cannot turn a {kinds}; leave `inplace` out") from error
    model.__dict__ = made.__dict__
    return model
