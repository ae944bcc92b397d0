"""A queue before a model: what arrives while it is busy is answered together."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from .model import Answered

Feeds = Mapping[str, np.ndarray]


class _Waiting(NamedTuple):
    feeds: Feeds
    rows: int
    kind: tuple[object, ...]
    since: float
    answer: "Future[Answered]"


class BatchQueue:
    """Answers requests in a thread of its own, in the order of arrival; those of equal shapes and types in one batch.

    Args:
        run: Answers a batch.
        max_batch: Rows of several requests in one batch; a request that has more is answered alone.
        max_delay: Seconds that the oldest request waits for others.
        limit: Called before each batch, with the rows that wait and the seconds that the oldest has waited: returns how
            many rows of several requests go together this time.
    """

    def __init__(
        self,
        run: Callable[[Feeds], Answered],
        max_batch: int = 64,
        max_delay: float = 0.0,
        limit: Callable[[int, float], int] | None = None,
    ):
        self._run, self._max_batch, self._max_delay = run, max_batch, max_delay
        self._limit = limit or (lambda rows, waited: max_batch)
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def rows(self) -> int:
        """Rows that wait."""
        with self._changed:
            return sum(each.rows for each in self._waiting)

    def submit(self, feeds: Feeds) -> "Future[Answered]":
        """Let a request wait for its turn.

        Args:
            feeds: Inputs by name, each (N, ...), as the model takes them.

        Returns:
            Its answer, or the error that the model raised for it. One that is cancelled before its turn is left out.

        Raises:
            RuntimeError: The queue is closed.
        """
        kind = tuple((name, array.dtype, array.shape[1:]) for name, array in feeds.items())
        rows = len(next(iter(feeds.values())))
        waiting = _Waiting(feeds, rows, kind, time.monotonic(), Future())
        with self._changed:
            if self._closing:
                raise RuntimeError("the queue is closed")
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.answer

    def close(self) -> None:
        """Answer all that waits, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            batch = [each for each in batch if each.answer.set_running_or_notify_cancel()]
            if batch:
                self._answer(batch)

    def _next(self) -> list[_Waiting]:
        """Wait for requests, and take those that go together with the oldest; none once the queue is closed."""
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return []
                self._changed.wait()
            until = self._waiting[0].since + self._max_delay
            while not self._closing and sum(each.rows for each in self._waiting) < self._max_batch:
                if (left := until - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            waiting = sum(each.rows for each in self._waiting)
            most = self._limit(waiting, time.monotonic() - self._waiting[0].since)
            taken, kept, rows = [self._waiting[0]], [], self._waiting[0].rows
            for each in list(self._waiting)[1:]:
                if each.kind == taken[0].kind and rows + each.rows <= most:
                    taken.append(each)
                    rows += each.rows
                else:
                    kept.append(each)
            self._waiting = deque(kept)
            return taken

    def _answer(self, batch: list[_Waiting]) -> None:
        feeds = batch[0].feeds
        if len(batch) > 1:
            feeds = {name: np.concatenate([each.feeds[name] for each in batch]) for name in feeds}
        try:
            answered = self._run(feeds)
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for each in batch:  # one bad request must not take others with it
                self._answer([each])
            return
        start = 0
        for each in batch:
            each.answer.set_result(answered.part(slice(start, start + each.rows)))
            start += each.rows
