"""What a GPU changes: training on it, a chain that runs on it, and models that are handed in from it.

    python integration_tests/benchmarks/gpu.py [--device cuda] [--small] [--parts training chain archives given]

No network, and no data but the bundled digits; random weights and inputs elsewhere, seed 0. Everything is compared
with the CPU within this run. Bars, which decide the exit code: accuracies within two points of the CPU's, the same
weights from the same seed, the same exits and logits within 1e-3 of their size, archives that answer alike, and
refusals in one sentence. Without a GPU it says so and does nothing; ``--device cpu --small`` rehearses it there.
"""

import argparse
import platform
import sys
import time
import traceback
import warnings

import torch
from gpu_chain import chain
from gpu_models import archives, given
from gpu_training import training

FAILED: list[str] = []


def main() -> int:
    arguments = _arguments()
    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        print("no GPU: torch sees none, so nothing was measured (`--device cpu --small` rehearses it on the CPU)")
        return 0
    warnings.filterwarnings("ignore", category=FutureWarning)
    card = torch.cuda.get_device_name() if device == "cuda" else "the CPU in place of a GPU"
    print(f"{card}, torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads")
    for name in arguments.parts:
        began = time.perf_counter()
        try:
            PARTS[name](device, arguments.small, _check)
        except Exception as failure:  # the other parts still run
            traceback.print_exc()
            _check(f"{name} ended with {type(failure).__name__}", False)
        print(f"({name}: {time.perf_counter() - began:.0f} s)", flush=True)
    print("\nall bars hold" if not FAILED else "\nfailed: " + "; ".join(FAILED))
    return int(bool(FAILED))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--small", action="store_true", help="sizes for a trial of a minute or two")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    return parser.parse_args()


def _check(what: str, holds: bool) -> None:
    print(f"  {'ok' if holds else 'FAILED'}: {what}", flush=True)
    if not holds:
        FAILED.append(what)


PARTS = {"training": training, "chain": chain, "archives": archives, "given": given}

if __name__ == "__main__":
    sys.exit(main())
