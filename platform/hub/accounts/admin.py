"""Users, workspaces and their members, tokens, webhooks and the audit log in Django's admin. No secret is shown."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin

from hub.accounts.models import ApiToken, AuditEvent, Membership, User, Webhook, WebhookDelivery, Workspace
from hub.core.admin import ReadOnly


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]
    list_display = ["username", "email", "is_superuser", "is_active", "last_login"]
    list_filter = ["is_superuser", "is_active"]


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    """Can be edited: a superuser must be able to help a workspace whose owner is gone."""

    model = Membership
    extra = 0
    autocomplete_fields = ["user"]


@admin.register(Workspace)
class WorkspaceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["slug", "name", "created_at"]
    search_fields = ["slug", "name"]
    readonly_fields = ["slug", "created_at"]
    inlines = [MembershipInline]

    def has_add_permission(self, request: object) -> bool:
        return False

    def has_delete_permission(self, request: object, obj: object = None) -> bool:
        return False


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["prefix", "name", "kind", "user", "workspace", "role", "last_used_at", "expires_at", "revoked_at"]
    list_filter = ["kind"]
    search_fields = ["name", "prefix", "user__username"]
    list_select_related = ["user", "workspace"]
    exclude = ["digest"]


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["at", "actor", "action", "object_type", "object_id", "workspace"]
    list_filter = ["action"]
    search_fields = ["actor", "object_id"]
    list_select_related = ["workspace"]


class DeliveryInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = WebhookDelivery
    fields = readonly_fields = ("created_at", "event", "state", "attempts", "status_code", "error")
    extra = 0


@admin.register(Webhook)
class WebhookAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["url", "workspace", "created_by", "created_at"]
    search_fields = ["url", "workspace__slug"]
    list_select_related = ["workspace", "created_by"]
    exclude = ["secret"]
    inlines = [DeliveryInline]
