"""Live traffic of a served model: is it still like the samples that its operating points were reported on."""

from .monitor import SHARES, Monitor, SwitchableModel
from .reference import REFERENCE_FILE, PointReference, Reference
from .served import MonitoredModel, ServedModel
from .status import Alarm, MonitorStatus

__all__ = [
    "REFERENCE_FILE",
    "SHARES",
    "Alarm",
    "Monitor",
    "MonitorStatus",
    "MonitoredModel",
    "PointReference",
    "Reference",
    "ServedModel",
    "SwitchableModel",
]
