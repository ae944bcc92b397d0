"""Sentences about models whose ``forward`` raises: what was raised, where, and what to do."""

import traceback
from pathlib import Path

from ..core.user_modules import is_user_file
from ..errors import first_line

#: What code of users may raise.
FORWARD_ERRORS = (Exception, SystemExit)
# what torch raises for inputs that a model was not made for
_OF_INPUTS = (RuntimeError, ValueError, IndexError, AssertionError)
_OF_CODE = (NotImplementedError, RecursionError, UnicodeError)


def explain_forward_failure(error: BaseException, hint: str) -> str:
    """Say why a model's ``forward`` failed, and what to do.

    Args:
        error: One of `FORWARD_ERRORS`, as it was caught around the call.
        hint: What to change where the inputs may be wrong.

    Returns:
        The reason and the remedy: the hint, or the line of the user's code that failed, or either.
    """
    line = _find_line(error)
    if isinstance(error, _OF_INPUTS) and not isinstance(error, _OF_CODE):
        return f"{first_line(error)}; {hint}" + (f", or repair {line}" if line else "")
    kind, reason = type(error).__name__, first_line(error)
    return f"{kind if kind == reason else f'{kind}: {reason}'}; repair {line or 'its `forward`'}"


def _find_line(error: BaseException) -> str | None:
    """Return the last line of the user's own files that an error went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_user_file(frame.filename)]
    return f"line {frames[-1].lineno} of '{Path(frames[-1].filename).name}'" if frames else None
