"""Comparison of files with their models."""

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_exit.errors import VerificationError
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.session import open_session
from dynamic_exit.onnx.stitch import stitch
from dynamic_exit.onnx.verification import Agreement, assert_equivalent, compare, is_equivalent, run_session
from dynamic_exit.runtime.model import DynamicExitModel


def test_disagreement_fails_the_export():
    assert_equivalent(Agreement(10, 2, 0, 3, 0, 1e-5), "they", 1e-4)
    with pytest.raises(VerificationError, match="^they differ in 1 exits and 2 predictions on 10 samples at 2 oper"):
        assert_equivalent(Agreement(10, 2, 1, 0, 2, 0.0), "they", 1e-4)
    with pytest.raises(VerificationError, match="logits by 0.00"):
        assert_equivalent(Agreement(10, 2, 0, 0, 0, 2e-3), "they", 1e-4)


def test_compare_counts_exits_that_part_away_from_the_threshold(part, network, images):
    """A saver with other weights leaves elsewhere; rounding at the threshold is told apart."""
    input_names = part.input_names
    other = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    torch.nn.init.constant_(other[1].weight, 0.0)
    torch.nn.init.constant_(other[1].bias, 0.0)
    saver = export_part("saver", other, input_names, "logits", (torch.zeros(2, 1, 6, 6),))
    session = open_session(stitch(ModelParts([saver], [part], []), part.proto.graph.input, 3, [0.5], {}))
    sure = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    with torch.no_grad():
        sure[1].weight.zero_()
        sure[1].bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
    model = DynamicExitModel([network], input_names=list(input_names), savers={"saver": sure})
    found = compare(model, session, {"image": images}, [np.asarray([0.5], np.float32)])
    assert (found.exits_apart, found.rounding) == (64, 0)
    near = compare(model, session, {"image": images}, [np.asarray([float(1 - 2.5e-4)], np.float32)])
    assert near.exits_apart + near.rounding == 64


def test_an_8_bit_step_may_change_logits_exits_and_ties(part):
    """By hand: rows have the logits (0, 0.01), in the file (0.01, 0): a step of 0.01 does that, one of 0.004 not."""

    def constant(*logits):
        made = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
        nn.init.zeros_(made[1].weight)
        made[1].bias.data = torch.tensor(logits)
        return made

    images = np.zeros((5, 1, 6, 6), np.float32)
    parts = [
        export_part(name, constant(0.01, 0.0), part.input_names, "logits", (torch.zeros(2, 1, 6, 6),)) for name in "ab"
    ]
    session = open_session(stitch(ModelParts(parts[:1], parts[1:], []), part.proto.graph.input, 2, [0.5], {}))
    model = DynamicExitModel(
        [constant(0.0, 0.01)], input_names=list(part.input_names), savers={"a": constant(0.0, 0.01)}, thresholds=[0.5]
    )
    leaves, stays = np.float32([0.4]), np.float32([np.inf])
    for thresholds in (leaves, stays):
        found = [compare(model, session, {"image": images}, [thresholds], step=step) for step in (0.0, 0.004, 0.01)]
        assert [each.predictions_apart for each in found] == [5, 5, 0]
        assert [each.largest_difference for each in found] == pytest.approx([0.01] * 3, abs=1e-6)
        assert [is_equivalent(each, 0.011) for each in found] == [False, False, True]
    sure = 1 / (1 + np.exp(-0.01))  # the file's rows of 0.502 leave, rows of 0.5 would not
    model.savers[0][1].bias.data.zero_()
    for below, expected in ((1e-5, [(0, 5), (0, 5)]), (1e-3, [(5, 0), (0, 5)])):
        limits = [np.float32([sure - below])]
        found = [compare(model, session, {"image": images}, limits, step=step) for step in (0.0, 0.01)]
        assert [(each.exits_apart, each.rounding) for each in found] == expected


def test_run_session_puts_batches_together_in_order(part, images):
    session = open_session(stitch(ModelParts([], [part], []), part.proto.graph.input, 3, [], {}))
    none = np.zeros(0, np.float32)
    for whole, pieces in zip(
        run_session(session, {"image": images}, none, 64), run_session(session, {"image": images}, none, 5), strict=True
    ):
        np.testing.assert_allclose(whole, pieces, atol=1e-6)
