"""ONNX files of unknown origin, looked through before a runtime opens them, without the package onnx.

A runtime allocates what a tensor's shape says before it misses the numbers, folds constants while it opens a file,
reads weights from wherever the file says, and descends as deep as graphs are nested.
"""

import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

#: How deep graphs may be nested in branches; chains of ours nest two.
MAX_DEPTH = 16
#: Elements that a node may make of a constant shape alone.
MAX_ELEMENTS = 2**28
# numbers of the fields in the schema of ONNX
_MODEL_GRAPH, _MODEL_FUNCTION = 7, 25
_GRAPH_NODE, _GRAPH_TENSOR = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_FUNCTION_NODE = 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_DIMS, _TENSOR_INT64, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_EXTERNAL = 1, 7, 8, 9, 13
_MAKES_A_SHAPE = {b"ConstantOfShape": 0, b"Expand": 1}
_WIDEST = 64  # elements that one byte of a tensor can hold at most, with its shape left out: none has less than a bit

Field = tuple[int, memoryview | int]


def check_onnx(path: str | os.PathLike[str]) -> None:
    """Look through an ONNX file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is cut short or no ONNX file, says that a tensor has more elements than it holds, makes an
            enormous one, nests graphs too deeply, or names weights outside of its folder.
    """
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise ValueError("it is empty")
        # closed with the last view of it, which an error's traceback may keep
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    _Reader(Path(path).parent).model(content)


class _Reader:
    def __init__(self, folder: Path):
        self.folder = folder
        self._shapes: dict[bytes, list[int]] = {}  # constants that may be shapes, by name

    def model(self, view: memoryview) -> None:
        graphs = 0
        for number, value in _fields(view):
            if number == _MODEL_GRAPH:
                graphs += 1
                self._graph(_message(value), 0)
            elif number == _MODEL_FUNCTION:
                self._function(_message(value))
        if not graphs:
            raise ValueError("it holds no graph")

    def _function(self, view: memoryview) -> None:
        for number, value in _fields(view):
            if number == _FUNCTION_NODE:
                self._node(_message(value), 1)

    def _graph(self, view: memoryview, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError(f"its graphs are nested more than {MAX_DEPTH} deep")
        fields = [*_fields(view)]
        for number, value in fields:
            if number == _GRAPH_TENSOR:
                self._tensor(_message(value))
        for number, value in fields:
            if number == _GRAPH_NODE:
                self._node(_message(value), depth)

    def _node(self, view: memoryview, depth: int) -> None:
        operator, inputs, outputs = b"", [], []
        for number, value in _fields(view):
            if number == _NODE_OPERATOR:
                operator = bytes(_message(value))
            elif number == _NODE_INPUT:
                inputs.append(bytes(_message(value)))
            elif number == _NODE_OUTPUT:
                outputs.append(bytes(_message(value)))
            elif number == _NODE_ATTRIBUTE:
                self._attribute(_message(value), depth, outputs[0] if operator == b"Constant" and outputs else b"")
        place = _MAKES_A_SHAPE.get(operator)
        if place is not None and place < len(inputs) and inputs[place] in self._shapes:
            shape = self._shapes[inputs[place]]
            if math.prod(shape) > MAX_ELEMENTS:
                raise ValueError(f"it makes a tensor of the shape {shape}")

    def _attribute(self, view: memoryview, depth: int, constant: bytes) -> None:
        for number, value in _fields(view):
            if number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                self._graph(_message(value), depth + 1)
            elif number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                self._tensor(_message(value), constant)

    def _tensor(self, view: memoryview, name: bytes = b"") -> None:
        sides: list[int] = []
        numbers: list[int] = []
        outside: dict[str, str] = {}
        for number, value in _fields(view):
            if number == _TENSOR_DIMS:
                sides += _integers(value)
            elif number == _TENSOR_NAME:
                name = name or bytes(_message(value))
            elif number == _TENSOR_INT64 and len(view) < 256:
                numbers += _integers(value)
            elif number == _TENSOR_RAW and len(view) < 256 and len(_message(value)) % 8 == 0:
                raw = bytes(_message(value))
                numbers += [int.from_bytes(raw[at : at + 8], "little", signed=True) for at in range(0, len(raw), 8)]
            elif number == _TENSOR_EXTERNAL:
                key, text = _pair(_message(value))
                outside[key] = text
        if any(side < 0 for side in sides):
            raise ValueError(f"a tensor has the shape {sides}")
        held = self._outside(outside) if outside else len(view)
        if math.prod(sides) > _WIDEST * held:
            raise ValueError(f"a tensor of the shape {sides} has {held:,} bytes")
        if numbers and len(sides) <= 1:
            self._shapes[name] = numbers

    def _outside(self, entries: dict[str, str]) -> int:
        """Return how many bytes a file of weights holds, which must lie beside the model."""
        location = entries.get("location", "")
        place = check_place(self.folder, location)
        if not place.is_file():
            raise ValueError(f"its weights are in '{location}', which is not there")
        size = place.stat().st_size
        offset, length = (int(entries.get(key, "0") or 0) for key in ("offset", "length"))
        if min(offset, length) < 0 or offset + length > size:
            raise ValueError(f"its weights reach beyond the end of '{location}'")
        return length or size - offset


def check_place(folder: Path, name: str) -> Path:
    """Return the place of a file that something in a folder names.

    Links are followed; those of the hub's cache lead from ``snapshots`` to ``blobs`` beside it.

    Raises:
        ValueError: It lies outside of the folder.
    """
    place, real = (folder / name).resolve(), folder.resolve()
    inside = bool(name) and "\0" not in name and not Path(name).is_absolute() and ".." not in Path(name).parts
    blobs = [above.parent / "blobs" for above in (real, *real.parents) if above.name == "snapshots"]
    if not inside or not any(place.is_relative_to(each) for each in (real, *blobs)):
        raise ValueError(f"'{name}' lies outside of the folder")
    return place


def _pair(view: memoryview) -> tuple[str, str]:
    found = {number: bytes(_message(value)).decode() for number, value in _fields(view) if number in (1, 2)}
    return found.get(1, ""), found.get(2, "")


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it is no ONNX file")
    return value


def _integers(value: memoryview | int) -> list[int]:
    """Return signed integers of one field: one, or several that are packed."""
    if isinstance(value, int):
        return [_signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(_signed(number))
    return found


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _fields(view: memoryview) -> Iterator[Field]:
    """Yield the fields of a message in the format of protocol buffers: their numbers, and integers or bytes."""
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(view, at)
            yield key >> 3, number
            continue
        size, at = _varint(view, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if size < 0 or at + size > len(view):
            raise ValueError("it is cut short, or no ONNX file")
        yield key >> 3, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(view) and shift < 70:
        byte = view[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & (2**64 - 1), at
        shift += 7
    raise ValueError("it is cut short, or no ONNX file")
