"""The search makes do with few numbers that somebody chose, each of which has a name."""

import ast
from pathlib import Path

import pytest

import dynamic_exit.search

MODULES = sorted(Path(dynamic_exit.search.__file__).parent.glob("*.py"))
MOST = 12


def numbers(node: ast.AST | None) -> list[float]:
    """All numbers below a node but 0, 1 and -1."""
    below = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)] if node else []
    return [n for n in below if isinstance(n, int | float) and n not in (0, 1)]


def chosen(tree: ast.Module) -> list[ast.AST]:
    """The values of a module's constants and of its classes' fields; limits of types are no choice."""
    blocks = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    values = [node.value for block in blocks for node in block if isinstance(node, ast.Assign | ast.AnnAssign)]
    return [value for value in values if numbers(value) and "iinfo" not in ast.unparse(value)]


def test_the_numbers_are_few():
    found = [number for path in MODULES for value in chosen(ast.parse(path.read_text())) for number in numbers(value)]
    assert 0 < len(found) <= MOST, found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_number_has_a_name(path):
    # but for halves, doubles and squares
    tree = ast.parse(path.read_text())
    named = [number for value in chosen(tree) for number in numbers(value)]
    assert sorted(n for n in numbers(tree) if n != 2) == sorted(n for n in named if n != 2)
