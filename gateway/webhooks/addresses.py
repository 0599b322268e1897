"""Keeps webhooks away from what only this network can reach (server-side request forgery).

The judgement is made where a socket is about to be connected, of the very address that it goes to:
whatever a name, a redirect or an odd spelling leads to, there is no other way.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable, Sequence

from aiohttp import AddrInfoType

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is given out to anybody
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are IPv4

# Not for everybody, though Python's table, which changes with its versions, does not say so of all.
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # IETF protocols, RFC 6890; a cloud's metadata
            "192.88.99.0/24",  # 6to4 relays, RFC 7526
            "168.63.129.16/32",  # what Azure's machines ask of their host
            "3fff::/20",  # documentation, RFC 9637
        ),
    )
)


class AddressRefused(OSError):
    """The address is not a public one, and is not allowed either."""


def guarded_socket(info: AddrInfoType, allowed: Sequence[Network]) -> socket.socket:
    """Return a socket for this address; raises AddressRefused if it may not be called."""
    family, kind, protocol, _, address = info
    require_allowed(str(address[0]), allowed)
    return socket.socket(family, kind, protocol)


def require_allowed(text: str, allowed: Sequence[Network]) -> None:
    """Raise AddressRefused unless the address, and any that it stands for, may be called."""
    for each in _meant(ipaddress.ip_address(text.partition("%")[0])):
        if not _is_public(each) and not any(each in network for network in allowed):
            what = f"{text} is not a public address; see allow_networks"
            raise AddressRefused(errno.EACCES, what)


def _meant(address: Address) -> Iterable[Address]:
    """Return the address to which it leads: some IPv6 addresses hold an IPv4 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:  # the same as the IPv4 address, in another spelling
        return [address.ipv4_mapped]
    inner: list[Address] = [] if address.sixtofour is None else [address.sixtofour]
    if address in _NAT64:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return [address, *inner]


def _is_public(address: Address) -> bool:
    if address.version == 6 and not any(address in network for network in (_UNICAST, _NAT64)):
        return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast
