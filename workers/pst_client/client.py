"""The only code of the workers, the serving node and the command line that speaks HTTP to the platform.

:class:`Http` sends requests, tries again what may be tried again, and streams files; :class:`Platform` groups the
platform's operations by noun. Every failure is a :class:`~pst_client.errors.PlatformError`.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from pst.messages import Message
from pst_client.api.accounts import Accounts
from pst_client.api.datasets import Datasets
from pst_client.api.jobs import Jobs
from pst_client.api.models import Models
from pst_client.api.serving import Node, Serving
from pst_client.api.worker import Worker
from pst_client.errors import Damaged, PlatformError, Unreachable

API = "/api/v1"
CHUNK = 1 << 20
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
# Nothing was sent, so the request can't have had an effect.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
BUSY = frozenset({502, 503, 504})
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0


def segment(text: str) -> str:
    """One segment of an address: everything quoted, slashes too."""
    return quote(text, safe="")


class Http:
    """HTTP with a Bearer token, retries with growing pauses, and the platform's one error shape. Thread-safe.

    Tried again: what never left this machine, and idempotent requests that found no answer or a busy server
    (502, 503, 504); any request that was refused for its rate (429), after the pause that the server asks for.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        tries: int = 5,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if not re.match(r"^https?://[^/]", url):
            raise PlatformError(
                "invalid",
                Message(
                    "{url} is not the address of a platform: it must start with http:// or https://.", url=repr(url)
                ),
            )
        self.url = url.rstrip("/")
        self.token = token
        self.tries = tries
        self._sleep = sleep
        self._client = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)), transport=transport)

    def close(self) -> None:
        self._client.close()

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Send a request and return the answer's JSON, or None for an empty answer. ``path`` starts with a slash."""
        response = self.request(method, path, **options)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise self._strange(path, response.status_code) from None

    def mapping(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request that is answered with a JSON object."""
        found = self.json(method, path, **options)
        if not isinstance(found, dict):
            raise self._strange(path, 200)
        return found

    def pages(self, path: str, params: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Every result of a list, fetched page by page."""
        page = 1
        while True:
            answer = self.mapping("GET", path, params={**(params or {}), "page": page})
            if not isinstance(answer.get("results"), list):
                raise self._strange(path, 200)
            yield from answer["results"]
            if answer.get("next") is None:
                return
            page += 1

    def _strange(self, path: str, status: int) -> PlatformError:
        if (origin := self._origin(path)) == self.url:
            message = Message(
                "{url} gave no such answer to {path} as the platform does: is it the platform's address?",
                url=origin,
                path=path,
            )
        else:
            message = Message("{url} gave no such answer as a serving node does: is it a node's address?", url=origin)
        return PlatformError("not_json", message, status=status)

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        idempotent: bool | None = None,
        tries: int | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Send a request. ``token`` replaces the client's own. ``options`` are httpx's (``json``, ``params``,
        ``files``, ``timeout``, …); ``content`` may be a function that makes the body, so that it can be sent again."""
        again = idempotent if idempotent is not None else method in IDEMPOTENT
        make_content = options.pop("content", None)
        most = tries or self.tries
        for attempt in range(1, most + 1):
            last = attempt == most
            if make_content is not None:
                options["content"] = make_content() if callable(make_content) else make_content
            try:
                response = self._client.request(
                    method, self._address(path), headers=self._headers(token, headers), **options
                )
            except ValueError as error:  # of JSON: not a number, infinity, or half of a character
                message = Message("This can't be sent to {url}: {reason}.", url=self._origin(path), reason=error)
                raise PlatformError("invalid", message) from error
            except httpx.TransportError as error:
                if last or not (again or isinstance(error, NOT_SENT)):
                    raise self._unreachable(path, error) from error
                self._pause(attempt, None)
                continue
            if not last and (response.status_code == 429 or (again and response.status_code in BUSY)):
                self._pause(attempt, response.headers.get("Retry-After"))
                continue
            self._check(response)
            return response
        raise AssertionError("unreachable: the last try returns or raises")

    def upload(
        self,
        path: str,
        source: Path,
        *,
        sent: Callable[[int], object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """PUT a file's bytes as they lie on disk, streamed. ``sent`` hears the number of bytes sent so far."""

        def body() -> Iterator[bytes]:
            done = 0
            with source.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
                    done += len(chunk)
                    if sent is not None:
                        sent(done)

        framing = {"Content-Type": "application/octet-stream", "Content-Length": str(source.stat().st_size)}
        return self.json("PUT", path, content=body, headers={**framing, **(headers or {})})

    def download(
        self,
        path: str,
        target: Path,
        *,
        sha256: str | None = None,
        size: int | None = None,
        token: str | None = None,
        received: Callable[[int], object] | None = None,
    ) -> None:
        """GET a file to ``target``, streamed. A broken download goes on where it stopped, also in a later call.

        ``target`` appears only when it is whole. Raises :class:`Damaged` when hash or size differ.
        """
        part = target.with_name(target.name + ".part")
        target.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists()
        self._fetch_patiently(path, part, token=token, received=received)
        problem = mismatch(part, target.name, sha256, size)
        if problem is not None and resumed:
            # What lay there may have been a piece of another file.
            part.unlink()
            self._fetch_patiently(path, part, token=token, received=received)
            problem = mismatch(part, target.name, sha256, size)
        if problem is not None:
            part.unlink()
            raise Damaged(problem)
        part.replace(target)

    def _fetch_patiently(
        self, path: str, part: Path, *, token: str | None, received: Callable[[int], object] | None
    ) -> None:
        for attempt in range(1, self.tries + 1):
            try:
                self._fetch(path, part, token=token, received=received)
                return
            except httpx.TransportError as error:
                if attempt == self.tries:
                    raise self._unreachable(path, error) from error
            except PlatformError as error:
                if attempt == self.tries or error.status not in BUSY | {429}:
                    raise
            self._pause(attempt, None)

    def _fetch(self, path: str, part: Path, *, token: str | None, received: Callable[[int], object] | None) -> None:
        start = part.stat().st_size if part.exists() else 0
        ranged = {"Range": f"bytes={start}-"} if start else {}
        # Hashes are over the file's own bytes, so no encoding on the way.
        headers = self._headers(token, {"Accept-Encoding": "identity", **ranged})
        with self._client.stream("GET", self._address(path), headers=headers) as response:
            if start and response.status_code == 416:
                # Either the part is whole already, or it belongs to another file: the check of the hash tells.
                if response.headers.get("Content-Range") == f"bytes */{start}":
                    return
                part.unlink()
                raise httpx.ReadError("the part on disk is longer than the file", request=response.request)
            if response.is_error:
                response.read()
            self._check(response)
            mode = "ab" if start and response.status_code == 206 else "wb"
            done = start if mode == "ab" else 0
            with part.open(mode) as file:
                for chunk in response.iter_bytes():  # as they come, so that a break loses none
                    file.write(chunk)
                    done += len(chunk)
                    if received is not None:
                        received(done)

    def _address(self, path: str) -> str:
        return path if path.startswith(("http://", "https://")) else self.url + path

    def _headers(self, token: str | None, extra: Mapping[str, str] | None) -> dict[str, str]:
        secret = token if token is not None else self.token
        authorization = {"Authorization": f"Bearer {secret}"} if secret else {}
        return {"Accept": "application/json, */*", **authorization, **(extra or {})}

    def _pause(self, attempt: int, retry_after: str | None) -> None:
        wait = min(FIRST_WAIT_SECONDS * 2 ** (attempt - 1), LONGEST_WAIT_SECONDS)
        if retry_after is not None and retry_after.isdigit():
            wait = max(wait, min(float(retry_after), 60.0))
        self._sleep(wait * random.uniform(0.75, 1.25))  # noqa: S311 (spreads retries, guards nothing)

    def _origin(self, path: str) -> str:
        """Whom a request is for: the platform, or another server by its own address."""
        if path == self.url or not path.startswith(("http://", "https://")) or path.startswith(self.url + "/"):
            return self.url
        return "/".join(path.split("/", 3)[:3])

    def _unreachable(self, path: str, error: httpx.TransportError) -> Unreachable:
        reason = str(error) or type(error).__name__
        return Unreachable(
            Message(
                "{url} can't be reached ({reason}). Check the address and that the server runs.",
                url=self._origin(path),
                reason=reason,
            )
        )

    def _check(self, response: httpx.Response) -> None:
        if not response.is_error:
            return
        status = response.status_code
        try:
            error = response.json()["error"]
            raise PlatformError(error["code"], error["message"], error.get("details"), status)
        except (ValueError, KeyError, TypeError):
            message = response.headers.get("X-Error-Message") or Message(
                "{url} answered with status {status}.", url=response.request.url, status=status
            )
            raise PlatformError(
                response.headers.get("X-Error-Code", f"http_{status}"), message, status=status
            ) from None


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mismatch(path: Path, name: str, sha256: str | None, size: int | None) -> str | None:
    """What tells the file from the one that was asked for, if anything."""
    if size is not None and (found := path.stat().st_size) != size:
        return Message("{name} arrived with {found} bytes instead of {size}.", name=name, found=found, size=size)
    if sha256 is not None and (digest := file_sha256(path)) != sha256:
        return Message(
            "{name} arrived damaged: its sha256 is {digest}, not {sha256}.", name=name, digest=digest, sha256=sha256
        )
    return None


class Platform:
    """The platform at ``url``, as the holder of ``token`` may use it. Close it, or use it as a context manager."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        tries: int = 5,
    ) -> None:
        self.http = Http(url, token, timeout=timeout, transport=transport, tries=tries)
        self.accounts = Accounts(self.http)
        self.datasets = Datasets(self.http)
        self.jobs = Jobs(self.http)
        self.models = Models(self.http)
        self.serving = Serving(self.http)
        self.worker = Worker(self.http)
        self.node = Node(self.http)

    @property
    def url(self) -> str:
        return self.http.url

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
