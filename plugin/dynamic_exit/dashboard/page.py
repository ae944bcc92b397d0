"""The state of a monitor as tables and as a page: is live traffic like the test samples?"""

from datetime import UTC, datetime

from ..monitoring.reference import Reference
from ..monitoring.status import MEANINGS, MonitorStatus
from ..report.page import TEMPLATES
from ..report.tables import Table


def monitor_verdict(status: MonitorStatus) -> str:
    """Return in one sentence what a monitor has found."""
    if not status.moved:
        before = f"; of {len(status.alarms)} earlier alarms none is on" if status.alarms else ""
        return f"Nothing says that live traffic is not like the test samples, over {status.requests} answers{before}."
    fallen = f"; the model serves at '{status.fallback}' meanwhile" if status.fallback else ""
    if status.adaptation and status.adaptation.thresholds:
        fallen = "; re-tuned thresholds answer meanwhile"
    message = status.alarms[-1].message
    return f"{message[0].upper()}{message[1:]}{fallen}."


def watched_table(status: MonitorStatus) -> Table:
    """Return the evidence and the alarms by what is watched."""
    counts = {kind: sum(alarm.kind == kind for alarm in status.alarms) for kind in status.evidence}
    rows = [[MEANINGS[kind], f"{share:.2f}", str(counts[kind])] for kind, share in status.evidence.items()]
    return Table(["watched", "evidence, 1 is an alarm", "alarms"], rows)


def rates_table(reference: Reference, status: MonitorStatus) -> Table:
    """Return the shares of answers by stage: of those since the last alarm, and of test samples at each point."""
    known = any(status.exit_rates.values())
    rows = []
    for place, stage in enumerate(reference.stages):
        recent = f"{status.exit_rates[stage]:.1%}" if known else ""
        rows.append([stage, recent, *(f"{each.exits[place] / each.samples:.1%}" for each in reference.points)])
    return Table(["stage", "recent answers", *(f"test samples, {point.name}" for point in reference.points)], rows)


def alarms_table(status: MonitorStatus) -> Table:
    """Return all alarms, the newest first."""
    rows = [
        [f"{datetime.fromtimestamp(each.time, UTC):%Y-%m-%d %H:%M}", str(each.request), each.kind, each.message]
        for each in reversed(status.alarms)
    ]
    return Table(["UTC", "answers", "watched", "what has moved"], rows)


def changes_table(status: MonitorStatus) -> Table:
    """Return all changes of re-tuned thresholds, the newest first."""
    changes = status.adaptation.changes if status.adaptation else ()
    rows = [
        [f"{datetime.fromtimestamp(each.time, UTC):%Y-%m-%d %H:%M}", str(each.checked), each.message]
        for each in reversed(changes)
    ]
    return Table(["UTC", "checked", "what has changed"], rows)


def monitor_page(title: str, reference: Reference, status: MonitorStatus) -> str:
    """Return the state as HTML: one file that asks for nothing else."""
    return TEMPLATES.get_template("monitor.html.jinja").render(
        title=title,
        status=status,
        verdict=monitor_verdict(status),
        watched=watched_table(status),
        rates=rates_table(reference, status),
        alarms=alarms_table(status),
        changes=changes_table(status),
    )
