"""The instruction set for int8."""

import pytest
import torch

from dynamic_exit.cost.processor import instruction_set


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"avx2": True, "avx512_bw": True, "avx512_vnni": True, "amx_int8": True}, "AVX-512 VNNI and AMX"),
        ({"avx2": True, "avx512_bw": True, "avx512_vnni": False, "amx_int8": False}, "AVX-512"),
        ({"avx2": True, "avx_vnni": True}, "AVX VNNI"),
        ({"avx2": True}, "AVX2"),
        ({"architecture": "arm64"}, ""),
    ],
)
def test_the_best_vector_unit_and_matrix_units_are_named(monkeypatch, held, said):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: held)
    assert instruction_set() == said
