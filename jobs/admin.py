"""Jobs in Django's admin, to look at: they are changed through the API, which keeps the record."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from jobs.models import Job, JobEvent


class ReadOnly:
    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Job)
class JobAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "workspace", "state", "queue", "attempt", "failures", "node", "created_at"]
    list_filter = ["state", "queue", "workspace"]
    search_fields = ["name", "id"]
    list_select_related = ["workspace", "node"]
    exclude = ["lease_digest", "finish"]


@admin.register(JobEvent)
class JobEventAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["job", "attempt", "seq", "type", "at"]
    list_filter = ["type"]
    search_fields = ["job__id"]
    list_select_related = ["job__workspace"]
