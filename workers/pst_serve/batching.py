"""Micro-batching: requests that come within a few milliseconds of each other are answered by one pass of the model."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from pst_serve.engine import Answer, Input, LoadedModel

MOST_ROWS = 64
"""Rows of one pass. A request with more is answered in a pass of its own."""
LONGEST_DELAY_SECONDS = 0.003
MOST_WAITING = 4_096
"""Rows that may wait; beyond that a caller is told to come back."""


class Overloaded(Exception):
    """Too many rows wait already."""


@dataclass(frozen=True)
class _Request:
    inputs: Sequence[Input]
    answer: Future[Sequence[Answer]]


class Batcher:
    """One thread that owns a model. :meth:`submit` from any thread; :meth:`close` answers what was submitted before."""

    def __init__(self, model: LoadedModel, name: str) -> None:
        self.model = model
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"model-{name}", daemon=True)
        self._thread.start()

    def submit(self, inputs: Sequence[Input]) -> Future[Sequence[Answer]]:
        """The answer to each input, later. Raises :class:`Overloaded`."""
        with self._lock:
            if self._waiting + len(inputs) > MOST_WAITING:
                raise Overloaded
            self._waiting += len(inputs)
        request = _Request(inputs, Future())
        self._requests.put(request)
        return request.answer

    def close(self) -> None:
        """End the thread once it has answered everything. Returns at once."""
        self._requests.put(None)

    def _run(self) -> None:
        held: _Request | None = None
        closing = False
        while not (closing and held is None):
            first = held or self._requests.get()
            held = None
            if first is None:
                return
            batch, rows = [first], len(first.inputs)
            deadline = time.monotonic() + LONGEST_DELAY_SECONDS
            while rows < MOST_ROWS and not closing:
                try:
                    following = self._requests.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
                if following is None:
                    closing = True
                elif rows + len(following.inputs) > MOST_ROWS:
                    held = following
                    break
                else:
                    batch.append(following)
                    rows += len(following.inputs)
            self._answer(batch)

    def _answer(self, batch: list[_Request]) -> None:
        try:
            rows = self.model.predict([item for request in batch for item in request.inputs])
        except Exception as error:  # whatever the model raises is each caller's answer; the thread must live on
            for request in batch:
                request.answer.set_exception(error)
        else:
            start = 0
            for request in batch:
                end = start + len(request.inputs)
                request.answer.set_result(rows[start:end])
                start = end
        with self._lock:
            self._waiting -= sum(len(request.inputs) for request in batch)
