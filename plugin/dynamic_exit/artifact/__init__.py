"""The written folder: its manifest, files, checksums and lock, and the runners that load it.

`standalone`, `manifest`, `switch`, `file_runner`, `inputs` and `folder` import neither torch, transformers nor onnx.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .folder import check_files, checksum, copy_files, find_folder, read_config
    from .image_processor import DynamicExitImageProcessor
    from .manifest import InputSpec, Manifest, read_manifest
    from .model_config import DynamicExitModelConfig
    from .runner import open_runner
    from .standalone import DynamicExitRunner, load_runner
    from .switch import OperatingPointSwitch
    from .workspace import Workspace

__all__ = [
    "DynamicExitImageProcessor",
    "DynamicExitModelConfig",
    "DynamicExitRunner",
    "InputSpec",
    "Manifest",
    "OperatingPointSwitch",
    "Workspace",
    "check_files",
    "checksum",
    "copy_files",
    "find_folder",
    "load_runner",
    "open_runner",
    "read_config",
    "read_manifest",
]

_MODULES = {
    "folder": ("check_files", "checksum", "copy_files", "find_folder", "read_config"),
    "image_processor": ("DynamicExitImageProcessor",),
    "manifest": ("InputSpec", "Manifest", "read_manifest"),
    "model_config": ("DynamicExitModelConfig",),
    "runner": ("open_runner",),
    "standalone": ("DynamicExitRunner", "load_runner"),
    "switch": ("OperatingPointSwitch",),
    "workspace": ("Workspace",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:  # on first use: a runner in numpy needs neither torch nor transformers
            value = globals()[name] = getattr(importlib.import_module(f".{module}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
