"""Compiled code is told apart by the width of the processor's vectors, whatever else is asked for."""

import pytest
from torch._inductor.cpu_vec_isa import pick_vec_isa

from dynamic_exit.runtime.inductor import inductor_options


@pytest.mark.parametrize(
    ("given", "further"),
    [
        ({}, {}),
        ({"options": {"max_autotune": True}}, {"max_autotune": True}),
        ({"mode": "reduce-overhead"}, {"triton.cudagraphs": True}),
    ],
)
def test_the_width_of_vectors_stands_beside_what_is_given(given, further):
    assert inductor_options(**given) == {"cpp.simdlen": pick_vec_isa().bit_width(), **further}
