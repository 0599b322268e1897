"""The OpenAPI document against the running gateway: what it says is what happens."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest

from gateway.admin.api import ROUTES
from gateway.embedded import EmbeddedValkey
from tests import servers

TOKEN = "gwa_openapi"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="session")
def address(valkey: EmbeddedValkey) -> Iterator[str]:
    """Where a gateway answers; at the end it must still run and have nothing to complain of."""
    port = servers.free_port()
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    config = f"""
[check]
listen = ["127.0.0.1:{servers.free_port()}"]
drain = "0s"
[admin]
listen = ["127.0.0.1:{port}"]
[[admin.tokens]]
name = "all"
sha256 = "{digest}"
scopes = ["sessions:read", "sessions:write", "events:read", "metrics"]
[redis]
url = "{valkey.url}"
prefix = "openapi:"
partitions = 256  # so that every id of the documented shape is one that could be
[log]
level = "error"
"""
    with servers.start_gateway(config) as gateway:
        yield f"http://127.0.0.1:{port}"
        assert gateway.running, gateway.log()
        assert '"level"' not in gateway.log(), gateway.log()


@pytest.fixture(scope="module")
def documented() -> ModuleType:
    """No other test, and no process that only collects this one, needs what is imported here."""
    return importlib.import_module("tests.admin.documented")


@pytest.mark.parametrize("call", [f"{each.method} {each.path}" for each in ROUTES])
def test_every_call_does_what_the_document_says(
    documented: ModuleType, address: str, call: str
) -> None:
    """Whatever is sent, valid or not: no fault, only documented answers, of documented shape.

    No cache may keep any of them, and every refusal says why as a problem (RFC 9457).
    """
    documented.check_call(call, address, HEADERS)


def test_the_document_served_is_valid_and_the_one_tested(
    documented: ModuleType, address: str
) -> None:
    """The gateway serves this document, and it is a valid one of OpenAPI 3.1."""
    documented.check_served(address, HEADERS)
