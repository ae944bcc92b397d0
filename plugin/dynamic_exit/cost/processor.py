"""What this machine's processor computes 8-bit integers with."""

import torch

# by which kernels for int8 are chosen; of the vector units, the best one counts
_MATRIX_UNITS = {"amx_int8": "AMX"}
_VECTOR_UNITS = {"avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI", "avx512_bw": "AVX-512", "avx2": "AVX2"}


def instruction_set() -> str:
    """Return the instruction set for products of int8, such as ``AVX-512 VNNI``; empty if unknown."""
    held = torch.cpu.get_capabilities()
    matrix = [name for key, name in _MATRIX_UNITS.items() if held.get(key)]
    vector = [name for key, name in _VECTOR_UNITS.items() if held.get(key)]
    return " and ".join(vector[:1] + matrix)
