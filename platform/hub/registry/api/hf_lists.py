"""Lists of the Hub protocol: the models that a token can read, and a model's versions as commits."""

from __future__ import annotations

from typing import Any

from django.db.models import F, Max, QuerySet, Value
from django.db.models.functions import Concat
from django.http import HttpResponseBase, JsonResponse
from rest_framework.request import Request

from hub.accounts.actor import actor_of
from hub.registry import cards
from hub.registry.access import readable_models
from hub.registry.api.hf import HubError, HubView, about, flag, paged, siblings, when
from hub.registry.models import ModelVersion
from pst.messages import Message

PAGE = 200
ELSEWHERE = ("apps", "inference", "inference_provider")
"""Filters for what only the public Hub has: nothing here is found by them."""
BRIEF = ("_id", "id", "modelId", "private", "likes", "downloads", "tags", "pipeline_tag", "library_name", "createdAt")
WITH = {"full": ("author", "gated", "sha", "lastModified"), "config": ("config",), "cardData": ("cardData",)}


class ModelsView(HubView):
    def get(self, request: Request) -> HttpResponseBase:
        """The models that the token can read, each at its newest version, paged by ``Link: rel="next"``."""
        query = request.query_params
        if "num_parameters" in query:
            raise HubError(400, "", Message("Models can't be found by num_parameters here; leave it out."))
        versions = self._versions(request)
        expand = {*query.getlist("expand"), *query.getlist("expand[]")}
        with_files = "siblings" in expand or flag(query.get("full"))
        if with_files:
            versions = versions.prefetch_related("files")
        wanted = {*query.getlist("filter"), *query.getlist("pipeline_tag")}
        found = [version for version in versions if wanted <= _marks(version)] if wanted else versions
        page, link = paged(request, found, PAGE)
        names = {"_id", "id", *expand} if expand else set(BRIEF)
        for option, more in WITH.items():
            names |= set(more) if flag(query.get(option)) else set()
        answer = []
        for version in page:
            item = {name: value for name, value in about(version, _card(version)).items() if name in names}
            answer.append(item | ({"siblings": siblings(version.files.all())} if with_files else {}))
        return JsonResponse(answer, safe=False, headers=link)

    def _versions(self, request: Request) -> QuerySet[ModelVersion]:
        """The newest version of each model, without its report and its manifest, which may be large."""
        query = request.query_params
        if flag(query.get("gated")) or any(name in query for name in ELSEWHERE):
            return ModelVersion.objects.none()
        models = readable_models(actor_of(request))
        if author := query.get("author"):
            models = models.filter(workspace__slug=author.replace("\0", ""))
        if search := query.get("search"):
            named = Concat("workspace__slug", Value("/"), "name")
            models = models.annotate(named=named).filter(named__icontains=search.replace("\0", ""))
        order = "model__created_at" if query.get("sort") == "createdAt" else "created_at"
        return (
            ModelVersion.objects.filter(model__in=models.values("pk"))
            .annotate(newest=Max("model__versions__number"), task=F("report__task"), lineage=F("manifest__lineage"))
            .filter(number=F("newest"))
            .defer("report", "manifest")
            .select_related("model__workspace")
            .order_by(order if query.get("direction") == "1" else f"-{order}", "pk")
        )


def _card(version: Any) -> dict[str, Any]:
    """The card's metadata, but for the metrics, which only the whole report has."""
    return cards.front_matter(
        model=version.model, lineage=version.lineage or {}, report={"task": version.task}, config=version.config
    )


def _marks(version: ModelVersion) -> set[str]:
    """What a model is found by, as the clients write it."""
    card = _card(version)
    named = {"license": [card.get("license")], "base_model": [card.get("base_model")], "dataset": card.get("datasets")}
    marks = {f"{kind}:{value}" for kind, values in named.items() for value in values or () if value}
    return marks | {*card["tags"], card["library_name"], card.get("pipeline_tag", "")}


class CommitsView(HubView):
    def get(self, request: Request, namespace: str, name: str, revision: str) -> HttpResponseBase:
        """The version that the revision names and those before it, the newest first."""
        version = self.find_version(request, namespace, name, revision)
        before = version.model.versions.filter(number__lte=version.number).only("number", "commit", "created_at")
        page, link = paged(request, before)
        formatted = "formatted" in {*request.query_params.getlist("expand"), *request.query_params.getlist("expand[]")}
        answer = []
        for item in page:
            title = f"Version {item.number}"
            commit = {"id": item.commit, "title": title, "message": "", "date": when(item.created_at)}
            commit |= {"authors": [{"user": namespace}]}
            answer.append(commit | ({"formatted": {"title": title, "message": ""}} if formatted else {}))
        return JsonResponse(answer, safe=False, headers={"X-Repo-Commit": version.commit, **link})
