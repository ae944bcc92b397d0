"""Exits that read taps of earlier positions: the torch model against the same chain worked out by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dynamic_exit.artifact.saved_model import load_model, save_model
from dynamic_exit.errors import ModelError
from dynamic_exit.runtime.model import DynamicExitModel

INF = float("inf")
CLASSES = 4


class Counted(nn.Module):
    """A linear layer that states its inputs and width, and counts the rows of each call."""

    def __init__(self, before, width, input_names=None, nonlinear=False):
        super().__init__()
        self.layer, self.width, self.nonlinear, self.rows = nn.Linear(before, width), width, nonlinear, []
        if input_names:
            self.input_names = input_names

    def forward(self, *tensors):
        if not torch.compiler.is_compiling():
            self.rows.append(len(tensors[0]))
        answer = self.layer(torch.cat(tensors, dim=1))
        return torch.tanh(answer) if self.nonlinear else answer


def build(thresholds=None, fuse="none", saver=True, seed=0):
    """Two savers, three segments, a plain exit and two that read taps of width 3 (saver), 2 and 2 (segments)."""
    torch.manual_seed(seed)
    segments = [Counted(6, 8, nonlinear=True), Counted(8, 8, nonlinear=True), Counted(8, CLASSES)]
    first = 3 if saver else 0
    return DynamicExitModel(
        segments,
        input_names=["x"],
        savers={"small": Counted(6, CLASSES), "large": Counted(6, CLASSES)} if saver else {},
        exits={
            "0:plain": (0, Counted(8, CLASSES)),
            "0:seeing": (0, Counted(first + 2, CLASSES, ("memory",))),
            "1:seeing": (1, Counted(8 + first + 4, CLASSES, ("hidden", "memory"))),
        },
        fuse=fuse,
        thresholds=thresholds,
        taps={**({-1: Counted(CLASSES, 3)} if saver else {}), 0: Counted(8, 2), 1: Counted(8, 2)},
    )


def by_hand(model, row):
    """The rule for one row: (logits, exit index)."""
    on = [value < INF for value in model.thresholds]
    seen = []

    def sure(logits, threshold):
        seen.append(logits.softmax(1))
        evidence = seen[-1] if model.fuse.rule == "none" else torch.stack(seen).mean(0)
        answer = logits if model.fuse.rule == "none" else evidence.log()
        return answer if float(evidence.max()) > threshold else None

    parts = []
    for index, saver in enumerate(model.savers):
        logits = saver(row)
        if index == 1:
            parts.append(model.tap(-1)(logits) if on[1] else torch.zeros(1, 3))
        if on[index] and (found := sure(logits, model.thresholds[index])) is not None:
            return found, index
    hidden = row
    for place, segment in enumerate(model.segments):
        hidden = segment(hidden)
        if place < 2:
            parts.append(model.tap(place)(hidden))
        for index, (name, at) in enumerate(zip(model.chain, model.positions, strict=True)):
            if at != place or not on[index]:
                continue
            given = {"hidden": hidden, "memory": torch.cat(parts, dim=1)}
            head = model.stage_module(name)
            logits = head(*(given[each] for each in getattr(head, "input_names", ("hidden",))))
            if (found := sure(logits, model.thresholds[index])) is not None:
                return found, index
    return sure(hidden, -INF), len(model.chain)


LIMITS = st.one_of(st.floats(0.2, 0.6), st.sampled_from([INF, 1.0]))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 20),
    fuse=st.sampled_from(["none", "mean"]),
    thresholds=st.lists(LIMITS, min_size=5, max_size=5),
    saver=st.booleans(),
    seed=st.integers(0, 3),
)
def test_every_row_is_answered_as_by_hand(rows, fuse, thresholds, saver, seed):
    model = build(thresholds if saver else thresholds[2:], fuse, saver, seed)
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)) * 2
    with torch.no_grad():
        output = model(x)
        for row in range(rows):
            logits, index = by_hand(model, x[row : row + 1])
            assert output.exit_index[row] == index
            torch.testing.assert_close(output.logits[row], logits[0], rtol=1e-4, atol=1e-5)


def test_records_see_what_the_chain_sees_when_the_saver_runs():
    """A threshold of 1 lets nobody leave: then each stage answers as in `all_stage_logits`."""
    x = torch.randn(7, 6)
    for index in range(2, 5):
        thresholds = [1.0] * 5
        thresholds[index] = 0.0
        model = build(thresholds)
        with torch.no_grad():
            torch.testing.assert_close(model(x).logits, list(model.all_stage_logits(x).values())[index])


def test_taps_run_once_on_rows_that_get_so_far_and_only_when_read():
    x = torch.randn(9, 6)
    model = build([1.0, 1.0, 0.3, 1.0, 1.0])
    with torch.no_grad():
        left = int((model(x).exit_index != 2).sum())
    assert 0 < left < 9
    assert [tap.rows for tap in model.taps] == [[9], [9], [left]]
    model = build([1.0, 1.0, 0.3, INF, INF])
    with torch.no_grad():
        model(x)
    assert [tap.rows for tap in model.taps] == [[], [], []]
    model = build([1.0, INF, INF, 1.0, INF])
    with torch.no_grad():
        model(x)
    assert [tap.rows for tap in model.taps] == [[], [9], []]


def test_a_saved_model_answers_the_same(tmp_path):
    model = build([0.5, 0.6, 0.4, 0.5, 0.5]).eval()
    x = torch.randn(12, 6)
    save_model(model, tmp_path / "model", (x,))
    loaded = load_model(tmp_path / "model")
    with torch.no_grad():
        for thresholds in (model.thresholds, [INF, INF, INF, 0.4, 0.5]):
            model.set_thresholds(thresholds)
            loaded.set_thresholds(thresholds)
            for one, two in zip(model(x), loaded(x), strict=True):
                torch.testing.assert_close(one, two)


def test_parts_that_do_not_fit_are_refused():
    heads = {"exit": (0, Counted(2, CLASSES, ("memory",)))}
    segments = [nn.Linear(6, 8), nn.Linear(8, CLASSES)]
    with pytest.raises(ModelError, match="exit 'exit' reads taps up to segment 0, which has none"):
        DynamicExitModel(segments, input_names=["x"], exits=heads)
    with pytest.raises(ModelError, match="a tap on the last saver's logits needs a saver"):
        DynamicExitModel(segments, input_names=["x"], taps={-1: Counted(CLASSES, 2)})
