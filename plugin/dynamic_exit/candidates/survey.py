"""A first look at a candidate: whether it loads, what it costs, and whether it has trained weights."""

import dataclasses
import functools
from collections.abc import Callable

from ..core.cache import Cache
from ..core.hashing import digest
from ..core.model_fingerprint import classifier_fingerprint, environment_fingerprint
from ..cost import count_macs
from ..data.run_inputs import RunInputs
from ..graph import Classifier
from ..passes import ModelSource
from ..sources.models.base import find_builder
from ..sources.models.candidates import load_candidate
from .untrained import why_untrained


@dataclasses.dataclass(frozen=True)
class CandidateSpec:
    """What is known of a candidate that loads, before it is run.

    Attributes:
        name: Of its stage.
        load: Loads it, the same each time.
        fingerprint: Covers its code, weights and preprocessing.
        macs: Multiply-adds per sample.
        input_names: Names of the inputs that it takes.
        quantize: False keeps it in float whatever `quantization` says.
        untrained: What of it has no trained weights, in a few words; None if nothing is known to lack them.
    """

    name: str
    load: Callable[[], Classifier]
    fingerprint: str
    macs: float
    input_names: tuple[str, ...]
    quantize: bool = True
    untrained: str | None = None


def survey_candidate(name: str, source: ModelSource, run_inputs: RunInputs, cache: Cache) -> CandidateSpec:
    """Load a candidate, count its multiply-adds, and check whether it has trained weights.

    Args:
        name: Of its stage.
        source: One model, no pattern.
        run_inputs: Example inputs, classes and seed.
        cache: Keeps what was found.

    Raises:
        DynamicExitError: It does not load, or cannot be a candidate.
    """
    seed, given = run_inputs.recipe.seed, run_inputs
    classes = given.recipe.data.classes or given.classes

    def build(seed: int) -> Classifier:
        return load_candidate(source, classes, given.example, given.by_name, seed, given.labels)

    candidate = build(seed)
    input_names = tuple(candidate.input_names or run_inputs.example)
    example = candidate.select(run_inputs.example)
    code = classifier_fingerprint(candidate, example)
    fingerprint = digest(source.model_dump_json(exclude={"stage"}), code, find_builder(source).fingerprint())
    shapes = [str(tensor.shape) for tensor in example]
    keys = [
        digest(what, environment_fingerprint("candidates"), fingerprint, shapes, input_names)
        for what in ("multiply-adds", "untrained")
    ]
    return CandidateSpec(
        name,
        functools.partial(build, seed),
        fingerprint,
        cache.memo(keys[0], lambda: count_macs(candidate, example)),
        input_names,
        source.quantize,
        cache.memo(keys[1], lambda: [why_untrained(source, candidate, example, lambda: build(seed + 1))])[0],
    )
