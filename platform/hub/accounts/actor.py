"""Who is asking, and what they may do where: the one object that permissions and querysets look at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from rest_framework.request import Request

from hub.accounts.models import SLUG_PATTERN, ApiToken, Membership, Role, TokenKind, User, Workspace
from hub.core.errors import Forbidden, NotFound, UserError
from pst.messages import Message, word


@dataclass(frozen=True)
class Actor:
    """``roles`` maps the id of each workspace within reach to the role held there."""

    label: str
    user: User | None = None
    token: ApiToken | None = None
    roles: Mapping[UUID, Role] = field(default_factory=dict)

    @property
    def is_worker(self) -> bool:
        return self.token is not None and self.token.kind == TokenKind.WORKER

    @property
    def is_serving_node(self) -> bool:
        return self.token is not None and self.token.kind == TokenKind.SERVE

    @property
    def job_id(self) -> UUID | None:
        """The job whose token this is."""
        return self.token.subject if self.token is not None and self.token.kind == TokenKind.JOB else None

    @property
    def acts_fully(self) -> bool:
        """A person signed in, or an owner's token: a lesser token must not reach beyond its workspace."""
        return self.user is not None and (self.token is None or self.token.role == Role.OWNER)

    @property
    def runs_installation(self) -> bool:
        """A superuser who is signed in: a token belongs to one workspace and reaches no further."""
        return self.user is not None and self.user.is_superuser and self.token is None

    def may(self, workspace_id: UUID, role: Role) -> bool:
        held = self.roles.get(workspace_id)
        return held is not None and held.rank >= role.rank

    def require(self, workspace: Workspace, role: Role) -> None:
        """Raise NotFound outside the workspace, Forbidden where the role held is too low."""
        if workspace.id not in self.roles:
            raise NotFound(Message("There is no such object, or you have no access to it."))
        if not self.may(workspace.id, role):
            raise Forbidden(
                Message(
                    "This needs the role {role} in the workspace {workspace}.",
                    role=word(role.value),
                    workspace=workspace.slug,
                )
            )


def actor_of_token(token: ApiToken) -> Actor:
    if token.kind == TokenKind.USER:
        if token.user is None or token.workspace is None:
            raise AssertionError("the database's constraint on tokens is broken")
        held = Membership.objects.filter(user=token.user, workspace=token.workspace).first()
        if held is None:
            return Actor(label=token.user.username, user=token.user, token=token)
        # A token never outlives or outranks its user's membership.
        role = min(Role(held.role), Role(token.role), key=lambda r: r.rank)
        return Actor(label=token.user.username, user=token.user, token=token, roles={token.workspace.id: role})
    # Nodes and jobs reach objects through what they were assigned, never through a role; a predict token reaches none.
    return Actor(label=f"{token.kind}:{token.name}", token=token)


def actor_of_user(user: User) -> Actor:
    roles = {item.workspace_id: Role(item.role) for item in Membership.objects.filter(user=user)}
    return Actor(label=user.username, user=user, roles=roles)


def actor_of(request: Request) -> Actor:
    """The actor behind a request, computed once."""
    cached: Actor | None = getattr(request, "_actor", None)
    if cached is None:
        if isinstance(request.auth, ApiToken):
            cached = actor_of_token(request.auth)
        elif isinstance(request.user, AnonymousUser) or request.user is None:
            cached = Actor(label="anonymous")
        else:
            cached = actor_of_user(request.user)
        request._actor = cached  # type: ignore[attr-defined]
    return cached


def require_somewhere(request: Request, role: Role) -> None:
    """Raise Forbidden where the caller has ``role`` in no workspace, or not in the one that the query names: asked
    before a body is read, which may be large and name the workspace itself."""
    roles = actor_of(request).roles
    if "workspace" in request.query_params:
        workspace_of(request, role=role)
    elif not any(held.rank >= role.rank for held in roles.values()):
        raise Forbidden(Message("This needs the role {role} in a workspace.", role=word(role.value)))


def workspace_of(request: Request, *, role: Role) -> Workspace:
    """Where a request creates or lists: the ``workspace`` that its body or query names, else the only one there is.

    Raises NotFound, Forbidden, or UserError when there are several and none was named.
    """
    actor = actor_of(request)
    slug = request.query_params.get("workspace")
    if slug is None and isinstance(request.data, Mapping):
        slug = request.data.get("workspace")
    if slug and not (isinstance(slug, str) and re.fullmatch(SLUG_PATTERN, slug)):
        raise NotFound(Message("There is no workspace of that name that you can see."))
    found = list(Workspace.objects.visible_to(actor).filter(**({"slug": slug} if slug else {}))[:2])
    if not found:
        raise NotFound(
            Message("There is no workspace {slug} that you can see.", slug=repr(slug))
            if slug
            else Message("You are in no workspace yet.")
        )
    if len(found) > 1:
        raise UserError(
            Message("You are in several workspaces; name one with workspace=SLUG."),
            details=[{"field": "workspace", "message": Message("required")}],
        )
    actor.require(found[0], role)
    return found[0]
