from django.urls import URLPattern, path, register_converter
from django.urls.converters import StringConverter

from hub.accounts.api import audit, session, tokens, webhooks, workspaces


class UsernameConverter(StringConverter):
    """The characters that Django allows in user names."""

    regex = r"[\w.@+-]{1,150}"


register_converter(UsernameConverter, "username")

urlpatterns: list[URLPattern] = [
    path("setup", session.SetupView.as_view()),
    path("session", session.SessionView.as_view()),
    path("me", session.MeView.as_view()),
    path("me/password", session.PasswordView.as_view()),
    path("tokens", tokens.TokensView.as_view()),
    path("tokens/<uuid:token_id>", tokens.TokenView.as_view()),
    path("users", workspaces.UsersView.as_view()),
    path("workspaces", workspaces.WorkspacesView.as_view()),
    path("workspaces/<slug:slug>", workspaces.WorkspaceView.as_view()),
    path("workspaces/<slug:slug>/members", workspaces.MembersView.as_view()),
    path("workspaces/<slug:slug>/members/<username:username>", workspaces.MemberView.as_view()),
    path("audit", audit.AuditView.as_view()),
    path("webhooks", webhooks.WebhooksView.as_view()),
    path("webhooks/<uuid:webhook_id>", webhooks.WebhookView.as_view()),
    path("webhooks/<uuid:webhook_id>/deliveries", webhooks.DeliveriesView.as_view()),
]
