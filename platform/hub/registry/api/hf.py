"""The Hub protocol, mounted at /hf: with ``HF_ENDPOINT`` set to it, huggingface_hub, transformers and what builds on
them pull from this registry. A version is a commit; aliases are branches, ``v3`` is a tag, ``main`` the newest version.

Bytes are streamed: the clients refuse a redirect to the same host. The tree of a repository that exists is never 404,
since a client then takes its partial cache for the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.core.paginator import InvalidPage, Paginator
from django.http import HttpResponseBase, JsonResponse, QueryDict
from rest_framework import exceptions
from rest_framework.parsers import FormParser
from rest_framework.request import Request
from rest_framework.views import APIView

from hub.accounts.actor import actor_of
from hub.accounts.authentication import TokenAuthentication
from hub.accounts.models import Workspace
from hub.accounts.permissions import HasToken
from hub.core.errors import UserError
from hub.core.language import say
from hub.core.parsers import JSONParser
from hub.registry import cards
from hub.registry.access import readable_models
from hub.registry.downloads import AnyAccept, send
from hub.registry.models import Model, ModelVersion, VersionFile
from hub.registry.services import versions
from pst.messages import Message

TREE_PAGE = 1000
MAX_PATHS = 10_000
INVALID_CREDENTIALS = Message("Invalid credentials in Authorization header")
"""The clients know this text: with it a 401 means a bad token, without it a repository that can't be seen."""


class HubError(Exception):
    """An error as the clients read it: from ``X-Error-Code`` and ``X-Error-Message``, which stay English whatever the
    reader's language is. The body says it in that language."""

    def __init__(self, status: int, code: str, message: str, *, commit: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.commit = status, code, message, commit

    def response(self) -> JsonResponse:
        # A header is one line of ASCII, and the message may quote what a client sent.
        line = " ".join(self.message.encode("ascii", "backslashreplace").decode().split())
        headers = {"X-Error-Code": self.code, "X-Error-Message": line, "X-Repo-Commit": self.commit}
        return JsonResponse(
            {"error": say(self.message)},
            status=self.status,
            headers={name: value for name, value in headers.items() if value},
        )


def _entry_not_found(version: ModelVersion, path: str) -> HubError:
    return HubError(
        404,
        "EntryNotFound",
        Message(
            "{repo_id} has no {path} at version {number}.",
            repo_id=version.model.repo_id,
            path=repr(path[:200]),
            number=version.number,
        ),
        commit=version.commit,
    )


def when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class HubView(APIView):
    """Bearer tokens of people, nodes and jobs. Nothing is throttled: a pull is many requests in a row."""

    authentication_classes = [TokenAuthentication]
    permission_classes = [HasToken]
    throttle_classes = []
    parser_classes = [FormParser, JSONParser]
    content_negotiation_class = AnyAccept
    schema = None

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, exceptions.AuthenticationFailed):
            error = HubError(401, "", INVALID_CREDENTIALS)
        elif isinstance(exc, exceptions.NotAuthenticated):
            error = HubError(401, "RepoNotFound", Message("Send a token: Authorization: Bearer TOKEN."))
        elif isinstance(exc, HubError):
            error = exc
        elif isinstance(exc, versions.RevisionNotFound):
            error = HubError(404, "RevisionNotFound", exc.message)
        elif isinstance(exc, UserError):
            error = HubError(exc.status, "", exc.message)
        else:
            return super().handle_exception(exc)
        response = error.response()
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="sparsewright"'
        response.exception = True  # type: ignore[attr-defined]
        return response

    def find_model(self, request: Request, namespace: str, name: str) -> Model:
        model = (
            readable_models(actor_of(request))
            .select_related("workspace")
            .filter(workspace__slug=namespace, name=name)
            .first()
        )
        if model is None:
            raise HubError(
                404,
                "RepoNotFound",
                Message(
                    "There is no model {namespace}/{name} that this token can read.", namespace=namespace, name=name
                ),
            )
        return model

    def find_version(self, request: Request, namespace: str, name: str, revision: str) -> ModelVersion:
        model = self.find_model(request, namespace, name)
        version = versions.resolve(model, revision)
        version.model = model  # its workspace is loaded
        return version


