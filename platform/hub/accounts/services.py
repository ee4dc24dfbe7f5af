"""What changes users, workspaces, roles and tokens; and the audit log, which every app writes by :func:`record`."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from hub.accounts.actor import Actor, actor_of_user
from hub.accounts.models import (
    NODE_KINDS,
    RESERVED_SLUGS,
    ApiToken,
    AuditEvent,
    Membership,
    Role,
    TokenKind,
    User,
    Workspace,
)
from hub.core.errors import Conflict, Forbidden, NotFound, UserError
from pst.messages import Message, word
from pst_client.contract import PREDICT_PREFIX

PREFIXES = {
    TokenKind.USER: "sw_u_",
    TokenKind.WORKER: "sw_w_",
    TokenKind.SERVE: "sw_s_",
    TokenKind.PREDICT: PREDICT_PREFIX,
    TokenKind.JOB: "sw_j_",
}


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


# Users and workspaces


def setup_needed() -> bool:
    """Nobody can sign in yet."""
    return not User.objects.exists()


@transaction.atomic
def set_up(*, code: str, username: str, password: str, workspace: str, workspace_name: str = "") -> User:
    """Make the first user, a superuser who owns ``workspace``. Raises Forbidden (wrong code) or Conflict (done)."""
    # A row that always exists: whoever is second waits here and then sees the first one's user.
    ContentType.objects.select_for_update().get_or_create(app_label="accounts", model="user")
    if not setup_needed():
        raise Conflict(Message("This installation is set up already; sign in instead."))
    if not settings.SETUP_CODE:
        raise Forbidden(Message("Set-up over the web is switched off; make a user with: manage.py createsuperuser"))
    if not hmac.compare_digest(code.encode(), settings.SETUP_CODE.encode()):
        raise Forbidden(Message("The set-up code is wrong; it was printed when the installation started."))
    user = _make_user(username=username, password=password, is_superuser=True)
    _make_workspace(slug=workspace, name=workspace_name, owner=user)
    record(
        actor=actor_of_user(user),
        workspace=None,
        action="installation.set_up",
        object_type="user",
        object_id=user.username,
    )
    return user


@transaction.atomic
def create_user(*, actor: Actor, username: str, password: str, email: str = "") -> User:
    """Make a user who is in no workspace yet. Superusers only."""
    if not actor.runs_installation:
        raise Forbidden(Message("Only a superuser can make users."))
    user = _make_user(username=username, password=password, email=email)
    record(actor=actor, workspace=None, action="user.created", object_type="user", object_id=user.username)
    return user


def _make_user(*, username: str, password: str, email: str = "", is_superuser: bool = False) -> User:
    user = User(username=username, email=email, is_superuser=is_superuser, is_staff=is_superuser)
    if User.objects.filter(username__iexact=username).exists():
        raise Conflict(
            Message("There is a user {username} already; choose another name.", username=repr(username)),
            details=[{"field": "username", "message": Message("taken")}],
        )
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise ValidationError({"password": error.messages}) from None
    user.set_password(password)
    user.full_clean()
    user.save()
    return user


@transaction.atomic
def change_password(*, actor: Actor, user: User, current: str, new: str) -> None:
    """Set one's own password. Raises Forbidden when ``current`` is wrong or the actor is a token."""
    if actor.token is not None:
        raise Forbidden(Message("Sign in to change your password; a token cannot."))
    if not user.check_password(current):
        raise Forbidden(Message("The current password is wrong."))
    try:
        validate_password(new, user)
    except ValidationError as error:
        raise ValidationError({"new_password": error.messages}) from None
    user.set_password(new)
    user.save(update_fields=["password"])
    record(actor=actor, workspace=None, action="user.password_changed", object_type="user", object_id=user.username)


@transaction.atomic
def create_workspace(*, actor: Actor, slug: str, name: str = "") -> Workspace:
    """Make a workspace that the actor owns."""
    if actor.user is None or not actor.acts_fully:
        raise Forbidden(Message("This token is limited to its workspace; sign in to make another one."))
    workspace = _make_workspace(slug=slug, name=name, owner=actor.user)
    record(
        actor=actor, workspace=workspace, action="workspace.created", object_type="workspace", object_id=workspace.slug
    )
    return workspace


def _make_workspace(*, slug: str, name: str, owner: User) -> Workspace:
    if slug in RESERVED_SLUGS or Workspace.objects.filter(slug=slug).exists():
        raise Conflict(
            Message("The name {slug} is taken; choose another one.", slug=repr(slug)),
            details=[{"field": "workspace", "message": Message("taken")}],
        )
    workspace = Workspace(slug=slug, name=name or slug)
    workspace.full_clean()
    workspace.save()
    Membership.objects.create(workspace=workspace, user=owner, role=Role.OWNER)
    return workspace


