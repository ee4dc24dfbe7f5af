"""Who asks a serving node.

A node sees the token that a caller sends it, and whoever runs the node could use it. So a node takes predict tokens
alone, which can do nothing else, and is told of them only what it must know. Who signs in with another token gets one
of these for some minutes, for one deployment.
"""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from django.utils.crypto import salted_hmac

from hub.accounts.actor import Actor
from hub.accounts.models import ApiToken, Membership, Role, TokenKind
from hub.accounts.services.tokens import issue_token, note_use
from hub.core.errors import Forbidden, NotFound
from hub.serving.models import Deployment
from pst.messages import Message
from pst_client.contract import Caller, CallerQuery

LIVES = timedelta(minutes=10)


def issue(*, actor: Actor, deployment: Deployment, name: str, lives: timedelta = LIVES) -> tuple[ApiToken, str]:
    """A token that asks this deployment for some minutes, and its secret. Like every token made with a token it does
    not outlive that one. Raises NotFound and Forbidden."""
    actor.require(deployment.workspace, Role.VIEWER)
    if actor.user is None:
        raise Forbidden(Message("Only a user can ask a deployment."))
    now = timezone.now()
    # Nobody lists these tokens, so nobody else deletes them.
    ApiToken.objects.filter(kind=TokenKind.PREDICT, subject__isnull=False, expires_at__lt=now).delete()
    limit = actor.token.expires_at if actor.token is not None else None
    return issue_token(
        kind=TokenKind.PREDICT,
        name=name,
        user=actor.user,
        workspace=deployment.workspace,
        subject=deployment.id,
        expires_at=min(filter(None, (now + lives, limit))),
    )


def find(*, node_token: ApiToken, query: CallerQuery) -> Caller:
    """Whose predict token that is, for a node that serves its workspace. Raises NotFound ``unknown_token``: there is
    none, it has ended, or it is not for this node."""
    token = (
        ApiToken.objects.usable()
        .select_related("user", "workspace")
        .filter(kind=TokenKind.PREDICT, digest=query.token_sha256)
        .first()
    )
    unknown = NotFound(Message("There is no such predict token for this node."), code="unknown_token")
    if token is None or token.user is None or token.workspace is None or not token.user.is_active:
        raise unknown
    if node_token.workspace_id not in (None, token.workspace_id):
        raise unknown
    if not Membership.objects.filter(user=token.user, workspace=token.workspace).exists():
        raise unknown
    deployment = None
    if token.subject is not None:
        found = Deployment.objects.filter(pk=token.subject, workspace=token.workspace).first()
        if found is None:
            raise unknown
        deployment = found.name
    note_use(token=token)
    person = salted_hmac("hub.serving.callers", str(token.user.pk), algorithm="sha256").hexdigest()[:32]
    return Caller(caller=person, workspace=token.workspace.slug, deployment=deployment)
