"""What a job's machine does while the job runs, told as events of the job: its device, memory and load."""

from __future__ import annotations

import threading

from pst import machine
from pst_client import hardware
from pst_client.contract import EventType, Resources
from pst_worker.stream import JobStream

SECONDS = 5.0


class Meter:
    """Reads the figures every few seconds in a thread of its own: asking a driver may take longer than a heartbeat."""

    def __init__(self, stream: JobStream, session: int) -> None:
        self._stream = stream
        self._session = session
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-resources", daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        processor, cpus, memory = hardware.processor(), machine.cpus(), machine.memory_bytes()
        while True:
            found = Resources(
                processor=processor,
                cpus=cpus,
                memory_bytes=memory,
                job_memory_bytes=hardware.session_bytes(self._session),
                **hardware.load(),
            )
            self._stream.add(EventType.RESOURCES, found.model_dump())
            if self._ended.wait(SECONDS):
                return