@transaction.atomic
def rename_workspace(*, actor: Actor, workspace: Workspace, name: str) -> Workspace:
    actor.require(workspace, Role.OWNER)
    workspace.name = name
    workspace.full_clean()
    workspace.save(update_fields=["name"])
    record(
        actor=actor,
        workspace=workspace,
        action="workspace.renamed",
        object_type="workspace",
        object_id=workspace.slug,
        data={"name": name},
    )
    return workspace


# Members


@transaction.atomic
def add_member(*, actor: Actor, workspace: Workspace, username: str, role: Role) -> Membership:
    """Let a user into a workspace. Raises NotFound for an unknown user and Conflict for a member."""
    actor.require(workspace, Role.OWNER)
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        raise NotFound(Message("There is no user {username}; a superuser can make one.", username=repr(username)))
    membership, created = Membership.objects.get_or_create(workspace=workspace, user=user, defaults={"role": role})
    if not created:
        raise Conflict(
            Message("{username} is a member already, as {role}.", username=username, role=word(membership.role))
        )
    _record_member(actor, membership, "member.added", role=role.value)
    return membership


@transaction.atomic
def change_role(*, actor: Actor, workspace: Workspace, username: str, role: Role) -> Membership:
    """Give a member another role. Raises Conflict where nobody would own the workspace any more."""
    actor.require(workspace, Role.OWNER)
    membership = _locked_membership(workspace=workspace, username=username)
    if role != Role.OWNER:
        _keep_an_owner(membership)
    former, membership.role = membership.role, role
    membership.save(update_fields=["role"])
    _record_member(actor, membership, "member.role_changed", role=role.value, former=former)
    return membership


@transaction.atomic
def remove_member(*, actor: Actor, workspace: Workspace, username: str) -> None:
    """Take a member out and revoke the tokens held for this workspace. Members may leave by themselves."""
    leaves = actor.user is not None and actor.user.username == username and actor.acts_fully
    actor.require(workspace, Role.VIEWER if leaves else Role.OWNER)
    membership = _locked_membership(workspace=workspace, username=username)
    _keep_an_owner(membership)
    ApiToken.objects.filter(user=membership.user, workspace=workspace, revoked_at=None).update(
        revoked_at=timezone.now()
    )
    _record_member(actor, membership, "member.removed", role=membership.role)
    membership.delete()


def _locked_membership(*, workspace: Workspace, username: str) -> Membership:
    """The membership, while nobody else changes who owns the workspace."""
    Workspace.objects.select_for_update().get(pk=workspace.pk)
    membership = Membership.objects.select_related("user").filter(workspace=workspace, user__username=username).first()
    if membership is None:
        raise NotFound(
            Message("{username} is not a member of {workspace}.", username=repr(username), workspace=workspace.slug)
        )
    return membership


def _keep_an_owner(membership: Membership) -> None:
    others = Membership.objects.filter(workspace=membership.workspace_id, role=Role.OWNER).exclude(pk=membership.pk)
    if membership.role == Role.OWNER and not others.exists():
        raise Conflict(Message("A workspace needs an owner; make somebody else an owner first."))


def _record_member(actor: Actor, membership: Membership, action: str, **data: str) -> None:
    record(
        actor=actor,
        workspace=membership.workspace,
        action=action,
        object_type="member",
        object_id=membership.user.username,
        data=data,
    )


# Tokens


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
    record(
        actor=actor,
        workspace=workspace,
        action="token.created",
        object_type="token",
        object_id=str(token.id),
        data={"name": name, "kind": kind.value, "role": token.role},
    )
    return token, secret


@transaction.atomic
def revoke_token(*, actor: Actor, token: ApiToken) -> None:
    """End a token at once. A token cannot end one that may do more than itself."""
    if token.workspace is not None:
        actor.require(token.workspace, Role.OWNER if token.kind in NODE_KINDS else Role(token.role))
    elif not actor.runs_installation:
        raise Forbidden(Message("Only a superuser can revoke a token of the whole installation."))
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())
    record(
        actor=actor,
        workspace=token.workspace,
        action="token.revoked",
        object_type="token",
        object_id=str(token.id),
        data={"name": token.name, "kind": token.kind},
    )


@transaction.atomic
def renew_node_token(*, name: str, kind: TokenKind) -> str:
    """A new installation-wide token of a worker or serving node of that name; the former one ends, of whichever kind
    it was. Returns the secret."""
    ApiToken.objects.filter(kind__in=NODE_KINDS, name=name, workspace=None, revoked_at=None).update(
        revoked_at=timezone.now()
    )
    _, secret = issue_token(kind=kind, name=name)
    return secret
