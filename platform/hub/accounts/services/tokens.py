"""What makes, uses and ends tokens."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.models import (
    NODE_KINDS,
    ApiToken,
    Role,
    TokenKind,
    User,
    Workspace,
)
from hub.accounts.services.audit import record
from hub.core.errors import Forbidden, UserError
from pst.messages import Message
from pst_client.contract import PREDICT_PREFIX

PREFIXES = {
    TokenKind.USER: "sw_u_",
    TokenKind.WORKER: "sw_w_",
    TokenKind.SERVE: "sw_s_",
    TokenKind.PREDICT: PREDICT_PREFIX,
    TokenKind.JOB: "sw_j_",
}
USED_RESOLUTION = timedelta(minutes=1)
"""``last_used_at`` is for people; writing it on every request would make every read a write."""


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


@transaction.atomic
def create_token(
    *,
    actor: Actor,
    kind: TokenKind,
    name: str,
    workspace: Workspace | None,
    role: Role | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """Issue a token on somebody's wish: for oneself with at most one's own role, for predictions, or for a node.

    Without ``workspace`` a node works for the whole installation, which a superuser alone may allow. A token made with
    a token does not outlive it. Raises Forbidden and UserError.
    """
    if expires_at is not None and expires_at <= timezone.now():
        raise UserError(
            Message("expires_at lies in the past."), details=[{"field": "expires_at", "message": Message("past")}]
        )
    limit = actor.token.expires_at if actor.token is not None else None
    if limit is not None and (expires_at is None or expires_at > limit):
        expires_at = limit
    if workspace is None:
        if kind not in NODE_KINDS or not actor.runs_installation:
            raise Forbidden(Message("Only a superuser can make a token without a workspace, and only for nodes."))
        token, secret = issue_token(kind=kind, name=name, expires_at=expires_at)
    elif kind in NODE_KINDS:
        actor.require(workspace, Role.OWNER)
        token, secret = issue_token(kind=kind, name=name, workspace=workspace, expires_at=expires_at)
    else:
        role = Role.VIEWER if kind == TokenKind.PREDICT else role or actor.roles[workspace.id]
        actor.require(workspace, role)
        token, secret = issue_token(
            kind=kind, name=name, user=actor.user, workspace=workspace, role=role, expires_at=expires_at
        )
    record(actor=actor, action="token.created", on=token, role=token.role)
    return token, secret


@transaction.atomic
def revoke_token(*, actor: Actor, token: ApiToken) -> None:
    """End a token at once. A token cannot end one that may do more than itself."""
    if token.workspace is not None:
        actor.require(token.workspace, Role.OWNER if token.kind in NODE_KINDS else Role(token.role))
    elif not actor.runs_installation:
        raise Forbidden(Message("Only a superuser can revoke a token of the whole installation."))
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())
    record(actor=actor, action="token.revoked", on=token)


@transaction.atomic
def renew_node_token(*, name: str, kind: TokenKind) -> str:
    """A new installation-wide token of a worker or serving node of that name; the former one ends, of whichever kind
    it was. Returns the secret."""
    ApiToken.objects.filter(kind__in=NODE_KINDS, name=name, workspace=None, revoked_at=None).update(
        revoked_at=timezone.now()
    )
    _, secret = issue_token(kind=kind, name=name)
    return secret


def note_use(*, token: ApiToken) -> None:
    """Keep when a token was last used, to the minute."""
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > USED_RESOLUTION:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


def delete_token(*, token: ApiToken) -> None:
    """Forget a token that nobody lists: one made for a single question."""
    token.delete()
