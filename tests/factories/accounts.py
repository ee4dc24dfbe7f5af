"""People, workspaces and tokens."""

from __future__ import annotations

from dataclasses import dataclass

from rest_framework.test import APIClient

from hub.accounts.models import Membership, Role, TokenKind, User, Workspace
from hub.accounts.services.tokens import issue_token


@dataclass
class Person:
    """A user who owns a workspace, with a token and a client that sends it."""

    user: User
    workspace: Workspace
    token: str
    client: APIClient

    def signed_in(self, *, superuser: bool = False) -> APIClient:
        """The person's browser; ``superuser`` makes them one first."""
        if superuser:
            self.user.is_superuser = True
            self.user.save(update_fields=["is_superuser"])
        browser = APIClient()
        browser.force_login(self.user)
        return browser


def bearer(secret: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def person(username: str, *, workspace: str, role: Role = Role.OWNER) -> Person:
    """A user with ``role`` in the workspace of that slug, which is made when it is missing."""
    user = User.objects.create_user(username, password="correct horse battery")
    place, _ = Workspace.objects.get_or_create(slug=workspace, defaults={"name": workspace.title()})
    Membership.objects.create(user=user, workspace=place, role=role)
    _, secret = issue_token(kind=TokenKind.USER, name="test", user=user, workspace=place, role=role)
    return Person(user=user, workspace=place, token=secret, client=bearer(secret))


def node_secret(name: str, *, workspace: Workspace | None = None, kind: str = TokenKind.WORKER) -> str:
    """The secret of a worker's token, or of a serving node's."""
    _, secret = issue_token(kind=TokenKind(kind), name=name, workspace=workspace)
    return secret


def predict_secret(person: Person) -> str:
    """The secret of a token that asks the deployments of the person's workspace."""
    _, secret = issue_token(kind=TokenKind.PREDICT, name="program", user=person.user, workspace=person.workspace)
    return secret
