"""The notebook runs from its first cell to its last, and is kept without outputs."""

import ast
import json

import matplotlib
import matplotlib.pyplot as plt
import pytest
from documents import ROOT
from matplotlib.figure import Figure

NOTEBOOK = ROOT / "recipes" / "examples" / "tour.ipynb"


@pytest.fixture(scope="module")
def cells():
    found = json.loads(NOTEBOOK.read_text())
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    return found["cells"]


def shown(cell: str, names: dict) -> object:
    """Run a cell as a notebook does; return the value of a last line that is an expression, which is shown."""
    tree = ast.parse(cell)
    last = tree.body[-1] if isinstance(tree.body[-1], ast.Expr) else None
    if last:
        tree.body.pop()
    exec(compile(tree, "cell", "exec"), names)  # noqa: S102
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307


def test_every_cell_runs_and_shows_tables_and_pictures(cells, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    matplotlib.use("agg")
    plt.close("all")
    names: dict = {}
    values = [shown("".join(cell["source"]), names) for cell in cells if cell["cell_type"] == "code"]
    tables = [value._repr_html_() for value in values if value is not None and not isinstance(value, Figure)]
    assert len(tables) == 2 and all("<table" in table for table in tables)
    assert len(plt.get_fignums()) == sum(isinstance(value, Figure) for value in values) == 2, "four pictures"
    plt.close("all")
    right = [float(line.split("% right")[0].split()[-1]) for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(right) == len(names["model"].operating_points.points) and min(right) > 90
    assert {name: bool(len(rows)) for name, rows in zip(("easy", "hard"), names["rows"], strict=True)} == {
        "easy": True, "hard": True,
    }  # fmt: skip


def test_outputs_are_not_kept(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert len({cell["id"] for cell in cells}) == len(cells)
