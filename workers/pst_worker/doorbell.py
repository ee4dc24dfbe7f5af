"""The broker as a worker uses it: it waits at its queues, and rings them. It keeps nothing in Redis beside messages.

kombu's own transport keeps what is unacknowledged in Redis, under a lock that takes a script to release. A worker
acknowledges on receipt and the platform's reaper rings again, so nothing has to be kept, and a worker's user in Redis
needs neither scripts nor any key outside :data:`~pst_client.contract.DOORBELL_PREFIX`: see :data:`COMMANDS`.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual

COMMANDS = (
    *("auth", "hello", "ping", "select", "client|setinfo", "client|setname"),
    *("brpop", "lpush", "llen", "exists", "sadd", "smembers", "multi", "exec", "discard"),
)
"""All that a worker's user in Redis may do."""


class QoS(virtual.QoS):
    def restore_visible(self, **_: Any) -> None:
        pass

    def restore_unacked_once(self, stderr: Any = None) -> None:
        pass


class Channel(redis.Channel):
    QoS = QoS  # type: ignore[assignment]  # kombu's own is typed as the only one


class Transport(redis.Transport):
    Channel = Channel


def use() -> None:
    """Have Celery use this transport for Redis in this process; a URL names no other one."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
