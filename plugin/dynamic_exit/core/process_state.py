"""What belongs to the whole process, and is given back as it was."""

import contextlib
import multiprocessing
import random
import sys
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def preserve_process_state() -> Iterator[None]:
    """Leave to the process its random numbers, its hook for errors, and the choice of how child processes start.

    New layers draw their first weights, the first progress bar makes a lock that settles how processes start, and
    command lines print errors in a way of their own. It decorates functions, too.
    """
    drawn, numbers, hook = random.getstate(), np.random.get_state(), sys.excepthook
    chosen = multiprocessing.get_start_method(allow_none=True)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(drawn)
        np.random.set_state(numbers)
        sys.excepthook = hook
        if chosen is None:
            multiprocessing.set_start_method(None, force=True)
