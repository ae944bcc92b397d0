"""Compression of a model in memory: by a recipe, or by configs of Neural Compressor."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from neural_compressor.common.base_config import BaseConfig
from torch import nn

from ...core.process_state import preserve_process_state
from ...data.checks import check_samples, resolve_overlaps
from ...data.split import Split
from ...errors import ModelError, PassError, RecipeError
from ...graph import evaluation_mode
from ...modeling.auto import AutoDynamicExitModel
from ...modeling.base import DynamicExitClassifier
from ...pipeline.run import run
from ...recipe.yaml_io import parse_recipe, read_stanzas
from ...trust.downloads import check_no_code
from .calibration import record_calibration
from .calibration_source import memory_stanzas
from .evaluator import Evaluator, check_tolerable_loss
from .in_place import replace_in_place
from .plan import Plan
from .support import check_given

#: A config, a mapping from algorithm names to parameters, or a list of both.
Passes: TypeAlias = BaseConfig | Mapping[str, Any] | Sequence[BaseConfig | Mapping[str, Any]]
#: Inputs (N, ...), one or several by name, and labels int64 (N,), by split.
Data: TypeAlias = Mapping[str, tuple[np.ndarray | Mapping[str, np.ndarray], np.ndarray]]

# keys that only a whole recipe has; it shares the others with a mapping of algorithms
_RECIPE_KEYS = {"seed", "model", "data", "quantization", "export"}


def compress(
    model: nn.Module,
    recipe: str | Path | Passes,
    *,
    data: Data | None = None,
    run_fn: Callable[..., Any] | None = None,
    run_args: Any = None,
    eval_fn: Callable[..., Any] | None = None,
    eval_args: Any = None,
    example_inputs: Any = None,
    tolerable_loss: float | None = None,
    inplace: bool = False,
) -> nn.Module | DynamicExitClassifier:
    """Compress a classifier: by a recipe into a folder, or by passes in memory.

    A recipe is a file, or a mapping with `export`; it learns from labeled samples. Passes are configs of Neural
    Compressor (the plugin's and its own), mappings from algorithm names to parameters, or a list of both: they run in
    the written order, on what `run_fn` feeds the model. Everything is checked before the first pass starts, and passes
    work on copies: if one fails, nothing has changed.

    Args:
        model: In float and on the CPU, from (N, ...) or several inputs by name to logits (N, C). Training moves to a
            GPU by itself if there is one.
        recipe: Passes; or a recipe without the stanza `model`, and without `data` if the samples are given here.
        data: For a recipe: ``train``, ``calibration`` and ``test``, disjoint, each a pair of inputs (N, ...), or
            several by the names that the model takes them by, and labels int64 (N,); None uses the recipe's own.
        run_fn: For passes: calls the model that it is given on calibration batches. It is called once.
        run_args: Further positional arguments of `run_fn`.
        eval_fn: Takes a model and returns a score above 0; larger is better. It is called before and after.
        eval_args: Further positional arguments of `eval_fn`.
        example_inputs: As for Neural Compressor's `quantize`.
        tolerable_loss: For passes: largest relative loss of the score, in 0..1; with a larger one nothing is returned.
        inplace: For passes: once all has succeeded, the given object answers as the compressed model. If that has the
            same class, the given object becomes it and is returned; else it forwards to it and holds it as its only
            submodule, ``compressed``.

    Returns:
        The compressed model; for a recipe, the one in its `export.directory`.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why; the model has not changed.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"a model must be a torch.nn.Module; got {type(model).__name__}")
    by_recipe = _is_recipe(recipe, data)
    _check_arguments(by_recipe, run_fn, eval_fn, tolerable_loss, inplace, data)
    evaluator = Evaluator(eval_fn, eval_args, tolerable_loss) if eval_fn else None
    make: Callable[[], nn.Module | DynamicExitClassifier]
    if by_recipe:
        make = _prepare_recipe(model, recipe, data)
    else:
        make = _prepare_passes(model, Plan(recipe), run_fn, run_args, example_inputs)
    if evaluator:
        with evaluation_mode(model):
            evaluator.score_baseline(model)
    compressed = make()
    if evaluator:
        evaluator.check(compressed)
    if inplace and isinstance(compressed, nn.Module):
        return replace_in_place(model, compressed)
    return compressed


def _is_recipe(recipe: Any, data: Data | None) -> bool:
    if isinstance(recipe, str | Path):
        return True
    return isinstance(recipe, Mapping) and (data is not None or bool(_RECIPE_KEYS & recipe.keys()))


def _check_arguments(
    by_recipe: bool, run_fn: Any, eval_fn: Any, tolerable_loss: Any, inplace: bool, data: Data | None
) -> None:
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


def _prepare_passes(
    model: nn.Module, plan: Plan, run_fn: Callable[..., Any] | None, run_args: Any, example_inputs: Any
) -> Callable[[], nn.Module]:
    """Check all that can be checked before the first pass, and return a function that runs the passes."""
    plan.check(model)
    name = plan.needs_calls(example_inputs)
    if name and run_fn is None:
        raise PassError(f"pass '{name}' needs `run_fn`, which calls the model on calibration batches")
    calls = None
    if run_fn is not None:
        with evaluation_mode(model):
            calls = record_calibration(model, run_fn, run_args)

    def make() -> nn.Module:
        with preserve_process_state():
            return plan.run(model, calls, example_inputs)

    return make


def _prepare_recipe(model: nn.Module, recipe: Any, data: Data | None) -> Callable[[], DynamicExitClassifier]:
    """Check all that can be checked before the run, and return a function that runs the recipe."""
    check_given("dynamic_exit", model)
    splits = None
    if data is not None:
        if set(data) != {"train", "calibration", "test"}:
            raise RecipeError(f"data must hold train, calibration and test; got {', '.join(data) or 'nothing'}")
        splits = resolve_overlaps({key: Split(key, *check_samples(*data[key], split=key)) for key in data})
    stanzas: object
    if isinstance(recipe, Mapping):
        stanzas, base = recipe, Path.cwd()
    else:
        stanzas, base = read_stanzas(recipe), Path(recipe).parent
        check_no_code(recipe, stanzas)
    if stanzas and isinstance(stanzas, Mapping):
        given = memory_stanzas(model)
        stanzas = {**{key: given[key] for key in ("model", *(["data"] if splits else []))}, **stanzas}
    parsed = parse_recipe(stanzas, base)
    return lambda: AutoDynamicExitModel.from_pretrained(run(parsed, model=model, splits=splits).folder)
