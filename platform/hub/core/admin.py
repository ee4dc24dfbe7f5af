"""What the admin pages of the apps share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Field, URLField
from django.http import HttpRequest


class ReadOnly:
    """Mixed into an admin page: to look at, not to change. Changes go through the API, which keeps the audit log."""

    # Django 5 warns until it is told what an address without a scheme is; Django 6 takes it for this.
    formfield_overrides: Mapping[type[Field[Any, Any]], Mapping[str, Any]] = {URLField: {"assume_scheme": "https"}}

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
