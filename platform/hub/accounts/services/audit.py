"""The audit log, which every app writes by :func:`record`."""

from __future__ import annotations

from typing import Any

from hub.accounts.actor import Actor
from hub.accounts.models import Audited, AuditEvent


def record(*, actor: Actor, action: str, on: Audited, **more: Any) -> None:
    """Append to the audit log, in the caller's transaction: what is rolled back was not done."""
    subject = on.audit
    AuditEvent.objects.create(
        workspace=subject.workspace,
        actor=actor.label,
        action=action,
        object_type=subject.type,
        object_id=subject.id,
        data=subject.data | more,
    )
