"""What changes workspaces and who is in them."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.models import (
    BASE_WORKSPACE,
    RESERVED_SLUGS,
    ApiToken,
    Membership,
    Role,
    User,
    Workspace,
)
from hub.accounts.services.audit import record
from hub.core.errors import Conflict, Forbidden, NotFound
from pst.messages import Message, word


@transaction.atomic
def create_workspace(*, actor: Actor, slug: str, name: str = "") -> Workspace:
    """Make a workspace that the actor owns."""
    if actor.user is None or not actor.acts_fully:
        raise Forbidden(Message("This token is limited to its workspace; sign in to make another one."))
    workspace = make_workspace(slug=slug, name=name, owner=actor.user)
    record(actor=actor, action="workspace.created", on=workspace)
    return workspace


def make_workspace(*, slug: str, name: str, owner: User) -> Workspace:
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


def base_workspace() -> Workspace:
    """The workspace that everybody reads, made when it is missing."""
    workspace, _ = Workspace.objects.get_or_create(slug=BASE_WORKSPACE, defaults={"name": "Base models"})
    return workspace


@transaction.atomic
def rename_workspace(*, actor: Actor, workspace: Workspace, name: str) -> Workspace:
    actor.require(workspace, Role.OWNER)
    workspace.name = name
    workspace.full_clean()
    workspace.save(update_fields=["name"])
    record(actor=actor, action="workspace.renamed", on=workspace, name=name)
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
    record(actor=actor, action="member.added", on=membership)
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
    record(actor=actor, action="member.role_changed", on=membership, former=former)
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
    record(actor=actor, action="member.removed", on=membership)
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
