"""The set of stages: it never changes, and each step returns a new one."""

import dataclasses

import pytest
from torch import nn

from dynamic_exit.runtime.stages import Stage, StageSet


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    input_names: tuple[str, ...]
    output_kind: str = "logits"
    content: bytes = b""
    size: int = 0
    runtime: str = "none"


def stage(name: str, macs: float, *input_names: str) -> Stage:
    part = Part(name, input_names)
    return Stage(nn.Identity(), part, nn.Identity(), macs, part, ())


SEGMENTS = (stage("segment0", 10.0, "x"), stage("segment1", 20.0, "hidden"), stage("segment2", 30.0, "hidden"))


@pytest.fixture
def stages() -> StageSet:
    """Two savers, of which the second takes an input of its own, and an exit at each cut; the last reads two taps."""
    backbone = StageSet(("x", "mask"), SEGMENTS, {"final": 5})
    with_savers = backbone.add_savers({"a": stage("a", 1.0, "x"), "b": stage("b", 2.0, "x", "mask")}, "mean")
    exits = {"e": (0, stage("e", 0.5, "hidden")), "f": (1, stage("f", 0.25, "memory"))}
    taps = {-1: stage("t", 0.1, "logits"), 1: stage("u", 0.2, "hidden"), 2: stage("v", 0.4, "hidden")}
    return with_savers.add_exits(exits, {"e": 1, "f": 3}, taps)


def test_steps_return_new_sets(stages):
    before = {field.name: getattr(stages, field.name) for field in dataclasses.fields(stages)}
    more = stages.add_savers({"c": stage("c", 3.0, "x")}, "none").add_exits({"g": (1, SEGMENTS[0])}, {"g": 3})
    assert more.chain == ("a", "b", "c", "e", "f", "g") and more.fuse.rule == "none"
    assert stages.chain == ("a", "b", "e", "f") and stages.fuse.rule == "mean"
    assert {field.name: getattr(stages, field.name) for field in dataclasses.fields(stages)} == before


def test_nothing_in_a_set_can_be_changed(stages):
    with pytest.raises(dataclasses.FrozenInstanceError):
        stages.fuse = "none"
    for mapping in (stages.savers, stages.exits, stages.positions, stages.taps):
        with pytest.raises(TypeError):
            mapping["a"] = None
    given = {"final": 5}
    made = StageSet(("x",), list(SEGMENTS), given)
    given["e"] = 1
    assert dict(made.positions) == {"final": 5} and isinstance(made.segments, tuple)


def test_a_selection_holds_the_inputs_and_taps_that_it_reads(stages):
    assert stages.select(["a", "e"]).input_names == ("x",) and not stages.select(["a", "e"]).taps
    reading = stages.select(["b", "f"])
    assert reading.input_names == ("x", "mask") and list(reading.taps) == [-1, 1]
    assert reading.spec.requires == {"f": "b"} and stages.select(["a", "e"]).spec.requires == {}


@pytest.mark.parametrize(
    ("name", "before", "segments", "positions"),
    [
        ("g", ("a", "e"), ["segment0", "segment1", "g"], {"e": 1, "final": 5}),
        ("e", ("b",), ["segment0", "e"], {"final": 5}),
        ("b", ("a",), ["b"], {"final": 5}),
    ],
)
def test_a_chain_may_end_at_an_exit_or_a_saver(stages, name, before, segments, positions):
    ended = stages.add_exits({"g": (1, stage("g", 0.5, "hidden"))}, {"g": 3}).end_at(name, before)
    assert ended.chain == before and [each.part.name for each in ended.segments] == segments
    assert dict(ended.positions) == positions and ended.in_place == name and ended.input_names == ("x", "mask")


def test_costs_by_hand(stages):
    own, prefix, unit = stages.costs(lambda each: each.macs)
    assert unit == "macs"
    assert own == {"a": 1.0, "b": 2.0, "e": 0.5, "f": pytest.approx(0.25 + 0.1 + 0.2), "final": 0.0}
    assert prefix == {"a": 0.0, "b": 0.0, "e": 10.0, "f": 30.0, "final": 60.0}
