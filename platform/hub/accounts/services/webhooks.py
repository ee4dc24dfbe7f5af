"""Telling other systems of a workspace's events: signed, retried, each delivery a row.

A delivery is a POST of ``{"id", "event", "workspace", "at", "data"}`` with the headers ``X-Sparsewright-Event``,
``X-Sparsewright-Delivery`` (the id: a receiver may see one twice), ``X-Sparsewright-Timestamp`` (seconds) and
``X-Sparsewright-Signature: sha256=HEX``, the HMAC-SHA256 of ``TIMESTAMP.BODY`` under the webhook's secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.core.cache import cache
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.addresses import RefusedAddress, TookLong, resolve
from hub.accounts.models import DeliveryState, Role, Webhook, WebhookDelivery, Workspace
from hub.accounts.outbound import CallFailed, TookTooLong, post
from hub.accounts.services.audit import record
from hub.core.errors import Conflict
from hub.core.parts import WEBHOOKS
from hub.core.queue import enqueue
from hub.core.slots import slot, take
from hub.core.sweeps import each
from pst.messages import Message, said

DEADLINE = 15.0
"""Seconds that an attempt may take in all, look-up and answer, however slowly the receiver answers."""
QUICK = 3.0
"""Seconds that an attempt may take of a workspace that is not known to be slow. It is then, and its next attempt, ten
seconds later, has the whole time: so silent receivers of many workspaces hold the threads of all for so long at most,
once for each call that a workspace may have."""
WAITS = [timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6)]
"""Pauses before the second and later attempts; then a delivery has failed."""
HELD = timedelta(seconds=60)
"""How long an attempt may take before another worker tries."""
CALLS_OF_A_WORKSPACE = 2
"""At a time: no workspace's slow receivers take all the threads there are."""
SLOW_CALLS = 8
"""At a time, of all workspaces together one of whose receivers, or its name server, did not answer in time lately: half
of the threads that there are. Those of the others never wait for more than one another's answers."""
SLOW = timedelta(minutes=10)
LOOK_UPS = 4
"""At a time, of addresses that owners are just giving."""
LOOKING_UP = Message("Other addresses are being looked up just now; try again in a moment.")
FULL = timedelta(seconds=5)
"""When a delivery is looked at again whose workspace has its calls under way."""
LONGEST_ERROR = 300
MOST = 20
"""Webhooks per workspace."""


class Busy(Conflict):
    code = "busy"


class WebhookEvent(StrEnum):
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    VERSION_PUBLISHED = "version.published"
    ALIAS_MOVED = "alias.moved"
    DATASET_READY = "dataset.ready"
    DATASET_INVALID = "dataset.invalid"


def notify(*, workspace: Workspace, event: str, payload: dict[str, Any]) -> None:
    """Write one delivery per webhook that wants ``event``, in the caller's transaction; they leave when it commits."""
    name = WebhookEvent(event).value
    for webhook in Webhook.objects.filter(workspace=workspace):
        if name in webhook.events:
            delivery = WebhookDelivery.objects.create(
                webhook=webhook, event=name, payload=payload, due_at=timezone.now()
            )
            enqueue("webhooks.deliver", queue=WEBHOOKS, delivery_id=delivery.id)


def create_webhook(*, actor: Actor, workspace: Workspace, url: str, events: Sequence[str]) -> Webhook:
    """Let ``url`` be told of ``events``. Raises RefusedAddress, and Conflict when there are too many."""
    actor.require(workspace, Role.OWNER)
    with _looking_up(workspace.id):
        resolve(url)
    return _create_webhook(actor=actor, workspace=workspace, url=url, events=events)


@contextmanager
def _looking_up(workspace_id: UUID) -> Iterator[None]:
    """One look-up at a time for a workspace's owners, and few in all: a request that waits for a silent name server
    holds a thread, and questions to deployments wait for the same ones."""
    held = HELD.total_seconds()
    with (
        slot(f"webhook-look-up:{workspace_id}", 1, seconds=held) as own,
        slot("webhook-look-up", LOOK_UPS if own else 0, seconds=held) as shared,
    ):
        if not (own and shared):
            raise Busy(LOOKING_UP)
        yield


@transaction.atomic
def _create_webhook(*, actor: Actor, workspace: Workspace, url: str, events: Sequence[str]) -> Webhook:
    Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)  # of two at once, the second counts the first
    if Webhook.objects.filter(workspace=workspace).count() >= MOST:
        raise Conflict(Message("A workspace can have {most} webhooks; delete one first.", most=MOST))
    webhook = Webhook(
        workspace=workspace,
        url=url,
        events=sorted({WebhookEvent(event).value for event in events}),
        secret=secrets.token_urlsafe(32),
        created_by=actor.user,
    )
    webhook.full_clean()
    webhook.save()
    record(actor=actor, action="webhook.created", on=webhook, events=webhook.events)
    return webhook


@transaction.atomic
def delete_webhook(*, actor: Actor, webhook: Webhook) -> None:
    actor.require(webhook.workspace, Role.OWNER)
    record(actor=actor, action="webhook.deleted", on=webhook)
    webhook.delete()


