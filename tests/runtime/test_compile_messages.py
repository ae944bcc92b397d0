"""What is said where a part cannot be compiled, and what torch is told about the processor."""

import pytest
import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor.cpu_vec_isa import pick_vec_isa
from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

from dynamic_exit.errors import ModelError
from dynamic_exit.graph import export_program
from dynamic_exit.runtime.archive import pack, unpack
from dynamic_exit.runtime.compile import CompiledPart, compile_part

OUTPUT = """k.cpp: In function 'void kernel(const float*)':
k.cpp:20:37: error: 'at::vec' has not been declared
k.cpp:22:37: error: 'at::vec' has not been declared"""
REFUSED = "the C++ compiler refuses torch's code ('at::vec' has not been declared)"


@pytest.fixture
def part():
    return unpack(pack(export_program(nn.Linear(4, 3).eval(), (torch.randn(2, 4),))), ["x"], "part")


@pytest.mark.parametrize(
    ("capability", "error", "message"),
    [
        (
            "AVX2",
            InvalidCxxCompiler(),
            "torch finds no C++ compiler; install g++ or clang++, or load it with compile=False",
        ),
        (
            "AVX2",
            CppCompileError(["g++"], OUTPUT),
            f"{REFUSED}; install a newer compiler, or load it with compile=False",
        ),
        (
            "DEFAULT",
            CppCompileError(["g++"], OUTPUT),
            f"{REFUSED}, and this processor lacks the vector instructions that torch writes it for; "
            "load it with compile=False",
        ),
        ("AVX2", RuntimeError("no kernel\nfor this"), "no kernel; load it with compile=False"),
    ],
)
def test_the_cause_is_named_not_what_torch_wraps_it_in(part, monkeypatch, capability, error, message):
    def fail(**options):
        raise BackendCompilerFailed("inductor", error, None)

    monkeypatch.setattr(part.body, "compile", fail)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    with pytest.raises(ModelError) as refusal:
        compile_part(part, "segment0")
    assert str(refusal.value) == f"stage 'segment0' cannot be compiled: {message}"


def test_code_in_a_cache_is_kept_apart_by_the_width_of_vectors(part, monkeypatch):
    found = []
    monkeypatch.setattr(part.body, "compile", lambda **options: found.append(options))
    compiled = compile_part(part, "segment0")
    assert found == [{"dynamic": True, "options": {"cpp.simdlen": pick_vec_isa().bit_width()}}]
    assert isinstance(compiled, CompiledPart) and not isinstance(part, CompiledPart)
    assert (compiled.input_names, compiled.width) == (part.input_names, part.width) == (("x",), 3)
    rows = torch.randn(5, 4)
    assert torch.equal(compiled(rows), part(rows))
