"""The command `dynamic-exit`."""

from ..core import signals

signals.end_at_once_while_importing()  # before imports that take seconds
