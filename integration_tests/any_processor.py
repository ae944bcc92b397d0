"""Runs the tests as they would run on other processors: with fewer instructions, and with one thread and two.

    python integration_tests/any_processor.py                                  # the whole suite, six times
    python integration_tests/any_processor.py tests/hub --processor sse41      # some tests, two times
    python integration_tests/any_processor.py --threads 1 -- -k torch -x       # what stands after -- goes to pytest

One line for each combination says what passed and what failed; the exit code is 1 where anything failed, and the
output of each combination is kept. It takes as many times `make test` as there are combinations.

What it holds back: the kernels of ATen (ATEN_CPU_CAPABILITY), oneDNN (ONEDNN_MAX_CPU_ISA) and MKL
(MKL_ENABLE_INSTRUCTIONS), that is torch, trainings included. What it cannot: onnxruntime and numpy, which look at the
processor themselves and have no such variable. So the last bits of exported files are those of this machine, and 8-bit
products that saturate without VNNI do not saturate here; only another machine shows those. Instructions that this
processor lacks cannot be added: such combinations are left out, and said so.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).resolve().parents[1]
#: By name: ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA and MKL_ENABLE_INSTRUCTIONS.
PROCESSORS = {
    "sse41": ("default", "SSE41", "SSE4_2"),
    "avx2": ("avx2", "AVX2", "AVX2"),
    "avx512": ("avx512", "AVX512_CORE_VNNI", "AVX512"),
}
#: What torch says of this processor, and which of the above it can be.
ABLE = {"AVX512": tuple(PROCESSORS), "AVX2": ("sse41", "avx2")}


def environment(processor: str, threads: int) -> dict[str, str]:
    """Return the variables of a combination, beside those of this process.

    `DYNAMIC_EXIT_TEST_THREADS` is for the tests' own process, which `tests/conftest.py` otherwise holds to one thread;
    `OMP_NUM_THREADS` for all that the tests start.
    """
    aten, onednn, mkl = PROCESSORS[processor]
    return {
        **os.environ,
        "ATEN_CPU_CAPABILITY": aten,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "OMP_NUM_THREADS": str(threads),
        "DYNAMIC_EXIT_TEST_THREADS": str(threads),
    }


def run(processor: str, threads: int, tests: list[str], workers: int, logs: Path) -> bool:
    """Run the tests in one combination, print its line, and return whether all passed."""
    name = f"{processor}-{threads}"
    report, log = logs / f"{name}.xml", logs / f"{name}.log"
    report.unlink(missing_ok=True)
    spread = ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}", *spread, *tests]
    began = time.perf_counter()
    with log.open("w") as file:
        code = subprocess.run(
            command, cwd=ROOT, env=environment(processor, threads), stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    seconds = time.perf_counter() - began
    label = f"{processor:>6}, {threads} thread{'s' if threads > 1 else ' '}"
    if not report.exists():
        print(f"{label}: pytest ended with exit code {code} and no results, see '{log}'", flush=True)
        return False
    counts, failing = read(report)
    print(f"{label}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped "
          f"in {seconds:.0f} s{''.join(f'{os.linesep}    {test}' for test in failing)}", flush=True)  # fmt: skip
    return code == 0


def read(report: Path) -> tuple[dict[str, int], list[str]]:
    """Return how many tests passed, failed (errors too) and were skipped, and the names of those that failed."""
    counts, failing = dict.fromkeys(("passed", "failed", "skipped"), 0), []
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        counts[kind] += 1
        if kind == "failed":
            failing.append(f"{case.get('classname')}::{case.get('name')}")
    return counts, failing


def main() -> None:
    """Run every chosen combination; exit code 1 where a test failed in any of them."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="\n".join(__doc__.splitlines()[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("tests", nargs="*", help="files, folders or tests (default: the whole suite)")
    parser.add_argument("--processor", action="append", choices=PROCESSORS, help="may be repeated (default: all)")
    parser.add_argument("--threads", action="append", type=int, choices=(1, 2), help="may be repeated (default: both)")
    parser.add_argument("--workers", type=int, default=2, help="processes that run tests side by side (default: 2)")
    parser.add_argument("--logs", type=Path, default=ROOT / "build" / "any_processor", help="folder of the outputs")
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    arguments = parser.parse_args(given[:end])
    tests = [*arguments.tests, *given[end + 1 :]]
    arguments.logs.mkdir(parents=True, exist_ok=True)
    here = torch.backends.cpu.get_cpu_capability()
    passed = []
    for processor, threads in itertools.product(arguments.processor or PROCESSORS, arguments.threads or (1, 2)):
        if processor not in ABLE.get(here, ("sse41",)):
            print(f"{processor:>6}, {threads} thread{'s' if threads > 1 else ' '}: left out, this processor is {here}")
            continue
        passed.append(run(processor, threads, tests, arguments.workers, arguments.logs))
    sys.exit(0 if passed and all(passed) else 1)


if __name__ == "__main__":
    main()
