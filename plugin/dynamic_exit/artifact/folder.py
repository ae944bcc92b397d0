"""The folder of a dynamic model: its files, their checksums, and how it is found, downloaded and copied."""

import glob
import os
import re
import warnings
import zipfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..core.atomic_write import atomic_write
from ..core.hashing import file_fingerprint
from ..errors import ArgumentError, ExportError, MissingFileError, WriteError, first_line
from ..trust.archives import check_archive
from ..trust.json_file import read_json
from ..trust.onnx_file import check_onnx, check_place
from ..trust.signature import SIGNATURE_FILE, signed_names
from .manifest import CONFIG_FILE, MODEL_TYPE, Manifest, missing_file

if TYPE_CHECKING:
    from .model_config import DynamicExitModelConfig

MODEL_FILE = "model.onnx"
POINTS_FILE = "operating_points.json"
RECIPE_FILE = "recipe.yaml"
STAGES_FOLDER = "stages"
PROCESSOR_FILE = "preprocessor_config.json"
#: Files of a dynamic model besides its configuration; copies and uploads contain nothing else.
PATTERNS = (
    MODEL_FILE,
    f"{MODEL_FILE}.data",
    f"{STAGES_FOLDER}/*.onnx",
    f"{STAGES_FOLDER}/*.onnx.data",
    f"{STAGES_FOLDER}/*.pt2",
    POINTS_FILE,
    "metrics.json",
    RECIPE_FILE,
    "records.npz",
    "reference.json",
    "examples.json",
    "report.html",
    "README.md",
    PROCESSOR_FILE,
    # tokenizers of folders whose configuration does not list their files
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)


class HubOptions(TypedDict, total=False):
    """Options for models on the hub, as `find_folder` documents them."""

    subfolder: str
    revision: str | None
    cache_dir: str | None
    token: bool | str | None
    force_download: bool
    local_files_only: bool