class UnknownView(HubView):
    """Whatever else is asked below /hf: repositories without a namespace, other kinds of repositories."""

    def get(self, request: Request, rest: str = "") -> HttpResponseBase:
        raise HubError(
            404, "RepoNotFound", Message("There is no such address; a model is asked for as workspace/name.")
        )

    post = put = patch = delete = get


class ResolveView(HubView):
    def get(self, request: Request, namespace: str, name: str, revision: str, path: str) -> HttpResponseBase:
        """The bytes of a file; HEAD tells commit, sha256 and size."""
        version = self.find_version(request, namespace, name, revision)
        file = None
        if "\0" not in path:
            file = version.files.select_related("blob").filter(path=path).first()
        if file is None:
            raise _entry_not_found(version, path)
        # The size once more, since some servers and proxies drop "Content-Length: 0" from the answer to a HEAD.
        headers = {"X-Repo-Commit": version.commit, "X-Linked-Size": str(file.blob.size)}
        return send(request, file, headers=headers)


class ModelView(HubView):
    def get(self, request: Request, namespace: str, name: str, revision: str = "main") -> HttpResponseBase:
        """What there is to know about a model at a revision."""
        version = self.find_version(request, namespace, name, revision)
        files = list(version.files.select_related("blob"))
        with_blobs = request.query_params.get("blobs", "").lower() in {"true", "1"}
        card = cards.front_matter(
            model=version.model, lineage=version.manifest["lineage"], report=version.report, config=version.config
        )
        answer = about(version, card) | {"siblings": siblings(files, with_blobs=with_blobs)}
        return JsonResponse(answer, headers={"X-Repo-Commit": version.commit})


def siblings(files: Iterable[VersionFile], *, with_blobs: bool = False) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"rfilename": file.path} for file in files]
    if with_blobs:
        for sibling, file in zip(found, files, strict=True):
            item = _file_item(file)
            sibling |= {"size": item["size"], "blobId": item["oid"], "lfs": {**item["lfs"], "sha256": file.blob_id}}
    return found


def about(version: ModelVersion, card: dict[str, Any]) -> dict[str, Any]:
    """What the clients know of a model at a version, but for its files."""
    model = version.model
    answer = {
        "_id": model.id.hex[:24],
        "id": model.repo_id,
        "modelId": model.repo_id,
        "author": model.workspace.slug,
        "sha": version.commit,
        "createdAt": when(model.created_at),
        "lastModified": when(version.created_at),
        "private": True,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "library_name": card["library_name"],
        "tags": card["tags"],
        "cardData": card,
        "config": {key: version.config[key] for key in ("architectures", "model_type") if key in version.config},
        "spaces": [],
    }
    if "pipeline_tag" in card:
        answer["pipeline_tag"] = card["pipeline_tag"]
    return answer


def _file_item(file: VersionFile) -> dict[str, Any]:
    size = file.blob.size
    return {
        "type": "file",
        "path": file.path,
        "size": size,
        "oid": file.blob_id[:40],
        # The size of the pointer text that git would hold in the file's stead.
        "lfs": {"oid": file.blob_id, "size": size, "pointerSize": 125 + len(str(size))},
    }


def _items(files: Iterable[VersionFile]) -> dict[str, dict[str, Any]]:
    """Every file and folder of a version by its path. A folder's oid is a digest over what it holds."""
    found = {file.path: _file_item(file) for file in files}
    folders: dict[str, Any] = {}
    for path, item in sorted(found.items()):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folders.setdefault("/".join(parts[:depth]), hashlib.sha256()).update(f"{path} {item['oid']}\n".encode())
    for path, digest in folders.items():
        found[path] = {"type": "directory", "path": path, "size": 0, "oid": digest.hexdigest()[:40]}
    return dict(sorted(found.items()))


def _expanded(item: dict[str, Any], version: ModelVersion) -> dict[str, Any]:
    commit = {"id": version.commit, "title": f"Version {version.number}", "date": when(version.created_at)}
    return {**item, "lastCommit": commit}


def flag(value: object) -> bool:
    return str(value).lower() in {"true", "1"}


