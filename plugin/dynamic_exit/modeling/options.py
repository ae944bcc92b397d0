"""The options of `from_pretrained`: those of Optimum's classes, checked before anything is loaded."""

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from ..artifact.folder import MODEL_FILE, HubOptions, find_config, read_config
from ..artifact.manifest import Manifest
from ..artifact.model_config import DynamicExitModelConfig
from ..artifact.non_finite import DEFAULT, NonFinite, check_choice
from ..errors import ArgumentError, InputError, MissingFileError, nearest
from ..onnx.inference import CPU
from ..trust.signature import Key

Place = str | os.PathLike[str]
_NAMED = ("config", "export", "recipe", "operating_point")
# what auto classes of transformers hand on beside their private arguments
_OF_AUTO_CLASSES = ("adapter_kwargs",)


class LoadingOptions(HubOptions, total=False):
    """Options of `from_pretrained` beside the hub's, as `DynamicExitClassifier.from_pretrained` documents them."""

    provider: str | None
    providers: Sequence[str | tuple[str, Mapping[str, str]]] | None
    provider_options: Mapping[str, str] | Sequence[Mapping[str, str]] | None
    session_options: onnxruntime.SessionOptions | None
    device: str | None
    compile: bool | None
    use_io_binding: bool | None
    file_name: str | None
    model_save_dir: "Place | tempfile.TemporaryDirectory[str] | None"
    dtype: torch.dtype | str | None
    trust_remote_code: bool | None
    public_key: Key | None
    non_finite: NonFinite | None


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the hub's options that are given, and all others."""
    known = HubOptions.__optional_keys__
    hub = {name: value for name, value in options.items() if name in known and value is not None}
    return hub, {name: value for name, value in options.items() if name not in known}


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check the names and the simple values of options; return those that are given, without what transformers adds.

    Raises:
        ArgumentError: An option is not known, of a wrong type, or `non_finite` is neither of its values.
        InputError: `dtype` is none.
    """
    known = LoadingOptions.__optional_keys__
    for name in options:
        if name not in known and not name.startswith("_") and name not in _OF_AUTO_CLASSES:
            raise ArgumentError(f"from_pretrained has no argument '{name}'; {nearest(name, [*known, *_NAMED])}")
    given = {name: value for name, value in options.items() if name in known and value is not None}
    check_choice(given.get("non_finite", DEFAULT))
    binding = given.get("use_io_binding", False)
    if not isinstance(binding, bool):
        raise ArgumentError(f"use_io_binding must be True, False or None; got {binding!r}")
    if binding:
        _warn("use_io_binding=True changes nothing: inputs and answers are in the memory of the CPU")
    if (dtype := given.get("dtype", "auto")) != "auto":
        if (other := other_dtype(dtype)) is not None:
            _warn(f"dtype={other} changes nothing: the model computes as it was exported")
    return given


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)  # where from_pretrained was called


def other_dtype(dtype: object) -> torch.dtype | None:
    """Return a dtype that is not that of the model's answers, float32; None for float32 itself.

    Raises:
        InputError: It is no dtype of torch.
    """
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype):
        raise InputError(f"dtype must be one of torch's, its name or 'auto'; got {dtype!r}")
    return None if found == torch.float32 else found


def target_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes to the folder's target: ``provider``, ``session_options``, ``device`` and ``compile``.

    Raises:
        ArgumentError: `providers` is a string.
        InputError: There are more or fewer `provider_options` than providers.
    """
    options = {name: given[name] for name in ("provider", "session_options", "device", "compile") if name in given}
    providers, further = given.get("providers"), given.get("provider_options")
    if isinstance(providers, str):
        raise ArgumentError(f"providers must be a list of names; got '{providers}', give it as provider=")
    if providers is None and further is None:
        return options
    if providers is None:
        providers = [given.get("provider", CPU)]
    pairs = [(each, {}) if isinstance(each, str) else tuple(each) for each in providers]
    if isinstance(further, Mapping):
        further = [further, *({} for _ in pairs[1:])]
    if further is not None and len(further) != len(pairs):
        raise InputError(f"{len(further)} provider_options came in for {len(pairs)} providers; give one for each")
    if further is not None:
        pairs = [(name, {**own, **more}) for (name, own), more in zip(pairs, further, strict=True)]
    return {**options, "provider": pairs}


def load_config(
    config: DynamicExitModelConfig | Place | None, folder: Path, subfolder: str = ""
) -> DynamicExitModelConfig:
    """Return the configuration that is given, or that of the folder, which may lie above its subfolder.

    Args:
        config: The configuration, its file or its folder; None is the folder's.
        folder: The folder.
        subfolder: The part of it that `from_pretrained` was given as `subfolder`.

    Raises:
        MissingFileError: There is none.
        ArgumentError: It is of another type.
        ExportError: It is of another type of model, or of a newer version.
    """
    if isinstance(config, DynamicExitModelConfig):
        return config
    if config is None:
        return read_config(find_config(folder, subfolder))
    if not isinstance(config, str | os.PathLike):
        kind = type(config).__name__
        raise ArgumentError(f"config must be a DynamicExitModelConfig, its file or its folder; got a {kind}")
    if not Path(config).exists():
        raise MissingFileError(f"config '{config}' does not exist; give a configuration, its file or its folder")
    return read_config(config)


def check_file_name(name: str | None, folder: Path, manifest: Manifest) -> None:
    """Check that a `file_name` is that of the folder's model.

    Raises:
        MissingFileError: There is no such file.
        InputError: The folder holds one file a stage, or it is another file.
    """
    if name is None:
        return
    if manifest.layout != "single":
        raise InputError(f"'{folder}' holds one file a stage; leave file_name out")
    if name != MODEL_FILE:
        kind = InputError if (folder / name).is_file() else MissingFileError
        raise kind(f"the dynamic model in '{folder}' is {MODEL_FILE}, not '{name}'; leave file_name out")
