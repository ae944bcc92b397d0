"""Prints passes and algorithms with their parameters."""

import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from rich.console import Console

# of lines in a pipe
_WIDTH = 120


def print_passes(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a line for each pass, and how to see more."""
    width = _width()
    longest = max(map(len, found))
    for name, entry in found.items():
        line = f"{name:{longest}}  {entry['summary']} ({entry['from']})"
        print(line if len(line) <= width else f"{line[: width - 4]} ...")
    print("\n`dynamic-exit passes NAME` shows the parameters of one")


def print_pass(name: str, entry: Mapping[str, Any]) -> None:
    """Print a pass with its parameters: name, default and range, and below what it means."""
    width = _width()
    print(textwrap.fill(f"{name} ({entry['from']}): {entry['summary']}", width))
    for each in entry["parameters"]:
        told = f"{each['name']} = {each['default']}" + (f"  ({each['range']})" if each["range"] else "")
        print(textwrap.fill(told, width, initial_indent="  ", subsequent_indent="    "))
        if each["meaning"]:
            print(textwrap.fill(each["meaning"], width, initial_indent="      ", subsequent_indent="      "))


def _width() -> int:
    return Console().width if sys.stdout.isatty() else _WIDTH
