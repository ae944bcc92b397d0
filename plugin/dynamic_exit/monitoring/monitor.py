"""Watches live traffic of a dynamic model, and falls back to a safer operating point where it has moved."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import MonitorError, OperatingPointError, first_line
from ..points.operating_point import BACKBONE
from .adaptation import Adaptation
from .blocks import Block, SwitchableModel
from .reference import REFERENCE_FILE, Reference
from .state import read_options, read_state, write_state
from .status import Alarm, MonitorStatus
from .watches import BLOCK, SHARES, Watches

logger = logging.getLogger(__name__)


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
        inputs: Whether statistics of inputs are watched too; None: if the reference holds them.

    Raises:
        MonitorError: The level is none, the fallback is unknown, or is not the backbone where thresholds are re-tuned,
            `recovery` is not positive, or the reference does not hold the statistics of inputs that are to be watched.
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
        inputs: bool | None = None,
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
        if inputs and not reference.inputs:
            raise MonitorError(
                "the reference holds no statistics of inputs, which are to be watched; run the recipe anew, or leave "
                "out inputs=True"
            )
        self.reference, self.level, self.fallback, self.recovery = reference, level, fallback, recovery
        self._on_alarm, self._seed, self.adaptation = on_alarm, seed, adaptation
        self._lock = threading.RLock()
        self._points = {point.name: point for point in reference.points}
        self._requests = self._invalid = self._quiet = self._starts = 0
        self._alarms: list[Alarm] = []
        self._untold: deque[Alarm] = deque()
        self._moved, self._kinds_on = False, set[str]()
        self._origin: str | None = None
        self._arrived: list[tuple[str, np.ndarray, np.ndarray, np.ndarray | None]] = []
        self._arrived_count = 0
        watched = bool(reference.inputs) if inputs is None else inputs
        self._watches = Watches(reference, level / 2, seed, watched, self._fire)
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
        """Return a monitor that goes on from a state that `save` wrote, with the options of then.

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

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs that are watched; none where they are not."""
        return () if self._watches.inputs is None else self._watches.inputs.names

    @property
    def input_due(self) -> bool:
        """Whether inputs of the next answers are looked at: about one in eight, so that it costs next to nothing."""
        return self._watches.inputs is not None and self._watches.inputs.due

    def observe(
        self,
        point: str,
        exit_index: np.ndarray,
        confidence: np.ndarray,
        classes: np.ndarray | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Take answers of the model.

        Args:
            point: Name of the operating point that gave them; answers at one without test samples are only counted.
            exit_index: int64 (n,).
            confidence: float32 (n,).
            classes: int64 (n,): the classes that were answered; None leaves out how often each is.
            inputs: Arrays or tensors (n, ...) by the model's names, as the model took them: all of `input_names`, and
                the attention mask if there is one; others are left out. None leaves out how inputs are.

        Raises:
            MonitorError: The arrays differ in length, or inputs are not like those of the test samples; or, once there
                are enough answers to look at, a stage or class of theirs does not exist.
        """
        exits, sure = np.asarray(exit_index), np.asarray(confidence)
        answered = None if classes is None else np.asarray(classes)
        shape = exits.shape
        if len(shape) != 1 or sure.shape != shape or (answered is not None and answered.shape != shape):
            shapes = [list(each.shape) for each in (exits, sure, answered) if each is not None]
            raise MonitorError(f"got exits, confidences and classes of shapes {shapes}; give one of each for a sample")
        (count,) = shape
        with self._lock:
            self._requests += count
            self._watches.take_inputs(inputs, count)
            if point in self._points and count:
                if self._arrived and self._arrived[-1][0] != point:
                    self._absorb()
                self._arrived.append((point, exits, sure, answered))
                self._arrived_count += count
                if self._arrived_count >= BLOCK:
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
        finite, starts = np.isfinite(sure), self._starts
        self._invalid += int((~finite).sum())
        block = Block(known.name, known.part(exits, sure), exits.astype(np.int64), np.where(finite, sure, 0))
        self._watches.take("exits", block)
        self._watches.take("classes", Block(known.name, classes))
        if starts == self._starts and (self._origin is None or known.name == self.fallback):
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
            if self._watches.knows(kind, point):
                self._watches.take(kind, Block(point, bad.astype(np.int64)))
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

    def _fire(self, kind: str) -> None:
        alarm = self._watches.explain(kind, self._requests)
        self._moved, self._quiet = True, 0
        self._restart()
        if kind not in self._kinds_on:  # else it goes on, and is on already
            self._kinds_on.add(kind)
            self._raise(alarm)
        model = self._model
        if self.fallback is not None and model is not None and self._origin is None:
            self._origin = origin = str(model.operating_point.name)
            if self.adaptation is not None:
                self._adapt(self.adaptation, origin, model.thresholds)
            self._switch(self.fallback)

    def _raise(self, alarm: Alarm) -> None:
        self._alarms.append(alarm)
        logger.warning(alarm.message)
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
                self._origin = None
                self._end_alarm()
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
            self._end_alarm()
            if self._origin is not None:
                self._switch(self._origin)
                self._origin = None
                self._restart()

    def _end_alarm(self) -> None:
        self._moved = False
        self._kinds_on.clear()

    def _restart(self) -> None:
        """Begin anew; what is spent on all starts together stays within the level."""
        self._starts += 1
        self._watches.restart(self.level / ((self._starts + 1) * (self._starts + 2)))

    @property
    def events(self) -> int:
        """The number of alarms, and of changes of what was adapted, so far."""
        return len(self._alarms) + (0 if self.adaptation is None else self.adaptation.changes)

    def status(self) -> MonitorStatus:
        """Return what is known so far; the evidence is of whole blocks of answers."""
        with self._lock:
            self._absorb()
            exits = self._watches.exits
            status = MonitorStatus(
                requests=self._requests,
                invalid=self._invalid,
                checked=self._observed["agreement"],
                labelled=self._observed["accuracy"],
                evidence=self._watches.evidence,
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
                "kinds_on": sorted(self._kinds_on),
                "origin": self._origin,
                "observed": self._observed,
                "alarms": [asdict(alarm) for alarm in self._alarms],
                **self._watches.to_dict(),
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
        alarms = [Alarm(**alarm) for alarm in state["alarms"]]
        requests, invalid, quiet, starts = map(int, state["numbers"])
        observed = {kind: int(state["observed"][kind]) for kind in SHARES}
        kinds_on = {str(kind) for kind in state.get("kinds_on", ())}
        self._watches.restore(state)
        if self.adaptation is not None and state.get("adaptation") is not None:
            self.adaptation.restore(state["adaptation"])
        self._requests, self._invalid, self._quiet, self._starts = requests, invalid, quiet, starts
        self._moved, self._origin = bool(state["moved"]), state["origin"]
        self._alarms, self._observed, self._kinds_on = alarms, observed, kinds_on
        self._stay_at_fallback()
