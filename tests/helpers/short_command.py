"""The command in a process of its own that times for a moment only; what else it does is what users get."""

import os
import sys
from pathlib import Path

#: For modules that start one, as `subprocess` and torchrun take them.
MODULE = ("-m", "short_command")
COMMAND = (sys.executable, *MODULE)


def environment(**more: str) -> dict[str, str]:
    """This process's variables, with the place of this module, and some more."""
    places = [str(Path(__file__).parent), more.pop("PYTHONPATH", os.environ.get("PYTHONPATH", ""))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), **more}


def run() -> None:
    """Run the command with this process's arguments."""
    from fast_timing import fast_timing

    from dynamic_exit.cli.main import main

    with fast_timing():
        main()


if __name__ == "__main__":
    run()
