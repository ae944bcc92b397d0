"""Inputs from elsewhere that are broken at random: nothing but errors of this package, no hang, no excess of memory.

    python integration_tests/benchmarks/fuzz.py FOLDER [--cases 1000] [--seed 0] [--kind KIND ...] [--engine atheris]

FOLDER is what a run has written, with one file, such as build/quickstart. For each of eleven kinds (recipes, records,
points, manifests, folders, onnx, inputs, data; to a server requests and pictures, without a socket, and loopback, with
one) so many cases are drawn by hypothesis: whole inputs that are changed in places, cut short or mixed
(`tests/helpers/fuzzing.py`). Each kind runs in a process of its own. The engine atheris, which is to be installed
beside this benchmark, chooses what hypothesis draws by the code of this package that it reaches.

Bars: no error but a `DynamicExitError`, no case over 5 s of processor time, memory under 2 GB.

Prints a row a kind: cases, those that were accepted, faults, hangs, and the process's peak of resident memory; then
each kind of fault once, with the line that raised it. Exits with 1 if a bar is missed.
"""

import argparse
import gc
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))
from fuzzing import Cases
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dynamic_exit.errors import DynamicExitError

HANG_SECONDS, MEMORY = 5.0, 2e9
# of which a case is drawn with a guide
_BYTES = 4096


def main() -> None:
    """Run the kinds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", nargs="+")
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    missed = False
    print(f"{'kind':10}  {'cases':>7}  {'accepted':>8}  {'faults':>6}  {'hangs':>5}  {'MB':>6}")
    with tempfile.TemporaryDirectory() as work:
        cases = Cases(options.folder.resolve(), Path(work))
        for kind in options.kind or cases.kinds:
            found = in_a_process(cases, kind, options.cases, options.seed, options.engine == "atheris")
            faults, hangs, peak = found["faults"], found["hangs"], found["memory"]
            row = (f"{found['cases']:7,}", f"{found['accepted']:8,}", f"{sum(faults.values()):6}", f"{hangs:5}")
            print(f"{kind:10}", *row, f"{peak / 1e6:6,.0f}", sep="  ", flush=True)
            for fault, count in faults.items():
                print(f"    {count} times: {fault}", flush=True)
            missed |= bool(faults or hangs or peak > MEMORY)
    sys.exit(1 if missed else 0)


def in_a_process(cases: Cases, kind: str, count: int, number: int, guided: bool) -> dict[str, Any]:
    """Try cases in a copy of this process; one that ends otherwise than by itself is a fault."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try_cases(cases, kind, count, number, guided, lambda found: os.write(writer, json.dumps(found).encode()))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        content = file.read()
    _, status, usage = os.wait4(pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        found = {"cases": 0, "accepted": 0, "faults": {f"the process ended with {code}": 1}, "hangs": 0}
    else:
        found = json.loads(content)
    return {**found, "memory": usage.ru_maxrss * 1024}


def try_cases(
    cases: Cases, kind: str, count: int, number: int, guided: bool, tell: Callable[[dict[str, Any]], Any]
) -> None:
    """Try so many cases of a kind, and tell what came of them; with a guide this ends the process."""
    found: dict[str, Any] = {"cases": 0, "accepted": 0, "faults": {}, "hangs": 0}

    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(st.data())
    def each(data: st.DataObject) -> None:
        started = time.process_time()
        try:
            cases.kinds[kind](data.draw)
            found["accepted"] += 1
        except DynamicExitError:
            pass
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {str(error)[:120]} ({Path(last.filename).name}:{last.lineno})"
            found["faults"][text] = found["faults"].get(text, 0) + 1
        found["cases"] += 1
        found["hangs"] += time.process_time() - started > HANG_SECONDS

    def end_when_done() -> None:
        if found["cases"] >= count:
            tell(found)
            os._exit(0)

    if guided:
        corpus = cases.work / f"{kind}.corpus"
        corpus.mkdir()
        for file in range(16):  # what begins with nothing begins with inputs that are too short
            (corpus / str(file)).write_bytes(random.Random(f"{number} {file}").randbytes(_BYTES))
        guide(each.hypothesis.fuzz_one_input, number, corpus, end_when_done)
    each()
    cases.close()
    tell(found)


def guide(take: Callable[[bytes], Any], number: int, corpus: Path, check: Callable[[], Any]) -> None:
    """Hand over bytes, changed towards code of this package that was not reached, until `check` ends the process."""
    import atheris

    for each in gc.get_objects():
        if isinstance(each, FunctionType) and str(each.__module__).startswith("dynamic_exit"):
            atheris.instrument_func(each)
    limits = [f"-max_len={_BYTES}", "-len_control=0", "-rss_limit_mb=0", "-timeout=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], f"-seed={number}", *limits, str(corpus)], lambda data: (take(data), check()))
    atheris.Fuzz()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
