"""What torch keeps of its operators while something is exported: less work, the same programs."""

import contextlib
import sys

import pytest
import tiny
import torch
from torch._export import utils
from torch.export import exported_program

from dynamic_exit.graph import export_program
from dynamic_exit.graph.operator_tables import one_pass_over_operators
from dynamic_exit.onnx.export import export_part

EXAMPLE = torch.from_numpy(tiny.draw(2, 1)[0])


class Mixed(torch.nn.Module):
    """Operators that torch takes apart, and some that it may keep."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.norm, self.layer = torch.nn.LayerNorm(6), torch.nn.Linear(6, 3)
        self.body = tiny.backbone()

    def forward(self, x):
        rows = self.norm(x)
        seen = torch.nn.functional.scaled_dot_product_attention(rows, rows, rows)
        return self.body(x) + self.layer(torch.einsum("ncij,nckj->nij", seen, rows).pow(3).mean(1))


def made(module):
    """The program and the file of a module."""
    program = export_program(module, (EXAMPLE,))
    return str(program.graph), export_part("part", module, ("x",), "logits", (EXAMPLE,)).proto.SerializeToString()


def test_programs_and_files_are_those_of_torch_alone(monkeypatch):
    module = Mixed().eval()
    quick = made(module)
    for name in ("dynamic_exit.graph.export", "dynamic_exit.onnx.export"):
        monkeypatch.setattr(sys.modules[name], "one_pass_over_operators", contextlib.nullcontext)
    assert made(module) == quick


def test_operators_are_looked_up_once_and_torch_is_as_it_was(monkeypatch):
    calls = []
    real = utils._materialize_cpp_cia_ops
    monkeypatch.setattr(utils, "_materialize_cpp_cia_ops", lambda: calls.append(real()))
    before = utils._materialize_cpp_cia_ops, list(exported_program._BACKEND_KEYS_TO_OVERRIDE)
    export_program(Mixed().eval(), (EXAMPLE,))
    assert len(calls) == 1
    with pytest.raises(ValueError), one_pass_over_operators():
        raise ValueError
    assert (utils._materialize_cpp_cia_ops, exported_program._BACKEND_KEYS_TO_OVERRIDE) == before


def test_without_what_torch_does_not_promise_it_only_takes_longer(monkeypatch):
    looked_up = utils._materialize_cpp_cia_ops
    monkeypatch.delattr(utils, "_materialize_cpp_cia_ops")
    with one_pass_over_operators():
        monkeypatch.setattr(utils, "_materialize_cpp_cia_ops", looked_up, raising=False)
        program = export_program(tiny.saver(), (EXAMPLE,))
    assert str(program.graph) == str(export_program(tiny.saver(), (EXAMPLE,)).graph)
