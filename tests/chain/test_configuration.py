"""Thresholds by stage and as one array per chain are the same thing."""

import numpy as np
import pytest

from dynamic_exit.chain.thresholds import STAGE_OFF, Configuration
from dynamic_exit.errors import OperatingPointError

STAGES = ("small", "large", "exit")


def test_stages_that_are_not_named_are_off():
    array = Configuration((("small", 0.9), ("exit", 0.1))).as_array(STAGES)
    assert array.dtype == np.float32
    assert array.tolist() == [np.float32(0.9), STAGE_OFF, np.float32(0.1)]


def test_an_array_comes_back_as_it_went():
    thresholds = np.float32([0.25, STAGE_OFF, -1])
    configuration = Configuration.from_array(STAGES, thresholds, "mean")
    assert configuration == Configuration((("small", 0.25), ("exit", -1.0)), "mean")
    assert np.array_equal(configuration.as_array(STAGES), thresholds)


def test_a_stage_that_the_chain_lacks_is_refused():
    with pytest.raises(OperatingPointError, match=r"^there is no stage 'larg'; did you mean 'large'\?$"):
        Configuration((("larg", 0.5),)).as_array(STAGES)
