"""Where the platform may call. Webhooks go to public addresses by http or https, so that it cannot be made to call its
own network, in which its serving nodes are. The address that was checked is the one that is called: a name that
resolves differently a moment later gains nothing."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from hub.core.errors import UserError
from pst.messages import Message

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class RefusedAddress(UserError):
    code = "address_refused"


@dataclass(frozen=True)
class Endpoint:
    """``ip`` to connect to, for the ``host`` and ``port`` of a URL."""

    scheme: str
    host: str
    port: int
    ip: str
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        ip = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{self.scheme}://{ip}:{self.port}{self.path}"


def resolve(url: str, *, inner: bool = False) -> Endpoint:
    """Where ``url`` leads now. Raises RefusedAddress with a sentence when it may not be called.

    ``inner``: it may lie in the platform's own network, but for link-local addresses: behind them clouds keep secrets.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode("ascii"), parts.port
        if any(character <= " " or character == "\x7f" for character in url):
            raise ValueError("white space in a URL")
    except ValueError:  # UnicodeError is one too
        raise RefusedAddress(Message("The address is not a URL.")) from None
    if parts.scheme not in {"http", "https"} or not host:
        raise RefusedAddress(Message("The address must start with http:// or https:// and name a host."))
    if parts.username is not None or parts.password is not None:
        raise RefusedAddress(
            Message("The address must not carry a user name or password; check the signature instead.")
        )
    port = port or (443 if parts.scheme == "https" else 80)
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise RefusedAddress(Message("The host {host} cannot be found.", host=host)) from None
    found = [str(answer[4][0]).partition("%")[0] for answer in answers]
    if inner:
        for ip in found:
            if _is_link_local(ipaddress.ip_address(ip)):
                raise RefusedAddress(
                    Message(
                        "The host {host} leads to the link-local address {ip}, which is never called.", host=host, ip=ip
                    )
                )
    elif not settings.WEBHOOKS_ALLOW_PRIVATE:
        # One private address among several is refused too: nobody knows which one a retry would take.
        for ip in found:
            if not is_public(ipaddress.ip_address(ip)):
                raise RefusedAddress(
                    Message(
                        "The host {host} leads to {ip}, which is not a public address; an administrator "
                        "can allow such receivers with SPARSEWRIGHT_WEBHOOKS_ALLOW_PRIVATE.",
                        host=host,
                        ip=ip,
                    )
                )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(parts.scheme, host, port, found[0], path)


def _is_link_local(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_link_local
    return address.is_link_local


def is_public(address: Address) -> bool:
    """Routable on the Internet, also after the IPv4 address that an IPv6 one may carry is unpacked."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in NAT64:
            carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(inner is not None and not is_public(inner) for inner in carried):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast and not address.is_reserved
