"""No webhook reaches what only this network can reach, however its address is spelt."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from gateway.webhooks.addresses import AddressRefused, guarded_socket, require_allowed

REFUSED = (
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "ff0e::1",
    "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::",
    "2002:a9fe:a9fe::", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1",
    "::7f00:1", "5f00::1", "4000::1", "192.0.0.192", "192.0.0.9", "192.88.99.1", "168.63.129.16",
    "::ffff:168.63.129.16", "64:ff9b::c000:c0", "2002:c000:c0::", "3fff::1", "3fff:fff::1",
)  # fmt: skip
PUBLIC = ("93.184.215.14", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8")


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused, match="allow_networks"):
        require_allowed(address, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_called(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with guarded_socket((family, socket.SOCK_STREAM, 6, "", (address, 443)), ()) as made:
        assert made.family == family


def test_only_the_networks_that_are_named_are_allowed() -> None:
    allowed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))
    require_allowed("10.1.2.3", allowed)
    require_allowed("::ffff:10.1.2.3", allowed)
    require_allowed("fd12::1", allowed)
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "127.0.0.1", "fe80::1"):
        with pytest.raises(AddressRefused):
            require_allowed(address, allowed)
    with pytest.raises(AddressRefused):  # the address itself is allowed, the one inside is not
        require_allowed("64:ff9b::7f00:1", (ipaddress.ip_network("64:ff9b::/96"),))


def test_no_socket_is_made_for_a_refused_address() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
    with pytest.raises(AddressRefused):
        guarded_socket(info, ())
    guarded_socket(info, (ipaddress.ip_network("127.0.0.0/8"),)).close()
