"""Data sets in Django's admin: to look at, not to edit. What changes them is the API."""

from __future__ import annotations

from django.contrib import admin

from hub.core.admin import ReadOnly
from hub.datasets.models import Dataset, DatasetFile, DatasetSplit


class FileInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = DatasetFile
    extra = 0


class SplitInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = DatasetSplit
    extra = 0


@admin.register(Dataset)
class DatasetAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "workspace", "state", "created_by", "created_at"]
    list_filter = ["state"]
    search_fields = ["name", "workspace__slug"]
    list_select_related = ["workspace", "created_by"]
    inlines = [FileInline, SplitInline]
