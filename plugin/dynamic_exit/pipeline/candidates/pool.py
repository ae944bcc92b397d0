"""The candidates of a run: surveyed from their cost, tried from cheap to dear, and the best of them shipped."""

import copy
import dataclasses
import functools
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ...core import distributed
from ...core.cache import Cache
from ...core.hashing import array_fingerprint, digest
from ...core.model_fingerprint import environment_fingerprint
from ...core.progress import Progress, ProgressLog
from ...cost import count_macs
from ...errors import DynamicExitError, ModelError
from ...onnx.part import Part
from ...passes.tiny_saver import (
    FINE_TUNED_SUFFIX,
    Candidate,
    Shortlist,
    can_tell,
    chain_ratio,
    evaluate_alone,
    no_better_than_chance,
    select_savers,
    skipped_candidate,
)
from ...records import Records
from ...runtime.recorder import BATCH_SIZE, KEPT_CLASSES, Answers, join_answers
from ...runtime.stages import Stage, StageSet
from ...sources.run_inputs import RunInputs
from ...targets.onnxruntime import OnnxRuntimeTarget
from ..measure import stage_costs
from .fine_tuning import FineTuner
from .recording import record
from .survey import CandidateSpec, survey_candidate

logger = logging.getLogger(__name__)

_TRAIN = "give it `weights`, or `fine_tune` to `tiny_saver`"


class CandidatePool:
    """The candidates of one run, surveyed: each is loaded once, and those that can never pay are left out.

    Args:
        run_inputs: The recipe, the backbone, the samples and the sources of the candidates.
        cache: Keeps what is made.
        progress: Takes how far the work is; None says it in lines.

    Attributes:
        known: The candidates that load, cheapest first.
        skipped: Rows of the table for those that were not run.
        notes: What the user should know of the candidates, one sentence each.

    Raises:
        ModelError: No candidate remains.
    """

    def __init__(self, run_inputs: RunInputs, cache: Cache, progress: Progress | None = None):
        self.run_inputs, self.cache = run_inputs, cache
        self.progress = progress or ProgressLog()
        self.stanza = run_inputs.recipe.dynamic_exit.tiny_saver
        self.inputs = run_inputs.splits["calibration"].inputs
        self.skipped: list[Candidate] = []
        self.known: list[CandidateSpec] = []
        self.notes: list[str] = []
        self._untrained: list[Candidate] = []
        started = time.perf_counter()
        self._survey()
        self.seconds = time.perf_counter() - started

    def select(self, stages: StageSet, target: OnnxRuntimeTarget) -> list[Candidate]:
        """Try the candidates, choose savers among them, and put those into the chain.

        Args:
            stages: The shipped backbone; the chosen savers and how evidence is fused are put into it.
            target: Exports and quantizes.

        Returns:
            The table: a row for each candidate, the chosen ones first, those that were not run last.

        Raises:
            ModelError: No candidate remains.
        """
        started = time.perf_counter()
        stages.fuse = self.stanza.fuse
        trial = CandidateEvaluation(self, stages, target)
        trial.run()
        table = trial.choose()
        if self.stanza.fine_tune:
            table = trial.fine_tune(table)
        table += self.skipped
        self.progress("savers", 1.0)
        chosen = sorted((row for row in table if row.chosen), key=lambda row: (row.cost, row.stage))
        stages.savers = {row.stage: trial.stage(row.stage) for row in chosen}
        self.seconds += time.perf_counter() - started
        names = ", ".join(stages.savers) or "none saves anything"
        logger.info(f"savers: {names} out of {len(self.run_inputs.candidates)} candidates, in {self.seconds:.1f} s")
        return table

    def with_inputs(self, run_inputs: RunInputs) -> "CandidatePool":
        """Return the same candidates for another backbone and recipe, without another survey."""
        other = copy.copy(self)
        other.run_inputs, other.skipped, other.notes = run_inputs, [*self.skipped], [*self.notes]
        other.seconds = 0.0
        return other

    def skip(self, name: str, reason: str, cost: float | None = None) -> None:
        """Say that a candidate cannot be used, and go on without it."""
        logger.warning(f"candidate '{name}' is left out: {reason}")
        self.skipped.append(skipped_candidate(name, cost, f"left out: {reason}"))

    def demand(self, remaining: Any) -> None:
        """Refuse a pool of which nothing remains."""
        if not remaining:
            first = (self._untrained or self.skipped)[0]
            said = f"no candidate of `tiny_saver` can be used, '{first.stage}' is {first.why}"
            raise ModelError(f"{said}; {_TRAIN if self._untrained else 'give others'}")

    def say_trained_first(self, name: str, reason: str) -> None:
        """Say that a candidate is trained before the selection, and why."""
        self.note(f"candidate '{name}' is trained before savers are chosen, as '{name}{FINE_TUNED_SUFFIX}': {reason}")

    def note(self, sentence: str) -> None:
        """Say a sentence now, and keep it for figures, report and card."""
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
            if self.known and (reason := shortlist.out_of_time()):
                self.skipped.append(skipped_candidate(name, None, reason))
                continue
            try:
                known = distributed.run_on_all(
                    functools.partial(survey_candidate, name, source, run_inputs, self.cache)
                )
            except DynamicExitError as error:
                self.skip(name, str(error))
                continue
            # multiply-adds say nothing for certain of seconds
            reason = None if latency else shortlist.too_expensive(known.macs)
            if reason:
                self.skip(name, reason, known.macs)
            elif known.untrained and not self.stanza.fine_tune:
                self.skip(name, known.untrained, known.macs)
                self._untrained.append(self.skipped[-1])
                self.notes.append(f"candidate '{name}' is left out: {known.untrained}; {_TRAIN}")
            else:
                self.known.append(known)
                if known.untrained:
                    self.say_trained_first(name, known.untrained)
        self.demand(self.known)
        self.known.sort(key=lambda known: (known.macs, known.name))


