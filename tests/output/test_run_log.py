import logging
import re

import pytest

from dynamic_exit.errors import PassError
from dynamic_exit.output.run_log import LOG_FILE, RunLog
from dynamic_exit.output.workspace import Workspace

logger = logging.getLogger("dynamic_exit.some.module")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"


def lines(path):
    """Level, logger and message of every line, which all begin with a time."""
    found = path.read_text().splitlines()
    assert all(re.match(TIME + " ", line) for line in found)
    return [tuple(line.split(maxsplit=3)[1:]) for line in found]


def work(folder, text, resume=False, error=None):
    """A run that logs before and after its folder is made, and may fail."""
    with Workspace(folder) as workspace:
        logger.info(f"{text} begins")
        workspace.begin(resume)
        (workspace.work / "kept").touch()
        logger.debug(f"{text} takes a while")
        if error:
            raise error
        workspace._log.end()


def test_a_log_holds_every_line_from_the_first_on_and_why_a_run_ended(tmp_path):
    with pytest.raises(PassError):
        work(tmp_path / "out", "one", error=PassError("pass 'a' failed; try 'b'"))
    assert lines(tmp_path / "out.partial" / LOG_FILE) == [
        ("INFO", f"{logger.name}:", "one begins"),
        ("DEBUG", f"{logger.name}:", "one takes a while"),
        ("ERROR", "dynamic_exit.output.run_log:", "pass 'a' failed; try 'b'"),
    ]


@pytest.mark.parametrize("resume", [True, False])
def test_a_log_goes_on_with_a_resumed_run_and_only_then(tmp_path, resume):
    for text, error in (("one", KeyboardInterrupt()), ("two", KeyboardInterrupt())):
        with pytest.raises(KeyboardInterrupt):
            work(tmp_path / "out", text, resume and text == "two", error)
    found = [message for _, _, message in lines(tmp_path / "out.partial" / LOG_FILE)]
    second = ["two begins", "two takes a while", "KeyboardInterrupt"]
    assert found == (["one begins", "one takes a while", "KeyboardInterrupt"] if resume else []) + second


def test_a_run_that_is_refused_early_leaves_no_log(tmp_path):
    with pytest.raises(PassError), Workspace(tmp_path / "out"):
        logger.info("begins")
        raise PassError("refused")
    assert not (tmp_path / "out.partial").exists()


def test_a_full_disk_is_left_to_what_fails_next(tmp_path):
    log = RunLog()
    log.open(tmp_path / LOG_FILE, append=False)
    log._file.close()
    log._file = open("/dev/full", "wb", buffering=0)
    record = logging.LogRecord("dynamic_exit", logging.INFO, "", 0, "a line", None, None)
    log.emit(record)
    log.end()
    assert (tmp_path / LOG_FILE).read_bytes() == b"", "nothing was raised, and nothing is half written"
