"""The file of a monitor's state."""

import json
from pathlib import Path
from typing import Any

from ..core.atomic_write import atomic_write
from ..errors import MonitorError, first_line
from ..trust.json_file import read_json
from .adaptation import Adaptation

TYPE, VERSION = "dynamic_exit.monitor", 1


def write_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write a state as JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write(json.dumps({"_type": TYPE, "_version": VERSION, **state}).encode())


def read_state(path: str | Path) -> dict[str, Any]:
    """Read what `write_state` wrote.

    Raises:
        MonitorError: It is missing, or no such file.
    """
    try:
        state = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise MonitorError(f"state '{path}' cannot be read: {first_line(error)}; begin without it") from error
    if not isinstance(state, dict) or (state.get("_type"), state.get("_version")) != (TYPE, VERSION):
        raise MonitorError(f"'{path}' is no state of a monitor of version {VERSION}; begin without it")
    return state


def read_options(path: str | Path) -> dict[str, Any]:
    """Read the options of the monitor that wrote a state, by name.

    Raises:
        MonitorError: It is missing, no such file, or holds none.
    """
    state = read_state(path)
    try:
        _, level, seed = state["model"]
        options: dict[str, Any] = {"level": float(level), "seed": int(seed), "fallback": state.get("fallback")}
        if state.get("inputs") is None:
            options["inputs"] = False
        if state.get("adaptation") is not None:
            agreement, probability, samples = state["adaptation"]["options"]
            options["adaptation"] = Adaptation(agreement, probability=probability, samples=samples)
    except (KeyError, TypeError, ValueError) as error:
        raise MonitorError(f"state '{path}' is not whole: {first_line(error)}; begin without it") from error
    return {name: value for name, value in options.items() if value is not None}
