"""Programs that are lowered without another trace: the same operators and answers, never where these may differ."""

import contextlib
import operator
import sys

import numpy as np
import onnxruntime
import pytest
import tiny
import torch
from torch import nn
from torch.export import Dim

import dynamic_exit.graph.quick_exporter as quick_exporter
from dynamic_exit.graph import symbolic_trace
from dynamic_exit.graph.direct_lowering import make_functional
from dynamic_exit.onnx.export import export_part

ROWS = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32))


class Written(nn.Module):
    """A convolution, and then whatever a function makes of it and of the input."""

    def __init__(self, function):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)
        self.function = function

    def forward(self, *x):
        (x,) = x
        return self.function(self.layer(x), self.norm, x)


def rectified(h, norm, x):
    return norm(h).relu_()


def residual(h, norm, x):
    h = norm(h)
    h += x
    return h.relu_().flatten(1)


def normalised(h, norm, x):
    return norm(h)


def dropped(h, norm, x):
    return nn.functional.dropout(h, 0.5, training=False)


def read_after_it_was_written(h, norm, x):
    return h.relu_() - 2 * h


def written_through_a_view(h, norm, x):
    first = h[:, :1]
    h.relu_()
    return first + 1


def view_of_what_is_written(h, norm, x):
    h[:, :1].relu_()
    return h + 1


def view_that_is_written(h, norm, x):
    return h.flatten(1).relu_() + h.flatten(1)


def another_type(h, norm, x):
    h += x.double()
    return h


def a_size(h, norm, x):
    h += x.shape[0]
    return h


def whole_numbers(h, norm, x):
    return h * x.argmax(1, keepdim=True)


def attended(h, norm, x):
    weights = torch.softmax(torch.matmul(h, x.transpose(2, 3)) / 2 - x, -1)
    return torch.tanh(-weights[:, 0].unsqueeze(1)) * weights[:, :, 1:3].sum((2,), keepdim=True)


def pooled(size):
    return lambda h, norm, x: nn.functional.adaptive_avg_pool2d(norm(h), size).flatten(1)


LOWERED = {
    "rectified": rectified,
    "normalised": normalised,
    "dropped": dropped,
    "residual": residual,
    "read after it was written": read_after_it_was_written,
    "whole numbers": whole_numbers,
    "attended": attended,
    "pooled": pooled(1),
    "pooled evenly": pooled((2, 3)),
}
TRACED = {
    "written through a view": written_through_a_view,
    "view of what is written": view_of_what_is_written,
    "view that is written": view_that_is_written,
    "another type": another_type,
    "a size": a_size,
    "pooled unevenly": pooled((4, 1)),
}


@pytest.fixture
def lowered(monkeypatch):
    """What became of each program: whether it was lowered."""
    found = []
    real = quick_exporter.lower
    monkeypatch.setattr(quick_exporter, "lower", lambda *given: found.append(real(*given)) or found[-1])
    return found


def exported(module):
    return export_part("part", module.eval(), ("x",), "hidden", (ROWS,)).proto


def operators(proto):
    return [node.op_type for node in proto.graph.node]


def answers(proto):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": ROWS.numpy()})[0]


@pytest.mark.parametrize("name", [*LOWERED, *TRACED])
def test_a_part_answers_as_its_module_and_has_the_operators_that_torch_alone_gives_it(name, lowered, monkeypatch):
    module = Written((LOWERED | TRACED)[name]).eval()
    quick = exported(module)
    assert lowered == [name not in TRACED]
    with torch.no_grad():
        np.testing.assert_allclose(answers(quick), module(ROWS.clone()).numpy(), rtol=1e-5, atol=1e-6)
    if name in TRACED:
        return
    monkeypatch.setattr(sys.modules["dynamic_exit.onnx.export"], "quick_exporter", contextlib.nullcontext)
    alone = exported(module)
    assert operators(quick) == operators(alone)
    assert np.array_equal(answers(quick), answers(alone))


@pytest.mark.parametrize("name", [*LOWERED, *TRACED])
def test_a_functional_program_computes_with_the_operators_of_torch_alone(name):
    program, other = (
        symbolic_trace.export(Written((LOWERED | TRACED)[name]).eval(), (ROWS,), "x", ({0: Dim("batch", min=1)},))
        for _ in range(2)
    )
    made, alone = make_functional(program), other.run_decompositions({})
    assert steps(made) == steps(alone)
    made.validate()
    with torch.no_grad():
        assert torch.equal(made.module(check_guards=False)(ROWS), alone.module(check_guards=False)(ROWS))


def steps(program):
    """Operators of a program with what they take, by place; whatever their results are called."""
    place = {node: index for index, node in enumerate(program.graph.nodes)}
    return [
        (str(node.target), str(torch.fx.map_arg((node.args, node.kwargs), place.get)), str(node.meta.get("val")))
        for node in program.graph.nodes
        if node.op == "call_function" and node.target is not operator.getitem
    ]


def test_a_whole_backbone_is_lowered(lowered):
    export_part("part", tiny.backbone(), ("x",), "logits", (torch.from_numpy(tiny.draw(2, 1)[0]),))
    assert lowered == [True]


def test_a_norm_that_takes_its_statistics_from_the_batch_is_traced(lowered):
    export_part("part", nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)).eval(), ("x",), "hidden", (ROWS,))
    assert lowered == [False]
