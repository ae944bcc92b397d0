"""Quick checks of what a recipe names: files, folders, functions and models are there; nothing is loaded."""

import ast
import importlib.util
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ..data.npz_names import LABELS
from ..data.slices import parse_slice
from ..data.text_files import find_file
from ..errors import DataError, nearest
from ..passes import ModelSource
from ..recipe.data import DataSource
from ..recipe.document import Steps
from ..recipe.recipe import Recipe

_FOLDER = "local-dir:"


def find_missing(recipe: Recipe) -> Iterator[tuple[Steps, str]]:
    """Yield what a recipe names and is not there: steps to its key, and a sentence."""
    yield from _check_model(recipe.model, ("model",))
    for index, backbone in enumerate(recipe.upgrade.backbones if recipe.upgrade else ()):
        yield from _check_model(backbone, ("upgrade", "backbones", index))
    saver = recipe.dynamic_exit.tiny_saver
    for index, candidate in enumerate(saver.candidates if saver else ()):
        if isinstance(candidate, ModelSource):
            yield from _check_model(candidate, ("dynamic_exit", "tiny_saver", "candidates", index))
    yield from _check_data(recipe.data)


def _check_model(source: ModelSource, steps: Steps) -> Iterator[tuple[Steps, str]]:
    name, pattern = source.name, bool(re.search(r"[*?\[]", source.name))
    if source.weights and not pattern and not Path(source.weights).exists():
        yield (*steps, "weights"), f"weights '{source.weights}' do not exist; check the path"
    if isinstance(source.labels, str) and not Path(source.labels).is_file():
        yield (*steps, "labels"), f"labels '{source.labels}' do not exist; check the path"
    if pattern:
        return
    reason: str | None = None
    if source.source == "python":
        reason = _missing_function(name)
    elif source.source == "onnx" and not Path(name).is_file():
        reason = f"model file '{name}' does not exist; check the path"
    elif source.source == "transformers" and Path(name).is_absolute() and not Path(name).is_dir():
        reason = f"model folder '{name}' does not exist; check the path"
    elif source.source == "timm" and name.startswith(_FOLDER) and not Path(name.removeprefix(_FOLDER)).is_dir():
        reason = f"model folder '{name.removeprefix(_FOLDER)}' does not exist; check the path"
    elif source.source == "timm" and ":" not in name:
        reason = _missing_in_timm(name.removeprefix("timm/"))
    if reason:
        yield (*steps, "name"), reason


def _missing_function(reference: str) -> str | None:
    """Say what is missing of ``file.py:function``; None if it is there, or may be."""
    place, _, name = reference.rpartition(":")
    if not place:
        return f"'{reference}' must name a function as file.py:function"
    if not place.endswith(".py"):
        return None
    if not Path(place).is_file():
        return f"file '{place}' does not exist; check the path"
    try:
        tree = ast.parse(Path(place).read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        return f"'{place}' is no valid Python{f' in line {line}' if line else ''}; repair it"
    defined: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
    if name in defined or "*" in defined or "globals" in Path(place).read_text(encoding="utf-8", errors="replace"):
        return None
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [each for each in functions if not each.startswith("_")]
    return f"'{place}' has no function '{name}'; {nearest(name, public)}" if public else None


def _missing_in_timm(name: str) -> str | None:
    """Say that timm's files define no model of a name; without importing timm, which takes seconds."""
    found = importlib.util.find_spec("timm")
    if found is None or not found.origin:
        return None
    plain, names = name.split(".")[0], set()
    for file in (Path(found.origin).parent / "models").rglob("*.py"):
        text = file.read_text(encoding="utf-8", errors="replace")
        if f"def {plain}(" in text or f"'{plain}'" in text or f'"{plain}"' in text:
            return None
        names |= {*re.findall(r"@register_model\s+def (\w+)\(", text)}
    return f"timm has no model '{name}'; {nearest(plain, names).replace('known are', 'its list begins with')[:200]}"


def _check_data(source: DataSource) -> Iterator[tuple[Steps, str]]:
    path, named = Path(source.path), {}
    for key, text in source.splits.names.items():
        try:
            named[key] = parse_slice(text)
        except DataError as error:
            yield ("data", "splits", key), str(error)
    if source.duplicates == "refuse":
        yield from _check_overlaps(named)
    if source.source == "python":
        reason = _missing_function(source.path)
        if reason:
            yield ("data", "path"), reason
        return
    if source.source not in ("npz", "imagefolder", "text", "webdataset") and not path.is_absolute():
        return
    if not path.exists():
        yield ("data", "path"), f"data path '{path}' does not exist; check the path"
        return
    for key, (name, _) in named.items():
        reason = _missing_split(source, path, name)
        if reason:
            yield ("data", "splits", key), reason


def _check_overlaps(named: Mapping[str, tuple[str, tuple[float, float] | None]]) -> Iterator[tuple[Steps, str]]:
    """Refuse splits that take the same samples."""
    keys = list(named)
    for index, key in enumerate(keys):
        name, part = named[key]
        low, high = part or (0.0, 1.0)
        for other in keys[:index]:
            name_there, part_there = named[other]
            low_there, high_there = part_there or (0.0, 1.0)
            shared = min(high, high_there) - max(low, low_there)
            if name == name_there and shared > 1e-9:
                yield (
                    ("data", "splits", key),
                    f"splits '{key}' and '{other}' share {shared:.0%} of '{name}'; make them disjoint",
                )
                break


def _missing_split(source: DataSource, path: Path, name: str) -> str | None:
    """Say that a split is not there; None if it is, or only reading can tell."""
    if source.source == "imagefolder":
        if not (path / name).is_dir():
            there = [each.name for each in path.iterdir() if each.is_dir()] if path.is_dir() else []
            hint = _if_close(name, there) or "put the images of each class into one"
            return f"image folder '{path / name}' has no folders of classes; {hint}"
    elif source.source == "text" and path.is_dir():
        try:
            find_file(path, name)
        except DataError as error:
            return str(error)
    elif source.source == "npz" and path.is_dir():
        if not (path / (name if name.endswith(".npz") else f"{name}.npz")).is_file():
            there = [each.stem for each in path.glob("*.npz") if each.is_file()]
            file = path / f"{name.removesuffix('.npz')}.npz"
            hint = _if_close(name, there) or "check the path and the names of the splits"
            return f"data file '{file}' does not exist; {hint}"
    elif source.source == "npz":
        try:
            with zipfile.ZipFile(path) as archive:
                arrays = [each.removesuffix(".npy") for each in archive.namelist()]
        except (OSError, zipfile.BadZipFile):
            return f"data file '{path}' is no .npz file of plain numbers; write it with numpy.savez"
        ending = f"_{name}" if name else ""
        if not any(f"{label}{ending}" in arrays for label in LABELS):
            return f"data file '{path}' has no array 'labels{ending}'; it has {', '.join(arrays)}"
    return None


def _if_close(name: str, known: Collection[str]) -> str | None:
    """Return a hint if a name is nearly a known one."""
    hint = nearest(name, known)
    return hint if hint.startswith("did you mean") else None
