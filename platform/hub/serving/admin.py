"""Nodes and deployments in Django's admin, to look at: they are changed through the API, which keeps the audit log."""

from __future__ import annotations

from django.contrib import admin

from hub.core.admin import ReadOnly
from hub.serving.models import Deployment, Node, Placement


class PlacementInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = Placement
    extra = 0


@admin.register(Node)
class NodeAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "kind", "workspace", "version", "url", "last_seen_at"]
    list_filter = ["kind", "workspace"]
    search_fields = ["name"]
    list_select_related = ["workspace"]


@admin.register(Deployment)
class DeploymentAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "workspace", "model", "revision", "replicas", "created_at"]
    list_filter = ["workspace"]
    search_fields = ["name"]
    list_select_related = ["workspace", "model__workspace"]
    inlines = [PlacementInline]
