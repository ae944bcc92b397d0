"""Runs candidates on the calibration split from cheap to expensive, and chooses savers among them."""

import dataclasses
import functools
import logging
import platform
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE
from ..core.chance import can_tell, no_better_than_chance
from ..core.hashing import array_fingerprint, digest
from ..core.model_fingerprint import environment_fingerprint, module_fingerprint
from ..cost import ChainCost, count_macs
from ..errors import DynamicExitError
from ..graph import Classifier
from ..passes.tiny_saver import (
    FINE_TUNED_SUFFIX,
    Candidate,
    Shortlist,
    chain_badness,
    evaluate_alone,
    select_savers,
    skipped_candidate,
)
from ..records import Records
from ..runtime.recorder import KEPT_CLASSES, Answers, join_answers
from ..runtime.stages import ExportedPart, Stage, StageSet
from ..search import SearchOptions
from ..targets.base import Exporter
from ..targets.stage_costs import stage_costs
from .fine_tuning import FineTuner
from .making import Making, SaverMaking, list_makings
from .pool import CandidatePool
from .recording import record
from .survey import CandidateSpec
from .teacher import Teacher, TeacherAnswers, training_samples

logger = logging.getLogger(__name__)


class SaverSelection(NamedTuple):
    """The result of `select_candidates`.

    Attributes:
        stages: The stages with the chosen savers.
        candidates: A row for each candidate: the chosen ones first, those that were not run last.
    """

    stages: StageSet
    candidates: list[Candidate]


class _CandidateParts(NamedTuple):
    """A candidate as it is exported: in float, as exported, and a fingerprint of the latter."""

    float_part: ExportedPart
    part: ExportedPart
    fingerprint: str


def select_candidates(pool: CandidatePool, stages: StageSet, target: Exporter) -> SaverSelection:
    """Run the candidates of a pool, choose savers among them, and put those into the chain.

    Args:
        pool: The candidates; rows and notes of those that are not used are added to it.
        stages: The exported backbone.
        target: Exports and quantizes.

    Raises:
        ModelError: No candidate remains of those that the recipe names, or of those that are made without exits.
    """
    started = time.perf_counter()
    evaluation = CandidateEvaluation(pool, stages, target)
    evaluation.run()
    table = evaluation.choose() if len(evaluation.answers) > 1 else []
    if pool.stanza.fine_tune:
        table = evaluation.fine_tune(table)
    table += pool.skipped
    pool.progress("savers", 1.0)
    chosen = sorted((row for row in table if row.chosen), key=lambda row: (row.cost or 0.0, row.stage))
    with_savers = stages.add_savers(
        {row.stage: evaluation.stage(row.stage) for row in chosen}, evaluation.search_options.fuse
    )
    pool.seconds += time.perf_counter() - started
    return SaverSelection(with_savers, table)


