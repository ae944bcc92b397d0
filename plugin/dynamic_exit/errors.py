"""Every error that the project raises on purpose: one sentence that says what came in and what to do."""

import difflib
from collections.abc import Iterable
from pathlib import Path

_POINTER = b"version https://git-lfs.github.com/spec/"


class DynamicExitError(Exception):
    """A refused input or an unmet promise. The command line prints it as one line and exits with code 2."""


class RecipeError(DynamicExitError):
    """A recipe that is misspelt, incomplete or contradicts itself."""


class DataError(DynamicExitError):
    """Samples or labels that cannot be used."""


class ModelError(DynamicExitError):
    """A model that cannot be loaded, or does not fit its weights, its data or its neighbours."""


class CaptureError(DynamicExitError):
    """A model whose graph cannot be captured; names the operator or statement in the way."""


class CutError(DynamicExitError):
    """A cut that does not exist or cannot be used."""


class RecordsError(DynamicExitError):
    """Records that break the file format."""


class TuningError(DynamicExitError):
    """A goal that no configuration can meet, or goals that contradict each other."""


class OperatingPointError(DynamicExitError, ValueError):
    """An operating point that is not there, or thresholds that do not fit the chain."""


class PassError(DynamicExitError):
    """A pass that is registered wrongly or cannot do what its stanza asks."""


class ExportError(DynamicExitError):
    """A stage that cannot be exported, or an exported file that cannot be used."""


class VerificationError(ExportError):
    """An exported model that answers differently from the model it was made of."""


class MissingFileError(ExportError, FileNotFoundError):
    """A served folder or one of its files that is not there, or cannot be downloaded."""


class SignatureError(ExportError):
    """A folder that is not signed, or holds something else than what was signed; or a key that cannot be used."""


class InputError(ExportError, ValueError):
    """An input, a provider or another value that a served model does not take."""


class ArgumentError(ExportError, TypeError):
    """An argument that loading does not know, or that is of a wrong type."""


class OutputError(DynamicExitError):
    """An output folder that cannot be written without losing something."""


class WriteError(OutputError, OSError):
    """A copy or an upload of a served model that cannot be written."""


class MonitorError(DynamicExitError):
    """A monitor's state or reference that cannot be used, or answers that do not fit it."""


class ServingError(DynamicExitError):
    """A server that cannot start: something is not installed, or its port cannot be had."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def pointer_hint(path: Path) -> str:
    """Say that a file is only a pointer of Git LFS; empty if it is not, or cannot be read."""
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_POINTER)) == _POINTER
    except OSError:
        return ""
    return "it is a pointer of Git LFS, not the file itself; run `git lfs pull`" if is_pointer else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt name.

    Args:
        name: What came in.
        known: What would have been accepted.

    Returns:
        ``"did you mean 'x'?"`` when something is close, else ``"known are: a, b"``.
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known are: {', '.join(known)}" if known else "nothing is known here"
