"""The OpenAPI document against the running gateway: what it says is what happens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from gateway.embedded import EmbeddedValkey
from tests import servers

TOKEN = "gwa_openapi"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="session")
def api(valkey: EmbeddedValkey) -> Iterator[schemathesis.BaseSchema]:
    """The document of a gateway of its own, and with it the way to call it."""
    port = servers.free_port()
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    config = f"""
[check]
listen = ["127.0.0.1:{servers.free_port()}"]
drain = "0s"
[admin]
listen = ["127.0.0.1:{port}"]
tokens = [{{ name = "all", sha256 = "{digest}",
             scopes = ["sessions:read", "sessions:write", "metrics"] }}]
[redis]
url = "{valkey.url}"
prefix = "openapi:"
[log]
level = "error"
"""
    with servers.start_gateway(config) as gateway:
        yield schemathesis.openapi.from_url(
            f"http://127.0.0.1:{port}/openapi.json", headers=HEADERS
        )
        assert gateway.running, gateway.log()
        assert gateway.log().strip() == "output.log:", gateway.log()


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_call_does_what_the_document_says(case: schemathesis.Case) -> None:
    """Whatever is sent, valid or not: no fault, only documented answers, of documented shape."""
    case.call_and_validate(headers=HEADERS)


def test_the_document_is_valid(api: schemathesis.BaseSchema) -> None:
    """Each schema in the document is a JSON schema of the dialect of OpenAPI 3.1."""
    raw = api.raw_schema
    for each in raw["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(each)
    for item in raw["paths"].values():
        for operation in item.values():
            for body in operation.get("requestBody", {}).get("content", {}).values():
                jsonschema.Draft202012Validator.check_schema(body["schema"])
