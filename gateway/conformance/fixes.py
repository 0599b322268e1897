"""What to change where a case of a class is a hole, for each proxy.

`ANY` is said where a proxy has nothing of its own. The shipped configurations have all of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from .sender import Reply

PROXIES = ("nginx", "envoy", "caddy", "haproxy", "traefik")
ANY = "any"

_ASKED = (
    "Ask before every request and for every path, and leave no location, route or matcher out; "
    "decide about public pages in the gateway's rules and not in the proxy."
)
_RAW = (
    "Let the gateway judge the path as it came, and hand the same path on: no rewriting between "
    "the check and the application."
)
_HOSTS = (
    "Name your hosts, with `host` in the rules that need a session or in the proxy: who asks for "
    "another is refused, not led to sign in. Let the sign-in page accept no return address of "
    "another site."
)
_CHECKER = (
    "Nothing in the proxy helps: whoever answers the check takes this for a session. Look for a "
    "rule that is too wide, and for a proxy that keeps answers."
)

FIXES: Mapping[str, Mapping[str, str]] = {
    "path-confusion": {
        ANY: f"{_ASKED} {_RAW}",
        "nginx": "One `location /` with `auth_request`; X-Original-URI $request_uri; `proxy_pass` "
        "without a path behind the name.",
        "envoy": "normalize_path, merge_slashes, path_with_escaped_slashes_action: REJECT_REQUEST; "
        "no route with ext_authz disabled.",
        "caddy": "forward_auth outside of every path matcher, inside one `route`; no `uri` or "
        "`handle_path` behind it.",
        "haproxy": "The check in `http-request` without an `if` on path; no `set-path` behind it.",
        "traefik": "The middleware on every router of the host; behind it neither StripPrefix nor "
        "ReplacePath.",
    },
    "host": {
        ANY: "Send the application the host that was checked, and answer unknown hosts yourself.",
        "nginx": "`proxy_set_header Host $host` for the check and for the application, not "
        "$http_host; a default server that returns 444.",
        "envoy": "`domains` that name your hosts; no host_rewrite behind the check.",
        "caddy": "Site addresses that name your hosts; `header_up Host {host}` nowhere.",
        "haproxy": "`http-request deny unless { req.hdr(host) -i your.host }`.",
        "traefik": "A Host rule on every router.",
    },
    "exposed-endpoint": {
        ANY: "Let nobody but the proxy reach the check listener; route none of its paths to it.",
        "nginx": "`internal;` in the location that asks.",
    },
    "identity-header": {
        ANY: "Remove every spelling of the identity headers from the client's request; set each "
        "from the gateway's answer, also where that is empty.",
        "nginx": "`proxy_set_header X-Auth-User $auth_user;` for each name, in every location that "
        "has a proxy_set_header of its own; underscores_in_headers off; ignore_invalid_headers on.",
        "envoy": "header_mutation as an early extension that removes x[^a-z0-9]auth[^a-z0-9].*; "
        "headers_with_underscores_action: REJECT_REQUEST; allowed_upstream_headers, not append.",
        "caddy": "`request_header -X-Auth-User`, the same for X_Auth_User and X.Auth.User, before "
        "forward_auth; all six in copy_headers.",
        "haproxy": "`http-request del-header ^x[^a-z0-9]auth -m reg` before the check; "
        "`option http-restrict-req-hdr-names delete`.",
        "traefik": "All six in authResponseHeaders; a headers middleware before it that empties "
        "the other spellings.",
    },
    "malformed-line": {
        ANY: "Refuse header lines that are not RFC 9110; update the proxy.",
        "nginx": "ignore_invalid_headers on; nginx 1.22 or later.",
        "haproxy": "No `option accept-invalid-http-request`.",
    },
    "forwarding-header": {
        ANY: "Overwrite every header that the check's endpoint reads, and clear the others.",
        "nginx": "In the location that asks: `proxy_set_header X-Original-URI $request_uri` and "
        '`""` for X-Original-URL, X-Rewrite-URL, X-Forwarded-*, Forwarded.',
        "envoy": "No forwarding header in allowed_headers but those that Envoy writes itself; "
        "use_remote_address: true.",
        "caddy": "No trusted_proxies that holds clients; forward_auth sets the headers itself.",
        "haproxy": "`http-request set-header X-Forwarded-Uri %[path]...` and del-header before the "
        "check.",
        "traefik": "trustForwardHeader: false; no forwardedHeaders.insecure; a version without "
        "CVE-2026-35051 and CVE-2026-39858.",
    },
    "rerouting-header": {
        ANY: "Remove the header before the application: frameworks take the path, host or method "
        "from it, and serve another page than the one that was checked.",
        "nginx": '`proxy_set_header X-Original-URL "";` and the like, where the application is.',
        "envoy": "header_mutation as an early extension that removes them.",
        "caddy": "`request_header -X-Original-URL` and the like.",
        "haproxy": "`http-request del-header X-Original-URL` and the like.",
        "traefik": 'A headers middleware: customRequestHeaders with "" for each.',
    },
    "method-override": {
        ANY: "Judge the method of the request line only, and remove override headers.",
        "nginx": "`proxy_set_header X-Original-Method $request_method` in the location that asks.",
    },
    "spoofed-address": {
        ANY: "Write the address of the connection's peer into X-Forwarded-For; believe a header "
        "only from your own balancers.",
        "nginx": "`proxy_set_header X-Forwarded-For $remote_addr`.",
        "envoy": "use_remote_address: true; xff_num_trusted_hops as many as you have.",
        "haproxy": "`http-request set-header X-Forwarded-For %[src]`.",
        "traefik": "forwardedHeaders.trustedIPs with your balancers only.",
    },
    "health-check-agent": {
        ANY: "Decide nothing by User-Agent: no `map`, ACL or rule; give probes a page of their own "
        "(compare CVE-2026-34457)."
    },
    "hop-by-hop": {
        ANY: "Remove what the client named in Connection before the identity is written, not after "
        "(compare CVE-2024-45410).",
        "nginx": '`proxy_set_header Connection ""`, or a map that knows only `upgrade`.',
        "traefik": "2.11.9, 3.1.3 or later.",
    },
    "worthless-cookie": {ANY: _CHECKER},
    "cookie-name": {ANY: _CHECKER + " Another cookie's name or place counted as the session's."},
    "duplicate-cookie": {
        ANY: "Two sessions in one request are an attack by a sibling host: refuse them. "
        "Use the prefix __Host-."
    },
    "open-redirect": {
        ANY: f"{_HOSTS} Build return addresses from the host that was checked.",
        "nginx": f"`$host`, never $http_x_forwarded_host, in what the check is told. {_HOSTS}",
        "traefik": f"trustForwardHeader: false. {_HOSTS}",
    },
    "response-caching": {
        ANY: "Keep no answer of the check, and mark refusals no-store.",
        "nginx": "`proxy_cache off;` in the location that asks, and no proxy_ignore_headers; "
        "`add_header Cache-Control no-store always` in the location of the refusal; let the "
        "application's cache obey its headers.",
        "envoy": "cache-control in allowed_client_headers; no cache filter before ext_authz.",
        "haproxy": "`http-request cache-use` only behind the check.",
    },
    "method": {
        ANY: "Ask for every method; an OPTIONS that is let through must be answered by the proxy."
    },
    "upgrade": {
        ANY: "Ask before an upgrade, and upgrade to nothing but websocket.",
        "nginx": "A map of $http_upgrade that knows only websocket.",
        "envoy": "upgrade_configs with websocket only.",
        "haproxy": "`http-request del-header Upgrade` unless it is websocket.",
    },
    "request-framing": {ANY: "Update the proxy: it takes what RFC 9112 tells it to refuse."},
}
_SAME = {
    "absolute-form": "path-confusion",
    "rerouting-alias": "rerouting-header",
    "worthless-credential": "worthless-cookie",
    "request-smuggling": "request-framing",
}


def fix_of(kind: str, proxy: str) -> str:
    """Return what to do about a hole of this class."""
    known = FIXES[_SAME.get(kind, kind)]
    return known.get(proxy) or known[ANY]


def proxy_of(*replies: Reply) -> str:
    """Return which proxy gave these answers, "" if they do not tell."""
    said = " ".join(
        f"{reply.value('server')} {reply.value('via')}".lower() for reply in replies
    ).replace("openresty", "nginx")
    if named := [proxy for proxy in PROXIES if proxy in said]:
        return named[0]
    bodies = b" ".join(reply.body for reply in replies)
    return "haproxy" if b"Your browser sent an invalid request." in bodies else ""
