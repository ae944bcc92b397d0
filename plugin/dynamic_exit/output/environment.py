"""What a run was made with: the machine, and the versions of what computes."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from ..report.figures import Environment

_PACKAGES = ("torch", "onnxruntime", "openvino", "neural-compressor", "onnx", "numpy", "timm", "transformers")


def current_environment() -> Environment:
    """Return the environment of this process."""
    packages = {"dynamic_exit": sys.modules[__name__.partition(".")[0]].__version__}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Environment(
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        packages=packages,
    )


def _processor() -> str:
    """Return the processor's name as Linux knows it, else what Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
