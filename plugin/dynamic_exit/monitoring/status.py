"""What a monitor says: its alarms, and what it knows."""

from dataclasses import dataclass

#: What is watched, in words.
MEANINGS = {
    "exits": "where samples leave, and how sure answers are",
    "classes": "which classes are answered",
    "agreement": "how often answers are the backbone's",
    "accuracy": "how often answers are right",
    "inputs": "how inputs are, whatever is answered",
}


@dataclass(frozen=True)
class Alarm:
    """Live traffic has moved.

    Attributes:
        kind: What is watched, a key of `MEANINGS`.
        request: Number of answers that had been observed when it was noticed.
        answers: About how many of them came after the change, of those that are still remembered.
        time: Seconds since the epoch when it was noticed, by the machine's clock.
        before: The share, or the mean statistic of inputs, among the test samples.
        after: The same since the change.
        message: What moved, by how much and since when, in one sentence.
    """

    kind: str
    request: int
    answers: int
    time: float
    before: float
    after: float
    message: str


@dataclass(frozen=True)
class Change:
    """Thresholds that traffic which has moved is answered at have changed.

    Attributes:
        checked: Number of answers that had been compared with the backbone's since the first alarm.
        time: Seconds since the epoch, by the machine's clock.
        thresholds: By stage in use; None: the backbone answers.
        message: What has changed, and why.
    """

    checked: int
    time: float
    thresholds: dict[str, float] | None
    message: str


@dataclass(frozen=True)
class AdaptationStatus:
    """What is known of thresholds that are re-tuned.

    Attributes:
        on: Whether traffic has moved, so that the backbone answers, or adapted thresholds do.
        promised: The share of answers that must be the backbone's, in 0..1; 0 before the first alarm.
        checked: Number of answers that were compared with the backbone's while it was on.
        thresholds: Those in use, by stage; None while the backbone answers, or the operating point does.
        changes: All changes so far.
    """

    on: bool
    promised: float
    checked: int
    thresholds: dict[str, float] | None
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class MonitorStatus:
    """What a monitor knows.

    Attributes:
        requests: Number of answers observed.
        invalid: How many of them had a confidence that is not finite.
        checked: Number of answers that were compared with the backbone's.
        labelled: Number of answers that were compared with labels.
        evidence: By what is watched: the logarithm of the capital against the reference, divided by that of what makes
            it fire; 1 or more is an alarm.
        exit_rates: Share of recent answers by stage, since the last alarm; all 0 where there are none.
        moved: Whether an alarm is on.
        alarms: All alarms so far.
        fallback: Name of the safer operating point that the model was switched to; None if it was not.
        adaptation: What is known of thresholds that are re-tuned; None where nothing is.
    """

    requests: int
    invalid: int
    checked: int
    labelled: int
    evidence: dict[str, float]
    exit_rates: dict[str, float]
    moved: bool
    alarms: tuple[Alarm, ...]
    fallback: str | None
    adaptation: AdaptationStatus | None = None
