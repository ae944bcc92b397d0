"""The folder that holds a dynamic model: what is in it, where it comes from, and whether it is whole."""

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..core.atomic_write import atomic_write
from ..errors import ExportError, OutputError, first_line
from .manifest import CONFIG_FILE, MODEL_TYPE, incomplete

if TYPE_CHECKING:
    from .model_config import DynamicExitModelConfig

MODEL_FILE = "model.onnx"
POINTS_FILE = "operating_points.json"
STAGES_FOLDER = "stages"
PROCESSOR_FILE = "preprocessor_config.json"
#: Everything that belongs to a dynamic model besides its configuration; the rest of a folder is left alone.
PATTERNS = (
    MODEL_FILE,
    f"{MODEL_FILE}.data",
    f"{STAGES_FOLDER}/*.onnx",
    f"{STAGES_FOLDER}/*.onnx.data",
    f"{STAGES_FOLDER}/*.pt2",
    POINTS_FILE,
    "metrics.json",
    "recipe.yaml",
    "records.npz",
    "report.html",
    "README.md",
    PROCESSOR_FILE,
    # of tokenizers in folders whose configuration does not list them
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
    model_id: str | os.PathLike,
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
        subfolder: Where in it the files lie.
        revision: Branch, tag or commit on the hub.
        cache_dir: Where downloads are kept; None is huggingface_hub's own place.
        token: For a private repository; None uses the one that is logged in.
        force_download: Download what is there already.
        local_files_only: Take what was downloaded before.

    Returns:
        The folder.

    Raises:
        ExportError: There is no such folder, or it cannot be downloaded.
    """
    folder = Path(model_id)
    if not folder.is_dir():
        if folder.is_absolute() or str(model_id).startswith(".") or str(model_id).count("/") != 1:
            raise ExportError(f"folder '{model_id}' does not exist; give a folder that `dynamic-exit run` wrote")
        from huggingface_hub import snapshot_download

        before = f"{subfolder}/" if subfolder else ""
        options = {"cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
        get = partial(snapshot_download, str(model_id), force_download=force_download, **options)
        try:
            first = Path(get(revision=revision, allow_patterns=[before + CONFIG_FILE]))
            names = [CONFIG_FILE, *PATTERNS, *_listed(first / subfolder)]
            # of the same commit, should there be a newer one since
            folder = Path(get(revision=first.name, allow_patterns=[before + name for name in names]))
        except ExportError:
            raise
        except Exception as error:  # the hub raises dozens of types, with and without a common base
            raise ExportError(f"'{model_id}' cannot be had from the hub: {first_line(error)}") from error
    return folder / subfolder


def _listed(folder: Path) -> list[str]:
    """Return the files of a tokenizer that a folder's configuration lists; one that cannot be read is refused later."""
    try:
        names = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("tokenizer_files")
    except (OSError, ValueError, AttributeError):
        return []
    return inside(folder, names if isinstance(names, list) else [])


def inside(folder: str | os.PathLike, names: Iterable[str]) -> list[str]:
    """Return names of files in a folder as a configuration lists them.

    Raises:
        ExportError: One lies outside.
    """
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            config = Path(folder, CONFIG_FILE)
            raise ExportError(f"'{config}' names the file '{name}', which lies outside of its folder")
    return [*names]


def read_config(folder: Path) -> "DynamicExitModelConfig":
    """Read a folder's configuration.

    Raises:
        ExportError: It is missing, of something else, or of a newer version.
    """
    from transformers import AutoConfig  # what runs a model without transformers needs the rest of this file

    from .model_config import DynamicExitModelConfig

    if not (folder / CONFIG_FILE).is_file():
        raise incomplete(folder, CONFIG_FILE)
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ExportError(f"'{folder / CONFIG_FILE}' cannot be read: {first_line(error)}; export it anew") from error
    if not isinstance(config, DynamicExitModelConfig):
        raise ExportError(f"'{folder}' holds a model of type '{config.model_type}'; give one of type '{MODEL_TYPE}'")
    return config


def has_own_processor(folder: Path) -> bool:
    """Whether the folder's images are prepared by our own class, which transformers must be told of."""
    file = folder / PROCESSOR_FILE
    return file.is_file() and "DynamicExit" in file.read_text(encoding="utf-8")


def check_files(folder: Path, checksums: Mapping[str, str], needed: Iterable[str]) -> None:
    """Refuse a folder from which a file is missing, or in which one is another than was exported.

    Args:
        folder: What to look at.
        checksums: By file's name in the folder, as `checksum` gives them.
        needed: Further files that must be there.

    Raises:
        ExportError: Names the first such file.
    """
    for name in inside(folder, (*needed, *checksums)):
        if not (folder / name).is_file():
            raise incomplete(folder, name)
    for name, wanted in checksums.items():
        if checksum(folder / name) != wanted:
            said = "is not the file that was exported: its checksum differs from that in config.json"
            raise ExportError(f"'{folder / name}' {said}; download or export it anew")


def checksum(path: str | os.PathLike) -> str:
    """Return ``sha256:`` and the digest of a file's content."""
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def copy_files(source: Path, target: Path, tokenizer_files: Iterable[str] = ()) -> None:
    """Copy what belongs to a dynamic model besides its configuration, each file whole or not at all.

    Args:
        source: Where from.
        target: Where to.
        tokenizer_files: Names of what its tokenizer consists of, as the configuration lists them.

    Raises:
        OSError: A file cannot be written.
        ExportError: The configuration lists a file outside of its folder.
    """
    patterns = (*PATTERNS, *map(glob.escape, inside(source, tokenizer_files)))
    for path in sorted({found for pattern in patterns for found in source.glob(pattern)}):
        place = target / path.relative_to(source)
        if place.resolve() == path.resolve():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as content, atomic_write(place) as file:
            while block := content.read(1 << 24):
                file.write(block)


def make_folder(directory: str | os.PathLike) -> Path:
    """Make a folder to save to, if it is not there, and see that it can be written.

    Raises:
        OutputError: It cannot be.
    """
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / ".writable"):
            pass
        (folder / ".writable").unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def cannot_write(folder: Path, error: OSError) -> OutputError:
    """Return the error for a folder that cannot be written."""
    return OutputError(f"folder '{folder}' cannot be written: {error.strerror or error}; choose another one")
