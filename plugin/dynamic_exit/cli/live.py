"""A run on a terminal: what is done in a line a step, and below it what runs now, what follows and the time left."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..core import signals
from ..core.logging import Part, Step, logging_to, package_logger
from .terminal import TerminalHandler
from .time_left import TimeLeft

if TYPE_CHECKING:
    from ..data.run_inputs import RunInputs

logger = logging.getLogger(__name__)

# seconds between two frames while nothing is logged, and the fewest between two otherwise
_TICK, _FASTEST = 1.0, 0.1
# columns from which a step and what it found stand in one line, and the most that are used; width of a step's name
_ONE_LINE, _WIDEST, _NAME = 60, 110, 16


class LiveView(logging.Handler):
    """Draws the log of a run; a context manager that owns the terminal meanwhile.

    Args:
        console: Of stderr, on a terminal that can move its cursor.
        steps: Names of the run's steps, in order.
    """

    def __init__(self, console: Console, steps: Sequence[str]):
        super().__init__()
        self.console, self.left = console, TimeLeft(steps)
        self._detail, self._drawn = "", 0.0
        # what a terminal without UTF-8 cannot show is not drawn
        self._plain = not console.encoding.lower().startswith("utf")
        self._process, self._over = os.getpid(), threading.Event()
        self._live = Live(
            console=console,
            get_renderable=self._frame,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._ticker = threading.Thread(target=self._tick, name="live view", daemon=True)
        self._pause: Callable[[], bool] = lambda: False

    def loaded(self, run_inputs: "RunInputs") -> None:
        """Estimate the time of the run."""
        from ..analysis.time_estimate import estimate_steps
        from ..cost import is_measuring

        self._pause = is_measuring
        try:
            self.left.expect(*estimate_steps(run_inputs))
        except Exception as error:  # a model that cannot answer is refused by the run, in its own words
            logger.debug(f"no estimate of the time left: {error}")

    def candidates(self, what: str, fraction: float) -> None:
        """Take how far the work on candidates is."""
        self.left.advance(fraction)

    def emit(self, record: logging.LogRecord) -> None:
        """Draw one record.

        Raises:
            KeyboardInterrupt: A signal came, and the code that was interrupted has swallowed it.
        """
        if os.getpid() != self._process:  # a fork has no terminal of its own
            return
        signals.raise_if_interrupted()
        step: Step | None = getattr(record, "step", None)
        part: Part | None = getattr(record, "part", None)
        if part is not None:
            self.left.advance_part(part.name, part.fraction)
        if step is not None and step.seconds is None:
            self.left.begin(step.name)
            self._detail = ""
        elif step is not None:
            self.left.end()
            self.console.print(self._line("done", step.name, step.found, step.seconds or 0.0))
        elif record.levelno >= logging.WARNING:
            self.console.print(Text(f"{record.levelname.lower()}: {record.getMessage()}", "yellow"), soft_wrap=True)
        elif record.levelno >= logging.INFO:
            self._detail = record.getMessage()
        self._refresh(at_once=step is not None)

    def __enter__(self) -> "LiveView":
        """Begin to draw."""
        self._live.start()
        self.console.show_cursor(True)  # it would stay hidden where a second signal ends the process at once
        self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Clear what is not done; say which step was interrupted or failed."""
        self._over.set()
        self._ticker.join()
        self._live.stop()
        if error is not None and self.left.running:
            how = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self.console.print(self._line(how, self.left.running, how, self.left.elapsed))

    def _tick(self) -> None:
        while not self._over.wait(_TICK):
            if not self._pause():  # what is measured is not disturbed
                self.acquire()  # rich mixes up frames that two threads draw
                try:
                    self._refresh()
                finally:
                    self.release()

    def _refresh(self, at_once: bool = False) -> None:
        now = self.console.get_time()
        if at_once or now - self._drawn >= _FASTEST:
            self._drawn = now
            self._live.refresh()

    def _line(self, state: str, name: str, found: str, seconds: float) -> RenderableType:
        """Return the line that stays of a step."""
        marks = {"done": "+" if self._plain else "✓"}
        mark = Text(marks.get(state, "!" if self._plain else "✗"), "green" if state == "done" else "red")
        took = Text(_duration(seconds), "dim")
        table = Table.grid(padding=(0, 1), expand=True)
        if self.console.width < _ONE_LINE:
            table.add_column(width=1)
            table.add_column(ratio=1)
            table.add_column(justify="right", no_wrap=True)
            table.add_row(mark, name, took)
            return Group(table, Padding(Text(found, "dim"), (0, 0, 0, 2))) if found else table
        table.width = min(self.console.width, _WIDEST)
        table.add_column(width=1)
        table.add_column(width=_NAME)
        table.add_column(ratio=1)
        table.add_column(justify="right", no_wrap=True)
        table.add_row(mark, name, found, took)
        return table

    def _frame(self) -> RenderableType:
        """Return what runs now, what follows, and the time left, a line each."""
        left = self.left.seconds()
        rows = [Text(f"about {_duration(left)} left", "bold")] if left else []
        if self.left.pending:
            rows.insert(0, Text(f"  then {', '.join(self.left.pending)}", "dim"))
        if self.left.running:
            running = Text("> " if self._plain else "▸ ", "cyan")
            running.append(f"{self.left.running:<{_NAME}} " if self.console.width >= _ONE_LINE else self.left.running)
            running.append(f" {_duration(self.left.elapsed)}" + f"  {self._detail}" * bool(self._detail), "dim")
            rows.insert(0, running)
        for row in rows:
            row.truncate(min(self.console.width, _WIDEST) - 1, overflow="crop" if self._plain else "ellipsis")
        return Group(*rows)


@contextlib.contextmanager
def live_view(console: Console, steps: Sequence[str], plain: bool = False) -> Iterator[LiveView | None]:
    """Draw a run in place of its log lines; yield None where lines are printed.

    Args:
        console: Of stderr.
        steps: Names of the run's steps, in order.
        plain: Whether lines are wanted even on a terminal.
    """
    if plain or not console.is_terminal or console.is_dumb_terminal:
        yield None
        return
    lines = [each for each in package_logger.handlers if isinstance(each, TerminalHandler)]
    with LiveView(console, steps) as view, logging_to(view, logging.DEBUG):
        for each in lines:
            each.addFilter(_nothing)
        try:
            yield view
        finally:
            for each in lines:
                each.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _duration(seconds: float) -> str:
    """Format seconds as `plan` does, short ones more finely."""
    from ..analysis.plan_tables import duration

    return f"{seconds:.1f} s" if seconds < 9.95 else duration(seconds)
