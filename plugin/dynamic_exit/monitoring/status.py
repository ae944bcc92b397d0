"""What a monitor says: its alarms, and what it knows."""

from dataclasses import dataclass

#: What is watched, in words.
MEANINGS = {
    "exits": "where samples leave, and how sure answers are",
    "classes": "which classes are answered",
    "agreement": "how often answers are the backbone's",
    "accuracy": "how often answers are right",
}


@dataclass(frozen=True)
class Alarm:
    """Live traffic has moved.

    Attributes:
        kind: What is watched, a key of `MEANINGS`.
        request: Number of answers that had been observed when it was noticed.
        answers: About how many of them came after the change, of those that are still remembered.
        time: Seconds since the epoch when it was noticed, by the machine's clock.
        before: The share, or mean confidence, among the test samples.
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
