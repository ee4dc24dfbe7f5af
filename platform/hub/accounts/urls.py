from django.urls import URLPattern, path

from hub.accounts.api import session, tokens

urlpatterns: list[URLPattern] = [
    path("setup", session.SetupView.as_view()),
    path("session", session.SessionView.as_view()),
    path("me", session.MeView.as_view()),
    path("me/password", session.PasswordView.as_view()),
    path("tokens", tokens.TokensView.as_view()),
    path("tokens/<uuid:token_id>", tokens.TokenView.as_view()),
]
