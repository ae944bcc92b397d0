"""Cases of eleven kinds of input from elsewhere, drawn by hypothesis from whole ones that are changed."""

import copy
import functools
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

from dynamic_exit import load_runner
from dynamic_exit.artifact.folder import check_content
from dynamic_exit.artifact.manifest import read_manifest
from dynamic_exit.data.npz_source import read_npz
from dynamic_exit.data.text_files import read_text
from dynamic_exit.images.files import read_image
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.recipe.data import Columns
from dynamic_exit.recipe.yaml_io import parse_recipe
from dynamic_exit.records import Records

#: Values that other programs, and ill-willed ones, put where something else is expected.
ODD = (
    None, True, False, 0, -1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, math.inf, -math.inf, math.nan, "", "x", "final",
    "../x", "/etc/passwd", "a\0b", "é\ud800", "1", "NaN", "x" * 5000, [], {}, [[]], [None], {"": None}, {"a": {}},
)  # fmt: skip
DTYPES = ("<f4", "<f8", "<f2", "<i8", "<i4", "|u1", "|b1", "<c8", "<U3", "|S3", "<M8[s]", "|O", "|V4")


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the ways to all values within a JSON value."""
    if way:
        yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from places(each, (*way, key))


def changed_json(draw: Any, value: Any) -> Any:
    """Return a JSON value with one to four places replaced, left out, renamed or exchanged."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 4))):
        every = [*places(value)]
        if not every:
            return draw(st.sampled_from(ODD))
        way = draw(st.sampled_from(every))
        holder = value
        for step in way[:-1]:
            holder = holder[step]
        act = draw(st.sampled_from(("replace", "remove", "rename", "copy")))
        if act == "replace":
            holder[way[-1]] = copy.deepcopy(draw(st.sampled_from(ODD)))  # a later change may be within it
        elif act == "remove":
            del holder[way[-1]]
        elif act == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from(("x", "", "_type", "name", "stages")))] = holder.pop(way[-1])
        else:
            other = value
            for step in draw(st.sampled_from(every)):
                other = other[step] if isinstance(other, dict | list) and step in _steps(other) else other
            holder[way[-1]] = json.loads(json.dumps(other))
    return value


def _steps(value: Any) -> Any:
    return value if isinstance(value, dict) else range(len(value))


def changed_bytes(draw: Any, content: bytes) -> bytes:
    """Return bytes that are changed in one to eight places, cut short, or repeated in part."""
    act = draw(st.sampled_from(("bytes", "bytes", "bytes", "cut", "repeat", "insert", "noise")))
    at = draw(st.integers(0, max(0, len(content) - 1)))
    if act == "cut":
        return content[:at]
    if act == "noise":
        return draw(st.binary(max_size=64))
    size = draw(st.integers(1, 64))
    if act == "repeat":
        return content[:at] + content[at : at + size] + content[at:]
    if act == "insert":
        return content[:at] + draw(st.binary(max_size=16)) + content[at:]
    result = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        if result:
            # most of what matters stands at the beginning
            result[draw(st.one_of(st.integers(0, min(len(result), 400) - 1), st.integers(0, len(result) - 1)))] = draw(
                st.one_of(st.sampled_from((0, 1, 127, 128, 255)), st.integers(0, 255))
            )
    return bytes(result)


def some_array(draw: Any) -> np.ndarray:
    """Return an array of any dtype and shape that are small."""
    shape = tuple(draw(st.lists(st.sampled_from((0, 1, 2, 3, 6)), max_size=5)))
    dtype = np.dtype(draw(st.sampled_from([each for each in DTYPES if each != "|O"])))
    raw = np.random.default_rng(draw(st.integers(0, 9))).bytes(max(1, math.prod(shape)) * dtype.itemsize)
    if dtype.kind == "U":
        return np.full(shape, draw(st.sampled_from(("a", "", "é"))), dtype)
    return np.frombuffer(raw, dtype)[: math.prod(shape)].reshape(shape).copy()


class Cases:
    """Draws cases and tries them.

    Args:
        folder: A folder that a run of a recipe has written, with one file.
        work: An empty folder.
    """

    def __init__(self, folder: Path, work: Path):
        self.folder, self.work = folder, work
        self.records = (folder / "records.npz").read_bytes()
        self.points = json.loads((folder / "operating_points.json").read_text())
        self.config = json.loads((folder / "config.json").read_text())
        self.recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
        self.model = (folder / "model.onnx").read_bytes()
        self.runner = load_runner(folder)
        self.kinds: dict[str, Callable[[Any], None]] = {
            "recipes": self.try_recipe,
            "records": self.try_records,
            "points": self.try_points,
            "manifests": self.try_manifest,
            "folders": self.try_folder,
            "onnx": self.try_onnx,
            "inputs": self.try_inputs,
            "data": self.try_data,
            "requests": lambda draw: self.requests.try_request(draw),
            "pictures": lambda draw: self.requests.try_picture(draw),
            "loopback": lambda draw: self.requests.try_loopback(draw),
        }

    @functools.cached_property
    def requests(self) -> Any:
        """Of a server of the folder, started with the first request; the extra `serving` is imported for it."""
        from fuzzed_requests import Requests

        return Requests(self.folder)

    def close(self) -> None:
        """Stop the server if there is one."""
        if "requests" in self.__dict__:
            self.requests.close()

    def try_recipe(self, draw: Any) -> None:
        parse_recipe(changed_json(draw, self.recipe), self.folder)

    def try_records(self, draw: Any) -> None:
        path = self.work / "records.npz"
        if draw(st.booleans()):
            path.write_bytes(changed_bytes(draw, self.records))
        else:
            arrays = dict(np.load(self.folder / "records.npz"))
            for _ in range(draw(st.integers(1, 2))):
                name = draw(st.sampled_from([*arrays, "groups", "needs"]))
                arrays[name] = some_array(draw)
            np.savez(path, **arrays)
        Records.read(path, mmap=draw(st.booleans()))

    def try_points(self, draw: Any) -> None:
        path = self.work / "points.json"
        if draw(st.booleans()):
            path.write_bytes(changed_bytes(draw, json.dumps(self.points).encode()))
        else:
            path.write_text(json.dumps(changed_json(draw, self.points)))
        OperatingPoints.read(path)

    def try_manifest(self, draw: Any) -> None:
        path = self.work / "config.json"
        if draw(st.booleans()):
            path.write_bytes(changed_bytes(draw, json.dumps(self.config).encode()))
        else:
            path.write_text(json.dumps(changed_json(draw, self.config)))
        read_manifest(self.work)

    def try_folder(self, draw: Any) -> None:
        place = self.work / "folder"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        names = ("config.json", "operating_points.json", "model.onnx")
        for name in names:
            shutil.copy(self.folder / name, place / name)
        name = draw(st.sampled_from(names))
        if name == "model.onnx":  # its checksum stands in the configuration
            (place / name).write_bytes(changed_bytes(draw, self.model))
        elif draw(st.booleans()):
            (place / name).unlink()
        else:
            values = self.config if name == "config.json" else self.points
            (place / name).write_text(json.dumps(changed_json(draw, values)))
        load_runner(place)(np.zeros((1, *self.config["inputs"][0]["shape"]), np.float32))

    def try_onnx(self, draw: Any) -> None:
        path = self.work / "model.onnx"
        path.write_bytes(changed_bytes(draw, self.model))
        check_content(path)

    def try_inputs(self, draw: Any) -> None:
        shape = (draw(st.integers(0, 3)), *self.config["inputs"][0]["shape"])
        dtype = draw(st.sampled_from(("<f4", "<f4", "<f8", "|u1", "<i8")))
        value = draw(st.sampled_from((math.nan, math.inf, 0, 255, 1e38)))
        whole = np.full(shape, value if dtype[1] == "f" else 255, np.float64).astype(dtype)
        inputs = [draw(st.sampled_from((whole, whole, some_array(draw), draw(st.sampled_from(ODD)))))]
        inputs *= draw(st.sampled_from((1, 1, 1, 2)))
        odd = draw(st.sampled_from((None, None, None, 0, [], ["x"], [math.nan] * 9, np.zeros(3), [0.5] * 3)))
        if draw(st.booleans()):
            self.runner(*inputs, thresholds=odd)
        else:
            self.runner(**{draw(st.sampled_from((*self.runner.input_names, "y"))): inputs[0]}, thresholds=odd)

    def try_data(self, draw: Any) -> None:
        kind = draw(st.sampled_from(("npz", "arrays", "image", "text")))
        if kind == "npz":
            path = self.work / "data.npz"
            path.write_bytes(changed_bytes(draw, self._npz()))
            read_npz(path)
        elif kind == "arrays":
            path = self.work / "arrays.npz"
            np.savez(
                path, **{name: some_array(draw) for name in draw(st.sets(st.sampled_from(("x", "y", "labels", "a"))))}
            )
            read_npz(path)
        elif kind == "image":
            path = self.work / "image.png"
            path.write_bytes(changed_bytes(draw, self._image()))
            read_image(path)
        else:
            path = self.work / f"text.{draw(st.sampled_from(('csv', 'tsv', 'jsonl')))}"
            text = b'text,label\n"one, two",1\nthree,0\n' if path.suffix != ".jsonl" else b'{"text": "a", "label": 1}\n'
            path.write_bytes(changed_bytes(draw, text))
            read_text(path, Columns())

    def _npz(self) -> bytes:
        path = self.work / "whole.npz"
        if not path.exists():
            np.savez(path, x=np.zeros((3, 4), np.float32), y=np.arange(3))
        return path.read_bytes()

    def _image(self) -> bytes:
        from PIL import Image

        path = self.work / "whole.png"
        if not path.exists():
            Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)
        return path.read_bytes()
