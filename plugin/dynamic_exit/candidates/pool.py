"""The candidates for savers of one run, surveyed before any of them is run."""

import copy
import functools
import logging
import time
from collections.abc import Sized

from ..core import distributed
from ..core.cache import Cache
from ..cost import count_macs
from ..data.run_inputs import RunInputs
from ..errors import DynamicExitError, ModelError
from ..passes.tiny_saver import FINE_TUNED_SUFFIX, Candidate, Shortlist, TinySaverStanza, skipped_candidate
from ..passes.tiny_saver.makers import AUTO, choose_makers
from .progress import Progress, ProgressLog
from .survey import CandidateSpec, survey_candidate

logger = logging.getLogger(__name__)

_TRAIN = "give it `weights`, or `fine_tune` to `tiny_saver`"


class CandidatePool:
    """The candidates of one run: each is loaded once, and those that can never pay are skipped.

    Args:
        run_inputs: The backbone, the samples, the sources of the candidates, and a recipe with `tiny_saver`.
        cache: Keeps what is made.
        progress: Takes how far the work is; None logs it in lines.

    Attributes:
        specs: The given candidates that load, cheapest first.
        makers: What makes further ones once the backbone is exported; `auto` is resolved.
        skipped: Rows of the table for those that were not run.
        notes: What the user should know of the candidates, one sentence each.
        seconds: What was spent on them so far.

    Raises:
        ModelError: No candidate remains, and none is to be made.
        PassError: A maker does not suit the inputs.
    """

    def __init__(self, run_inputs: RunInputs, cache: Cache, progress: Progress | None = None):
        stanza = run_inputs.recipe.dynamic_exit.tiny_saver
        assert stanza is not None, "a pool needs a recipe with `tiny_saver`"
        self.run_inputs, self.cache = run_inputs, cache
        self.stanza: TinySaverStanza = stanza
        self.progress = progress or ProgressLog()
        self.inputs = run_inputs.splits["calibration"].inputs
        self.specs: list[CandidateSpec] = []
        self.skipped: list[Candidate] = []
        self.notes: list[str] = []
        self._untrained: list[Candidate] = []
        self.makers = choose_makers(stanza.makers, run_inputs.example)
        started = time.perf_counter()
        self._survey()
        self.seconds = time.perf_counter() - started

    @classmethod
    def of(cls, run_inputs: RunInputs, cache: Cache, progress: Progress | None = None) -> "CandidatePool | None":
        """Return the pool of a recipe; None if it has no `tiny_saver`."""
        return cls(run_inputs, cache, progress) if run_inputs.recipe.dynamic_exit.tiny_saver else None

    def with_inputs(self, run_inputs: RunInputs) -> "CandidatePool":
        """Return the same candidates for another backbone and recipe, without another survey."""
        other = copy.copy(self)
        other.run_inputs, other.skipped, other.notes = run_inputs, [*self.skipped], [*self.notes]
        other.seconds = 0.0
        return other

    def skip(self, name: str, reason: str, cost: float | None = None) -> None:
        """Warn that a candidate cannot be used, and go on without it."""
        self.warn(f"candidate '{name}' is left out: {reason}")
        self.skipped.append(skipped_candidate(name, cost, f"left out: {reason}"))

    def warn(self, sentence: str) -> None:
        """Warn the user."""
        logger.warning(sentence)

    def check_not_empty(self, remaining: Sized) -> None:
        """Refuse a pool of which nothing remains; one that names no candidate gives way to exits."""
        if remaining:
            return
        first = (self._untrained or self.skipped)[0]
        if self.run_inputs.recipe.dynamic_exit.early_exit and self._names_none:
            self.note(f"there is no saver, exits alone: none that is made here suits, '{first.stage}' is {first.why}")
            return
        problem = f"no candidate of `tiny_saver` can be used, '{first.stage}' is {first.why}"
        raise ModelError(f"{problem}; {_TRAIN if self._untrained else 'give others'}")

    @property
    def _names_none(self) -> bool:
        """Whether the recipe leaves open what candidates are."""
        return not self.stanza.models and all(maker.make == AUTO for maker in self.stanza.makers)

    def note_trained_first(self, name: str, reason: str) -> None:
        """Note that a candidate is trained before the selection, and why."""
        trained = f"trained before savers are chosen, as '{name}{FINE_TUNED_SUFFIX}'"
        self.note(f"candidate '{name}' is {trained}: {reason}")

    def note(self, sentence: str) -> None:
        """Log a sentence now, and keep it for figures, report and card."""
        logger.info(f"note: {sentence}")
        self.notes.append(sentence)

    def _survey(self) -> None:
        run_inputs, latency = self.run_inputs, self.run_inputs.recipe.dynamic_exit.tuning.cost == "latency"
        shortlist = Shortlist(
            count_macs(run_inputs.backbone, run_inputs.backbone.select(run_inputs.example)),
            "macs",
            time_limit=self.stanza.time_limit,
        )
        for name, source in run_inputs.candidates.items():
            if self.specs and (reason := shortlist.out_of_time()):
                self.skipped.append(skipped_candidate(name, None, reason))
                continue
            survey = functools.partial(survey_candidate, name, source, run_inputs, self.cache)
            try:
                spec = distributed.run_on_all(survey)
            except DynamicExitError as error:
                self.skip(name, str(error))
                continue
            # multiply-adds say nothing for certain of seconds
            reason = None if latency else shortlist.too_expensive(spec.macs)
            if reason:
                self.skip(name, reason, spec.macs)
            elif spec.untrained and not self.stanza.fine_tune:
                self.skip(name, spec.untrained, spec.macs)
                self._untrained.append(self.skipped[-1])
                self.notes.append(f"candidate '{name}' is left out: {spec.untrained}; {_TRAIN}")
            else:
                self.specs.append(spec)
                if spec.untrained:
                    self.note_trained_first(name, spec.untrained)
        if not self.makers:
            self.check_not_empty(self.specs)
        self.specs.sort(key=lambda spec: (spec.macs, spec.name))
