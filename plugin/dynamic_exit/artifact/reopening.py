"""Loaded models in other processes: a copy, a pickle and a fork open the model's folder anew."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from ..core.forks import keep_forever, tell_in_forks
from ..errors import ExportError
from .file_runner import Runner
from .non_finite import DEFAULT, NonFinite
from .switch import SwitchesOperatingPoints


@dataclass(frozen=True)
class Opening:
    """How a model was loaded, and so can be again.

    Attributes:
        load: `from_pretrained` of its class, or `load_runner`.
        arguments: What it takes before the options: the folder, and the configuration.
        options: Its options, but for ``operating_point``.
    """

    load: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]


def _reopen(opening: Opening, point: str) -> Any:
    return opening.load(*opening.arguments, operating_point=point, **opening.options)


class Reopens(SwitchesOperatingPoints):
    """What users see of a loaded model that can be copied, pickled and forked; loading sets its private names."""

    _runner: Runner
    _opening: Opening | None = None
    _non_finite: NonFinite = DEFAULT
    _left_parent = False

    def _start(self, runner: Runner) -> None:
        self._runner = runner
        tell_in_forks(self)

    def _current_runner(self) -> Runner:
        """Return the runner; in a process that was forked since, one that is opened there."""
        if self._left_parent and self._opening is not None:
            self._runner = _reopen(self._opening, self.operating_point.name)._runner
            self._left_parent = False
        return self._runner

    def leave_parent(self) -> None:
        """Give up the runner in a fork; the next call opens the folder anew."""
        keep_forever(self._runner)
        self._left_parent = True

    def _reopening(self) -> tuple[Opening, str]:
        if self._opening is None:
            raise ExportError("the model was not loaded from a folder and cannot be copied; save it, and load the copy")
        return self._opening, self.operating_point.name

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Opening, str]]:
        opening, point = self._reopening()
        if "session_options" in opening.options:
            raise ExportError(
                "a model that was loaded with session_options= cannot be pickled, as onnxruntime cannot write them "
                "down; load it in the process that calls it"
            )
        return _reopen, (opening, point)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        opening, point = self._reopening()
        copied: Self = _reopen(replace(opening, arguments=copy.deepcopy(opening.arguments, memo)), point)
        return copied
