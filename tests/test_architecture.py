"""The rules of the house: imports run down the floors; rooms, files and functions stay small."""

import ast
from pathlib import Path

import pytest

import dynamic_exit

PACKAGE = Path(dynamic_exit.__file__).parent
#: From the ground up; a room imports from those before it.
FLOORS = (
    "errors",
    "core",
    "trust",
    "images",
    "records",
    "chain",
    "learning",
    "points",
    "graph",
    "cost",
    "guarantee",
    "drift",
    "monitoring",
    "search",
    "tuning",
    "runtime",
    "onnx",
    "passes",
    "recipe",
    "sources",
    "data",
    "report",
    "artifact",
    "output",
    "card",
    "dashboard",
    "targets",
    "candidates",
    "checks",
    "pipeline",
    "modeling",
    "serving",
    "analysis",
    "prediction",
    "tracking",
    "integrations",
    "start",
    "cli",
    "__main__",
)
FILES = sorted(PACKAGE.rglob("*.py"))
ROOM_LINES, FILE_LINES, FUNCTION_LINES = 2_500, 400, 60


def name_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE).with_suffix("").parts


def imported(path: Path) -> set[str]:
    """Modules of this package that a file imports, as dotted names; those of type checks and within functions too."""
    package, found = name_of(path)[:-1], set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            parts = tuple(filter(None, base))
            found |= {".".join((*parts, alias.name)) for alias in node.names} if parts else {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dynamic_exit":
            found.add((node.module or "").partition(".")[2] or node.names[0].name)
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("dynamic_exit.")}
    return found


def test_every_room_is_on_a_floor():
    rooms = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    assert rooms - {"__pycache__", "__init__"} == set(FLOORS)


@pytest.mark.parametrize(
    "path", [each for each in FILES if name_of(each) != ("__init__",)], ids=lambda path: "/".join(name_of(path))
)
def test_no_import_runs_up(path):
    room = name_of(path)[0]
    above = {each for each in imported(path) if FLOORS.index(each.partition(".")[0]) > FLOORS.index(room)}
    assert not above


def test_the_package_itself_imports_the_hook_alone():
    nodes = [node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.ImportFrom)]
    assert [(node.module, [alias.name for alias in node.names]) for node in nodes if node.level] == [
        ("integrations", ["hook"])
    ]


def test_no_imports_go_in_circles():
    modules = {".".join(name_of(path)).removesuffix(".__init__"): path for path in FILES}
    needs = {}
    for name, path in modules.items():
        tree = ast.parse(path.read_text())
        for node in list(ast.walk(tree)):  # what a function imports when it is called closes no circle
            if isinstance(node, ast.FunctionDef | ast.If):
                node.body = [ast.Pass()]
        package, found = name_of(path)[:-1], set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = ".".join(filter(None, (*package[: len(package) - node.level + 1], node.module or "")))
                found |= {
                    each
                    for alias in node.names
                    for each in (f"{base}.{alias.name}".lstrip("."), base)
                    if each in modules and each != name and not f"{name}.".startswith(f"{each}.")
                }
        needs[name] = found
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for each in sorted(needs[name]):
                visit(each, (*way, name))
            done.add(name)

    for name in modules:
        visit(name, ())


def test_rooms_files_and_functions_stay_small():
    rooms: dict[str, int] = {}
    large = []
    for path in FILES:
        text = path.read_text()
        lines, room = text.count("\n"), name_of(path)[0]
        rooms[room] = rooms.get(room, 0) + lines
        if lines > FILE_LINES:
            large.append(f"{path.relative_to(PACKAGE)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                if (body := (node.end_lineno or 0) - first.lineno + 1) > FUNCTION_LINES:
                    large.append(f"{path.relative_to(PACKAGE)}: {node.name} has {body} lines")
    large += [f"{room}: {n} lines" for room, n in rooms.items() if n > ROOM_LINES and room != "passes"]
    assert not large


def test_modules_that_are_left_out_of_the_fast_half_exist():
    here = Path(__file__).parent
    gone = [name for name in (here / "slow_modules.txt").read_text().split() if not (here / f"{name}.py").is_file()]
    assert gone == []