class CandidateEvaluation:
    """One trial of a pool on the calibration split.

    Args:
        pool: The candidates.
        stages: The shipped backbone.
        target: Exports and quantizes.
    """

    def __init__(self, pool: CandidatePool, stages: StageSet, target: OnnxRuntimeTarget):
        self.pool, self.stages, self.target, self.cache = pool, stages, target, pool.cache
        self.known = {known.name: known for known in pool.known}
        self.tuning = pool.run_inputs.recipe.dynamic_exit.tuning
        self.cost = self.tuning.cost
        self.costs = stage_costs(stages, self.tuning, self.cache)
        self.answers: dict[str, Answers] = {}
        # what the answers of every stage depend on besides itself
        samples = [text for name, array in pool.inputs.items() for text in (name, array_fingerprint(array))]
        runtime = stages.segments[0].part.runtime
        self.common = [environment_fingerprint(), samples, runtime, str([target.threads, BATCH_SIZE, KEPT_CLASSES])]
        self.work = {"final": sum(stage.macs for stage in stages.segments)}
        self.work.update((name, known.macs) for name, known in self.known.items())
        self.done = 0.0
        stanza = pool.stanza
        self.shortlist = Shortlist(
            self.costs["prefix_cost"]["final"],
            self.costs["cost_unit"],
            single=stanza.selection == "single",
            time_limit=None if stanza.time_limit is None else stanza.time_limit - pool.seconds,
        )
        model = stages.model("session")
        self.backbone = lambda *inputs: model.all_stage_logits(*inputs)["final"]
        self.backbone_sum = digest(*(stage.part.content for stage in stages.segments))
        self.options = {
            "fuse": stanza.fuse,
            "max_accuracy_drop": pool.run_inputs.recipe.dynamic_exit.tuning.max_accuracy_drop,
            "seed": pool.run_inputs.recipe.seed,
            "selection": stanza.selection,
        }

    def run(self) -> None:
        """Record the backbone, and the candidates from cheap to dear; those that know nothing are trained first."""
        self._record("final", self.backbone_sum, self.backbone, self.stages.input_names)
        if not can_tell(self._truth):
            self.pool.note(f"{len(self._truth)} calibration samples are too few to tell candidates from chance")
        for name, known in [*self.known.items()]:
            if known.untrained:
                self._tune(name)
                self.pool.skipped.append(
                    skipped_candidate(name, self._cost(name), f"{known.untrained}; see {name}{FINE_TUNED_SUFFIX}")
                )
                continue
            self._consider(name)
            if self.pool.stanza.fine_tune and name in self.answers and (reason := self._chance(name)):
                self.pool.say_trained_first(name, reason)
                self._tune(name)
        self.pool.demand(len(self.answers) > 1)

    @property
    def _truth(self) -> np.ndarray:
        """The class that counts as right (N,), as records have it."""
        labels = self.pool.run_inputs.splits["calibration"].labels
        return np.where(labels >= 0, labels, self.answers["final"].classes[:, 0])

    def _cost(self, name: str) -> float | None:
        return self.known[name].macs if self.cost == "macs" else None

    def _chance(self, name: str) -> str | None:
        return no_better_than_chance(self.answers[name].classes[:, 0], self._truth)

    def _consider(self, name: str) -> None:
        if reason := self._over():
            self.pool.skipped.append(skipped_candidate(name, self._cost(name), reason))
            return
        try:
            self._try(name)
        except DynamicExitError as error:
            self.pool.skip(name, str(error))

    def _over(self) -> str | None:
        return self.shortlist.out_of_time() if len(self.answers) > 1 else None

    def choose(self) -> list[Candidate]:
        """Choose savers; the same records give the same choice without a second search."""
        records, options = self._records(), {**self.options, "max_savers": self.pool.stanza.max_savers}
        values = {field.name: getattr(records, field.name) for field in dataclasses.fields(records)}
        arrays = [[name, array_fingerprint(np.asarray(value))] for name, value in values.items() if value is not None]
        key = digest("choice", environment_fingerprint(), arrays, json.dumps(options))
        rows = self.cache.memo(key, lambda: [vars(row) for row in select_savers(records, **options)])
        return [Candidate(**row) for row in rows]

    def fine_tune(self, table: list[Candidate]) -> list[Candidate]:
        """Train the chosen savers for their role, and choose again; kept only where the chain gets cheaper."""
        chosen = [row.stage for row in table if row.chosen]
        untaught = [name for name in chosen if not name.endswith(FINE_TUNED_SUFFIX)]
        if not untaught:
            return table
        for name in untaught:
            self._tune(name)
        again, records = self.choose(), self._records()
        chains = (chosen, [row.stage for row in again if row.chosen])
        before, after = distributed.run_on_main(
            lambda: [chain_ratio(records, names, **self.options) for names in chains]
        )
        kept = "kept" if after < before else "not kept"
        logger.info(f"savers fine-tuned: the chain costs {after:.4f} of the backbone, {before:.4f} without; {kept}")
        if after < before:
            return again
        known = {row.stage for row in table}
        why = "the chain gets no cheaper with it"
        tuned = [row for row in again if row.stage not in known]
        return table + [dataclasses.replace(row, saving_in_chain=0.0, chosen=False, why=why) for row in tuned]

    @functools.cached_property
    def tuner(self) -> FineTuner:
        """Trains savers, with the shipped backbone as their teacher."""
        pool, names = self.pool, self.stages.input_names
        return FineTuner(
            pool.stanza.fine_tune,
            pool.run_inputs.splits["train"],
            self.backbone,
            self.backbone_sum,
            self.options["seed"],
            self.cache,
            names,
        )

    def _tune(self, name: str) -> None:
        known, tuned = self.known[name], name + FINE_TUNED_SUFFIX
        if reason := self._over():
            self.pool.skipped.append(skipped_candidate(tuned, self._cost(name), reason))
            return
        try:
            load, fingerprint = self.tuner.tune(name, known.load, known.fingerprint)
        except DynamicExitError as error:
            self.pool.skip(tuned, str(error), self._cost(name))
            return
        self.known[tuned] = dataclasses.replace(known, name=tuned, load=load, fingerprint=fingerprint, untrained=None)
        self.work[tuned] = known.macs
        self._consider(tuned)

    def stage(self, name: str) -> Stage:
        """Make a candidate a stage of the chain."""
        float_part, part, _ = self._parts(name)
        candidate = self.known[name].load()
        return self.target.stage(candidate, float_part, part, candidate.select(self.pool.run_inputs.example))

    def _try(self, name: str) -> None:
        """Run one candidate, unless its cost says that it cannot pay."""
        shortlist, cost = self.shortlist, self.known[name].macs
        if self.cost == "latency":
            cost = stage_costs(self._with(name), self.tuning, self.cache)["own_cost"][name]
            if reason := shortlist.too_expensive(cost):
                self.pool.skip(name, reason, cost)
                return
        if reason := shortlist.cannot_win(cost):
            logger.info(f"candidate {name} is not run: {reason}")
            self.pool.skipped.append(skipped_candidate(name, cost, reason))
            return
        self.costs["own_cost"][name], self.costs["prefix_cost"][name] = cost, 0.0
        _, part, content = self._parts(name)
        session = functools.cache(lambda: self.target.open(part))
        self._record(name, content, lambda *inputs: session()(*inputs), self.known[name].input_names)
        if shortlist.single and not self._chance(name):
            shortlist.record(evaluate_alone(self._records(name), name, self.options["fuse"], self.options["seed"]))

    def _with(self, name: str) -> StageSet:
        stages = self.stages
        return StageSet(stages.input_names, stages.segments, stages.positions, {name: self.stage(name)})

    def _parts(self, name: str) -> tuple[Part, Part, str]:
        """Return a candidate in float, as it ships, and a sum over what ships."""
        quantize = self.pool.stanza.quantize and self.known[name].quantize
        options = str(self.target.int8 if quantize else None)
        input_names = self.known[name].input_names
        key = digest("parts", self.common, self.known[name].fingerprint, options, input_names, str(self.target.dims))

        def export() -> dict[str, bytes]:
            float_part, part = self.target.export_saver(name, self.known[name].load(), input_names, quantize)
            made = {f"float.{self.target.ending}": float_part.content}
            if part is not float_part:
                made[f"shipped.{self.target.ending}"] = part.content
            return made

        found = self.cache.files(key, export)
        parts = [self.target.load(name, content, input_names, "logits") for content in found.values()]
        return parts[0], parts[-1], digest(*found.values())

    def _record(self, name: str, content: str, run: Callable[..., torch.Tensor], input_names: Sequence[str]) -> None:
        """Run one stage on the calibration split, or find what it answered; `content` covers what is run."""
        pool, started = self.pool, time.perf_counter()
        total, work = sum(self.work.values()), self.work[name]
        key = digest("answers", self.common, content, input_names)
        found = key in self.cache
        told = f"records of {'the backbone' if name == 'final' else name}"
        answers = record(
            self.cache,
            key,
            name,
            run,
            [pool.inputs[each] for each in input_names],
            lambda share: pool.progress(told, (self.done + share * work) / total),
            self.target.workers(),
        )
        self.answers[name], self.done = answers, self.done + work
        right = float((answers.classes[:, 0] == self._truth).mean())
        spent = "found in the cache" if found else f"in {time.perf_counter() - started:.1f} s"
        logger.info(f"{told}: {work / self.work['final']:.3f} of its multiply-adds, {right:.1%} right, {spent}")

    def _records(self, *names: str) -> Records:
        """Return the records of some candidates, or of all that were run, from cheap to dear."""
        savers = sorted(names or self.answers.keys() - {"final"}, key=lambda name: (self.costs["own_cost"][name], name))
        answers = {name: self.answers[name] for name in (*savers, "final")}
        labels = self.pool.run_inputs.splits["calibration"].labels
        return join_answers(answers, labels, positions=self.stages.positions, **self.costs)
