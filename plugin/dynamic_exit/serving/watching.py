"""Answers of a server that a monitor watches, and the file of its state."""

import logging
import time
from pathlib import Path
from typing import Any

from ..artifact.standalone import DynamicExitRunner
from ..core.atomic_write import check_writable
from ..errors import ServingError, first_line
from ..monitoring import Adaptation, Monitor, MonitoredModel
from ..points.operating_point import BACKBONE
from .options import WatchOptions

logger = logging.getLogger(__name__)

# a process that is killed loses what it saw since its state was written: at alarms and changes, and after these seconds
_KEPT_EVERY = 60.0


class WatchedRunner(MonitoredModel):
    """A model with a monitor whose state is kept in a file.

    Args:
        runner: The model.
        folder: Its folder.
        options: How it is watched.

    Raises:
        MonitorError: The folder has no reference, the state is of another model or promise, or an option is wrong.
        ServingError: The state cannot be written.
    """

    def __init__(self, runner: DynamicExitRunner, folder: Path, options: WatchOptions):
        adaptation = Adaptation(options.agreement) if options.adapt else None
        wanted: dict[str, Any] = {"adaptation": adaptation, "fallback": BACKBONE if options.adapt else None}
        if not options.inputs:
            wanted["inputs"] = False
        self._path = options.state
        if self._path is None:
            monitor = Monitor.read(folder, **wanted)
        else:
            try:
                check_writable(self._path)
            except OSError as error:
                raise ServingError(f"the state '{self._path}' cannot be written: {first_line(error)}") from error
            known = self._path.exists()
            monitor = Monitor.resume(folder, self._path, **wanted) if known else Monitor.read(folder, **wanted)
        if options.inputs and not monitor.input_names:
            began = "the state was begun without them" if monitor.reference.inputs else "the folder has none"
            logger.info(f"statistics of inputs are not watched: {began}")
        super().__init__(runner, monitor, options.check_share)
        self._kept, self._kept_at = monitor.events, time.monotonic()

    def keep_state(self, now: bool = False) -> None:
        """Write the state, if there is a file for it and news, or if it is to be written now."""
        if self._path is None:
            return
        if now or self.monitor.events != self._kept or time.monotonic() - self._kept_at > _KEPT_EVERY:
            self._kept, self._kept_at = self.monitor.events, time.monotonic()
            try:
                self.monitor.save(self._path)
            except OSError as error:
                logger.error(f"the monitor's state cannot be written to '{self._path}': {first_line(error)}")
