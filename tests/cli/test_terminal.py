import json
import logging

import pytest
import tiny

from dynamic_exit.cli.terminal import terminal_log
from dynamic_exit.core import signals

logger = logging.getLogger("dynamic_exit.some.module")


def printed(capsys, **options):
    with terminal_log(**options):
        logger.debug("a detail")
        logger.info("100%% of [bold] samples")
        logger.warning("a fault")
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_steps_are_plain_lines_and_warnings_are_marked(capsys):
    assert printed(capsys) == ["100%% of [bold] samples", "warning: a fault"]


def test_quiet_leaves_warnings(capsys):
    assert printed(capsys, quiet=True) == ["warning: a fault"]


def test_verbose_adds_details_and_the_names_of_loggers(capsys):
    name = "dynamic_exit.some.module: "
    assert printed(capsys, verbose=True) == [
        f"{name}a detail", f"{name}100%% of [bold] samples", f"{name}warning: a fault",
    ]  # fmt: skip


def test_a_long_line_is_not_folded(capsys):
    with terminal_log():
        logger.info("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_process_that_only_helps_prints_nothing(capsys, monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    assert printed(capsys) == []


def test_a_signal_that_was_swallowed_ends_the_work_at_the_next_line(monkeypatch):
    monkeypatch.setattr(signals, "_received", (2, 0.0))
    with pytest.raises(KeyboardInterrupt), terminal_log():
        logger.info("a step")


@pytest.mark.parametrize("name", ["run", "validate", "plan", "evaluate", "benchmark", "tune"])
def test_quiet_and_verbose_contradict_each_other(command, tmp_path, name):
    needed = {"evaluate": ["--data", "a.npz"], "tune": ["--output", tmp_path / "points.json"]}.get(name, [])
    code, out, err = command(name, tmp_path / "nothing", *needed, "--quiet", "--verbose")
    assert (code, out) == (2, "")
    assert "--quiet and --verbose contradict each other; give one of them" in err
    assert not list(tmp_path.iterdir())


def test_a_handler_that_a_library_adds_meanwhile_prints_nothing_twice(capsys):
    late = logging.StreamHandler()
    with terminal_log():
        logging.getLogger().addHandler(late)
        logging.getLogger("dynamic_exit.pipeline").info("once")
    logging.getLogger().removeHandler(late)
    assert capsys.readouterr().err.splitlines() == ["once"]


def test_what_code_of_the_user_prints_is_kept_off_stdout(command, tmp_path):
    recipe = tiny.build(tmp_path, data__source="python", data__path="own.py:load")
    body = f"print('reading', name); found = np.load(f'{tmp_path}/data/{{name}}.npz')"
    code = f"import numpy as np\n\n\ndef load(name):\n    {body}\n    return found['inputs'], found['labels']\n"
    (tmp_path / "own.py").write_text(code)
    code, out, err = command("validate", recipe, "--json")
    assert (code, json.loads(out)["data"]["path"]) == (0, f"{tmp_path}/own.py:load")
    assert [line for line in err.splitlines() if "reading" in line] == [f"reading {split}" for split in tiny.SIZES]
