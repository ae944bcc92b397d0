"""Finds every fault of a recipe and of what it names, quick ones first."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, DynamicExitError, ModelError
from ..recipe.document import Fault, Steps, read_document
from ..recipe.faults import FoundFaults
from ..recipe.yaml_io import read_recipe
from .decode_ahead import decoding_ahead
from .named import find_missing

if TYPE_CHECKING:
    from ..data.run_inputs import RunInputs
    from ..recipe.recipe import Recipe

# keys on which the meaning of others in their stanza depends
_DECISIVE = ("source", "name", "path", "make")


@dataclass(frozen=True)
class Validation:
    """What came of checking a recipe.

    Attributes:
        faults: All that were found, in the order of the file.
        recipe: The recipe; None if it has faults.
        run_inputs: What it names, loaded; None likewise.
        candidates: Number of candidates for savers.
    """

    faults: list[Fault]
    recipe: "Recipe | None" = None
    run_inputs: "RunInputs | None" = None
    candidates: int = 0


def validate(path: Path, overrides: Mapping[str, Any]) -> Validation:
    """Check a recipe's file, the stanzas, the files that they name, and, if all that is fine, what these hold.

    Args:
        path: The recipe.
        overrides: Dotted key -> value, in place of the recipe's own.
    """
    document = read_document(path)
    if document.values is None and document.faults:
        return Validation(document.faults)
    found = FoundFaults(document, overrides)
    faults = list(found.faults)
    if found.recipe is not None:
        for steps, message in find_missing(found.recipe):
            if not any(_depends(steps, each) for each in found.replaced):
                faults.append(document.fault(steps, message))
    if faults:
        return Validation(sorted(faults, key=lambda fault: (fault.line, fault.column)))
    assert found.recipe is not None, "without a recipe there are faults"
    with decoding_ahead(found.recipe) as wait:  # before the recipe is read, which may bring torch
        try:
            recipe = read_recipe(path, overrides)
        except DynamicExitError as error:
            return Validation([document.fault(_steps_of(error), str(error))])
        return _load(recipe, wait, lambda error: document.fault(_steps_of(error), str(error)))


def _depends(steps: Steps, replaced: Steps) -> bool:
    """Whether what is checked depends on what was replaced: it is inside, or its stanza has another source now."""
    inside = steps[: len(replaced)] == replaced
    return inside or (bool(replaced) and replaced[-1] in _DECISIVE and steps[: len(replaced) - 1] == replaced[:-1])


def _load(recipe: "Recipe", before_decoding: Callable[[], None], fault: Any) -> Validation:
    """Load model and data; where the data fail, the model is tried alone."""
    from ..candidates.backbones import survey_backbones
    from ..candidates.pool import CandidatePool
    from ..core.cache import Cache
    from ..pipeline.inputs import load_run_inputs

    try:
        run_inputs = load_run_inputs(recipe, before_decoding=before_decoding)
        run_inputs.log_notes()
        cache = Cache(None)
        sources = [source for source, _ in survey_backbones(run_inputs, cache)] if recipe.upgrade else []
        chains = [load_run_inputs(recipe.upgraded(source)) for source in sources] or [run_inputs]
        pool = [CandidatePool.of(each, cache) for each in chains][-1]
    except DynamicExitError as error:
        further = _try_model(recipe) if isinstance(error, DataError) else ()
        faults = [fault(each) for each in (error, *further)]
        return Validation(sorted(faults, key=lambda each: (each.line, each.column)))
    candidates = len(pool.specs) + sum(len(each.shares) for each in pool.makers) if pool else 0
    return Validation([], recipe, run_inputs, candidates)


def _try_model(recipe: "Recipe") -> Iterator[DynamicExitError]:
    from ..sources.models.loading import load_model

    try:
        load_model(recipe.model, seed=recipe.seed, note=lambda line: None)
    except DynamicExitError as error:
        yield error


def _steps_of(error: DynamicExitError) -> Steps:
    """Return where in a recipe an error belongs: at the key or split that it names, else at its stanza."""
    text = str(error)
    key = re.search(r"key '([\w.]+)'", text)
    if key:
        return tuple(int(step) if step.isdigit() else step for step in key[1].split("."))
    split = re.search(r"split(?:s|) '(train|calibration|test|unlabelled)'", text)
    if split:
        return "data", "splits", split[1]
    if isinstance(error, DataError):
        return ("data",)
    if "candidate" in text or "`tiny_saver`" in text:
        return "dynamic_exit", "tiny_saver"
    return ("model",) if isinstance(error, ModelError) else ()
