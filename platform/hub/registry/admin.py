"""The registry in Django's admin, to look at: versions are immutable, and aliases move through the API, which keeps the
audit log and tells the deployments."""

from __future__ import annotations

from django.contrib import admin

from hub.core.admin import ReadOnly
from hub.registry.models import Alias, Model, ModelVersion, VersionFile


class AliasInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = Alias
    extra = 0


class FileInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = VersionFile
    extra = 0


@admin.register(Model)
class ModelAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["repo_id", "kind", "created_by", "created_at"]
    list_filter = ["kind", "workspace"]
    search_fields = ["name"]
    list_select_related = ["workspace", "created_by"]
    inlines = [AliasInline]


@admin.register(ModelVersion)
class VersionAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["__str__", "commit", "job_id", "created_by", "created_at"]
    search_fields = ["commit", "model__name"]
    list_select_related = ["model__workspace", "created_by"]
    inlines = [FileInline]
