"""The one way in which the platform calls others: webhooks' receivers, and serving nodes that are asked through it.

The address is resolved and checked once and then called as checked (:mod:`hub.accounts.addresses`). No proxy of the
environment, no redirect: both would lead elsewhere. The whole call has a deadline, and an answer a size.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import httpx

from hub.accounts.addresses import Endpoint, resolve


class CallFailed(Exception):
    """No answer; the text says why, in English."""


class TookTooLong(CallFailed):
    pass


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, trusted: bool, seconds: float, max_bytes: int = 0
) -> tuple[int, bytes]:
    """POST and return the status and the answer, of which at most ``max_bytes`` are read; with 0 none is.
    In ``seconds`` all of it ends, the look-up of the host too.

    ``trusted``: see :func:`~hub.accounts.addresses.resolve`. Raises RefusedAddress, :class:`TookTooLong` and
    :class:`CallFailed`.
    """
    ends = time.monotonic() + seconds
    endpoint = resolve(url, trusted=trusted, seconds=seconds)
    try:
        return asyncio.run(_post(endpoint, body, headers, max(0.0, ends - time.monotonic()), max_bytes))
    except (TimeoutError, httpx.TimeoutException):
        raise TookTooLong(f"no answer within {seconds:g} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise CallFailed(f"{type(error).__name__}: {error}") from None


async def _post(
    endpoint: Endpoint, body: bytes, headers: Mapping[str, str], seconds: float, max_bytes: int
) -> tuple[int, bytes]:
    # Asynchronous for the deadline's sake: httpx alone limits each read, not their sum.
    own = {**headers, "Host": endpoint.authority, "Content-Type": "application/json"}
    sent = {"sni_hostname": endpoint.host}
    async with (
        asyncio.timeout(seconds),
        httpx.AsyncClient(timeout=seconds, trust_env=False, follow_redirects=False) as client,
        client.stream("POST", endpoint.url, content=body, headers=own, extensions=sent) as response,
    ):
        if not max_bytes:
            return response.status_code, b""
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > max_bytes:
                raise httpx.HTTPError("the answer is too long")
            parts.append(part)
        return response.status_code, b"".join(parts)
