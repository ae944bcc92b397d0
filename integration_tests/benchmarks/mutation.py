"""Do the tests notice faults? Small ones are made in the code, one at a time, and the tests are run on each.

    python integration_tests/benchmarks/mutation.py [--rooms chain search runtime] [--mutants 80] [--seed 0]
        [--only plugin/dynamic_exit/chain/walk.py:31 ...]

So many places of the rooms are drawn. A comparison is moved by one or turned round, an arithmetic or logical operator
exchanged, a number made one larger, a truth turned round, a value not returned, or a statement left out that calls,
counts, stores into something, raises or ends a loop. Left alone are texts, decorators, and what is raised, logged or
annotated. The tests that mirror the room are run on a copy of the project, and, if these pass,
those of the other rooms; the first that fails, or twice their usual processor time and ten seconds, ends it. Each run
is a copy of a process that has imported the libraries and computed nothing.

Bar: 85 % are noticed, those aside that change nothing which anyone could see, which a person has to tell.

Prints a row a mutant: what became of it, after how many seconds of processor time, where it is and what it is. --only
makes all mutants of these lines in place of a draw. Exits with 1 if the bar is missed before any is set aside.
"""

import argparse
import ast
import compileall
import os
import py_compile
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("plugin") / "dynamic_exit"
ROOMS = ("chain", "search", "runtime")
BAR = 0.85
# of processor time, and of time, after which tests hang that wait for something
USUAL, MORE, PATIENCE = 2, 10, 1200
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
# imported once, before the copies of this process
LIBRARIES = ("numpy", "torch", "onnx", "onnxruntime", "pydantic", "yaml", "pytest", "hypothesis", "scipy.optimize")


@dataclass(frozen=True)
class Mutant:
    """A change of one place: in a file below the root, what stands there between two bytes, and what comes for it."""

    path: Path
    line: int
    start: int
    end: int
    before: str
    after: str

    @property
    def room(self) -> str:
        """The room of its file."""
        return self.path.relative_to(PACKAGE).parts[0]

    def __str__(self) -> str:
        """Where it is, and what it is."""
        return f"{self.path}:{self.line}  {_one_line(self.before)}  ->  {_one_line(self.after)}"


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 70 else f"{text[:67]}..."