def paged(request: Request, items: Any, most: int = TREE_PAGE) -> tuple[list[Any], dict[str, str]]:
    """The page of ``items`` that is asked for, of at most ``most``, and the header that leads to the next one."""
    asked = request.query_params.get("limit", "")
    # isdecimal is true of digits of every script, and int takes them all.
    size = min(int(asked), most) if asked.isdecimal() and len(asked) < 10 and int(asked) > 0 else most
    try:
        page = Paginator(items, size).page(request.query_params.get("cursor") or 1)
    except InvalidPage:
        raise HubError(400, "", Message("cursor must be taken from a Link header.")) from None
    if not page.has_next():
        return list(page), {}
    query = request._request.GET.copy()
    query["cursor"] = str(page.next_page_number())
    return list(page), {"Link": f'<{request.build_absolute_uri(request.path)}?{query.urlencode()}>; rel="next"'}


class TreeView(HubView):
    def get(self, request: Request, namespace: str, name: str, revision: str, path: str = "") -> HttpResponseBase:
        """Files and folders at the root or below ``path``, paged by ``Link: rel="next"``."""
        version = self.find_version(request, namespace, name, revision)
        path = path.strip("/")
        items = _items(version.files.select_related("blob"))
        if path and items.get(path, {}).get("type") != "directory":
            raise _entry_not_found(version, path)
        inside = f"{path}/" if path else ""
        recursive = flag(request.query_params.get("recursive"))
        listed = [
            item
            for key, item in items.items()
            if key.startswith(inside) and (recursive or "/" not in key.removeprefix(inside))
        ]
        page, link = paged(request, listed)
        expand = flag(request.query_params.get("expand"))
        chosen = [_expanded(item, version) if expand else item for item in page]
        return JsonResponse(chosen, safe=False, headers={"X-Repo-Commit": version.commit, **link})


class PathsInfoView(HubView):
    def post(self, request: Request, namespace: str, name: str, revision: str) -> HttpResponseBase:
        """The items of the paths asked for; unknown ones are left out."""
        version = self.find_version(request, namespace, name, revision)
        data: Any = request.data
        if not isinstance(data, dict):
            raise HubError(400, "", Message("Send a form or a JSON object with paths."))
        paths = data.getlist("paths") if isinstance(data, QueryDict) else data.get("paths", [])
        paths = [paths] if isinstance(paths, str) else paths
        if not isinstance(paths, list) or len(paths) > MAX_PATHS or not all(isinstance(path, str) for path in paths):
            raise HubError(400, "", Message("paths must be a list of at most {most} paths.", most=MAX_PATHS))
        items = _items(version.files.select_related("blob"))
        expand = flag(data.get("expand", ""))
        found = [items[path.strip("/")] for path in dict.fromkeys(paths) if path.strip("/") in items]
        return JsonResponse(
            [_expanded(item, version) if expand else item for item in found],
            safe=False,
            headers={"X-Repo-Commit": version.commit},
        )


class RefsView(HubView):
    def get(self, request: Request, namespace: str, name: str) -> HttpResponseBase:
        """main and the aliases as branches, the versions as tags."""
        model = self.find_model(request, namespace, name)
        versions = list(model.versions.only("number", "commit"))
        heads = {"main": versions[0].commit} if versions else {}
        heads |= {alias.name: alias.version.commit for alias in model.aliases.select_related("version")}
        tags = {f"v{version.number}": version.commit for version in versions}

        def refs(kind: str, named: dict[str, str]) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit} for name, commit in named.items()
            ]

        answer: dict[str, Any] = {"branches": refs("heads", heads), "tags": refs("tags", tags), "converts": []}
        if flag(request.query_params.get("include_prs")):
            answer["pullRequests"] = []
        return JsonResponse(answer)


class WhoAmIView(HubView):
    def get(self, request: Request) -> HttpResponseBase:
        """Whose token this is."""
        actor = actor_of(request)
        workspaces = Workspace.objects.visible_to(actor)
        token = actor.token
        return JsonResponse(
            {
                "type": "user",
                "id": str(actor.user.pk if actor.user else token.pk if token else ""),
                "name": actor.user.username if actor.user else actor.label,
                "fullname": actor.user.get_full_name() if actor.user else actor.label,
                "email": actor.user.email if actor.user else None,
                "isPro": False,
                "orgs": [{"type": "org", "name": item.slug, "fullname": item.name} for item in workspaces],
                "auth": {
                    "type": "access_token",
                    "accessToken": {"displayName": token.name if token else "", "role": "read"},
                },
            }
        )
