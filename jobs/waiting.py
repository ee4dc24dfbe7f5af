"""What queued jobs wait for: their place in the queue, and the workers that listen. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from uuid import UUID

from hub.serving.models import Node, NodeKind
from jobs.models import LEASED, Job


def places(queues: Collection[str]) -> dict[UUID, int]:
    """Place of every queued job of these queues; 1 is next. All workspaces share a queue."""
    count: Counter[str] = Counter()
    found = {}
    for job_id, queue in Job.objects.waiting().filter(queue__in=queues).values_list("id", "queue"):
        count[queue] += 1
        found[job_id] = count[queue]
    return found


def online_workers() -> list[Node]:
    return list(Node.objects.filter(kind=NodeKind.WORKER).online())


def idle(workers: list[Node]) -> list[Node]:
    """Those of ``workers`` that hold no job."""
    busy = set(Job.objects.filter(state__in=LEASED, node__in=workers).values_list("node_id", flat=True))
    return [worker for worker in workers if worker.id not in busy]


def listening(workers: list[Node], *, queue: str, workspace_id: UUID) -> list[Node]:
    """Those of ``workers`` that listen to the queue and may run that workspace's jobs."""
    return [worker for worker in workers if queue in worker.queues and worker.workspace_id in {None, workspace_id}]
