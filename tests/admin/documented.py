"""Calls made from the OpenAPI document. What makes them takes seconds to import."""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.generation.hypothesis.builder import (
    HypothesisTestConfig,
    HypothesisTestMode,
    create_test,
)

from gateway.admin.api import ROUTES
from gateway.admin.openapi import document

SEED = 1

# The document as the gateway serves it (one test compares).
schema = schemathesis.openapi.from_dict(orjson.loads(orjson.dumps(document(ROUTES))))
load_all_checks()


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def _call(case: schemathesis.Case[Any], address: str, headers: dict[str, str]) -> None:
    answer = case.call_and_validate(base_url=address, headers=headers)
    assert answer.headers["cache-control"] == ["no-store"]
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == ["application/problem+json"]
        assert answer.json()["detail"]


@cache
def _operations() -> dict[str, Any]:
    good = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
    return {each.label: each for each in good}


def check_call(name: str, address: str, headers: dict[str, str]) -> None:
    """Make one call of the document in every way: its examples, its limits, and at random."""
    config = HypothesisTestConfig(schema.config, modes=list(HypothesisTestMode), seed=SEED)
    test = create_test(operation=_operations()[name], test_func=_call, config=config)
    test(address=address, headers=headers)


def check_served(address: str, headers: dict[str, str]) -> None:
    """Compare the document that is served."""
    served = schemathesis.openapi.from_url(f"{address}/openapi.json", headers=headers)
    assert served.raw_schema == schema.raw_schema
    assert served.specification.version.startswith("3.1")
    served.validate()