class CandidateEvaluation:
    """One evaluation of a pool on the calibration split.

    Args:
        pool: The candidates.
        stages: The exported backbone.
        target: Exports and quantizes.
    """

    def __init__(self, pool: CandidatePool, stages: StageSet, target: Exporter):
        self.pool, self.stages, self.target, self.cache = pool, stages, target, pool.cache
        self.specs: dict[str, CandidateSpec] = {spec.name: spec for spec in pool.specs}
        stanza, recipe = pool.stanza, pool.run_inputs.recipe
        self.tuning = recipe.dynamic_exit.tuning
        costs = stage_costs(stages, self.tuning, self.cache)
        self.own_cost, self.prefix_cost, self.cost_unit = dict(costs.own), dict(costs.prefix), costs.unit
        self.answers: dict[str, Answers] = {}
        # what the answers of every stage depend on besides the stage itself
        samples = [text for name, array in pool.inputs.items() for text in (name, array_fingerprint(array))]
        runtime = stages.segments[0].part.runtime
        self.common = [
            environment_fingerprint("candidates"),
            samples,
            runtime,
            str([target.threads, DEFAULT_BATCH_SIZE, KEPT_CLASSES]),
        ]
        self.work = {"final": sum(stage.macs for stage in stages.segments)}
        self.work.update((name, spec.macs) for name, spec in self.specs.items())
        self.done = 0.0
        self.made: set[str] = set()
        self.shortlist = Shortlist(
            self.prefix_cost["final"],
            self.cost_unit,
            single=stanza.selection == "single",
            time_limit=None if stanza.time_limit is None else stanza.time_limit - pool.seconds,
        )
        model = stages.model("session")
        self.teacher = Teacher(
            lambda *inputs: model.all_stage_logits(*inputs)["final"],
            digest(*(stage.part.content for stage in stages.segments)),
            stages.input_names,
        )
        self.search_options = SearchOptions(recipe.dynamic_exit.plain_evidence, stanza.max_savers, recipe.seed)
        # what `select_savers` takes besides records
        self.rule = (self.search_options, self.tuning.saver_goal, stanza.selection)

    def run(self) -> None:
        """Record the backbone, then the candidates from cheap to expensive; untrained ones are trained first."""
        teacher = self.teacher
        self._record("final", teacher.fingerprint, teacher.run, teacher.input_names)
        if not can_tell(self._truth):
            self.pool.note(f"{len(self._truth)} calibration samples are too few to tell candidates from chance")
        for name, spec in [*self.specs.items()]:
            if spec.untrained:
                self._fine_tune(name)
                trained = f"{spec.untrained}; see {name}{FINE_TUNED_SUFFIX}"
                self.pool.skipped.append(skipped_candidate(name, self._known_cost(name), trained))
                continue
            self._evaluate(name)
            if self.pool.stanza.fine_tune and name in self.answers and (reason := self._chance(name)):
                self.pool.note_trained_first(name, reason)
                self._fine_tune(name)
        for making in list_makings(self.pool.makers):
            self._make(making)
        self.pool.check_not_empty(self.answers.keys() - {"final"})

    def choose(self) -> list[Candidate]:
        """Choose savers; the same records give the same choice without a second search."""
        records = self._records()
        values = {field.name: getattr(records, field.name) for field in dataclasses.fields(records)}
        arrays = [[name, array_fingerprint(np.asarray(value))] for name, value in values.items() if value is not None]
        key = digest("choice", environment_fingerprint("passes"), arrays, str(self.rule))
        rows = self.cache.memo(key, lambda: [vars(row) for row in select_savers(records, *self.rule)])
        return [Candidate(**row) for row in rows]

    def fine_tune(self, table: list[Candidate]) -> list[Candidate]:
        """Train the chosen savers for their role and choose again; kept only if the chain gets better."""
        chosen = [row.stage for row in table if row.chosen]
        to_train = [name for name in chosen if name not in self.made and not name.endswith(FINE_TUNED_SUFFIX)]
        if not to_train:
            return table
        for name in to_train:
            self._fine_tune(name)
        again, records = self.choose(), self._records()
        chains = (chosen, [row.stage for row in again if row.chosen])
        before, after = distributed.run_on_main(lambda: [chain_badness(records, names, *self.rule) for names in chains])
        kept = "kept" if after < before else "not kept"
        single, budget = self.shortlist.single, self.tuning.saver_goal.budget
        shown = f"costs {after:.4f} of the backbone" if single or budget is None else f"is wrong on {after:.4f}"
        logger.info(f"savers fine-tuned: the chain {shown}, {before:.4f} without; {kept}")
        if after < before:
            return again
        known = {row.stage for row in table}
        why = "the chain gets no better with it"
        added = [row for row in again if row.stage not in known]
        return table + [dataclasses.replace(row, saving_in_chain=0.0, chosen=False, why=why) for row in added]

    def stage(self, name: str) -> Stage:
        """Make a candidate a stage of the chain."""
        parts, candidate = self._parts(name), self.specs[name].load()
        example = candidate.select(self.pool.run_inputs.example)
        return self.target.make_stage(candidate, parts.float_part, parts.part, example)

    @functools.cached_property
    def _tuner(self) -> FineTuner:
        """Trains savers with the exported backbone as their teacher."""
        stanza = self.pool.stanza.fine_tune
        assert stanza is not None, "nothing is trained unless the recipe says so"
        train, seed = self.pool.run_inputs.splits["train"], self.search_options.seed
        return FineTuner(stanza, train, self._teacher_answers, seed, self.cache)

    @functools.cached_property
    def _making(self) -> SaverMaking:
        """Makes savers with the exported backbone as their teacher."""
        return SaverMaking(self.pool.run_inputs, self._teacher_answers, self, self.cache)

    @functools.cached_property
    def _teacher_answers(self) -> TeacherAnswers:
        """The exported backbone's answers on the samples that savers learn from."""
        run_inputs = self.pool.run_inputs
        samples = training_samples(run_inputs) if self.pool.makers else run_inputs.splits["train"]
        return TeacherAnswers(self.teacher, samples, self.cache)

    @property
    def _truth(self) -> np.ndarray:
        """The class that counts as correct, int64 (N,), as records have it."""
        labels = self.pool.run_inputs.splits["calibration"].labels
        return np.where(labels >= 0, labels, self.answers["final"].classes[:, 0])

    def _known_cost(self, name: str) -> float | None:
        return self.specs[name].macs if self.cost_unit == "macs" else None

    def _chance(self, name: str) -> str | None:
        return no_better_than_chance(self.answers[name].classes[:, 0], self._truth)

    def _out_of_time(self) -> str | None:
        return self.shortlist.out_of_time() if len(self.answers) > 1 else None

    def _fine_tune(self, name: str) -> None:
        """Train a copy of a candidate, and evaluate that."""
        spec, trained = self.specs[name], name + FINE_TUNED_SUFFIX
        if reason := self._out_of_time():
            self.pool.skipped.append(skipped_candidate(trained, self._known_cost(name), reason))
            return
        try:
            load, fingerprint = self._tuner.tune(name, spec.load, spec.fingerprint)
        except DynamicExitError as error:
            self.pool.skip(trained, str(error), self._known_cost(name))
            return
        self.specs[trained] = dataclasses.replace(
            spec, name=trained, load=load, fingerprint=fingerprint, untrained=None
        )
        self.work[trained] = spec.macs
        self._evaluate(trained)

    def _make(self, making: Making) -> None:
        """Make a saver, and evaluate it."""
        if reason := self._out_of_time():
            self.pool.skipped.append(skipped_candidate(making.name, None, reason))
            return
        try:
            fitted = self._making.fit(making)
            share = self._making.cost_share(making, fitted) if self.shortlist.single else None
            if share is not None and self._cannot_win(making.name, share * self.prefix_cost["final"]):
                return
            spec = self._making.make(making, fitted, self.shortlist.deadline)
        except DynamicExitError as error:
            self.pool.skip(making.name, str(error))
            return
        self.specs[making.name], self.work[making.name] = spec, spec.macs
        self.made.add(making.name)
        self._evaluate(making.name)

    def _cannot_win(self, name: str, cost: float) -> bool:
        """Skip a candidate, before it is made or run, if its cost says that it cannot win."""
        reason = self.shortlist.cannot_win(cost)
        if reason:
            logger.info(f"candidate {name} is not run: {reason}")
            self.pool.skipped.append(skipped_candidate(name, cost, reason))
        return bool(reason)

    @property
    def measured_by(self) -> str:
        """Fingerprint of all that decides a cost besides the saver; see `CostMeter`."""
        if self.cost_unit == "macs":
            return "macs"
        machine = [platform.node(), str(self.tuning.batch_size), str(self.tuning.threads)]
        return digest("seconds", self.common, str(self.target.quantization), str(self.pool.stanza.quantize), machine)

    def cost_share(self, name: str, model: Classifier, input_names: Sequence[str], quantize: bool) -> float:
        """Return the cost of an untrained saver as a share of the backbone's; see `CostMeter`."""
        macs = count_macs(model, model.select(self.pool.run_inputs.example))
        if self.cost_unit == "macs":
            return macs / self.prefix_cost["final"]
        fingerprint = module_fingerprint(model)
        self.specs[name] = CandidateSpec(name, lambda: model, fingerprint, macs, tuple(input_names), quantize)
        alone = dataclasses.replace(self.stages, savers={name: self.stage(name)})
        del self.specs[name]
        return stage_costs(alone, self.tuning, self.cache).own[name] / self.prefix_cost["final"]

    def _evaluate(self, name: str) -> None:
        """Evaluate one candidate, unless time is over or it cannot be used."""
        if reason := self._out_of_time():
            self.pool.skipped.append(skipped_candidate(name, self._known_cost(name), reason))
            return
        try:
            self._run(name)
        except DynamicExitError as error:
            self.pool.skip(name, str(error))

    def _run(self, name: str) -> None:
        """Run one candidate, unless its cost says that it cannot pay."""
        shortlist, cost = self.shortlist, self.specs[name].macs
        if self.cost_unit == "seconds":
            alone = dataclasses.replace(self.stages, savers={name: self.stage(name)})
            cost = stage_costs(alone, self.tuning, self.cache).own[name]
            if reason := shortlist.too_expensive(cost):
                self.pool.skip(name, reason, cost)
                return
        if self._cannot_win(name, cost):
            return
        self.own_cost[name], self.prefix_cost[name] = cost, 0.0
        parts = self._parts(name)
        # opened only if the answers are not in the cache
        session = functools.cache(lambda: self.target.open_part(parts.part))
        self._record(name, parts.fingerprint, lambda *inputs: session()(*inputs), self.specs[name].input_names)
        if shortlist.single and not self._chance(name):
            shortlist.record(evaluate_alone(self._records(name), name, self.search_options))

    def _parts(self, name: str) -> _CandidateParts:
        """Export a candidate, or find what was exported before."""
        target, spec = self.target, self.specs[name]
        quantize = self.pool.stanza.quantize and spec.quantize
        options = str(target.quantization if quantize else None)
        key = digest(
            "parts", self.common, spec.fingerprint, options, spec.input_names, str(target.dims), target.variant
        )

        def export() -> dict[str, bytes]:
            float_part, part = target.export_saver(name, spec.load(), spec.input_names, quantize)
            made = {f"float.{target.extension}": float_part.content}
            if part is not float_part:
                made[f"shipped.{target.extension}"] = part.content
            return made

        found = self.cache.files(key, export)
        parts = [target.load_part(name, content, spec.input_names, "logits") for content in found.values()]
        return _CandidateParts(parts[0], parts[-1], digest(*found.values()))

    def _record(self, name: str, fingerprint: str, run: Callable[..., Tensor], input_names: Sequence[str]) -> None:
        """Run one stage on the calibration split, or find what it answered; the fingerprint covers what is run."""
        pool, started = self.pool, time.perf_counter()
        total, work = sum(self.work.values()), self.work[name]
        key = digest("answers", self.common, fingerprint, input_names)
        found = key in self.cache
        what = f"records of {'the backbone' if name == 'final' else name}"

        def follow(share: float) -> None:
            if not pool.makers:  # most of the time goes into trainings otherwise, whose work is not known here
                pool.progress(what, (self.done + share * work) / total)

        answers = record(
            self.cache,
            key,
            name,
            run,
            [pool.inputs[each] for each in input_names],
            follow,
            self.target.workers(),
        )
        self.answers[name], self.done = answers, self.done + work
        accuracy = float((answers.classes[:, 0] == self._truth).mean())
        spent = "found in the cache" if found else f"in {time.perf_counter() - started:.1f} s"
        logger.info(f"{what}: {work / self.work['final']:.3f} of its multiply-adds, {accuracy:.1%} right, {spent}")

    def _records(self, *names: str) -> Records:
        """Return the records of some candidates, or of all that were run, from cheap to expensive."""
        savers = sorted(names or self.answers.keys() - {"final"}, key=lambda name: (self.own_cost[name], name))
        return join_answers(
            {name: self.answers[name] for name in (*savers, "final")},
            self.pool.run_inputs.splits["calibration"].labels,
            ChainCost(self.own_cost, self.prefix_cost, self.cost_unit),
            self.stages.positions,
        )
