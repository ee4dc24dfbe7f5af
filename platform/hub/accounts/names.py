"""The addresses of a host's name, in a bounded time.

Names that a workspace chose are asked of the name servers from here, so that a look-up ends when its time is over: the
system's own (getaddrinfo) has no time limit, and each name whose server is silent would hold a thread for as long as
the system likes. Names that whoever runs the installation chose are looked up by the system, with all that it may have
besides a hosts file and DNS.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.exception
import dns.resolver

SECONDS = 5.0
HOSTS = Path("/etc/hosts")
SYSTEM = ThreadPoolExecutor(8, "look-up")


class NotFound(Exception):
    pass


def addresses(host: str, port: int, *, trusted: bool, seconds: float = math.inf) -> list[str]:
    """Of ``host``, the one to call first. Raises TimeoutError after ``seconds``, :data:`SECONDS` at most, and
    :class:`NotFound`."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host.partition("%")[0]))]
    seconds = min(seconds, SECONDS)
    found = _system(host, port, seconds) if trusted else _hosts(host) or _dns(host, seconds)
    return sorted(found, key=lambda address: not _routed(address, port))


def resolver() -> dns.resolver.Resolver:
    """As the system's file says now."""
    return dns.resolver.Resolver()


def _dns(host: str, seconds: float) -> list[str]:
    try:
        return list(resolver().resolve_name(host, lifetime=seconds, search=True).addresses())
    except dns.exception.Timeout:
        raise TimeoutError from None
    except dns.exception.DNSException as error:
        raise NotFound(str(error)) from None


def _hosts(host: str) -> list[str]:
    """By the hosts file, as containers and small networks have it."""
    found = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in HOSTS.read_text().splitlines():
            address, *names = line.partition("#")[0].split() or [""]
            if host.lower() in (name.lower() for name in names):
                found.append(address.partition("%")[0])
    return found


def _system(host: str, port: int, seconds: float) -> list[str]:
    asked = SYSTEM.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        answers = asked.result(seconds)
    except TimeoutError:
        asked.cancel()  # where it only waited for others
        raise
    except OSError as error:
        raise NotFound(str(error)) from None
    return [str(answer[4][0]).partition("%")[0] for answer in answers]


def _routed(address: str, port: int) -> bool:
    """Whether this machine has a way to it, such as one for IPv6 at all. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as tried:
            tried.connect((address, port))
    except OSError:
        return False
    return True
