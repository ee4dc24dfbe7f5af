"""The node as the platform sees it: it registers, says what it holds, and brings itself to what the platform wants.

Two threads: one exchanges heartbeats for orders, the other pulls and loads, one version at a time. The old version of
a deployment serves until the new one is ready, and goes on serving when the new one can't be had.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from pst.messages import Message, said, word
from pst.plan.foreign import check_folder
from pst_client import hardware
from pst_client.client import Platform
from pst_client.contract import HeldVersion, NodeProfile, NodeRegistration, NodeStatus, WantedVersion
from pst_client.errors import PlatformError
from pst_client.supervise import Pauses, supervise
from pst_serve.cache import ModelCache, load
from pst_serve.engine import Engine
from pst_serve.profile import Profiler
from pst_serve.settings import Settings
from pst_serve.store import Store

log = logging.getLogger(__name__)

REGISTER_AGAIN_SECONDS = 2.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 300.0
LONGEST_REASON = 400

State = Literal["pulling", "verifying", "loading", "ready", "failed"]


@dataclass
class Slot:
    """One deployment's place on this node."""

    wanted: WantedVersion
    state: State = "pulling"
    message: str = ""
    pauses: Pauses = field(default_factory=lambda: Pauses(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS))
    try_at: float = field(default_factory=time.monotonic)


