"""Where the platform may call: whatever a workspace names has a public address, so that the platform cannot be made to
call its own network. The address that was checked is the one that is called: a name that resolves differently a moment
later gains nothing."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from hub.accounts import names
from hub.core.errors import UserError
from pst.messages import Message

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
METADATA = {
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
}
RESERVED = ipaddress.IPv6Network("3fff::/20")
"""Documentation, which Python 3.11 counts as global."""
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class RefusedAddress(UserError):
    code = "address_refused"


class TookLong(RefusedAddress):
    """A name server that is silent."""


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


def resolve(url: str, *, trusted: bool = False, seconds: float = math.inf) -> Endpoint:
    """Where ``url`` leads now. Raises RefusedAddress with a sentence when it may not be called.

    ``trusted``: whoever runs the installation named it, so it may lie in the platform's own network, but for the
    addresses behind which clouds keep secrets. ``seconds``: for the look-up, at most what any may take. Call it
    outside a transaction: a name server may take its time.
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
    for ip in (found := _look_up(host, port, trusted, seconds)):
        # One bad address among several is refused too: nobody knows which one a retry would take.
        address = ipaddress.ip_address(ip)
        if is_of_the_machine(address):
            raise RefusedAddress(
                Message(
                    "The host {host} leads to the link-local address {ip}, which is never called.", host=host, ip=ip
                )
            )
        if not (trusted or settings.ALLOW_PRIVATE_ADDRESSES or is_public(address)):
            raise RefusedAddress(
                Message(
                    "The host {host} leads to {ip}, which is not a public address; an administrator "
                    "can allow such addresses with SPARSEWRIGHT_ALLOW_PRIVATE_ADDRESSES.",
                    host=host,
                    ip=ip,
                )
            )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(parts.scheme, host, port, found[0], path)


def _look_up(host: str, port: int, trusted: bool, seconds: float) -> list[str]:
    try:
        return names.addresses(host, port, trusted=trusted, seconds=seconds)
    except TimeoutError:
        raise TookLong(Message("The host {host} could not be looked up in time.", host=host)) from None
    except names.NotFound:
        raise RefusedAddress(Message("The host {host} cannot be found.", host=host)) from None


def is_of_the_machine(address: Address) -> bool:
    """Link-local, or another address at which clouds tell a machine its secrets; also within an IPv6 one."""
    return any(one.is_link_local or one in METADATA for one in (address, *_carried(address)))


def _carried(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 one may carry."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in NAT64:
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in carried if one is not None]


def is_public(address: Address) -> bool:
    """Routable on the Internet, also after the IPv4 address that an IPv6 one may carry is unpacked."""
    if isinstance(address, ipaddress.IPv6Address):
        if not all(is_public(one) for one in _carried(address)):
            return False
        if address.ipv4_mapped is not None:
            return True
        if address.is_site_local or address in RESERVED:  # fec0::/10, which ipaddress counts as global
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
