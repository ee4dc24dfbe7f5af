"""What a job's machine does while the job runs, told as events of the job: its device, memory and load."""

from __future__ import annotations

import threading

from pst import machine
from pst_client import hardware
from pst_client.contract import Resources
from pst_client.supervise import supervise
from pst_worker.stream import JobStream

SECONDS = 5.0


class Meter:
    """Reads the figures every few seconds in a thread of its own: asking a driver may take longer than a heartbeat."""

    def __init__(self, stream: JobStream, session: int) -> None:
        self._stream = stream
        self._session = session
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=supervise, args=(self._read,), kwargs={"until": self._ended}, name="job-resources", daemon=True
        )

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _read(self) -> None:
        found = Resources(
            processor=hardware.processor(),
            cpus=machine.cpus(),
            memory_bytes=machine.memory_bytes(),
            job_memory_bytes=hardware.session_bytes(self._session),
            **hardware.load(),
        )
        self._stream.add(found)
        self._ended.wait(SECONDS)
