"""About how long the steps of a run take, from short probes: a few batches, one export, two epochs on few samples."""

import copy
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..chain.operating_point import Goal
from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE, named_batches
from ..core.logging import silenced
from ..cost import ROUND_SECONDS
from ..graph.backbone import Backbone
from ..onnx.export import export_part
from ..onnx.part import Part
from ..onnx.quantize import quantize_part
from ..onnx.session import PartSession
from ..passes import PruningStanza
from ..passes.early_exit import ExitTraining, FrozenBackbone, TrainingSamples, attach_exits
from ..passes.quantization import int8_options
from ..passes.training import as_model_input
from ..pipeline.candidates.pool import CandidatePool
from ..pipeline.stage_costs import ROUNDS, TIME_LIMIT
from ..recipe.static_choices import StaticChoice
from ..records import Records
from ..search.optimizer import optimize
from ..search.options import SearchOptions
from ..sources.run_inputs import RunInputs
from ..targets.onnxruntime import export_whole

# samples on which heads and the search for thresholds are tried
_FEW, _SEARCHED = 128, 400
_TIMED = 3
# samples that are timed in one round, and what is timed besides the points
_IN_A_ROUND, _BACKBONES = 640, 2


class Estimate:
    """Estimates for one recipe.

    Args:
        given: The run inputs before any static pass.
        run_inputs: Those with the pruned backbone.
        backbone: That one, cut.
        pool: Candidates for savers; None for none.
    """

    def __init__(self, given: RunInputs, run_inputs: RunInputs, backbone: Backbone, pool: CandidatePool | None):
        self.given, self.run_inputs, self.backbone, self.pool = given, run_inputs, backbone, pool
        self.recipe = run_inputs.recipe
        self.sizes = {key: len(split) for key, split in run_inputs.splits.items()}
        tuning = self.recipe.dynamic_exit.tuning
        self.workers = distributed.workers(tuning.threads)

    def steps(self) -> dict[str, float]:
        """Return the seconds of each step of a plain run, in order."""
        steps: dict[str, float] = {}
        for stanza in self.recipe.static_passes.values():
            if isinstance(stanza, PruningStanza):
                steps["prune and fine-tune"] = self.pruning(stanza)
        several = len(self.recipe.quantization or {}) > 1 and self.recipe.model.quantize
        if several:
            steps["choose a quantization"] = self.export_seconds(1, len(self.recipe.quantization))
        steps["export the backbone"] = self.export_seconds(len(self.backbone.segments), 1)
        return steps | self._dynamic() | {"prove and measure the file": self.proof}

    def _dynamic(self) -> dict[str, float]:
        steps = {}
        if self.pool:
            steps["try candidates"] = self.candidates
        if self.recipe.dynamic_exit.early_exit:
            steps["train exits"] = self.exits
        return steps | {"make records": self.records, "search thresholds": self.search}

    def of_choices(self, choices: Sequence[StaticChoice]) -> dict[str, float]:
        """Return the seconds of a search over static choices, if all of them were tried."""
        prunings = {choice.names[0]: choice.pruning for choice in choices if choice.pruning}
        steps = {f"prune: {name}": self.pruning(stanza) for name, stanza in prunings.items()}
        steps["export the backbones"] = len(choices) * self.export_seconds(len(self.backbone.segments), 1)
        ways = len({choice.names[1] for choice in choices})
        for name, seconds in self._dynamic().items():
            # what candidates answer is found in the cache where only the backbone differs
            steps[name] = seconds * (ways if name == "try candidates" else len(choices))
        return steps | {"prove and measure the file": self.proof}

    def pruning(self, stanza: PruningStanza) -> float:
        """Seconds of a pruning: those of one step of training with its teacher, for all of them."""
        options = stanza.fine_tune
        epochs = options.epochs + (stanza.steps - 1) * options.step_epochs
        return epochs * max(1, self.sizes["train"] // options.batch_size) * self._training_step(options.batch_size)

    def _training_step(self, batch_size: int) -> float:
        model, teacher = copy.deepcopy(self.given.backbone), self.given.backbone
        split = self.given.splits["train"]
        batch = [as_model_input(tensor[:batch_size]) for tensor in model.select(split.tensors)]
        truth = torch.from_numpy(split.labels[:batch_size]).clamp(min=0)
        model.requires_grad_(True)

        def step() -> None:
            with torch.no_grad():
                teacher(*batch)
            functional.cross_entropy(model(*batch), truth).backward()

        return _seconds(step)

    @cached_property
    def _whole(self) -> tuple[Part, PartSession, float]:
        """The whole backbone exported, a session of it, and the seconds that the export took."""
        run_inputs = self.run_inputs
        started = time.perf_counter()
        part = export_whole(run_inputs.backbone, run_inputs.example, self.backbone.dims)
        spent = time.perf_counter() - started
        return part, PartSession(part, self.recipe.dynamic_exit.tuning.threads), spent

    @cached_property
    def forward(self) -> float:
        """Seconds of the backbone for one sample, of many."""
        part, session, _ = self._whole
        feeds = self.run_inputs.splits["calibration"].feeds(part.input_names)
        batch = [array[:DEFAULT_BATCH_SIZE] for array in feeds.values()]
        return _seconds(lambda: session.run(*batch)) / len(batch[0])

    @cached_property
    def _quantizing(self) -> tuple[float, float]:
        """Seconds of a quantization: of any, and for each calibration sample."""
        ways = int8_options(self.recipe.quantization)
        for choice in self.recipe.choices:
            ways = ways or int8_options(choice.quantization)
        if not ways:
            return 0.0, 0.0
        part = self._whole[0]
        feeds, times = self.run_inputs.splits["calibration"].feeds(part.input_names), []
        for count in (DEFAULT_BATCH_SIZE, 2 * DEFAULT_BATCH_SIZE):
            few = {name: array[:count] for name, array in feeds.items()}
            started = time.perf_counter()
            quantize_part(part, named_batches(few, DEFAULT_BATCH_SIZE), ways[0])
            times.append(time.perf_counter() - started)
        each = max(0.0, times[1] - times[0]) / DEFAULT_BATCH_SIZE
        return max(0.0, times[0] - each * DEFAULT_BATCH_SIZE), each

    def export_seconds(self, pieces: int, ways: int) -> float:
        """Seconds to export a backbone in pieces, and to quantize it."""
        once, each = self._quantizing
        export = self._export_piece * (pieces - 1) + self._whole[2]
        return export + ways * (once * (1 + pieces) / 2 + each * self.sizes["calibration"])

    @cached_property
    def _export_piece(self) -> float:
        """What a piece more costs, whatever its size: an export of the smallest one."""
        segments = self.backbone.segments
        if len(segments) < 2:
            return 0.0
        last = segments[-1]
        started = time.perf_counter()
        export_part("piece", last, last.input_names, last.output_kind, last.example_inputs, last.dynamic_dims)
        return time.perf_counter() - started

    @cached_property
    def candidates(self) -> float:
        """Seconds to export, quantize and run the candidates; cheapest, middle and dearest are probed."""
        known = self.pool.specs
        probed = sorted({0, len(known) // 2, len(known) - 1})
        rates = [self._candidate(known[place]) for place in probed]
        macs = [known[place].macs for place in probed]
        exports, forwards = ([each[place] for each in rates] for place in (0, 1))
        once, each = self._quantizing
        total = 0.0
        for candidate in known:
            share = candidate.macs / max(macs[-1], 1.0)
            total += float(np.interp(candidate.macs, macs, exports)) + once * min(1.0, share + 0.25)
            running = float(np.interp(candidate.macs, macs, forwards)) * self.sizes["calibration"]
            total += running / self.workers + each * self.sizes["calibration"] * min(1.0, share)
        return total + self.forward * self.sizes["calibration"] / self.workers

    def _candidate(self, known: Any) -> tuple[float, float]:
        """Seconds of a candidate's export, and of its answer to one sample."""
        model, example = known.load(), self.run_inputs.example
        started = time.perf_counter()
        free = [self.backbone.dims.get(name, {}) for name in known.input_names]
        part = export_part("candidate", model, known.input_names, "logits", model.select(example), free)
        spent = time.perf_counter() - started
        session = PartSession(part, self.recipe.dynamic_exit.tuning.threads)
        feeds = self.run_inputs.splits["calibration"].feeds(known.input_names)
        batch = [array[:DEFAULT_BATCH_SIZE] for array in feeds.values()]
        return spent, _seconds(lambda: session.run(*batch)) / len(batch[0])

    @cached_property
    def exits(self) -> float:
        """Seconds to train exits: features of all samples, then epochs; patience may end them earlier."""
        stanza, split = self.recipe.dynamic_exit.early_exit, self.run_inputs.splits["train"]
        rows = np.random.default_rng(0).permutation(len(split))[:_FEW]
        given, labels = {name: tensor[rows] for name, tensor in split.tensors.items()}, torch.from_numpy(split.labels)

        def train(epochs: int) -> float:
            training = stanza.training.model_copy(
                update={"epochs": epochs, "views": 1, "validation": 0.0, "weighting": "none"}
            )
            few = stanza.model_copy(update={"training": training, "sequence": None})
            started = time.perf_counter()
            frozen = FrozenBackbone(self.backbone.segments, self.backbone.cuts, self.backbone.classes)
            with silenced():  # a plan does not report on trainings that only tell their time
                attach_exits(frozen, TrainingSamples(given, labels[rows]), ExitTraining(few))
            return time.perf_counter() - started

        one, three = train(1), train(3)
        training = stanza.training
        epoch = max(0.0, three - one) / 2 / len(rows) * self.sizes["train"]
        if training.cache == "none":
            return training.epochs * epoch
        return self.forward * self.sizes["train"] * training.views + training.epochs * epoch

    @cached_property
    def records(self) -> float:
        """Seconds to run the whole chain on calibration and test samples."""
        return self.forward * (self.sizes["calibration"] + self.sizes["test"]) / self.workers

    @cached_property
    def search(self) -> float:
        """Seconds of the search: that on random records of as many stages, for as many samples."""
        dynamic = self.recipe.dynamic_exit
        savers = min(dynamic.tiny_saver.max_savers, len(self.pool.specs)) if self.pool else 0
        entries = len(dynamic.early_exit.entries) if dynamic.early_exit else 0
        exits = [position for position in range(len(self.backbone.cuts)) for _ in range(entries)]
        few = min(_SEARCHED, self.sizes["calibration"])
        records = _random_records(savers, exits, len(self.backbone.cuts), few)
        started = time.perf_counter()
        fuse = dynamic.tiny_saver.fuse if dynamic.tiny_saver else "none"
        # a budget takes as long as an allowed drop, and none of the random stages may fit it
        goals = [Goal(max_accuracy_drop=goal.max_accuracy_drop or 0.0) for goal in dynamic.tuning.goals]
        optimize(records, goals, SearchOptions(fuse))
        return (time.perf_counter() - started) * self.sizes["calibration"] / few

    @cached_property
    def proof(self) -> float:
        """Seconds to hold two files against their models at every point, and to time the points."""
        points = len(self.recipe.dynamic_exit.tuning.goals)
        compared = 2 * 2 * (points + 1) * self.sizes["test"] * self.forward
        a_round = (points + _BACKBONES) * max(_IN_A_ROUND * self.forward, 2 * ROUND_SECONDS)
        return compared + min(ROUNDS * a_round, 2 * TIME_LIMIT + a_round)


def _random_records(savers: int, exits: Sequence[int], depth: int, samples: int) -> Records:
    """Records of stages that are right more and more often."""
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
    """Median seconds of a call, once warm."""
    call()
    times = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(np.median(times))
