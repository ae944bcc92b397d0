"""Does what traffic takes away come back: `python adapting.py [--streams N] [--share S] [--answers A] [--work DIR]`.

The shifts and models of monitor.py. Each stream begins with 5,000 answers like those of its reference of 2,500 and goes
on with A shifted ones, in calls of 100, of which a share S is checked. No label is ever shown. An alarm switches to the
backbone; thresholds are re-tuned so that as many answers are the backbone's as on the samples of the reference, with
probability 0.95. Printed for every shift: in how many streams the configuration in use at the end keeps that promise on
all shifted samples; what it saves of the backbone's cost there, over what the operating point saved before the shift;
and after how many answers half of that was back. $DYNAMIC_EXIT_DATA names the folder that holds cifar10/.
"""

import argparse
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from monitor import CLASSES, IMAGES, QUIET, REFERENCE, STAGES, Streams

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import ALWAYS_EXIT, NEVER_EXIT, STAGE_OFF, Configuration
from dynamic_exit.monitoring import Adaptation, Monitor, MonitoredModel, PointReference, Reference
from dynamic_exit.records import Records

CALL, LOOK = 100, 1_000


class Recorded(NamedTuple):
    """What each stage in use, and the end of their chain, answers to all samples of a kind.

    Attributes:
        classes: int64 (N, S).
        confidence: float32 (N, S - 1).
        backbone: int64 (N,).
    """

    classes: np.ndarray
    confidence: np.ndarray
    backbone: np.ndarray

    @classmethod
    def of(cls, records: Records, configuration: Configuration) -> "Recorded":
        """Answer all samples at every stage."""
        names, classes, confidence = [name for name, _ in configuration.stages], [], []
        for stage in [*names, None]:
            ends = tuple((name, ALWAYS_EXIT if name == stage else NEVER_EXIT) for name in names)
            found = evaluate(records, Configuration(ends, configuration.fuse))
            classes.append(found.prediction)
            confidence.append(found.confidence)
        return cls(np.column_stack(classes), np.column_stack(confidence[:-1]), records.topk_classes[-1, :, 0])

    def exits(self, thresholds: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return where samples leave, int64 (n,); nowhere but at the end where the stages are off."""
        sure = self.confidence[rows]
        return np.column_stack([sure > thresholds, np.ones(len(sure), bool)]).argmax(axis=1)

    def answer(self, thresholds: np.ndarray, rows: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Return the stages that answer, and their classes, int64 (n,) each; all off is the backbone."""
        exits = self.exits(thresholds, rows)
        if (thresholds == STAGE_OFF).all():
            return exits, self.backbone[rows]
        classes = self.classes[rows]
        return exits, classes[np.arange(len(classes)), exits]


class RecordedModel:
    """Answers rows of samples as a loaded model would, with one operating point beside the backbone."""

    def __init__(self, recorded: Recorded, thresholds: np.ndarray):
        self.recorded, self._points = recorded, {"point": thresholds, "backbone": np.full_like(thresholds, STAGE_OFF)}
        self.set_operating_point("point")

    def set_operating_point(self, name: str) -> None:
        """Switch."""
        self.operating_point, self.thresholds = SimpleNamespace(name=name), self._points[name]

    def __call__(self, rows: np.ndarray, thresholds: np.ndarray | None = None) -> SimpleNamespace:
        """Answer rows, at thresholds of the caller's own if there are any."""
        used = self.thresholds if thresholds is None else thresholds
        exits, classes = self.recorded.answer(used, rows)
        sure = np.column_stack([self.recorded.confidence, np.ones(len(self.recorded.backbone), np.float32)])
        return SimpleNamespace(
            logits=np.eye(CLASSES, dtype=np.float32)[classes], exit_index=exits, confidence=sure[rows, exits]
        )


class WatchedRows(MonitoredModel):
    """Answers rows of samples, and shows the images of a kind to the monitor."""

    def __init__(self, *args: Any, streams: Streams):
        super().__init__(*args)
        self.streams, self.kind = streams, "as before"

    def inputs_of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the images of rows."""
        return self.streams.inputs_of(self.kind, rows)


class Outcome(NamedTuple):
    """The end of a stream.

    Attributes:
        noticed: Whether there was an alarm.
        adapted: Whether thresholds were re-tuned.
        kept: Whether the promise holds on all shifted samples.
        agreement: With the backbone there, in 0..1.
        saving: Of the backbone's cost there, in 0..1.
        half: Shifted answers until half of the saving was back; infinite if it never was.
        changes: How often thresholds changed.
    """

    noticed: bool
    adapted: bool
    kept: bool
    agreement: float
    saving: float
    half: float
    changes: int


class Runs:
    """Runs streams of shifted samples."""

    def __init__(self, work: Path, images: int, fuse: str, inputs: bool):
        self.streams = streams = Streams(work, images, fuse, inputs)
        names = [name for name, _ in streams.configuration.stages]
        self.clean = streams.clean.select(names)
        self.thresholds = streams.configuration.as_array(names)
        self.recorded = {kind: Recorded.of(each, streams.configuration) for kind, each in streams.records.items()}
        table = self.clean.stage_table
        self.own, self.prefix = table.own_cost / table.baseline_cost, table.prefix_cost / table.baseline_cost
        self.costs = np.cumsum(self.own) + self.prefix

    def kind(self, name: str) -> tuple[Recorded, np.ndarray]:
        """Return the answers of a kind of samples, and the probability of each sample."""
        return self.recorded.get(name, self.recorded["as before"]), self.streams.kinds[name][1]

    def figures(self, name: str, thresholds: np.ndarray) -> tuple[float, float]:
        """Return agreement and saving on all samples of a kind."""
        found, shares = self.kind(name)
        exits, classes = found.answer(thresholds)
        costs = np.ones(len(exits)) if (thresholds == STAGE_OFF).all() else self.costs[exits]
        return float(shares @ (classes == found.backbone)), float(1 - shares @ costs)

    def stream(self, name: str, answers: int, share: float, random: np.random.Generator) -> Outcome:
        """Run one stream."""
        rows = self.streams.reference(random)
        drawn = self.clean.take(rows)
        off = Configuration((), self.streams.configuration.fuse)
        points = [("point", self.streams.configuration), ("backbone", off)]
        reference = Reference(
            stages=self.clean.stages,
            points=tuple(PointReference.of(point, drawn, each, CLASSES) for point, each in points),
            own_costs=tuple(self.own.tolist()),
            prefix_costs=tuple(self.prefix.tolist()),
            inputs=self.streams.input_reference(rows),
        )
        seed = int(random.integers(1 << 30))
        monitor = Monitor(reference, seed=seed, adaptation=Adaptation())
        model = RecordedModel(self.recorded["as before"], self.thresholds)
        watched = WatchedRows(model, monitor, share, seed, streams=self.streams)
        promised = reference.points[0].agreeing / REFERENCE
        before, half = self.figures("as before", self.thresholds)[1], np.inf
        for kind, count in (("as before", QUIET), (name, answers)):
            model.recorded, _ = self.kind(kind)
            watched.kind = kind
            for done in range(0, count, LOOK):
                for _ in range(LOOK // CALL):
                    watched(self.streams.draw(kind, CALL, random))
                saving = self.figures(name, self.in_use(watched))[1]
                if kind == name and monitor.status().alarms and half == np.inf and saving >= before / 2:
                    half = done + LOOK
        status, (agreement, saving) = monitor.status(), self.figures(name, self.in_use(watched))
        changes = status.adaptation.changes
        adapted = status.adaptation.thresholds is not None
        return Outcome(bool(status.alarms), adapted, agreement >= promised, agreement, saving, half, len(changes))

    def in_use(self, watched: MonitoredModel) -> np.ndarray:
        """Return the thresholds that answer."""
        _, adapted = watched.in_use
        return watched.thresholds if adapted is None else adapted


def main() -> None:
    """Print a line a shift."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--work", type=Path, default=Path("build/monitor"))
    parser.add_argument("--kinds", nargs="*", help="of samples; default: all")
    parser.add_argument("--fuse", default="none")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-inputs", dest="inputs", action="store_false", help="watch no statistics of images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable()
    runs = Runs(options.work, options.images, options.fuse, options.inputs)
    agreed, saved = runs.figures("as before", runs.thresholds)
    print(f"before: {agreed:.2%} of answers are the backbone's, {saved:.1%} of its cost is saved; stages {STAGES}")
    for name in options.kinds or runs.streams.kinds:
        random = np.random.default_rng(options.seed)
        found = [runs.stream(name, options.answers, options.share, random) for _ in range(options.streams)]
        stay, noticed = runs.figures(name, runs.thresholds), [each for each in found if each.noticed]
        half = np.median([each.half for each in noticed]) if noticed else np.inf
        back = np.array([each.saving for each in found]) / saved
        print(
            f"{name:20} staying agrees {stay[0]:.2%}, saves {stay[1]:.1%}; noticed in {len(noticed)} of {len(found)}, "
            f"adapted in {sum(each.adapted for each in found)}; promise kept in {sum(each.kept for each in found)} "
            f"({sum(each.kept for each in noticed)} of those noticed), median agreement "
            f"{np.median([each.agreement for each in found]):.2%}; of the saving {back.mean():.0%} is back on average, "
            f"at least half in {np.mean(back >= 0.5):.0%}, half after {half:.0f} answers; "
            f"{np.mean([each.changes for each in found]):.1f} changes",
            flush=True,
        )


if __name__ == "__main__":
    main()
