import gc

import pytest

from dynamic_exit.core.garbage import rare_searches


def test_searches_are_rarer_in_the_block_alone_and_still_find_cycles():
    before = gc.get_threshold()
    with pytest.raises(ValueError), rare_searches():
        assert all(now > then for now, then in zip(gc.get_threshold(), before, strict=True))
        assert gc.isenabled()
        raise ValueError
    assert gc.get_threshold() == before


def test_the_command_leaves_them_as_they_were(command):
    before = gc.get_threshold()
    assert command("passes")[0] == 0
    assert gc.get_threshold() == before