def find_folder(
    model_id: str | os.PathLike[str],
    *,
    subfolder: str = "",
    revision: str | None = None,
    cache_dir: str | None = None,
    token: bool | str | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """Find a dynamic model on disk, or download it.

    Args:
        model_id: A folder, or ``owner/name`` on the hub.
        subfolder: Subfolder that holds the model.
        revision: Branch, tag or commit on the hub.
        cache_dir: Folder of downloads; None is huggingface_hub's default.
        token: Access token for private repositories; None uses that of the logged-in user.
        force_download: Whether to download again what is in the cache.
        local_files_only: Whether to use only what is in the cache.

    Returns:
        The folder.

    Raises:
        ArgumentError: `model_id` is neither text nor a path.
        MissingFileError: The folder does not exist, or cannot be downloaded.
    """
    folder = as_path(model_id)
    if not folder.is_dir():
        if folder.is_absolute() or str(model_id).startswith(".") or str(model_id).count("/") != 1:
            raise missing_folder(model_id)
        from huggingface_hub import snapshot_download

        prefix = f"{subfolder}/" if subfolder else ""
        get = partial(
            snapshot_download,
            str(model_id),
            cache_dir=cache_dir,
            token=token,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        try:
            places = [(place / CONFIG_FILE).as_posix() for place in _upwards(Path(subfolder), subfolder)]
            first = Path(get(revision=revision, allow_patterns=[*places, prefix + SIGNATURE_FILE]))
            signed = check_inside(first / subfolder, signed_names(first / subfolder))
            names = [*PATTERNS, SIGNATURE_FILE, *signed, *_listed(find_config(first / subfolder, subfolder))]
            # pinned to the same commit, in case of a newer one since
            folder = Path(get(revision=first.name, allow_patterns=[*places, *(prefix + name for name in names)]))
        except ExportError:
            raise
        except Exception as error:  # the hub raises dozens of types without a common base
            raise MissingFileError(f"'{model_id}' cannot be had from the hub: {first_line(error)}") from error
    if not (folder / subfolder).is_dir():
        raise missing_file(folder / subfolder, CONFIG_FILE)
    return folder / subfolder


def as_path(place: object) -> Path:
    """Return a folder that a caller names as a path, whether it is there or not.

    Raises:
        ArgumentError: It is neither text nor a path.
        ExportError: No file system takes such a name.
    """
    if not isinstance(place, str | os.PathLike):
        raise ArgumentError(f"a folder is named by text or a path; got {place!r:.60} of type {type(place).__name__}")
    path = Path(place)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # who needs it says so
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ExportError(f"'{str(path)[:60]}' cannot name a folder: {reason}; give another name") from error
    return path


def missing_folder(folder: str | os.PathLike[str]) -> MissingFileError:
    """Return the error for a folder that does not exist."""
    return MissingFileError(f"folder '{folder}' does not exist; give a folder that `dynamic-exit run` wrote")


def _upwards(folder: Path, subfolder: str) -> list[Path]:
    """Return a folder and those above it, up to the one that `subfolder` begins in."""
    return [folder, *folder.parents][: len(Path(subfolder).parts) + 1]


def _listed(folder: Path) -> list[str]:
    """Return the tokenizer files that a folder's configuration lists; one that cannot be read is refused later."""
    try:
        names = read_json(folder / CONFIG_FILE).get("tokenizer_files")
    except (OSError, ValueError, AttributeError):
        return []
    return check_inside(folder, names if isinstance(names, list) else [])


def check_inside(folder: str | os.PathLike[str], names: Iterable[str]) -> list[str]:
    """Check that file names of a configuration are inside its folder, and return them.

    Raises:
        ExportError: A file is outside.
    """
    names = [*names]
    for name in names:
        try:
            check_place(Path(folder), name)
        except ValueError as error:
            config = Path(folder, CONFIG_FILE)
            raise ExportError(f"'{config}' names the file '{name}', which lies outside of its folder") from error
    return names


def find_config(folder: Path, subfolder: str = "") -> Path:
    """Return the folder whose configuration is that of `folder`: itself, else the next above in which `subfolder` is.

    Raises:
        MissingFileError: There is none.
    """
    for place in _upwards(folder, subfolder):
        if (place / CONFIG_FILE).is_file():
            return place
    raise missing_file(folder, CONFIG_FILE)


def read_config(place: str | os.PathLike[str]) -> "DynamicExitModelConfig":
    """Read a configuration.

    Args:
        place: Its folder or its file.

    Raises:
        MissingFileError: It is missing.
        ExportError: It is of another type of model, or of a newer version.
    """
    from transformers import AutoConfig  # here only: load_runner uses the rest of this file without transformers

    from .model_config import DynamicExitModelConfig

    path = Path(place)
    file = path if path.is_file() else path / CONFIG_FILE
    if not file.is_file():
        raise missing_file(path, CONFIG_FILE)
    try:
        values = read_json(file)  # transformers bounds neither sizes nor depths
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ExportError(f"'{file}' cannot be read: {first_line(error)}; export it anew") from error
    if not isinstance(config, DynamicExitModelConfig):
        raise ExportError(f"'{path}' holds a model of type '{config.model_type}'; give one of type '{MODEL_TYPE}'")
    config.format_version = values.get("_version", 1)  # as `parse_manifest` takes it, not that of a new one
    return config


def check_files(folder: Path, manifest: Manifest, needed: Iterable[str]) -> None:
    """Check that no file of a folder is missing or altered.

    Warns where a folder of version 1 has no checksums, as its first writers left them out.

    Args:
        folder: The folder.
        manifest: Its manifest.
        needed: Names of further files that must exist.

    Raises:
        ExportError: A file is missing or altered, or a model has no checksum though the version of the folder has.
    """
    needed, checksums = [*needed], manifest.checksums
    names = check_inside(folder, (*needed, *checksums))
    unchecked = [name for name in needed if name not in checksums and name != POINTS_FILE]
    if unchecked and manifest.version > 1:
        raise ExportError(
            f"'{folder / CONFIG_FILE}' has no checksum of '{unchecked[0]}', so that nobody can tell whether it is the "
            "file that was exported; download or export it anew"
        )
    if unchecked:
        warnings.warn(
            f"'{folder}' is of version 1 and has no checksum of '{unchecked[0]}': an altered file is not noticed; "
            "export it anew",
            stacklevel=2,
        )
    for name in names:
        if not (folder / name).is_file():
            raise missing_file(folder, name)
    for name, expected in checksums.items():
        if checksum(folder / name) != expected:
            raise ExportError(
                f"'{folder / name}' is not the file that was exported: its checksum differs from that in config.json; "
                "download or export it anew"
            )
    for name in dict.fromkeys(names):
        check_content(folder / name)


def check_content(path: Path) -> None:
    """Look through a file of a folder before anything opens it that allocates what the file asks for.

    Raises:
        ExportError: It is cut short, or asks for far more than it holds.
    """
    check = {".onnx": check_onnx, ".pt2": check_archive}.get(path.suffix)
    try:
        if check:
            check(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ExportError(f"'{path}' cannot be used: {first_line(error)}; download or export it anew") from error


def checksum(path: str | os.PathLike[str]) -> str:
    """Return ``sha256:`` and the hex digest of a file's content."""
    return f"sha256:{file_fingerprint(path)}"


def copy_files(source: Path, target: Path, tokenizer_files: Iterable[str] = ()) -> None:
    """Copy the files of a dynamic model besides its configuration, each atomically.

    Relative paths of the recipe, which would lead nowhere from the new folder, become absolute.

    Args:
        source: The model's folder.
        target: The new folder.
        tokenizer_files: Names of the tokenizer's files, from the configuration.

    Raises:
        OSError: A file cannot be written.
        ExportError: The configuration lists a file outside of its folder.
    """
    patterns = (*PATTERNS, *map(glob.escape, check_inside(source, tokenizer_files)))
    for path in sorted({found for pattern in patterns for found in source.glob(pattern)}):
        check_inside(source, [path.relative_to(source).as_posix()])  # a link may lead to what is nobody else's business
        place = target / path.relative_to(source)
        if place.resolve() == path.resolve():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as content, atomic_write(place) as file:
            if path.name == RECIPE_FILE:
                file.write(_with_absolute_paths(content.read(), source.absolute()))
            while block := content.read(1 << 24):
                file.write(block)


def _with_absolute_paths(recipe: bytes, folder: Path) -> bytes:
    """Return a recipe that a run wrote to a folder, with all paths out of it absolute; else unchanged."""
    import yaml  # here only: load_runner does without

    def moved(value: object, key: object = None) -> object:
        if isinstance(value, dict):
            # what a function of the user's own is called with is passed on as it is
            return value if key == "arguments" else {name: moved(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [moved(each) for each in value]
        found = re.fullmatch(r"(local-dir:)?(\.\./.*)", value) if isinstance(value, str) else None
        return (found[1] or "") + os.path.normpath(folder / found[2]) if found else value

    try:
        values = yaml.safe_load(recipe)
    except (yaml.YAMLError, UnicodeDecodeError):
        return recipe
    text = yaml.safe_dump(moved(values), sort_keys=False, allow_unicode=True, width=120)
    return text.encode() if isinstance(values, dict) else recipe


def make_folder(directory: str | os.PathLike[str]) -> Path:
    """Create a folder if it does not exist, and check that it is writable.

    Raises:
        ArgumentError: It is neither text nor a path.
        ExportError: No file system takes such a name.
        WriteError: It cannot be created or written.
    """
    folder = as_path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / ".writable"):
            pass
        (folder / ".writable").unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def cannot_write(folder: Path, error: OSError) -> WriteError:
    """Return the error for a folder that cannot be written."""
    return WriteError(f"folder '{folder}' cannot be written: {error.strerror or error}; choose another one")
