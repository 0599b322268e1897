"""The recipes for Kubernetes.

Core kinds are held against Kubernetes' own schemas (strictly: an unknown field fails). Of the
others (Istio, Envoy Gateway, Gateway API, Traefik) no package brings schemas, so the fields that
are used are listed here, as their references name them. What Istio hands to Envoy, Envoy reads.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.adapters.ext_authz_http import PREFIX
from gateway.adapters.listener import ADAPTERS, BELOW
from gateway.config import load
from gateway.config.settings import Assertion
from gateway.identity import HEADERS
from tests import servers

FOLDER = servers.ROOT / "deploy" / "k8s"
FILES = sorted(FOLDER.glob("*.yaml"))
VERSIONS = ("1.30", "1.37")
SERVICE = "gateway.gateway.svc.cluster.local"
PORT = 9180

# For each kind without a schema, every path that may occur; "[]" are the items of a list.
FIELDS = {
    ("security.istio.io/v1", "AuthorizationPolicy"): {
        *("spec.selector.matchLabels.istio", "spec.action", "spec.provider.name", "spec.rules[]"),
    },
    ("networking.istio.io/v1alpha3", "EnvoyFilter"): {
        *("spec.workloadSelector.labels.istio", "spec.configPatches[].applyTo"),
        "spec.configPatches[].match.context",
        "spec.configPatches[].match.listener.filterChain.filter.name",
        "spec.configPatches[].patch.operation",
        "spec.configPatches[].patch.value",
    },
    ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"): {
        *("spec.targetRefs[].group", "spec.targetRefs[].kind", "spec.targetRefs[].name"),
        *("spec.extAuth.failOpen", "spec.extAuth.headersToExtAuth[]", "spec.extAuth.http.path"),
        "spec.extAuth.http.backendRefs[].name",
        "spec.extAuth.http.backendRefs[].namespace",
        "spec.extAuth.http.backendRefs[].port",
        "spec.extAuth.http.headersToBackend[]",
    },
    ("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy"): {
        *("spec.targetRefs[].group", "spec.targetRefs[].kind", "spec.targetRefs[].name"),
        *("spec.path.disableMergeSlashes", "spec.path.escapedSlashesAction"),
        *("spec.headers.withUnderscoresAction", "spec.headers.earlyRequestHeaders.remove[]"),
    },
    ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"): {
        *("spec.from[].group", "spec.from[].kind", "spec.from[].namespace"),
        *("spec.to[].group", "spec.to[].kind", "spec.to[].name"),
    },
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): {
        *("spec.parentRefs[].name", "spec.hostnames[]"),
        *("spec.rules[].matches[].path.type", "spec.rules[].matches[].path.value"),
        *("spec.rules[].filters[].type", "spec.rules[].filters[].externalAuth.protocol"),
        "spec.rules[].filters[].externalAuth.backendRef.name",
        "spec.rules[].filters[].externalAuth.backendRef.namespace",
        "spec.rules[].filters[].externalAuth.backendRef.port",
        "spec.rules[].filters[].externalAuth.http.path",
        "spec.rules[].filters[].externalAuth.http.allowedHeaders[]",
        "spec.rules[].filters[].externalAuth.http.allowedResponseHeaders[]",
        *("spec.rules[].backendRefs[].name", "spec.rules[].backendRefs[].port"),
    },
    ("traefik.io/v1alpha1", "Middleware"): {
        *("spec.chain.middlewares[].name", "spec.headers.customRequestHeaders"),
        *("spec.forwardAuth.address", "spec.forwardAuth.trustForwardHeader"),
        *("spec.forwardAuth.authRequestHeaders[]", "spec.forwardAuth.authResponseHeaders[]"),
        "spec.forwardAuth.maxResponseBodySize",
    },
    ("traefik.io/v1alpha1", "IngressRoute"): {
        *("spec.entryPoints[]", "spec.routes[].kind", "spec.routes[].match"),
        *("spec.routes[].middlewares[].name", "spec.tls.secretName"),
        *("spec.routes[].services[].name", "spec.routes[].services[].port"),
    },
}
# Free-form below these paths.
OPEN = ("spec.configPatches[].patch.value", "spec.headers.customRequestHeaders")


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def named(file: str, kind: str, name: str = "") -> dict[str, Any]:
    """Return the one document of this kind (and name) in a recipe."""
    [found] = [
        each
        for each in documents(FOLDER / file)
        if each["kind"] == kind and name in ("", each["metadata"]["name"])
    ]
    return found


def leaves(value: Any, path: str) -> Iterator[str]:
    """Yield the path of every value."""
    if path in OPEN:
        yield path
    elif isinstance(value, dict) and value:
        for key, below in value.items():
            yield from leaves(below, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, f"{path}[]")
    else:
        yield path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_of_a_known_form(path: Path, version: str) -> None:
    assert documents(path)
    for document in documents(path):
        known = FIELDS.get((document["apiVersion"], document["kind"]))
        if known is None:
            kubernetes_validate.validate(document, version, strict=True)
        else:
            assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
            assert set(document["metadata"]) == {"name", "namespace"}
            assert set(leaves(document["spec"], "spec")) <= known


def test_the_check_of_forms_refuses_a_misspelt_field() -> None:
    policy = named("envoy-gateway.yaml", "SecurityPolicy")
    policy["spec"]["extAuth"]["failopen"] = True
    known = FIELDS[policy["apiVersion"], policy["kind"]]
    assert set(leaves(policy["spec"], "spec")) - known == {"spec.extAuth.failopen"}
    deployment = named("gateway.yaml", "Deployment")
    deployment["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


# --- the gateway -----------------------------------------------------------------------------


def test_the_configuration_is_one_that_the_gateway_takes(tmp_path: Path) -> None:
    text = named("gateway.yaml", "ConfigMap")["data"]["gateway.toml"]
    (tmp_path / "url").write_text("redis://redis.redis.svc:6379/0\n")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_text("")
    for folder in ("/etc/gateway/redis", "/etc/gateway/tls"):
        text = text.replace(folder, str(tmp_path))
    config = tmp_path / "gateway.toml"
    config.write_text(text)
    loaded = load(str(config), {})
    assert [problem for problem in loaded.problems if "tls" not in problem.place] == []


def test_ports_probes_and_patience_fit_the_configuration() -> None:
    config = tomllib.loads(named("gateway.yaml", "ConfigMap")["data"]["gateway.toml"])
    pod = named("gateway.yaml", "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert config["check"]["listen"] == [f"0.0.0.0:{ports['check']}"]
    assert config["admin"]["listen"] == [f"0.0.0.0:{ports['admin']}"]
    drain = int(config["check"]["drain"].removesuffix("s"))
    assert pod["terminationGracePeriodSeconds"] >= 2 * drain + 15
    mounted = [each["mountPath"] for each in container["volumeMounts"]]
    for file in (config["redis"]["url_file"], config["admin"]["tls_key"], container["args"][-1]):
        assert any(file.startswith(folder) for folder in mounted)
    readiness = container["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < drain
    assert (readiness["httpGet"]["path"], container["livenessProbe"]["httpGet"]["path"]) == (
        "/readyz",
        "/healthz",
    )


@pytest.mark.parametrize("file", ["gateway.yaml", "sidecar.yaml"])
def test_containers_may_do_nothing_that_they_need_not(file: str) -> None:
    pod = named(file, "Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}


def test_only_proxies_reach_the_check_port_and_only_the_application_the_admin_port() -> None:
    rules = named("gateway.yaml", "NetworkPolicy")["spec"]["ingress"]
    reach = {
        rule["ports"][0]["port"]: rule["from"][0]["namespaceSelector"]["matchLabels"]
        for rule in rules
    }
    assert {port: set(labels.values()) for port, labels in reach.items()} == {
        9180: {"ingress-nginx"},
        9182: {"application"},
    }
    assert all(rule["from"] and len(rule["ports"]) == 1 for rule in rules)


# --- the proxies -----------------------------------------------------------------------------


def istio() -> dict[str, Any]:
    mesh = yaml.safe_load(named("istio.yaml", "ConfigMap")["data"]["mesh"])
    [provider] = mesh["extensionProviders"]
    assert set(provider) == {"name", "envoyExtAuthzHttp"}
    settings: dict[str, Any] = provider["envoyExtAuthzHttp"]
    return settings


def envoy_gateway() -> dict[str, Any]:
    settings: dict[str, Any] = named("envoy-gateway.yaml", "SecurityPolicy")["spec"]["extAuth"]
    return settings


def gateway_api() -> dict[str, Any]:
    [rule] = named("gateway-api.yaml", "HTTPRoute")["spec"]["rules"]
    [only] = rule["filters"]
    assert only["type"] == "ExternalAuth"
    settings: dict[str, Any] = only["externalAuth"]
    return settings


def traefik() -> dict[str, Any]:
    middleware = named("traefik.yaml", "Middleware", "ask-gateway")
    settings: dict[str, Any] = middleware["spec"]["forwardAuth"]
    return settings


def ingress_nginx() -> dict[str, str]:
    prefix = "nginx.ingress.kubernetes.io/"
    annotations = named("ingress-nginx.yaml", "Ingress")["metadata"]["annotations"]
    return {name.removeprefix(prefix): value for name, value in annotations.items()}


SIGNED = Assertion().header
Names = Callable[[], list[str]]
IDENTITY: dict[str, Names] = {
    "istio": lambda: istio()["headersToUpstreamOnAllow"],
    "envoy-gateway": lambda: envoy_gateway()["http"]["headersToBackend"],
    "gateway-api": lambda: gateway_api()["http"]["allowedResponseHeaders"],
    "traefik": lambda: traefik()["authResponseHeaders"],
    "ingress-nginx": lambda: ingress_nginx()["auth-response-headers"].split(","),
}
ASKED_WITH: dict[str, Names] = {
    "istio": lambda: istio()["includeRequestHeadersInCheck"],
    "envoy-gateway": lambda: envoy_gateway()["headersToExtAuth"],
    "gateway-api": lambda: gateway_api()["http"]["allowedHeaders"],
    "traefik": lambda: traefik()["authRequestHeaders"],
}


@pytest.mark.parametrize("proxy", IDENTITY)
def test_every_identity_header_is_taken_from_the_gateway(proxy: str) -> None:
    """One that is left out would arrive as the client wrote it."""
    assert sorted(map(str.lower, IDENTITY[proxy]())) == sorted(map(str.lower, (*HEADERS, SIGNED)))


@pytest.mark.parametrize("proxy", ASKED_WITH)
def test_the_gateway_is_told_what_it_needs_and_no_claims(proxy: str) -> None:
    sent = set(map(str.lower, ASKED_WITH[proxy]()))
    assert sent >= {"cookie", "accept", "sec-fetch-mode", "x-requested-with"}
    assert sent >= {"origin", "access-control-request-method"}  # preflights
    assert not {name for name in sent if name.startswith(("x-auth-", "x-original-"))}
    if proxy != "traefik":
        assert sent >= {"x-forwarded-for", "x-forwarded-proto"}


def test_every_recipe_asks_an_endpoint_that_there_is() -> None:
    assert istio()["pathPrefix"] == PREFIX
    assert envoy_gateway()["http"]["path"] == PREFIX
    assert gateway_api()["http"]["path"] == PREFIX
    assert traefik()["address"] == f"http://{SERVICE}:{PORT}/check/forward_auth"
    assert ingress_nginx()["auth-url"] == f"http://{SERVICE}.:{PORT}/check/ingress"
    assert {"/check/forward_auth", "/check/ingress"} <= set(ADAPTERS)
    assert f"{PREFIX}/" in BELOW
    assert (istio()["service"], istio()["port"]) == (SERVICE, PORT)
    [backend] = envoy_gateway()["http"]["backendRefs"]
    for reference in (backend, gateway_api()["backendRef"]):
        assert reference == {"name": "gateway", "namespace": "gateway", "port": PORT}
    assert named("gateway.yaml", "Service", "gateway")["spec"]["ports"][0]["port"] == PORT


def test_no_recipe_opens_the_door_when_the_gateway_is_down() -> None:
    assert (istio()["failOpen"], istio()["timeout"], istio()["statusOnError"]) == (
        False,
        "1s",
        "503",
    )
    assert envoy_gateway()["failOpen"] is False
    assert traefik()["trustForwardHeader"] is False
    assert not {name for name in ingress_nginx() if "cache" in name or "snippet" in name}
    assert named("istio.yaml", "AuthorizationPolicy")["spec"]["rules"] == [{}]


def test_the_recipe_for_traefik_says_what_the_tested_files_say() -> None:
    """tests/e2e runs deploy/traefik; here the same middlewares stand as resources."""
    dynamic = yaml.safe_load(servers.TRAEFIK_DYNAMIC_YML.read_text())["http"]
    tested = dynamic["middlewares"]
    assert {**traefik(), "address": ""} == {**tested["ask-gateway"]["forwardAuth"], "address": ""}
    removed = named("traefik.yaml", "Middleware", "remove-claims")["spec"]
    assert removed == tested["remove-claims"]
    chain = named("traefik.yaml", "Middleware", "session-gateway")["spec"]["chain"]
    assert [each["name"] for each in chain["middlewares"]] == (
        tested["session-gateway"]["chain"]["middlewares"]
    )
    [route] = named("traefik.yaml", "IngressRoute")["spec"]["routes"]
    rule = dynamic["routers"]["application"]["rule"]
    assert route["match"] == f"Host(`app.example.com`) && ({rule})"


def test_istio_removes_what_the_tested_envoy_removes() -> None:
    """tests/e2e runs deploy/envoy with these expressions."""
    patch = yaml.safe_dump(named("istio.yaml", "EnvoyFilter"), width=1000)
    tested = re.findall(r"regex: \"(x\[\^a-z0-9\]\S+)\"", servers.ENVOY_YAML.read_text())
    assert tested
    assert sorted(re.findall(r"regex: (\S+)", patch)) == sorted(tested)
    assert "remove: forwarded" in patch
    assert "prefix: x-envoy-" in patch


def test_envoy_takes_what_istio_hands_to_it(tmp_path: Path) -> None:
    """The patch, merged into the shipped configuration, as Istio merges it into its own."""
    [patch] = named("istio.yaml", "EnvoyFilter")["spec"]["configPatches"]
    config = yaml.safe_load(servers.ENVOY_YAML.read_text())
    [chain] = config["static_resources"]["listeners"][0]["filter_chains"]
    chain["filters"][0]["typed_config"] |= patch["patch"]["value"]["typed_config"]
    merged = tmp_path / "envoy.yaml"
    merged.write_text(yaml.safe_dump(config))
    command = [str(servers.envoy()), "--mode", "validate", "-c", str(merged)]
    checked = subprocess.run(command, capture_output=True, check=False, text=True)
    assert checked.returncode == 0, checked.stderr


def test_a_client_s_assertion_is_removed_or_its_trap_is_told() -> None:
    """Where assertions are off no answer replaces a client's."""
    policy = named("envoy-gateway.yaml", "ClientTrafficPolicy")
    assert "x-auth-jwt-assertion" in policy["spec"]["headers"]["earlyRequestHeaders"]["remove"]
    recipe = (FOLDER / "gateway-api.yaml").read_text()
    assert "Where assertions are off" in recipe
    page = (servers.ROOT / "docs" / "proxies" / "kubernetes.md").read_text()
    assert "**a client's own reaches the application**" in " ".join(page.split())
