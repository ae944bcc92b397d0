import pytest

from dynamic_exit.chain.spec import ChainSpec


@pytest.mark.parametrize(("inputs", "segments"), [((), (("hidden",),)), (("x",), ()), ((), ())])
def test_a_chain_without_inputs_or_segments_is_refused(inputs, segments):
    with pytest.raises(ValueError, match="a chain needs inputs and segments"):
        ChainSpec(inputs=inputs, segments=segments)
