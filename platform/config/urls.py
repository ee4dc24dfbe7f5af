"""Every URL of the web tier. Each app brings its own list; this module only mounts them."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from config import spa
from hub.accounts.throttles import throttled_sign_in
from hub.core import health

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/login/", throttled_sign_in(admin.site.login)),
    path("admin/", admin.site.urls),
    path("healthz", health.live, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("api/v1/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("api/v1/", include("hub.accounts.urls")),
    path("api/v1/", include("hub.datasets.urls")),
    path("api/v1/", include("hub.registry.urls")),
    path("api/v1/", include("hub.serving.urls")),
    path("api/v1/", include("jobs.urls")),
    path("hf/", include("hub.registry.hf_urls")),
    re_path(r"^api/", csrf_exempt(spa.unknown_endpoint)),
    re_path(r"^metrics$", spa.unknown_endpoint),
    re_path(r"^(?!static/).*$", spa.index, name="spa"),
]
handler400 = "hub.core.errors.bad_request"
handler404 = "hub.core.errors.not_found"
handler500 = "hub.core.errors.server_error"
