"""The accessibility checker axe-core, fetched with npm into the user's cache: no part of this project."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "4.14.1"
# seconds
_PATIENCE = 60


def axe_script() -> str | None:
    """Return the checker's code; None where it is not in the cache and cannot be fetched."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dynamic_exit_tests"
    kept = cache / f"axe-core-{VERSION}.min.js"
    if not kept.is_file():
        if not shutil.which("npm"):
            return None
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", f"axe-core@{VERSION}", "--silent"]
            try:
                subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_PATIENCE)
            except (OSError, subprocess.SubprocessError):
                return None
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
                archive.extract("package/axe.min.js", folder, filter="data")
            cache.mkdir(parents=True, exist_ok=True)
            shutil.move(f"{folder}/package/axe.min.js", kept)
    return kept.read_text(encoding="utf-8")
