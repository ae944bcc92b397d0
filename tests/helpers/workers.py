"""What all workers of a test run have in common."""

from pathlib import Path

import pytest


def shared_folder(factory: pytest.TempPathFactory, worker: str) -> Path:
    """The folder of a test run.

    Args:
        factory: pytest's ``tmp_path_factory``.
        worker: xdist's ``worker_id``, which is ``master`` where there is one process.
    """
    base = factory.getbasetemp()
    return base if worker == "master" else base.parent
