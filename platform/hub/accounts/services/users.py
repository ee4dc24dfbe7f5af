"""What sets an installation up, and makes and changes users."""

from __future__ import annotations

import hmac

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import transaction

from hub.accounts.actor import Actor, actor_of_user
from hub.accounts.models import (
    User,
)
from hub.accounts.services.audit import record
from hub.accounts.services.workspaces import make_workspace
from hub.core.errors import Conflict, Forbidden
from pst.messages import Message


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
    make_workspace(slug=workspace, name=workspace_name, owner=user)
    record(actor=actor_of_user(user), action="installation.set_up", on=user)
    return user


@transaction.atomic
def create_user(*, actor: Actor, username: str, password: str, email: str = "") -> User:
    """Make a user who is in no workspace yet. Superusers only."""
    if not actor.runs_installation:
        raise Forbidden(Message("Only a superuser can make users."))
    user = _make_user(username=username, password=password, email=email)
    record(actor=actor, action="user.created", on=user)
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
    record(actor=actor, action="user.password_changed", on=user)
