import logging

import pytest

from dynamic_exit.core.logging import log_step, logging_to, package_logger, silenced

logger = logging.getLogger("dynamic_exit.some.module")


class Gathering(logging.Handler):
    """Keeps the messages that it gets."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture
def root():
    """A handler of the process's own, which sees warnings and more."""
    handler = Gathering()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def state():
    return [(each.level, list(each.handlers), [list(h.filters) for h in each.handlers], each.propagate)
            for each in (package_logger, logging.getLogger())]  # fmt: skip


def log_three():
    logger.debug("a detail")
    logger.info("a step")
    logger.warning("a fault")


def test_the_library_is_silent_unless_it_is_asked():
    assert any(isinstance(each, logging.NullHandler) for each in package_logger.handlers)
    assert package_logger.level == logging.NOTSET


def test_a_handler_sees_more_than_those_of_the_process_and_leaves_no_trace(root):
    before, ours = state(), Gathering()
    with logging_to(ours, logging.DEBUG):
        log_three()
        logging.getLogger("another").warning("of another library")
    assert ours.lines == ["a detail", "a step", "a fault"]
    assert root.lines == ["a fault", "of another library"]
    assert state() == before
    log_three()
    assert len(ours.lines) == 3 and root.lines[2:] == ["a fault"]


def test_handlers_within_each_other_see_what_each_asked_for(root):
    outer, inner = Gathering(), Gathering()
    with logging_to(outer, logging.WARNING):
        with logging_to(inner, logging.DEBUG):
            log_three()
        log_three()
    assert (len(inner.lines), outer.lines, root.lines) == (3, ["a fault"] * 2, ["a fault"] * 2)


def test_a_level_that_the_process_has_chosen_counts_for_its_handlers(root):
    package_logger.setLevel(logging.INFO)
    try:
        with logging_to(Gathering(), logging.DEBUG):
            log_three()
        assert package_logger.level == logging.INFO
    finally:
        package_logger.setLevel(logging.NOTSET)
    assert root.lines == ["a step", "a fault"]


def test_it_is_taken_off_where_the_work_fails():
    before = state()
    with pytest.raises(KeyboardInterrupt), logging_to(Gathering()), silenced():
        raise KeyboardInterrupt
    assert state() == before


def test_what_is_silenced_reaches_nobody(root):
    ours = Gathering()
    with logging_to(ours, logging.DEBUG), silenced():
        log_three()
    assert ours.lines == root.lines == []


def test_a_step_tells_what_it_found_and_how_long_it_took_unless_it_fails():
    ours, steps = Gathering(), []
    ours.addFilter(lambda record: not steps.append(record.step) and record.levelno >= logging.INFO)
    with logging_to(ours, logging.DEBUG):
        with log_step(logger, "data") as step:
            step.found = "3 classes"
        with log_step(logger, "costs"):
            pass
        with pytest.raises(ValueError), log_step(logger, "exits"):
            raise ValueError
    assert ours.lines == ["data: 3 classes, in 0.0 s", "costs: in 0.0 s"]
    assert [each.name for each in steps] == ["data", "data", "costs", "costs", "exits"]
