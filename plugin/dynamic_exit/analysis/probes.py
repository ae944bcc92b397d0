"""Estimates the time of a run from short probes: a few batches, one export, a few epochs on few samples."""

import copy
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from ..candidates.making import MakingPlan, plan_makings
from ..candidates.pool import CandidatePool
from ..candidates.survey import CandidateSpec
from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE, named_batches
from ..core.logging import silenced
from ..cost import ROUND_SECONDS
from ..data.run_inputs import RunInputs
from ..data.split import UNLABELLED, Split
from ..graph import Classifier
from ..graph.backbone import Backbone
from ..onnx.export import export_part
from ..onnx.part import Part
from ..onnx.quantize import quantize_part
from ..onnx.session import PartSession
from ..passes import PruningStanza
from ..passes.early_exit import EarlyExitStanza, ExitTraining, FrozenBackbone, TrainingSamples, attach_exits
from ..passes.quantization import int8_options
from ..passes.tiny_saver import FineTuneStanza
from ..passes.training import as_model_input
from ..points.goal import Goal
from ..recipe.static_choices import StaticChoice
from ..records import Records
from ..search.options import SearchOptions
from ..targets.onnxruntime import export_whole
from ..targets.stage_costs import ROUNDS, TIME_LIMIT
from ..tuning.optimizer import optimize

# samples on which heads and the search for thresholds are tried
_EXIT_SAMPLES, _SEARCH_SAMPLES = 128, 400
# calls that are timed, of which the median counts
_TIMED_CALLS = 3
# samples that are timed in one round, and what is timed besides the points
_SAMPLES_IN_A_ROUND, _TIMED_BACKBONES = 640, 2


class Whole(NamedTuple):
    """The whole backbone exported, a session of it, and the seconds that the export took."""

    part: Part
    session: PartSession
    seconds: float


class Quantizing(NamedTuple):
    """Seconds of a quantization: of any, and for each calibration sample."""

    once: float
    per_sample: float


