"""What changes users, workspaces, roles and tokens; and the audit log, which every app writes through :func:`record`."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from hub.accounts.actor import Actor
from hub.accounts.models import ApiToken, AuditEvent, Role, TokenKind, User, Workspace

PREFIXES = {TokenKind.USER: "sw_u_", TokenKind.NODE: "sw_n_", TokenKind.JOB: "sw_j_"}


def record(
    *,
    actor: Actor,
    workspace: Workspace | None,
    action: str,
    object_type: str,
    object_id: str,
    data: dict[str, Any] | None = None,
) -> None:
    """Append to the audit log, in the caller's transaction: what is rolled back was not done."""
    AuditEvent.objects.create(
        workspace=workspace,
        actor=actor.label,
        action=action,
        object_type=object_type,
        object_id=object_id,
        data=data or {},
    )


@transaction.atomic
def issue_token(
    *,
    kind: TokenKind,
    name: str,
    user: User | None = None,
    workspace: Workspace | None = None,
    role: Role = Role.VIEWER,
    subject: UUID | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """Make a token and return it with its secret, which is kept nowhere."""
    secret = PREFIXES[kind] + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        kind=kind,
        name=name,
        prefix=secret[:12],
        digest=ApiToken.hash(secret),
        user=user,
        workspace=workspace,
        role=role,
        subject=subject,
        expires_at=expires_at,
    )
    return token, secret
