"""Addresses of the registry's REST API, under /api/v1."""

from django.urls import URLPattern, path

from hub.registry.api import base_models, models, versions

MODEL = "models/<slug:namespace>/<str:name>"
VERSION = MODEL + "/versions/<int:number>"

urlpatterns: list[URLPattern] = [
    path("signing-key", models.SigningKeyView.as_view()),
    path("base-models", base_models.BaseModelsView.as_view()),
    path("models", models.ModelsView.as_view()),
    path(MODEL, models.ModelView.as_view()),
    path(MODEL + "/aliases", models.AliasesView.as_view()),
    path(MODEL + "/aliases/<str:alias>", models.AliasView.as_view()),
    path(MODEL + "/versions", versions.VersionsView.as_view()),
    path(VERSION, versions.VersionView.as_view()),
    path(VERSION + "/archive", versions.ArchiveView.as_view()),
    path(VERSION + "/files/<path:path>", versions.FileView.as_view()),
]
