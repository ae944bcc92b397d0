import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_exit.errors import CutError
from dynamic_exit.graph import Cut
from dynamic_exit.passes.early_exit import cheapest_head, choose_cuts
from dynamic_exit.passes.early_exit.heads import name_heads


def cuts(*shares, shape=(4,)):
    return [Cut(index, f"layer{index}", shape, share, f"node{index}") for index, share in enumerate(shares)]


def chosen(found):
    return [cut.index for cut in found]


@pytest.mark.parametrize(
    ("shares", "count", "expected"),
    [
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 1, [4]),  # a half
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 4, [1, 3, 5, 7]),  # fifths
        ((0.02, 0.04, 0.06, 0.08, 0.7), 2, [3, 4]),  # nearest to 1/3 and 2/3 by cost, not by number
        ((0.5, 0.9), 2, [0, 1]),  # 1/3 and 2/3 meet at the first: the spare one is taken too
        ((0.5,), 4, [0]),  # no more than there are
        ((0.3, 0.98), 3, [0]),  # behind nearly all of the backbone there is nothing left to save
        ((0.0, 0.4), 2, [1]),
    ],
)
def test_auto_spreads_by_cost(shares, count, expected):
    assert chosen(choose_cuts(cuts(*shares), "auto", count)) == expected


@given(
    shares=st.lists(st.floats(0.01, 0.96), min_size=1, max_size=12, unique=True).map(sorted),
    count=st.integers(1, 15),
)
def test_auto_picks_as_many_as_wanted_by_depth(shares, count):
    found = chosen(choose_cuts(cuts(*shares), "auto", count))
    assert len(found) == min(count, len(shares))
    assert found == sorted(set(found))


def test_all_leaves_out_only_the_useless_and_says_why(log_lines):
    assert chosen(choose_cuts(cuts(0.0, 0.2, 0.5, 0.97, 0.99), "all", 1)) == [1, 2]
    assert log_lines == [
        "position layer3 is dropped: 97.0% of the backbone lies before it",
        "position layer4 is dropped: 99.0% of the backbone lies before it",
    ]


def test_names_are_taken_as_written_even_behind_nearly_everything():
    assert chosen(choose_cuts(cuts(0.2, 0.5, 0.98), ["layer0", "layer2"], 1)) == [0, 2]


def test_a_position_that_cannot_pay_for_its_cheapest_head_is_dropped(log_lines):
    """4 channels and 5 classes: 20 multiply-adds for `linear`, a tenth of a backbone of 200."""
    found = cuts(0.5, 0.89, 0.91)
    share = cheapest_head(name_heads(["mlp", "linear"]), 5, 200.0)
    assert share(found[0]) == pytest.approx(0.1)
    assert chosen(choose_cuts(found, "all", 1, share)) == [0, 1]
    assert log_lines == [
        "position layer2 is dropped: its cheapest head costs 10.00% of the backbone, and only 9.00% is left to save"
    ]
    assert chosen(choose_cuts(found, "auto", 3, share)) == [0, 1]
    with pytest.raises(CutError, match="^behind none of the named positions can an exit pay; leave `early_exit` out"):
        choose_cuts(found, ["layer2"], 1, share)


def test_a_head_on_a_free_size_is_not_counted_beforehand():
    (cut,) = cuts(0.9, shape=("length", 4))
    assert cheapest_head(name_heads(["linear"]), 5, 1.0)(cut) == 0.0


@pytest.mark.parametrize(
    ("positions", "sentence"),
    [
        (["laier1"], "the backbone has no cut 'laier1'; did you mean 'layer1'?"),
        (["layer0", "layer1", "layer0"], "position 'layer0' is written twice; name it once"),
        (
            ["layer0", "layer2", "layer1"],
            "positions are in the wrong order: 'layer1' comes before 'layer2' in the backbone; "
            "write layer0, layer1, layer2",
        ),
    ],
)
def test_refusals_of_names(positions, sentence):
    with pytest.raises(CutError) as refused:
        choose_cuts(cuts(0.2, 0.5, 0.8), positions, 1)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("found", [[], cuts(0.0, 0.99)])
def test_a_backbone_without_usable_cut_is_refused(found):
    with pytest.raises(CutError, match="^the backbone has no usable cut"):
        choose_cuts(found, "auto", 2)