class Node:
    """:meth:`start` it, and :attr:`cache` follows the platform's orders until :meth:`stop`."""

    def __init__(
        self,
        settings: Settings,
        platform: Platform,
        engine: Engine,
        store: Store,
        *,
        url: str,
        profiler: Profiler | None = None,
        refused: Callable[[str], object] = log.error,
    ) -> None:
        """``refused`` is called, once, when the platform does not let this node in."""
        self.cache = ModelCache()
        self._settings = settings
        self._platform = platform
        self._engine = engine
        self._store = store
        self._url = url
        self._profiler = profiler
        self._refused = refused
        self._told: NodeProfile | None = None
        self._slots: dict[UUID, Slot] = {}
        self._ordered = False
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._node_id: UUID | None = None
        self._heartbeat_seconds = REGISTER_AGAIN_SECONDS
        self._untidy = False
        loops = {"node-orders": self._exchange, "node-versions": self._work}
        self._threads = [
            threading.Thread(target=supervise, args=(turn,), kwargs={"until": self._stopping}, name=name, daemon=True)
            for name, turn in loops.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Tell the platform that this node holds nothing any more, so that it sends no more callers."""
        self._stopping.set()
        self._changed.set()
        self._threads[0].join()
        if self._node_id is not None:
            try:
                self._platform.node.heartbeat(NodeStatus(node_id=self._node_id, load={"stopping": True}))
            except PlatformError as error:
                log.warning("the platform did not hear that this node stops: %s", error)

    def problem(self) -> str | None:
        """Why the node is not ready to serve all that it shall serve; None when it is."""
        with self._lock:
            if self._stopping.is_set():
                return "The node is stopping."
            if not self._ordered:
                return "The node has no orders from the platform yet."
            for slot in self._slots.values():
                if slot.state != "ready":
                    return f"{slot.wanted.name}: {slot.state}. {slot.message}".strip()
        return None

    def _exchange(self) -> None:
        try:
            if self._node_id is None:
                self._register()
            else:
                self._heartbeat(self._node_id)
        except PlatformError as error:
            log.warning("%s", error)
            if error.code == "unknown_node":
                self._node_id = None  # somebody made the platform forget this node
            elif not (error.passing or self._ordered):
                # It has never been let in: a wrong token, name or address, which no patience mends.
                self._refused(f"The platform refuses this serving node: {error}")
                self._stopping.set()
        # What changed is told at once, so that a roll-out is not slowed by the heartbeat.
        self._changed.wait(REGISTER_AGAIN_SECONDS if self._node_id is None else self._heartbeat_seconds)
        self._changed.clear()

    def _register(self) -> None:
        answer = self._platform.node.register(
            NodeRegistration(
                name=self._settings.node_name,
                kind="serve",
                version=hardware.version(),
                url=self._url,
                inner_url=self._settings.inner_url,
                hardware=hardware.describe(),
            )
        )
        self._node_id, self._heartbeat_seconds, self._told = answer.node_id, answer.heartbeat_seconds, None
        log.info("registered as %s (%s), answering at %s", self._settings.node_name, answer.node_id, self._url)
        self._heartbeat(answer.node_id)

    def _heartbeat(self, node_id: UUID) -> None:
        with self._lock:
            held = [
                HeldVersion(
                    deployment_id=key,
                    commit=slot.wanted.commit,
                    state=slot.state,
                    message=slot.message,
                    said=said(slot.message),
                )
                for key, slot in self._slots.items()
            ]
        profile = None if self._profiler is None else self._profiler.get()
        news = None if profile == self._told else profile
        orders = self._platform.node.heartbeat(NodeStatus(node_id=node_id, held=held, load=self._load(), profile=news))
        self._told = profile
        self._follow(orders.wanted)

    def _load(self) -> dict[str, int]:
        return {"versions": len({version.commit for version in self.cache.names().values()})}

    def _follow(self, wanted: list[WantedVersion]) -> None:
        """Take over the platform's orders; the other thread carries them out."""
        with self._lock:
            self._ordered = True
            orders = {item.deployment_id: item for item in wanted}
            gone = [slot for key, slot in self._slots.items() if key not in orders]
            self._slots = {key: slot for key, slot in self._slots.items() if key in orders}
            for key, item in orders.items():
                slot = self._slots.get(key)
                if slot is None or slot.wanted != item:
                    if slot is not None and slot.wanted.name != item.name:
                        gone.append(slot)
                    self._slots[key] = Slot(item)
            self._untidy |= bool(gone)
            kept = {slot.wanted.name for slot in self._slots.values()}
        for slot in gone:
            if slot.wanted.name not in kept:
                self.cache.remove(slot.wanted.name)

    def _work(self) -> None:
        slot = self._due()
        if slot is not None:
            try:
                self._fill(slot)
            except Exception as error:  # whatever is wrong with one version must not keep others waiting
                self._fail(slot, error)
        elif self._untidy:
            self._untidy = False
            self._tidy()
        else:
            if self._measured():
                self._changed.set()
            self._stopping.wait(0.1)

    def _tidy(self) -> None:
        """Delete from the disk what is neither served nor asked for."""
        with self._lock:
            used = {slot.wanted.commit for slot in self._slots.values()}
        self._store.tidy(used | {version.commit for version in self.cache.names().values()})

    def _measured(self) -> bool:
        try:
            return self._profiler is not None and self._profiler.step()
        except Exception as error:  # a node that can't measure itself can still serve
            log.error("this node could not be measured", exc_info=error)
            self._profiler = None
            return False

    def _due(self) -> Slot | None:
        now = time.monotonic()
        with self._lock:
            due = [slot for slot in self._slots.values() if slot.state != "ready" and slot.try_at <= now]
        return min(due, key=lambda slot: slot.try_at, default=None)

    def _fill(self, slot: Slot) -> None:
        wanted = slot.wanted
        version = self.cache.take(wanted.repo, wanted.commit)
        if version is None:
            self._move(slot, "pulling")
            folder, listed = self._store.fetch(wanted.repo, wanted.commit, lambda: self._move(slot, "verifying"))
            self._move(slot, "loading")
            check_folder(folder)
            version = load(wanted.repo, listed.version, wanted.commit, self._engine.load(folder))
        with self._lock:
            # The orders may have changed while this one was carried out.
            current = self._slots.get(wanted.deployment_id) is slot
            if current:
                self.cache.put(wanted.name, version)
                slot.state, slot.message = "ready", ""
        self.cache.give_back(version)
        self._changed.set()
        if current:
            log.info("%s now answers with %s v%d (%s)", wanted.name, wanted.repo, version.number, wanted.commit)
            self._untidy = True

    def _fail(self, slot: Slot, error: Exception) -> None:
        pause = slot.pauses.next()
        stage = slot.state
        log.error("%s at %s: %s failed", slot.wanted.repo, slot.wanted.commit, stage, exc_info=error)
        reason = str(error)
        if not isinstance(reason, Message) or len(reason) > LONGEST_REASON:
            reason = next(iter(reason.strip().splitlines()), type(error).__name__)[:LONGEST_REASON]
        with self._lock:
            slot.try_at = time.monotonic() + pause
            slot.state = "failed"
            slot.message = Message("{stage} failed: {reason}", stage=word(stage.capitalize()), reason=reason)
        self._changed.set()

    def _move(self, slot: Slot, state: State) -> None:
        with self._lock:
            slot.state, slot.message = state, ""
        self._changed.set()
