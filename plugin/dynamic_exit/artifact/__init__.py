"""The written folder: its manifest, files and checksums, and the runners that load it.

`standalone`, `manifest`, `switch`, `file_runner`, `inputs` and `folder` import neither torch, transformers nor onnx.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .folder import check_files, checksum, copy_files, find_folder, read_config
    from .image_processor import DynamicExitImageProcessor
    from .manifest import InputSpec, Manifest, read_manifest
    from .model_config import DynamicExitModelConfig
    from .runner import open_runner
    from .saved_model import load_model, save_model
    from .standalone import DynamicExitRunner, load_runner
    from .switch import OperatingPointSwitch

__all__ = [
    "DynamicExitImageProcessor",
    "DynamicExitModelConfig",
    "DynamicExitRunner",
    "InputSpec",
    "Manifest",
    "OperatingPointSwitch",
    "check_files",
    "checksum",
    "copy_files",
    "find_folder",
    "load_model",
    "load_runner",
    "open_runner",
    "read_config",
    "read_manifest",
    "save_model",
]

# on first use: a runner in numpy needs neither torch nor transformers
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "folder": ("check_files", "checksum", "copy_files", "find_folder", "read_config"),
        "image_processor": ("DynamicExitImageProcessor",),
        "manifest": ("InputSpec", "Manifest", "read_manifest"),
        "model_config": ("DynamicExitModelConfig",),
        "runner": ("open_runner",),
        "saved_model": ("load_model", "save_model"),
        "standalone": ("DynamicExitRunner", "load_runner"),
        "switch": ("OperatingPointSwitch",),
    },
)
