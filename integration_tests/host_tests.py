"""Runs Neural Compressor's own tests with and without this package imported, and lists every test that ends otherwise.

    python integration_tests/host_tests.py CHECKOUT [FILE...]

CHECKOUT is a clone of Neural Compressor; the tests use the version that is installed. Every file runs in processes of
its own, from an empty folder. What differs is run once more: tests that end otherwise by themselves are listed as
unsteady. The exit code is 1 if a difference remains.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"
MODULE = "dynamic_exit.integrations.neural_compressor"
#: Folders of tests for torch on the CPU; others need devices or frameworks of their own.
FOLDERS = ("test/common", "test/torch")
DEVICES = ("hpu", "xpu", "fp8_quant")
#: Test -> how it ended.
Outcomes = dict[str, str]


def find_files(checkout: Path, names: Iterable[str]) -> list[Path]:
    """Return the named test files, or all that run on the CPU."""
    if names:
        return [checkout / name for name in names]
    found = (path for folder in FOLDERS for path in sorted((checkout / folder).rglob("test_*.py")))
    return [path for path in found if not any(word in str(path.relative_to(checkout)) for word in DEVICES)]


def run_file(path: Path, with_plugin: bool, timeout: float) -> Outcomes:
    """Run the tests of a file in a fresh process, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        plugin = ["-p", MODULE] if with_plugin else []
        command = [sys.executable, "-m", "pytest", str(path), "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        work = Path(folder, "work")
        work.mkdir()
        places = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        try:
            done = subprocess.run(
                [*command, *plugin], cwd=work, env=environment, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return {path.name: f"no end after {timeout:.0f} s"}
        if not report.exists():
            return {path.name: f"no report, exit code {done.returncode}"}
        return read_outcomes(report)


def read_outcomes(report: Path) -> Outcomes:
    """Return how the tests of a JUnit report ended; failures with the type of their error."""
    outcomes: Outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  a report of our own
        name = f"{case.get('classname')}::{case.get('name')}"
        found = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        if found is None:
            outcomes[name] = "passed"
        elif found.tag == "skipped":
            outcomes[name] = "skipped"
        else:
            outcomes[name] = f"{found.tag}, {(found.get('message') or '').split(':')[0].splitlines()[0:1]}"
    return outcomes


def differences(without: Outcomes, within: Outcomes) -> dict[str, tuple[str, str]]:
    """Return the tests that ended otherwise: how without this package, and how with it."""
    ends = {name: (without.get(name, "absent"), within.get(name, "absent")) for name in {**without, **within}}
    return {name: pair for name, pair in ends.items() if pair[0] != pair[1]}


def compare_file(path: Path, timeout: float) -> tuple[Counter[str], list[str], list[str]]:
    """Return how many tests of a file ended how, the differences, and the tests that are unsteady by themselves."""
    without, within = run_file(path, False, timeout), run_file(path, True, timeout)
    counts = Counter(outcome.partition(",")[0] for outcome in within.values())
    apart = differences(without, within)
    if not apart:
        return counts, [], []
    again = differences(run_file(path, False, timeout), run_file(path, True, timeout))
    steady = [f"{name}: {one} without, {other} with" for name, (one, other) in apart.items() if name in again]
    return counts, steady, [name for name in apart if name not in again]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("files", nargs="*", help="test files, relative to the checkout; default: all for torch on CPUs")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one run of one file")
    options = parser.parse_args()
    total = 0
    for path in find_files(options.checkout.resolve(), options.files):
        if not path.is_file():
            parser.error(f"'{path}' does not exist")
        counts, steady, unsteady = compare_file(path, options.timeout)
        ends = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no tests"
        print(f"{path.relative_to(options.checkout.resolve())}: {ends}", flush=True)
        for line in (*(f"DIFFERS {each}" for each in steady), *(f"unsteady {each}" for each in unsteady)):
            print(f"    {line}", flush=True)
        total += len(steady)
    print(f"{total} differences" if total else "no test ends otherwise with this package imported")
    sys.exit(bool(total))


if __name__ == "__main__":
    main()
