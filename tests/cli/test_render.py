"""Tables in narrow terminals, and terminals that know few characters."""

import io
import os
import re
import subprocess
import sys

import pytest

from dynamic_exit.analysis.inspect import inspect_folder
from dynamic_exit.cli.main import main
from dynamic_exit.cli.render import fit, print_table
from dynamic_exit.cli.terminal import encodable_output
from dynamic_exit.report.tables import Table, candidates_table, folder_table, metrics_table


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("width", [40, 80, 200])
def test_tables_fit_the_terminal(ran, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    metrics = ran.result.metrics
    for table in (metrics_table(metrics), candidates_table(metrics), folder_table(inspect_folder(ran.folder))):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        print_table(table)
        lines = re.sub(r"\x1b\[\d*m", "", terminal.getvalue()).splitlines()
        assert max(map(len, lines)) <= width
        for row in table.rows:  # no name and no accuracy is cut
            assert any(line.startswith(row[0]) and row[1] in line for line in lines)


def test_columns_go_by_importance_and_are_named(ran):
    whole = metrics_table(ran.result.metrics)
    table, left_out = fit(whole, 40)
    assert table.header[:3] == ["", "accuracy", "cost"]
    assert {*left_out} == {*whole.header} - {*table.header}
    times = fit(whole, 80)[1]
    assert times and all(title.startswith("µs") for title in times[:1]), "times go first, speed-ups stay"
    assert fit(whole, 1000) == (whole.keep(range(len(whole.header))), [])


def test_wide_characters_take_two_cells():
    table = Table(["名前", "x", "y"], [["精度" * 5, "1", "2"]])
    assert fit(table, 26)[1] == [] and fit(table, 25)[1] == ["y"]


def test_two_columns_of_names_leave_room_for_a_figure(monkeypatch):
    rows = [["a run of a long name", f"accuracy-drop-{share}%", f"{share}7.3 ± 0.4 %", "0.5"] for share in (1, 2)]
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    print_table(Table(["run", "operating point", "accuracy", "cost"], rows, names=2))
    lines = re.sub(r"\x1b\[\d*m", "", terminal.getvalue()).splitlines()
    assert max(map(len, lines)) <= 40 and lines[-1] == "left out, for a wider terminal: cost"
    assert [line.split("  ")[-1].strip() for line in lines if "±" in line] == ["17.3 ± 0.4 %", "27.3 ± 0.4 %"]


def test_what_an_encoding_lacks_is_written_in_plain_characters(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    with encodable_output():
        print("99.1 ± 0.4 %, 5 µs, ≥ 1, 猫")
    assert raw.getvalue() == b"99.1 +- 0.4 %, 5 us, >= 1, ?\n"
    with pytest.raises(UnicodeEncodeError):
        print("±")


def test_shells_complete_commands(capfd, monkeypatch):
    for name, value in (
        ("_DYNAMIC_EXIT_COMPLETE", "complete_bash"),
        ("COMP_WORDS", "dynamic-exit va"),
        ("COMP_CWORD", "1"),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main([])
    assert capfd.readouterr().out.split() == ["validate"]


def test_without_colors_and_unicode_the_command_prints_ascii():
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONIOENCODING": "ascii", "TERM": "dumb"}
    done = subprocess.run([sys.executable, "-m", "dynamic_exit", "--help"], env=environment, capture_output=True)
    assert done.returncode == 0 and b"validate" in done.stdout
    assert b"\x1b" not in done.stdout and done.stdout.isascii()