def mutants_of(path: Path) -> list[Mutant]:
    """Return all mutants of a file, a path below the root."""
    source = (ROOT / path).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node, changed in _places(ast.parse(source)):
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        after = ast.unparse(ast.fix_missing_locations(changed))
        if isinstance(node, ast.expr):
            after = f"({after})"
        found.append(Mutant(path, node.lineno, start, end, source[start:end].decode(), after))
    return found


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield each place below a node, and what may come in its stead."""
    for each in _below(node):
        for changed in _changes(each):
            yield each, changed
        if isinstance(each, ast.If | ast.While | ast.IfExp) and isinstance(
            each.test, ast.Name | ast.Attribute | ast.Call
        ):
            yield each.test, ast.UnaryOp(ast.Not(), each.test)
        yield from _places(each)


def _below(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes right below one, without what is left alone."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom) or _is_log(node):
        return
    left_alone = {"annotation", "returns", "decorator_list", "type_params", "ctx"}
    for name, value in ast.iter_fields(node):
        if name not in left_alone:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    yield each


def _is_log(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).startswith("log")
    )


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in place of a node."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            for other in COMPARISONS[type(operator)]:
                yield ast.Compare(node.left, [other()], node.comparators)
        case ast.BinOp() if type(node.op) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        case ast.BoolOp():
            yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
        case ast.Return(value=ast.expr()) if ast.unparse(node.value) != "None":
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) if not _is_log(node):
            yield ast.Pass()
        case ast.Raise() | ast.AugAssign() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()


class Tests:
    """Runs tests on a copy of the project, in copies of this process.

    Args:
        place: An empty folder.
        rooms: Whose tests are run.
    """

    def __init__(self, place: Path, rooms: list[str]):
        self.place, self.rooms = place / "project", rooms
        left_out = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache", "node_modules")
        shutil.copytree(ROOT, self.place, ignore=left_out)
        checked = py_compile.PycInvalidationMode.CHECKED_HASH  # two changes within a second are told apart
        compileall.compile_dir(self.place / "plugin", quiet=1, invalidation_mode=checked)
        self.limits = dict.fromkeys(rooms, PATIENCE)

    def measure(self) -> None:
        """Run all once, unchanged, and set the limits of time."""
        for room in self.rooms:
            code, seconds = self._run(room)
            if code:
                sys.exit(f"the tests of {room} fail as they are: {(self.place.parent / 'said').read_text()[-2000:]}")
            self.limits[room] = int(USUAL * seconds + MORE)
            print(f"tests of {room}: {seconds:.0f} s of processor time", flush=True)

    def notice(self, mutant: Mutant) -> tuple[str, float]:
        """Return how a mutant is noticed, or that it is not, and the seconds of processor time."""
        path, spent = self.place / mutant.path, 0.0
        whole = path.read_bytes()
        path.write_bytes(whole[: mutant.start] + mutant.after.encode() + whole[mutant.end :])
        try:
            for room in sorted(self.rooms, key=lambda room: room != mutant.room):
                code, seconds = self._run(room)
                spent += seconds
                if code:
                    return "hung" if code < 0 else "failed", spent
        finally:
            path.write_bytes(whole)
        return "survived", spent

    def _run(self, room: str) -> tuple[int, float]:
        """Return how the tests of a room end, negative if by a signal, and the seconds of processor time."""
        pid = os.fork()
        if pid == 0:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (self.limits[room], self.limits[room]))
            self._become_tests(room)
        ends = time.monotonic() + PATIENCE
        while not (done := os.wait4(pid, os.WNOHANG))[0]:
            if time.monotonic() > ends:
                os.killpg(pid, signal.SIGKILL)
                done = os.wait4(pid, 0)
                break
            time.sleep(0.05)
        return os.waitstatus_to_exitcode(done[1]), done[2].ru_utime + done[2].ru_stime

    def _become_tests(self, room: str) -> None:
        """Run the tests of a room in this process, and end it."""
        import pytest

        code = 1
        try:
            with (self.place.parent / "said").open("wb") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            os.chdir(self.place)
            sys.dont_write_bytecode = True
            sys.path.insert(0, str(self.place / "plugin"))
            os.environ.update(PYTHONPATH=str(self.place / "plugin"), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
            code = int(pytest.main([f"tests/{room}", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]))
        finally:
            os._exit(code)


def main() -> None:
    """Draw the mutants, run the tests on each and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", nargs="+", default=list(ROOMS))
    parser.add_argument("--mutants", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="FILE:LINE")
    options = parser.parse_args()
    files = [path for room in options.rooms for path in sorted((ROOT / PACKAGE / room).rglob("*.py"))]
    every = [each for path in files for each in mutants_of(path.relative_to(ROOT))]
    if options.only:
        drawn = [each for each in every if f"{each.path}:{each.line}" in options.only]
    else:
        drawn = random.Random(options.seed).sample(every, min(options.mutants, len(every)))
    print(f"{len(drawn)} of {len(every)} mutants of {', '.join(options.rooms)}", flush=True)
    for name in LIBRARIES:
        __import__(name)
    noticed = 0
    with tempfile.TemporaryDirectory() as place:
        tests = Tests(Path(place), options.rooms)
        tests.measure()
        for mutant in drawn:
            how, seconds = tests.notice(mutant)
            noticed += how != "survived"
            print(f"{how:8}  {seconds:4.0f} s  {mutant}", flush=True)
    print(f"{noticed} of {len(drawn)} noticed ({noticed / max(1, len(drawn)):.1%})")
    sys.exit(0 if noticed >= BAR * len(drawn) else 1)


if __name__ == "__main__":
    main()
