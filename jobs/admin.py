"""Jobs in Django's admin, to look at: they are changed through the API, which keeps the record."""

from __future__ import annotations

from django.contrib import admin

from hub.core.admin import ReadOnly
from jobs.models import Job, JobEvent


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
