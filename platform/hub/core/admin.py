"""What the admin pages of the apps share."""

from __future__ import annotations

from django.http import HttpRequest


class ReadOnly:
    """Mixed into an admin page: to look at, not to change. Changes go through the API, which keeps the audit log."""

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
