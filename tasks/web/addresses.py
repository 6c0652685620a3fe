"""The addresses a pattern with a star may reach: a name is resolved once, and what was found is kept to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

from tasks.effects.calls import NotPerformed
from workflows.core.text.cut_text import cut

if TYPE_CHECKING:
    import httpx2

_TRIED = 4
"""Addresses of one name that are tried."""
_EMBEDDED = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "::/96",  # IPv4-compatible
            "::ffff:0:0/96",  # IPv4-mapped
            "::ffff:0:0:0/96",  # IPv4-translated
            "64:ff9b::/96",  # NAT64
            "64:ff9b:1::/48",  # NAT64 of a site
            "2001::/32",  # Teredo
            "2002::/16",  # 6to4
        ),
    )
)
"""Each address of these stands for one of IPv4, which whoever routes it decides to be inside or not."""
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "5f00::/16")))
"""Set apart for protocols and documents (RFC 6890, 7526, 9637, 9602); older Pythons take some for public."""
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


def is_public(address: str) -> bool:
    """Whether an address can only be one of the open internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # with a zone (fe80::1%eth0), or no address
        return False
    if isinstance(found, ipaddress.IPv6Address) and (
        found.scope_id is not None
        or any(found in network for network in _EMBEDDED)
        or found.packed[8:12] in _ISATAP
        or found.is_site_local
    ):
        return False
    if any(found in network for network in _SPECIAL if network.version == found.version):
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


async def public_addresses(host: str) -> list[str]:
    """The public addresses of a host, to connect to instead of its name. Raises NotPerformed for none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NotPerformed(f"{cut(host, 200)} has no address.") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    public = [address for address in addresses if is_public(address)]
    if not public:
        raise NotPerformed(f"{cut(host, 200)} is an address inside this network.")
    return public[:_TRIED]


def at_address(client: httpx2.AsyncClient, request: httpx2.Request, address: str) -> httpx2.Request:
    """The same request to an address. The other side, and its certificate, are still known by the name."""
    url = request.url
    name = url.raw_host.decode("ascii").rstrip(".")
    known = {} if _is_address(name) else {"sni_hostname": name}
    return client.build_request(
        request.method,
        url.copy_with(host=address),
        headers={**request.headers, "host": url.netloc.decode("ascii")},
        content=request.content or None,
        extensions={**request.extensions, **known},
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
