"""A recipe's file as values with the place of each in the file, and what is wrong with it as YAML."""

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

#: Keys and indices that lead to a value.
Steps = tuple[str | int, ...]
# a recipe of more is a mistake, and takes minutes to read
_MAX_BYTES, _MAX_VALUES = 1_000_000, 20_000
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Fault:
    """Something wrong with a recipe, or with what it names.

    Attributes:
        message: One sentence: what came in and what to do.
        file: The recipe.
        line: From 1; 0 of what does not stand in the file.
        column: From 1; 0 likewise.
        key: Dotted; empty for the whole recipe.
    """

    message: str
    file: str
    line: int = 0
    column: int = 0
    key: str = ""

    def __str__(self) -> str:
        """Place and sentence, as compilers write them; the sentence alone of what stands in no line."""
        return f"{self.file}:{self.line}:{self.column}: {self.message}" if self.line else self.message


@dataclass(frozen=True)
class Document:
    """The content of a recipe's file.

    Attributes:
        file: As given.
        values: The content; None if it cannot be read.
        faults: What is wrong with it as YAML.
        places: Steps to a value -> line and column of its key, or of the value itself in a list.
    """

    file: str
    values: Any
    faults: list[Fault]
    places: Mapping[Steps, tuple[int, int]] = field(default_factory=dict)

    def fault(self, steps: Steps, message: str) -> Fault:
        """Return a fault at a value, or at the innermost stanza around it that stands in the file."""
        around = next((steps[:count] for count in range(len(steps), -1, -1) if steps[:count] in self.places), None)
        line, column = (1, 1) if around is None else self.places[around]
        return Fault(message, self.file, line, column, ".".join(map(str, steps)))


def read_document(path: str | os.PathLike[str]) -> Document:
    """Read a recipe's file.

    Args:
        path: The file.

    Returns:
        Its content, or what is wrong with it: a sentence each.
    """
    path = Path(path)
    if not path.exists() or path.is_dir():
        return _unreadable(path, f"recipe '{path}' does not exist; give the path of a YAML file")
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            return _unreadable(
                path, f"recipe '{path}' has {size / 1e6:.1f} MB, more than any recipe needs; give the right file"
            )
        return _parse(path.read_text(encoding="utf-8"), path)
    except RecursionError:
        return _unreadable(path, f"recipe '{path}' is not valid YAML: it is nested too deeply")
    except (yaml.YAMLError, ValueError) as error:  # ValueError: another encoding, or a date that is none
        reason = " ".join(str(error).split())
        mark = getattr(error, "problem_mark", None)
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return _unreadable(path, f"recipe '{path}' is not valid YAML: {reason}", *place)
    except OSError as error:
        return _unreadable(path, f"recipe '{path}' cannot be read: {error.strerror or error}; check its permissions")


def _unreadable(path: Path, message: str, line: int = 0, column: int = 0) -> Document:
    return Document(str(path), None, [Fault(message, str(path), line, column)])


def _parse(text: str, path: Path) -> Document:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(str(path), None, [])
        walk = _Walk(str(path))
        walk.visit(node, (), ())
        if walk.ended:
            return Document(str(path), None, walk.faults)
        return Document(str(path), loader.construct_document(node), walk.faults, walk.places)
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """A safe loader that leaves keys out that are no names; the walk has told them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        node.value = [(key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
        return super().construct_mapping(node, deep)


class _Walk:
    """Goes through the nodes of a file, notes their places, and what YAML allows but a recipe does not."""

    def __init__(self, file: str):
        self.file = file
        self.places: dict[Steps, tuple[int, int]] = {}
        self.faults: list[Fault] = []
        #: Whether no values can be made of the nodes.
        self.ended = False
        self._count = 0

    def visit(self, node: yaml.Node, steps: Steps, above: tuple[int, ...]) -> None:
        """Visit a node and all below it; `above` holds the nodes around it."""
        self._count += 1
        if self.ended:
            return
        if id(node) in above:
            self._tell(node, f"anchor in line {node.start_mark.line + 1} stands inside itself; write its values out")
        elif self._count > _MAX_VALUES:
            self._tell(
                node, f"the recipe has more than {_MAX_VALUES} values, aliases counted each time; write what is needed"
            )
        elif isinstance(node, yaml.MappingNode):
            self._visit_mapping(node, steps, (*above, id(node)))
        elif isinstance(node, yaml.SequenceNode):
            for index, each in enumerate(node.value):
                self.places[(*steps, index)] = _place(each)
                self.visit(each, (*steps, index), (*above, id(node)))

    def _visit_mapping(self, node: yaml.MappingNode, steps: Steps, above: tuple[int, ...]) -> None:
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, (line, column) = key.value, _place(key)
            if not isinstance(name, str):
                message = f"line {line} holds a list or a mapping as a key; write a name"
                self.faults.append(Fault(message, self.file, line, column, ".".join(map(str, steps))))
            elif key.tag == _MERGE:
                for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    self.visit(each, steps, above)
            elif name in lines:
                message = f"key '{name}' is written twice, in lines {lines[name]} and {line}; keep one"
                self.faults.append(Fault(message, self.file, line, column, ".".join(map(str, (*steps, name)))))
            else:
                lines[name] = line
                self.places[(*steps, name)] = line, column
                self.visit(value, (*steps, name), above)

    def _tell(self, node: yaml.Node, message: str) -> None:
        self.ended = True
        self.faults.append(Fault(message, self.file, *_place(node)))


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