class Estimate:
    """Estimates for one recipe.

    Args:
        original: The run inputs before any static pass.
        run_inputs: Those with the pruned backbone.
        backbone: The pruned backbone, cut.
        pool: Candidates for savers; None for none.
    """

    def __init__(self, original: RunInputs, run_inputs: RunInputs, backbone: Backbone, pool: CandidatePool | None):
        self.original, self.run_inputs, self.backbone, self.pool = original, run_inputs, backbone, pool
        self.recipe = run_inputs.recipe
        self.sizes = {key: len(split) for key, split in run_inputs.splits.items()}
        self.threads = self.recipe.dynamic_exit.tuning.threads
        self.workers = distributed.workers(self.threads)

    def steps(self) -> dict[str, float]:
        """Return the seconds of each step of a plain run, in order."""
        steps: dict[str, float] = {}
        for stanza in self.recipe.static_passes.values():
            if isinstance(stanza, PruningStanza):
                steps["prune and fine-tune"] = self._pruning(stanza)
        quantizations = len(self.recipe.quantization or {})
        if quantizations > 1 and self.recipe.model.quantize:
            steps["choose a quantization"] = self._export(1, quantizations)
        steps["export the backbone"] = self._export(len(self.backbone.segments), 1)
        return steps | self._dynamic | {"prove and measure the file": self._verification()}

    def steps_of_search(self, choices: Sequence[StaticChoice]) -> dict[str, float]:
        """Return the seconds of a search over static choices, if all of them were tried."""
        prunings = {choice.names[0]: choice.pruning for choice in choices if choice.pruning}
        steps = {f"prune: {name}": self._pruning(stanza) for name, stanza in prunings.items()}
        steps["export the backbones"] = len(choices) * self._export(len(self.backbone.segments), 1)
        quantizations = len({choice.names[1] for choice in choices})
        for name, seconds in self._dynamic.items():
            # what candidates answer is found in the cache if only the backbone differs
            steps[name] = seconds * (quantizations if name == "try candidates" else len(choices))
        return steps | {"prove and measure the file": self._verification()}

    @cached_property
    def _dynamic(self) -> dict[str, float]:
        """Seconds of the dynamic passes, of the records and of the search."""
        steps, dynamic = {}, self.recipe.dynamic_exit
        if self.pool:
            backbone = self._forward * self.sizes["calibration"] / self.workers
            steps["try candidates"] = self._candidates(self.pool.specs) + backbone
            if self.pool.makers:
                steps["make savers"] = self._making()
            if self.pool.stanza.fine_tune:
                steps["fine-tune candidates"] = self._fine_tuning(self.pool, self.pool.stanza.fine_tune)
        if dynamic.early_exit:
            steps["train exits"] = self._exits(dynamic.early_exit)
        calibration, test = self.sizes["calibration"], self.sizes["test"]
        steps["make records"] = self._forward * (calibration + test) / self.workers
        return steps | {"search thresholds": self._search()}

    def _pruning(self, stanza: PruningStanza) -> float:
        """Seconds of a pruning: those of one training step with its teacher, for all of them."""
        options, teacher = stanza.fine_tune, self.original.backbone
        epochs = options.epochs + (stanza.steps - 1) * options.step_epochs
        step = self._training_step(teacher, options.batch_size, teacher)
        return epochs * max(1, self.sizes["train"] // options.batch_size) * step

    def _training_step(self, model: Classifier, batch_size: int, teacher: Classifier | None = None) -> float:
        """Seconds of one step that trains a copy of a model, with the answers of a teacher if there is one."""
        return _seconds(training_step(model, self.original.splits["train"], batch_size, teacher))

    @cached_property
    def _whole(self) -> Whole:
        run_inputs, started = self.run_inputs, time.perf_counter()
        part = export_whole(run_inputs, self.backbone.dims)
        seconds = time.perf_counter() - started
        return Whole(part, PartSession(part, self.threads), seconds)

    @cached_property
    def _forward(self) -> float:
        """Seconds of the backbone for one sample, of many."""
        return self._seconds_per_sample(self._whole.session, self._whole.part.input_names)

    def _seconds_per_sample(self, session: PartSession, input_names: Sequence[str]) -> float:
        feeds = self.run_inputs.splits["calibration"].feeds(input_names)
        batch = [array[:DEFAULT_BATCH_SIZE] for array in feeds.values()]
        return _seconds(lambda: session.run(*batch)) / len(batch[0])

    @cached_property
    def _quantizing(self) -> Quantizing:
        options = int8_options(self.recipe.quantization)
        for choice in self.recipe.choices:
            options = options or int8_options(choice.quantization)
        if not options:
            return Quantizing(0.0, 0.0)
        part = self._whole.part
        feeds, times = self.run_inputs.splits["calibration"].feeds(part.input_names), []
        for count in (DEFAULT_BATCH_SIZE, 2 * DEFAULT_BATCH_SIZE):
            few = {name: array[:count] for name, array in feeds.items()}
            started = time.perf_counter()
            quantize_part(part, named_batches(few, DEFAULT_BATCH_SIZE), options[0])
            times.append(time.perf_counter() - started)
        per_sample = max(0.0, times[1] - times[0]) / DEFAULT_BATCH_SIZE
        return Quantizing(max(0.0, times[0] - per_sample * DEFAULT_BATCH_SIZE), per_sample)

    def _export(self, segments: int, quantizations: int) -> float:
        """Seconds to export a backbone in segments, and to quantize it some times."""
        once, per_sample = self._quantizing
        export = self._export_segment * (segments - 1) + self._whole.seconds
        return export + quantizations * (once * (1 + segments) / 2 + per_sample * self.sizes["calibration"])

    @cached_property
    def _export_segment(self) -> float:
        """What one segment more costs, whatever its size: an export of the smallest one."""
        segments = self.backbone.segments
        if len(segments) < 2:
            return 0.0
        last = segments[-1]
        started = time.perf_counter()
        export_part("segment", last, last.input_names, last.output_kind, last.example_inputs, last.dynamic_dims)
        return time.perf_counter() - started

    def _candidates(self, specs: Sequence[CandidateSpec]) -> float:
        """Seconds to export, quantize and run candidates, from probes of three."""
        if not specs:
            return 0.0
        probed = _probed(specs)
        rates = [self._candidate(spec) for spec in probed]
        macs = [spec.macs for spec in probed]
        exports, forwards = ([each[place] for each in rates] for place in (0, 1))
        once, per_sample = self._quantizing
        total, calibration = 0.0, self.sizes["calibration"]
        for spec in specs:
            share = spec.macs / max(macs[-1], 1.0)
            total += float(np.interp(spec.macs, macs, exports)) + once * min(1.0, share + 0.25)
            running = float(np.interp(spec.macs, macs, forwards)) * calibration
            total += running / self.workers + per_sample * calibration * min(1.0, share)
        return total

    def _candidate(self, spec: CandidateSpec) -> tuple[float, float]:
        """Seconds of a candidate's export, and of its answer to one sample."""
        model, started = spec.load(), time.perf_counter()
        free = [self.backbone.dims.get(name, {}) for name in spec.input_names]
        example = model.select(self.run_inputs.example)
        part = export_part("candidate", model, spec.input_names, "logits", example, free)
        seconds = time.perf_counter() - started
        return seconds, self._seconds_per_sample(PartSession(part, self.threads), spec.input_names)

    def _fine_tuning(self, pool: CandidatePool, options: FineTuneStanza) -> float:
        """Seconds to train savers: all untrained candidates, and as many others, the most expensive, as are chosen.

        The backbone answers the training split once; a trained candidate is exported and run as any other.
        """
        untrained = [spec for spec in pool.specs if spec.untrained]
        others = [spec for spec in pool.specs if not spec.untrained]
        trained = sorted(untrained + others[-pool.stanza.max_savers :], key=lambda spec: spec.macs)
        if not trained:
            return 0.0
        probed = _probed(trained)
        macs = [spec.macs for spec in probed]
        times = [self._training_step(spec.load(), options.batch_size) for spec in probed]
        steps = options.epochs * max(1, self.sizes["train"] // options.batch_size)
        training = sum(steps * float(np.interp(spec.macs, macs, times)) for spec in trained)
        return self._forward * self.sizes["train"] + training + self._candidates(trained)

    def _making(self) -> float:
        """Seconds to answer the views of the training split, to train savers, and to run these."""
        if not self.made:
            return 0.0
        samples = self.sizes["train"] + self.sizes.get(UNLABELLED, 0)
        teaching = self._forward * samples * max(plan.views for plan in self.made)
        running = self._candidates([plan.spec for plan in self.made])
        return teaching + sum(self.trainings.values()) + running

    @cached_property
    def trainings(self) -> dict[str, float]:
        """Seconds of the training of each saver that is made, by name."""
        trained = [plan for plan in self.made if plan.steps[0]]
        return {
            plan.spec.name: plan.steps[0] * self._training_step(plan.spec.load(), plan.steps[1]) for plan in trained
        }

    @cached_property
    def made(self) -> list[MakingPlan]:
        """What makers would make, by multiply-adds; what fits no share, or twice, is left out."""
        if self.pool is None:
            return []
        return plan_makings(self.run_inputs, self.pool.makers, self.pool.skip)

    def _exits(self, stanza: EarlyExitStanza) -> float:
        """Seconds to train exits: features of all samples, then epochs; patience may end them earlier."""
        split, training = self.run_inputs.splits["train"], stanza.training
        rows = np.random.default_rng(0).permutation(len(split))[:_EXIT_SAMPLES]
        few = split.take(rows)
        samples = TrainingSamples(few.tensors, torch.from_numpy(few.labels))
        frozen = FrozenBackbone(self.backbone.segments, self.backbone.cuts, self.backbone.classes)

        def train(epochs: int) -> float:
            changes = {"epochs": epochs, "views": 1, "validation": 0.0, "weighting": "none"}
            probe = stanza.model_copy(update={"training": training.model_copy(update=changes), "sequence": None})
            started = time.perf_counter()
            with silenced():  # a plan does not report on trainings that only tell their time
                attach_exits(frozen, samples, ExitTraining(probe))
            return time.perf_counter() - started

        one, three = train(1), train(3)
        epoch = max(0.0, three - one) / 2 / len(rows) * self.sizes["train"]
        if training.cache == "none":
            return training.epochs * epoch
        return self._forward * self.sizes["train"] * training.views + training.epochs * epoch

    def _search(self) -> float:
        """Seconds of the search: those on random records of as many stages, scaled to as many samples."""
        dynamic, depth = self.recipe.dynamic_exit, len(self.backbone.cuts)
        savers = min(self.pool.stanza.max_savers, len(self.pool.specs) + len(self.made)) if self.pool else 0
        entries = len(dynamic.early_exit.entries) if dynamic.early_exit else 0
        exits = [position for position in range(depth) for _ in range(entries)]
        samples = min(_SEARCH_SAMPLES, self.sizes["calibration"])
        records = _random_records(savers, exits, depth, samples)
        started = time.perf_counter()
        # a budget takes as long as an allowed drop, and none of the random stages may fit it
        goals = [Goal(max_accuracy_drop=goal.max_accuracy_drop or 0.0) for goal in dynamic.tuning.goals]
        with silenced():  # what it says is of random records
            optimize(records, goals, SearchOptions(dynamic.evidence))
        return (time.perf_counter() - started) * self.sizes["calibration"] / samples

    def _verification(self) -> float:
        """Seconds to compare two files with their models at every point, and to time the points."""
        points = len(self.recipe.dynamic_exit.tuning.goals)
        compared = 2 * 2 * (points + 1) * self.sizes["test"] * self._forward
        a_round = (points + _TIMED_BACKBONES) * max(_SAMPLES_IN_A_ROUND * self._forward, 2 * ROUND_SECONDS)
        return compared + min(ROUNDS * a_round, 2 * TIME_LIMIT + a_round)


def training_step(
    model: Classifier, split: Split, batch_size: int, teacher: Classifier | None = None
) -> Callable[[], object]:
    """Return a call that takes one step of training, but for the optimizer's, with a copy of a model.

    Args:
        model: As it is given; a copy is trained.
        split: Samples.
        batch_size: Of which so many are used at most.
        teacher: Answers them, too, if there is one.
    """
    trained = copy.deepcopy(model)
    batch = [as_model_input(tensor[:batch_size]) for tensor in trained.select(split.tensors)]
    truth = torch.from_numpy(split.labels[:batch_size]).clamp(min=0)
    trained.requires_grad_(True)

    def step() -> None:
        if teacher is not None:
            with torch.no_grad():
                teacher(*batch)
        functional.cross_entropy(trained(*batch), truth).backward()

    # without parameters there is nothing to train, as a run will say
    return step if any(True for _ in trained.parameters()) else lambda: None


def _probed(specs: Sequence[CandidateSpec]) -> list[CandidateSpec]:
    """Return the cheapest, the middle and the most expensive of some candidates, cheapest first."""
    return [specs[place] for place in sorted({0, len(specs) // 2, len(specs) - 1})]


def _random_records(savers: int, exits: Sequence[int], depth: int, samples: int) -> Records:
    """Return records of stages, each of which is right more often than the one before."""
    generator = np.random.default_rng(0)
    stages = [f"saver{i}" for i in range(savers)] + [f"exit{i}" for i in range(len(exits))] + ["final"]
    count, labels = len(stages), generator.integers(3, size=samples)
    right = generator.random((count, samples)) < np.linspace(0.7, 0.95, count)[:, None]
    first = np.where(right, labels, (labels + 1) % 3)
    classes = np.stack([first, (first + 1) % 3], axis=2).astype(np.int32)
    sure = np.where(right, generator.uniform(0.6, 1, right.shape), generator.uniform(0.5, 0.9, right.shape))
    shares = (np.array(exits, dtype=float) + 1) / (depth + 2)
    return Records(
        labels=labels.astype(np.int64),
        stages=tuple(stages),
        kinds=tuple(["saver"] * savers + ["exit"] * len(exits) + ["final"]),
        positions=np.array([-1] * savers + [*exits] + [depth]),
        topk_classes=classes,
        topk_probabilities=np.stack([sure, 1 - sure], axis=2).astype(np.float32),
        own_cost=np.array([0.05] * savers + [0.001] * len(exits) + [0.0]),
        prefix_cost=np.concatenate([np.zeros(savers), shares, [1.0]]),
        cost_unit="macs",
    )


def _seconds(call: Callable[[], object]) -> float:
    """Return the median seconds of a call, once warm."""
    call()
    times = []
    for _ in range(_TIMED_CALLS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(np.median(times))
