"""Addresses of the Hub protocol. Django hands over decoded paths, so that a quoted revision or path arrives plain."""

from django.urls import URLPattern, re_path

from hub.registry.api import hf, hf_lists

REPO = r"(?P<namespace>[a-z0-9][a-z0-9-]{0,38})/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,95})"
REVISION = r"(?P<revision>refs/[^/]+/[^/]+|[^/]+)"

urlpatterns: list[URLPattern] = [
    re_path(r"^api/whoami-v2\Z", hf.WhoAmIView.as_view()),
    re_path(r"^api/models\Z", hf_lists.ModelsView.as_view()),
    re_path(rf"^api/models/{REPO}\Z", hf.ModelView.as_view()),
    re_path(rf"^api/models/{REPO}/commits/{REVISION}\Z", hf_lists.CommitsView.as_view()),
    re_path(rf"^api/models/{REPO}/revision/{REVISION}\Z", hf.ModelView.as_view()),
    re_path(rf"^api/models/{REPO}/refs\Z", hf.RefsView.as_view()),
    re_path(rf"^api/models/{REPO}/tree/{REVISION}(?:/(?P<path>[\s\S]*))?\Z", hf.TreeView.as_view()),
    re_path(rf"^api/models/{REPO}/paths-info/{REVISION}\Z", hf.PathsInfoView.as_view()),
    re_path(rf"^{REPO}/resolve/{REVISION}/(?P<path>[\s\S]+)\Z", hf.ResolveView.as_view()),
    re_path(r"^(?P<rest>[\s\S]*)\Z", hf.UnknownView.as_view()),
]
