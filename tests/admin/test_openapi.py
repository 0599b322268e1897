"""The OpenAPI document against the running gateway: what it says is what happens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from gateway.admin.api import ROUTES
from gateway.admin.openapi import document
from gateway.embedded import EmbeddedValkey
from tests import servers

TOKEN = "gwa_openapi"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


# The document as the gateway serves it (the last test compares); here for one test per call.
schema = schemathesis.openapi.from_dict(orjson.loads(orjson.dumps(document(ROUTES))))


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


@schema.parametrize()
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_call_does_what_the_document_says(case: schemathesis.Case[Any], address: str) -> None:
    """Whatever is sent, valid or not: no fault, only documented answers, of documented shape.

    No cache may keep any of them, and every refusal says why as a problem (RFC 9457).
    """
    answer = case.call_and_validate(base_url=address, headers=HEADERS)
    assert answer.headers["cache-control"] == ["no-store"]
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == ["application/problem+json"]
        assert answer.json()["detail"]


def test_the_document_served_is_valid_and_the_one_tested(address: str) -> None:
    """The gateway serves this document, and it is a valid one of OpenAPI 3.1."""
    served = schemathesis.openapi.from_url(f"{address}/openapi.json", headers=HEADERS)
    assert served.raw_schema == schema.raw_schema
    assert served.specification.version.startswith("3.1")
    served.validate()
