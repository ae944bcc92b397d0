"""Live traffic of a served model: is it still like the samples that its operating points were reported on."""

from .adaptation import ADAPTED, Adaptation
from .blocks import SwitchableModel
from .monitor import Monitor
from .reference import REFERENCE_FILE, PointReference, Reference
from .served import MonitoredModel, ServedModel
from .status import AdaptationStatus, Alarm, Change, MonitorStatus
from .watches import SHARES

__all__ = [
    "ADAPTED",
    "REFERENCE_FILE",
    "SHARES",
    "Adaptation",
    "AdaptationStatus",
    "Alarm",
    "Change",
    "Monitor",
    "MonitorStatus",
    "MonitoredModel",
    "PointReference",
    "Reference",
    "ServedModel",
    "SwitchableModel",
]
