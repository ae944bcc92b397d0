"""The command `dynamic-exit`."""

from ..core import signals

__all__: list[str] = []

signals.exit_on_signal_during_import()  # before imports that take seconds
