"""The view of a run on terminals wide and narrow, with few characters, and interrupted."""

import io
import logging
import re
import sys
import time

import pytest
from rich.console import Console
from screen import show

from dynamic_exit.cli.live import live_view
from dynamic_exit.cli.terminal import encodable_output, terminal_log
from dynamic_exit.core.logging import Part, log_step
from dynamic_exit.pipeline.steps import list_steps
from dynamic_exit.recipe import read_recipe

logger = logging.getLogger("dynamic_exit.some.module")
STEPS = ["model and data", "savers", "operating points"]


class Terminal(io.StringIO):
    def __init__(self, encoding):
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return True


def drawn(monkeypatch, work, width=80, encoding="utf-8", **environment):
    """Return all that a run writes to a terminal."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    file = Terminal(encoding)
    with terminal_log(), live_view(Console(file=file, width=width), STEPS) as view:
        work(view)
    return file.getvalue()


def run(view):
    with log_step(logger, "model and data") as step:
        step.found = "3 classes; 900 train, 450 calibration, 450 test samples"
    if view:
        view.left.expect({"savers": 100.0, "operating points": 20.0})
    with log_step(logger, "savers") as step:
        logger.warning(
            "candidate 'a' is left out: it is [bold] and has a name that goes on for more than a line or two"
        )
        for epoch in range(1, 4):
            time.sleep(0.11)
            logger.info(f"a: epoch {epoch} of 3: loss 0.{epoch}, and more than fits into a line of a narrow terminal")
        step.found = "none saves anything out of 2 candidates"
    with log_step(logger, "operating points"):
        pass


def test_what_a_training_tells_of_itself_counts_for_the_time_left(monkeypatch):
    def work(view):
        with log_step(logger, "savers"):
            view.left.expect({"savers": 3000.0}, {"savers": {"": 1000.0, "a": 2000.0}})
            view.left.begin("savers")
            logger.info("a: epoch 9 of 10", extra={"part": Part("a", 0.9)})
            assert view.left.seconds() == pytest.approx(200, abs=30)

    drawn(monkeypatch, work)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_line_a_step_stays_and_no_line_is_broken(monkeypatch, width):
    written = drawn(monkeypatch, run, width)
    assert "▸ savers" in written and "then operating points" in written and "about 2 min left" in written
    screen = show(written, width)
    steps = [line for line in screen if line[:1] in "✓✗" and line]
    assert [re.sub(r"\s{2,}.*", "", line) for line in steps[:2]] == ["✓ model and data", "✓ savers"]
    assert steps[2].startswith("✓ operating points")
    assert all(line.endswith(" s") for line in steps)
    text = "".join("".join(screen).split())
    assert "nonesavesanythingoutof2candidates" in text
    assert "warning:candidate'a'isleftout:itis[bold]andhasanamethatgoesonformorethanalineortwo" in text
    assert "epoch" not in text and "about" not in text and "then" not in text
    # a frame that is wider than the terminal would be cleared by half
    frames = [re.sub(r"\x1b\[[\d;?]*\w", "", line) for line in written.replace("\r", "\n").split("\n")]
    assert max(len(line) for line in frames if "warning" not in line) <= width


def test_without_colors_and_unicode_there_are_neither(monkeypatch):
    written = drawn(monkeypatch, run, encoding="ascii", NO_COLOR="1")
    assert written.isascii()
    assert not re.search(r"\x1b\[[\d;]*3\dm", written)
    assert [line[:2] for line in show(written, 80) if line.endswith(" s")] == ["+ "] * 3


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch, capsys):
    assert drawn(monkeypatch, lambda view: run(view), TERM="dumb") == ""
    err = capsys.readouterr().err
    assert "a: epoch 1 of 3" in err and "savers: none saves anything out of 2 candidates, in 0." in err
    assert "begins" not in err


def test_what_is_asked_for_in_lines_is_not_drawn(monkeypatch):
    with terminal_log(), live_view(Console(file=Terminal("utf-8")), STEPS, plain=True) as view:
        assert view is None


@pytest.mark.parametrize(("error", "line"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_a_step_that_does_not_end_is_told(monkeypatch, error, line):
    def stop(view):
        with log_step(logger, "savers"):
            raise error

    file = Terminal("utf-8")
    with pytest.raises(error), live_view(Console(file=file, width=80), STEPS) as view:
        stop(view)
    (last,) = [each for each in show(file.getvalue(), 80) if each]
    assert last.startswith(f"✗ savers           {line}")
    assert file.getvalue().rstrip().endswith("s\x1b[0m") or "\x1b[?25h" in file.getvalue()


def test_a_run_takes_the_steps_that_are_listed(tmp_path, ran):
    begun = [line.partition(": in ")[0].partition(": ")[0] for line in ran.said if re.search(r"in \d+\.\d s$", line)]
    listed = list_steps(read_recipe(ran.recipe))
    assert [each for each in begun if each in listed] == listed


def test_terminals_that_know_few_characters_fold_tables_by_what_they_show(monkeypatch, ran):
    from dynamic_exit.cli.render import print_candidates

    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    with encodable_output():
        print_candidates(ran.result.metrics)
    terminal.seek(0)
    lines = terminal.read().splitlines()
    rows = [line for line in lines if line.startswith("saver")]
    assert len(rows) == 2 and all("+-" in row and "%" in row for row in rows)
    assert lines.index(rows[1]) == lines.index(rows[0]) + 1, "no row is folded"