def signature(*, secret: str, timestamp: str, body: bytes) -> str:
    """The value of X-Sparsewright-Signature."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def deliver(*, delivery_id: UUID) -> None:
    """Try a delivery once; safe to call again. A refused or failed attempt is due again later, until it has failed."""
    now = timezone.now()
    delivery = WebhookDelivery.objects.select_related("webhook__workspace").filter(pk=delivery_id).first()
    if delivery is None or delivery.state != DeliveryState.PENDING or delivery.due_at > now:
        return  # ended, being tried, or not yet due again: bells may pile up
    if delivery.attempts > len(WAITS):  # the last attempt died with its process
        WebhookDelivery.objects.filter(pk=delivery_id).update(state=DeliveryState.FAILED)
        return
    slots = _slots(delivery.webhook.workspace_id)
    if slots is None:  # the workspace has its share of calls under way
        WebhookDelivery.objects.filter(pk=delivery_id, due_at=delivery.due_at).update(due_at=now + FULL)
        return
    try:
        _try(delivery=delivery, now=now, slow=len(slots) > 1)
    finally:
        cache.delete_many(slots)


def _slots(workspace_id: UUID) -> list[str] | None:
    """The keys of one of the workspace's calls at a time, taken; None where none is free."""
    own = take(f"webhook:{workspace_id}", CALLS_OF_A_WORKSPACE, seconds=HELD.total_seconds())
    if own is None or not _slow(workspace_id):
        return None if own is None else [own]
    shared = take("webhook-slow", SLOW_CALLS, seconds=HELD.total_seconds())
    if shared is None:
        cache.delete(own)
        return None
    return [own, shared]


def _try(*, delivery: WebhookDelivery, now: datetime, slow: bool) -> None:
    delivery_id = delivery.pk
    # Whoever raises the count tries; a second doorbell finds it raised.
    mine = WebhookDelivery.objects.filter(
        pk=delivery_id, state=DeliveryState.PENDING, attempts=delivery.attempts, due_at=delivery.due_at
    ).update(attempts=F("attempts") + 1, due_at=now + HELD)
    if not mine:
        return
    attempt = delivery.attempts + 1
    status_code, error = _post(delivery, DEADLINE if slow else QUICK)
    state, due_at = DeliveryState.DELIVERED, now
    if error:
        state = DeliveryState.PENDING if attempt <= len(WAITS) else DeliveryState.FAILED
        due_at = timezone.now() + WAITS[min(attempt, len(WAITS)) - 1]
    WebhookDelivery.objects.filter(pk=delivery_id).update(
        state=state, due_at=due_at, status_code=status_code, error=error[:LONGEST_ERROR], error_said=said(error)
    )


def _post(delivery: WebhookDelivery, seconds: float) -> tuple[int | None, str]:
    """(status, error); the error is empty when the receiver answered 2xx."""
    webhook = delivery.webhook
    message = {
        "id": str(delivery.id),
        "event": delivery.event,
        "workspace": webhook.workspace.slug,
        "at": delivery.created_at.isoformat(),
        "data": delivery.payload,
    }
    body = json.dumps(message, ensure_ascii=False).encode()
    timestamp = str(int(time.time()))
    headers = {
        "User-Agent": "sparsewright-webhooks",
        "X-Sparsewright-Event": delivery.event,
        "X-Sparsewright-Delivery": str(delivery.id),
        "X-Sparsewright-Timestamp": timestamp,
        "X-Sparsewright-Signature": signature(secret=webhook.secret, timestamp=timestamp, body=body),
    }
    began = time.monotonic()
    try:
        code, _ = post(webhook.url, body, headers, trusted=False, seconds=seconds)
    except RefusedAddress as error:
        if isinstance(error, TookLong):
            _note_slow(webhook)
        return None, error.message
    except TookTooLong:
        _note_slow(webhook)
        return None, Message("The receiver did not answer within {deadline:g} seconds.", deadline=seconds)
    except CallFailed as error:
        return None, Message("The receiver can't be reached: {error}", error=error)
    if time.monotonic() - began > QUICK:
        _note_slow(webhook)
    return code, "" if 200 <= code < 300 else Message("The receiver answered {code}.", code=code)


def _slow(workspace_id: UUID) -> bool:
    return bool(cache.get(f"webhook-slow:{workspace_id}"))


def _note_slow(webhook: Webhook) -> None:
    cache.set(f"webhook-slow:{webhook.workspace_id}", 1, timeout=SLOW.total_seconds())


def ring_again() -> int:
    """Ring for every delivery that is due: a retry, or one whose doorbell was lost. Returns how many."""
    due = WebhookDelivery.objects.filter(state=DeliveryState.PENDING, due_at__lte=timezone.now()).order_by("due_at")

    def ring(delivery_id: UUID) -> None:
        # One bell a minute: while nobody hears them, they must not fill the queue.
        if cache.add("webhook-bell:" + str(delivery_id), 1, timeout=HELD.total_seconds()):
            enqueue("webhooks.deliver", queue=WEBHOOKS, delivery_id=delivery_id)

    return each("ring_webhook", due.values_list("id", flat=True)[:500], ring)


def forget_old(*, days: int = 30) -> None:
    """Delete deliveries that ended long ago."""
    WebhookDelivery.objects.filter(
        created_at__lt=timezone.now() - timedelta(days=days), state__in=[DeliveryState.DELIVERED, DeliveryState.FAILED]
    ).delete()
