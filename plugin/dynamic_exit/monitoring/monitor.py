"""Watches live traffic of a dynamic model, and falls back to a safer operating point where it has moved."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import MonitorError, OperatingPointError, first_line
from ..points.operating_point import BACKBONE
from .adaptation import Adaptation
from .blocks import Block, SwitchableModel
from .conformal import Bets
from .explain import answer_totals, explain, reference_counts
from .reference import REFERENCE_FILE, Reference
from .state import read_options, read_state, write_state
from .status import Alarm, MonitorStatus
from .watch import Watch

logger = logging.getLogger(__name__)

#: What is watched, with the share of the level that it may spend.
SHARES = {"exits": 0.4, "classes": 0.2, "agreement": 0.2, "accuracy": 0.2}
_BETS: dict[str, Bets] = {"exits": "shape", "classes": "mix", "agreement": "increase", "accuracy": "increase"}
# answers that are looked at together: a block costs about as much as one sample of a small model
_BLOCK = 128


class Monitor:
    """Watches whether live traffic is like the test samples that operating points were reported on.

    The test never ends, and yet the probability that it ever fires though nothing has moved is at most `level`, however
    few test samples there are (`conformal`). Answers are looked at in blocks, so that observing costs next to nothing.
    It is safe from any thread.

    Args:
        reference: The test samples.
        level: The probability of a false alarm over its whole life, in (0, 1); restarts share it.
        fallback: Name of a safer operating point, to which an attached model is switched by an alarm; None: it is left.
        recovery: Answers without another alarm after which an alarm is over, and the model goes back to its point.
        on_alarm: Called with each alarm, by the thread that observes and holding no lock; what it raises is logged.
        seed: Breaks ties between answers.
        adaptation: Re-tunes thresholds after an alarm; until they are certified, and wherever none are, an attached
            model falls back to the backbone, and it does not go back by itself. It is of this monitor alone.

    Raises:
        MonitorError: The level is none, the fallback is unknown, or is not the backbone where thresholds are re-tuned,
            or `recovery` is not positive.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        level: float = 0.01,
        fallback: str | None = None,
        recovery: int = 5_000,
        on_alarm: Callable[[Alarm], None] | None = None,
        seed: int = 0,
        adaptation: Adaptation | None = None,
    ):
        if not 0 < level < 1:
            raise MonitorError(f"the level must be between 0 and 1, such as 0.01; got {level}")
        if recovery < 1:
            raise MonitorError(f"recovery must be a number of answers, at least 1; got {recovery}")
        if adaptation is not None and (fallback := fallback or BACKBONE) != BACKBONE:
            raise MonitorError(f"with an adaptation the fallback is the backbone; leave out the fallback '{fallback}'")
        if fallback is not None and reference.point(fallback) is None:
            known = ", ".join(point.name for point in reference.points)
            raise MonitorError(f"there is no operating point '{fallback}' to fall back to; there are {known}")
        self.reference, self.level, self.fallback, self.recovery = reference, level, fallback, recovery
        self._on_alarm, self._seed, self.adaptation = on_alarm, seed, adaptation
        self._lock = threading.RLock()
        self._points = {point.name: point for point in reference.points}
        self._requests = self._invalid = self._quiet = self._starts = 0
        self._alarms: list[Alarm] = []
        self._untold: deque[Alarm] = deque()
        self._moved = False
        self._origin: str | None = None
        self._arrived: list[tuple[str, np.ndarray, np.ndarray, np.ndarray | None]] = []
        self._arrived_count = 0
        self._waiting: dict[str, list[Block]] = {kind: [] for kind in SHARES}
        self._watches = {
            kind: Watch(reference_counts(reference, kind), _BETS[kind], share * level / 2, seed + number)
            for number, (kind, share) in enumerate(SHARES.items())
        }
        self._observed = dict.fromkeys(SHARES, 0)
        self._model: SwitchableModel | None = None

    @classmethod
    def read(cls, folder: str | Path, **options: Any) -> Self:
        """Return a monitor for the model of a folder.

        Args:
            folder: A folder that ``dynamic-exit run`` wrote.
            **options: As for the class.

        Raises:
            MonitorError: The folder has no reference, or an option is wrong.
        """
        return cls(Reference.read(Path(folder) / REFERENCE_FILE), **options)

    @classmethod
    def resume(cls, folder: str | Path, state: str | Path, **options: Any) -> Self:
        """Return a monitor that goes on from a state that `save` wrote, with the level, seed and fallback of then.

        Args:
            folder: A folder that ``dynamic-exit run`` wrote.
            state: The file.
            **options: As for the class.

        Raises:
            MonitorError: The state is missing, no state, or that of another model; or an option is wrong.
        """
        monitor = cls.read(folder, **{**read_options(state), **options})
        monitor.load(state)
        return monitor

    def observe(
        self, point: str, exit_index: np.ndarray, confidence: np.ndarray, classes: np.ndarray | None = None
    ) -> None:
        """Take answers of the model.

        Args:
            point: Name of the operating point that gave them; answers at one without test samples are only counted.
            exit_index: int64 (n,).
            confidence: float32 (n,).
            classes: int64 (n,): the classes that were answered; None leaves out how often each is.

        Raises:
            MonitorError: The arrays differ in length; or, once there are enough answers to look at, a stage or class of
                theirs does not exist.
        """
        exits, sure = np.asarray(exit_index), np.asarray(confidence)
        answered = None if classes is None else np.asarray(classes)
        if exits.ndim != 1 or exits.shape != sure.shape or (answered is not None and answered.shape != exits.shape):
            shapes = [list(each.shape) for each in (exits, sure, answered) if each is not None]
            raise MonitorError(f"got exits, confidences and classes of shapes {shapes}; give one of each for a sample")
        with self._lock:
            self._requests += len(exits)
            if point in self._points and len(exits):
                if self._arrived and self._arrived[-1][0] != point:
                    self._absorb()
                self._arrived.append((point, exits, sure, answered))
                self._arrived_count += len(exits)
                if self._arrived_count >= _BLOCK:
                    self._absorb()
        self._tell()

    def _absorb(self) -> None:
        """Check what has arrived, and let it wait for full blocks."""
        arrived, self._arrived, self._arrived_count = self._arrived, [], 0
        if not arrived:
            return
        known = self._points[arrived[0][0]]
        exits, sure = (np.concatenate([each[place] for each in arrived]) for place in (1, 2))
        answered = [each[3] for each in arrived if each[3] is not None]
        classes = np.concatenate(answered).astype(np.int64) if answered else np.zeros(0, np.int64)
        for what, found, count in (("exit", exits, len(self.reference.stages)), ("class", classes, len(known.classes))):
            if len(found) and not 0 <= found.min() <= found.max() < count:
                odd = found.min() if found.min() < 0 else found.max()
                raise MonitorError(f"got {what} {odd}, and the model has {count}; observe the answers of its own model")
        finite, alarms = np.isfinite(sure), len(self._alarms)
        self._invalid += int((~finite).sum())
        block = Block(known.name, known.part(exits, sure), exits.astype(np.int64), np.where(finite, sure, 0))
        self._take("exits", block, _BLOCK)
        self._take("classes", Block(known.name, classes), _BLOCK)
        if alarms == len(self._alarms) and (self._origin is None or known.name == self.fallback):
            self._settle(len(exits))

    def observe_agreement(self, point: str, answers: np.ndarray, backbone_answers: np.ndarray) -> None:
        """Take answers of which the backbone's are known as well: labels that cost no one anything.

        Args:
            point: Name of the operating point.
            answers: int64 (n,): classes that the dynamic model answered.
            backbone_answers: int64 (n,): classes that the backbone answers.
        """
        self._observe_shares("agreement", point, np.asarray(answers) != np.asarray(backbone_answers))

    def observe_labels(self, point: str, answers: np.ndarray, labels: np.ndarray) -> None:
        """Take answers whose labels have become known.

        Args:
            point: Name of the operating point that gave them.
            answers: int64 (n,): classes that the dynamic model answered.
            labels: int64 (n,).
        """
        self._observe_shares("accuracy", point, np.asarray(answers) != np.asarray(labels))

    def _observe_shares(self, kind: str, point: str, bad: np.ndarray) -> None:
        if bad.ndim != 1:
            raise MonitorError(f"got answers of shape {list(bad.shape)}; give one class for each sample")
        with self._lock:
            self._observed[kind] += len(bad)
            if point in self._watches[kind].references and len(bad):
                self._take(kind, Block(point, bad.astype(np.int64)), _BLOCK // 8)
        self._tell()

    def attach(self, model: SwitchableModel) -> None:
        """Switch this model to the fallback by an alarm, and back; at once if an alarm is on from before a restart."""
        with self._lock:
            self._model = model
            self._stay_at_fallback()

    def _stay_at_fallback(self) -> None:
        """After a restart a model is where it begins, whatever was before."""
        if self.fallback is None:
            self._origin = None
        elif self._origin is not None and self._model is not None:
            self._switch(self.fallback)

    def _take(self, kind: str, block: Block, size: int) -> None:
        """Let answers wait until they fill a block of one operating point, then look at them."""
        waiting = self._waiting[kind]
        if not len(block.values):
            return
        if waiting and waiting[-1].point != block.point:
            self._look(kind)
        waiting.append(block)
        while sum(len(each.values) for each in waiting) >= size:
            self._look(kind, size)

    def _look(self, kind: str, size: int | None = None) -> None:
        """Bet on the answers that have waited longest; on all of them if no size is given."""
        waiting = self._waiting[kind]
        if not waiting:
            return
        arrays = zip(*(each[1:] for each in waiting), strict=True)
        point, joined = waiting[0].point, [each[0] if len(each) == 1 else np.concatenate(each) for each in arrays]
        block, size = Block(point, *joined), size or len(joined[0])
        waiting[:] = [block.part(slice(size, None))] if len(block.values) > size else []
        watch, block = self._watches[kind], block.part(slice(size))
        totals = answer_totals(self._points[point], kind, block.values, block.exits, block.sure)
        watch.observe(point, block.values, totals)
        if watch.fires:
            self._fire(kind)

    def _fire(self, kind: str) -> None:
        alarm = explain(self.reference, kind, self._watches[kind].since_change(), self._requests)
        self._alarms.append(alarm)
        self._moved, self._quiet = True, 0
        self._restart()
        logger.warning(alarm.message)
        model = self._model
        if self.fallback is not None and model is not None and self._origin is None:
            self._origin = origin = str(model.operating_point.name)
            if self.adaptation is not None:
                self._adapt(self.adaptation, origin, model.thresholds)
            self._switch(self.fallback)
        if self._on_alarm is not None:
            self._untold.append(alarm)

    def _adapt(self, adaptation: Adaptation, point: str, thresholds: np.ndarray) -> None:
        """Re-tune the thresholds of the point that was in use."""
        if (known := self._points.get(point)) is not None:
            adaptation.begin(
                self.reference.stages[:-1], thresholds, known.agreeing / known.samples, self.reference.costs
            )

    def release(self) -> None:
        """End an alarm for which the model is at the fallback, as it was switched to another point by hand."""
        with self._lock:
            if self._origin is not None:
                self._origin, self._moved = None, False
                if self.adaptation is not None:
                    self.adaptation.end("the model was switched by hand")
                self._restart()

    def _tell(self) -> None:
        """Call back with new alarms; no lock is held, so that the callback may take its time, or ask the monitor."""
        while self._untold and self._on_alarm is not None:
            try:
                alarm = self._untold.popleft()
            except IndexError:  # another thread has told it
                return
            try:
                self._on_alarm(alarm)
            except Exception:  # a callback of the user's must not end what it watches
                logger.exception("the callback of a monitor raised an error; the monitor goes on")

    def _switch(self, name: str) -> None:
        try:
            assert self._model is not None
            self._model.set_operating_point(name)
        except OperatingPointError as error:
            logger.error(f"the monitor cannot switch to '{name}': {first_line(error)}; the model stays where it is")

    def _settle(self, answers: int) -> None:
        """End an alarm that has been quiet for long enough."""
        self._quiet += answers
        if self.adaptation is not None and self.adaptation.on:
            return
        if self._moved and self._quiet >= self.recovery:
            self._moved = False
            if self._origin is not None:
                self._switch(self._origin)
                self._origin = None
                self._restart()

    def _restart(self) -> None:
        """Begin anew; what is spent on all starts together stays within the level."""
        self._starts += 1
        part = 1 / ((self._starts + 1) * (self._starts + 2))
        for kind, watch in self._watches.items():
            watch.restart(self.level * SHARES[kind] * part)
            self._waiting[kind].clear()

    @property
    def events(self) -> int:
        """The number of alarms, and of changes of what was adapted, so far."""
        return len(self._alarms) + (0 if self.adaptation is None else self.adaptation.changes)

    def status(self) -> MonitorStatus:
        """Return what is known so far; the evidence is of whole blocks of answers."""
        with self._lock:
            self._absorb()
            totals = [total for _, total in self._watches["exits"].recent]
            exits = np.sum(totals, axis=0)[:-1] if totals else np.zeros(len(self.reference.stages))
            status = MonitorStatus(
                requests=self._requests,
                invalid=self._invalid,
                checked=self._observed["agreement"],
                labelled=self._observed["accuracy"],
                evidence={
                    kind: max(0.0, watch.martingale.log_value / -np.log(watch.level))
                    for kind, watch in self._watches.items()
                },
                exit_rates=dict(zip(self.reference.stages, (exits / max(exits.sum(), 1)).tolist(), strict=True)),
                moved=self._moved,
                alarms=tuple(self._alarms),
                fallback=self.fallback if self._origin is not None else None,
                adaptation=None if self.adaptation is None else self.adaptation.status(),
            )
        self._tell()
        return status

    def save(self, path: str | Path) -> None:
        """Write its state as JSON, from which `load` goes on."""
        with self._lock:
            self._absorb()
            state = {
                "model": self._identity,
                "fallback": self.fallback,
                "numbers": [self._requests, self._invalid, self._quiet, self._starts],
                "moved": self._moved,
                "origin": self._origin,
                "observed": self._observed,
                "alarms": [asdict(alarm) for alarm in self._alarms],
                "watches": {kind: watch.to_dict() for kind, watch in self._watches.items()},
                "waiting": {kind: [each.to_list() for each in blocks] for kind, blocks in self._waiting.items()},
                "adaptation": None if self.adaptation is None else self.adaptation.to_dict(),
            }
        self._tell()
        write_state(path, state)

    def load(self, path: str | Path) -> None:
        """Go on from the state that `save` wrote.

        Args:
            path: The file.

        Raises:
            MonitorError: It is missing, no state, or that of another model, level or seed.
        """
        state = read_state(path)
        if state.get("model") != self._identity:
            raise MonitorError(f"state '{path}' is of another model, level or seed; begin without it")
        with self._lock:
            try:
                self._restore(state)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise MonitorError(f"state '{path}' is not whole: {first_line(error)}; begin without it") from error

    @property
    def _identity(self) -> list[Any]:
        return [self.reference.fingerprint, self.level, self._seed]

    def _restore(self, state: dict[str, Any]) -> None:
        waiting = {kind: [Block.from_list(each) for each in state["waiting"][kind]] for kind in SHARES}
        alarms = [Alarm(**alarm) for alarm in state["alarms"]]
        requests, invalid, quiet, starts = map(int, state["numbers"])
        observed = {kind: int(state["observed"][kind]) for kind in SHARES}
        for kind, watch in self._watches.items():
            watch.restore(state["watches"][kind])
        if self.adaptation is not None and state.get("adaptation") is not None:
            self.adaptation.restore(state["adaptation"])
        self._requests, self._invalid, self._quiet, self._starts = requests, invalid, quiet, starts
        self._moved, self._origin = bool(state["moved"]), state["origin"]
        self._waiting, self._alarms, self._observed = waiting, alarms, observed
        self._stay_at_fallback()
