"""Micro-batching: requests that come within a few milliseconds of each other are answered by one pass of the model.

Callers take turns: a pass holds a few rows of each caller that waits, so that who sends much waits for himself and not
others for him. A request larger than its turn is answered in pieces.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from pst_serve import meters
from pst_serve.engine import Answer, BadInput, Input, LoadedModel

log = logging.getLogger(__name__)

MAX_ROWS = 64
"""Rows of one pass."""
TURN_ROWS = 8
"""Rows that a caller gets into a pass before it is the next one's turn."""
LONGEST_DELAY_SECONDS = 0.003
MAX_WAITING_ROWS = 4_096
"""Rows that are waited for at a time; beyond that a caller is told to come back."""
MAX_ROWS_PER_CALLER = 1_024
"""Of them, rows of one caller."""


class Overloaded(Exception):
    """Too many rows wait already, of this caller or of all."""


class BrokenModel(RuntimeError):
    """The model raised something, or gave no answer to each input."""


@dataclass(eq=False)
class _Request:
    caller: str
    inputs: Sequence[Input]
    answer: Future[Sequence[Answer]] = field(default_factory=Future)
    taken: int = 0
    """Inputs that were put into a pass."""
    rows: list[Answer] = field(default_factory=list)


_Piece = tuple[_Request, list[Input]]


class Batcher:
    """One thread that owns a model. :meth:`submit` from any thread; :meth:`close` answers what was submitted before."""

    def __init__(self, model: LoadedModel, name: str) -> None:
        self.model = model
        self._queues: dict[str, deque[_Request]] = {}
        """Of each caller what is not all in a pass yet, in the order of their turns."""
        self._waiting = 0
        """Rows in the queues."""
        self._held: Counter[str] = Counter()
        """Rows of each caller that are not answered yet."""
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"model-{name}", daemon=True)
        self._thread.start()

    def submit(self, inputs: Sequence[Input], caller: str = "") -> Future[Sequence[Answer]]:
        """The answer to each input, later. A request whose answer is cancelled is passed over. Raises
        :class:`Overloaded`."""
        request = _Request(caller, inputs)
        with self._changed:
            of_all = self._held.total() + len(inputs)
            if of_all > MAX_WAITING_ROWS or self._held[caller] + len(inputs) > MAX_ROWS_PER_CALLER:
                raise Overloaded
            self._held[caller] += len(inputs)
            self._queues.setdefault(caller, deque()).append(request)
            self._waiting += len(inputs)
            self._changed.notify()
        request.answer.add_done_callback(lambda _: self._leave(request))
        return request.answer

    def held(self) -> int:
        """Rows that are not answered yet."""
        with self._changed:
            return self._held.total()

    def close(self) -> None:
        """End the thread once it has answered everything. Returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _leave(self, request: _Request) -> None:
        """The request is answered, or nobody waits for it any more: what of it still waits makes room for others."""
        with self._changed:
            self._held[request.caller] -= len(request.inputs)
            if not self._held[request.caller]:
                del self._held[request.caller]
            queue = self._queues.get(request.caller)
            if queue and request in queue:
                queue.remove(request)
                self._waiting -= len(request.inputs) - request.taken
                if not queue:
                    del self._queues[request.caller]

    def _run(self) -> None:
        while True:
            try:
                pieces = self._next()
                if pieces is None:
                    return
                self._answer(pieces)
            except BaseException:  # whoever asks next needs this thread
                log.exception("a pass of the model broke off")

    def _next(self) -> list[_Piece] | None:
        """The pieces of the next pass; None when there will be none."""
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            # What comes within a moment shares the pass.
            self._changed.wait_for(lambda: self._waiting >= MAX_ROWS or self._closing, LONGEST_DELAY_SECONDS)
            return self._take()

    def _take(self) -> list[_Piece]:
        pieces: dict[_Request, list[Input]] = {}
        room = MAX_ROWS
        while room and self._queues:
            caller = next(iter(self._queues))
            requests = self._queues.pop(caller)
            turn = min(TURN_ROWS, room)
            while turn and requests:
                request = requests[0]
                inputs = request.inputs[request.taken : request.taken + turn]
                request.taken += len(inputs)
                turn, room, self._waiting = turn - len(inputs), room - len(inputs), self._waiting - len(inputs)
                pieces.setdefault(request, []).extend(inputs)
                if request.taken == len(request.inputs):
                    requests.popleft()
            if requests:
                self._queues[caller] = requests  # behind the others
        return list(pieces.items())

    def _answer(self, pieces: list[_Piece]) -> None:
        pieces = [(request, inputs) for request, inputs in pieces if not request.answer.done()]
        if not pieces:
            return
        try:
            meters.PASS_ROWS.observe(sum(len(inputs) for _, inputs in pieces))
            rows = self._predict([item for _, inputs in pieces for item in inputs])
        except (BadInput, BrokenModel) as error:
            if len(pieces) > 1:  # only whose input is bad or breaks the model gets the error
                for piece in pieces:
                    self._answer([piece])
                return
            request, _ = pieces[0]
            if request.answer.set_running_or_notify_cancel():
                request.answer.set_exception(error)
            return
        for request, inputs in pieces:
            request.rows += rows[: len(inputs)]
            rows = rows[len(inputs) :]
            if len(request.rows) == len(request.inputs) and request.answer.set_running_or_notify_cancel():
                request.answer.set_result(request.rows)

    def _predict(self, inputs: list[Input]) -> list[Answer]:
        try:
            rows = list(self.model.predict(inputs))
        except BadInput:
            raise
        except BaseException as error:  # the thread must live on, and an event loop takes no SystemExit as an answer
            raise BrokenModel(f"{type(error).__name__}: {error}") from error
        if len(rows) != len(inputs):
            raise BrokenModel(f"the model gave {len(rows)} answers to {len(inputs)} inputs")
        return rows
