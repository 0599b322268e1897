"""Every setting with its type and default. docs/configuration.md gives the reasons."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..alerts import RULES, Action, Limits, Watch
from ..binding import Bonds
from ..identity import AUTHELIA, NATIVE, OAUTH2_PROXY, HeaderSet
from ..lifetime import PRESETS, Lifetime, parse_duration_ms
from ..links import Links
from ..model import HIGHEST_AAL, LOWEST_AAL, Narrowing
from ..rules import Access, RuleSpec
from ..webhooks.signature import key_of

ENV_PREFIX = "GW_"
_SHORTEST_SECRET = 32
WORKER = "{worker}"  # in the path of a Unix socket that each worker has of its own
_LONGEST_MS = 3650 * 86_400_000  # beyond, Redis' own limits and the calendar's would come


def _duration(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("write a duration as text, for example 500ms, 15m, 4h or 30d")
    return parse_duration_ms(value)


def _session_time(time_ms: int) -> int:
    if not 1000 <= time_ms <= _LONGEST_MS:
        raise ValueError("must be between 1s and 3650d")
    return time_ms


def _limit(value: object) -> int:
    return 0 if value == 0 else _session_time(_duration(value))


def _cookie_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ValueError("is not a cookie name (RFC 6265: letters, digits, - and _)")
    return name


def _power_of_two(number: int) -> int:
    if number & (number - 1):
        raise ValueError("must be a power of two: 1, 2, 4 ... 256")
    return number


def _redis_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text and not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    if text and not _is_address(text):
        raise ValueError(
            "must be redis://HOST:PORT/NUMBER (rediss:// too) or unix:///PATH?db=NUMBER; behind ? "
            "only db and, for rediss, ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_check_hostname"
        )
    return url


_OPTIONS = {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}


def _is_address(text: str) -> bool:
    try:
        url = urlsplit(text)
        options = parse_qs(url.query, strict_parsing=bool(url.query))
        there = bool(url.path) if url.scheme == "unix" else bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    number = options.get("db", ["0"])[0] if url.scheme == "unix" else url.path.strip("/") or "0"
    return there and options.keys() <= _OPTIONS and number.isascii() and number.isdigit()


def _login_url(url: str) -> str:
    if url and not url.startswith(("https://", "http://")):
        raise ValueError("must be an absolute http(s) URL; nginx cannot redirect to another kind")
    if url and "{url}" not in url:
        raise ValueError("must hold {url} where the return address goes")
    if re.search(r"[\x00-\x20\x7f-\uffff\"<>\\]", url):
        raise ValueError("must be ASCII without spaces, quotes or backslashes; percent-encode them")
    return url


def _listen_address(address: str) -> str:
    if not re.fullmatch(r"unix:/.+|(?:\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):\d{1,5}", address):
        raise ValueError('write "127.0.0.1:9180", "[::1]:9180" or "unix:/path.sock"')
    if not address.startswith("unix:") and int(address.rpartition(":")[2]) > 65535:
        raise ValueError("the port is above 65535")
    return address


Duration = Annotated[int, BeforeValidator(_duration)]
SessionTime = Annotated[Duration, AfterValidator(_session_time)]
Limit = Annotated[int, BeforeValidator(_limit)]  # 0: none
ListenAddress = Annotated[str, AfterValidator(_listen_address)]


def _network(text: object) -> object:
    try:
        return ipaddress.ip_network(str(text))
    except ValueError as error:
        raise ValueError(f"{error}; write for example 10.0.0.0/8") from None


Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]


def _address(text: str) -> str:
    if text and "%" not in text:
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            pass
    if text:
        raise ValueError("is no address; write for example 192.0.2.7")
    return text


Address = Annotated[str, AfterValidator(_address)]


class Section(BaseModel):
    """A table of settings: frozen, and nothing in it is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _header_name(name: str) -> str:
    if name and not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise ValueError("is not a header name: letters, digits and - only")
    return name


def _redirect_domain(domain: str) -> str:
    if not re.fullmatch(r"(\*?\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*(:(\d{1,5}|\*))?", domain):
        raise ValueError(
            'write "app.example.com", ".example.com" for all below it, or with ":port"'
        )
    return domain


def _mail_domain(domain: str) -> str:
    if not re.fullmatch(r"(\*?\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", domain):
        raise ValueError('write "example.com", or ".example.com" for all below it')
    return domain


def _path_prefix(prefix: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", prefix):
        raise ValueError("must be a path such as /api/authz/ext-authz/")
    return prefix


class OAuth2Proxy(Section):
    """How proxies ask that were configured for oauth2-proxy."""

    family: Literal["nginx", "ingress", "forward_auth"] = "nginx"
    method_header: Annotated[str, AfterValidator(_header_name)] = ""
    redirect_domains: tuple[Annotated[str, AfterValidator(_redirect_domain)], ...] = ()
    allowed_emails: tuple[str, ...] = ()
    allowed_email_domains: tuple[Annotated[str, AfterValidator(_mail_domain)], ...] = ()

    @property
    def narrowing(self) -> tuple[Narrowing, ...]:
        """What every session must satisfy at this profile's address."""
        limits = (
            Narrowing("emails", frozenset(self.allowed_emails)),
            Narrowing("email_domains", frozenset(self.allowed_email_domains)),
        )
        return tuple(each for each in limits if each.allowed)


class Authelia(Section):
    """How proxies ask that were configured for Authelia."""

    ext_authz_prefix: Annotated[str, AfterValidator(_path_prefix)] = "/api/authz/ext-authz/"


ProfileName = Literal["oauth2-proxy", "authelia"]


class Check(Section):
    """The listener that proxies ask."""

    listen: tuple[ListenAddress, ...] = ("127.0.0.1:9180",)
    trusted_proxies: tuple[Network, ...] = (
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
    )
    trusted_hops: Annotated[int, Field(ge=0, le=16)] = 0
    grpc_listen: tuple[ListenAddress, ...] = ()
    grpc_max_message: Annotated[int, Field(ge=65_536, le=16_777_216)] = 262_144
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    profiles: tuple[ProfileName, ...] = ()
    oauth2_proxy: OAuth2Proxy = OAuth2Proxy()
    authelia: Authelia = Authelia()
    drain: Duration = 2000

    def grpc_of(self, worker: int) -> tuple[str, ...]:
        """Return where one worker, counted from 1, answers gRPC."""
        return tuple(address.replace(WORKER, str(worker)) for address in self.grpc_listen)


class Told(Section):
    """Identity headers: name and source of each, and how their values are written."""

    headers: dict[str, str] = Field(default=dict(NATIVE.headers))
    separator: Literal[",", ";", "|", " "] = ","
    raw_utf8: bool = False

    @property
    def header_set(self) -> HeaderSet:
        return HeaderSet(tuple(self.headers.items()), self.separator, self.raw_utf8)


class ToldOAuth2Proxy(Told):
    """The same at the addresses of oauth2-proxy."""

    headers: dict[str, str] = Field(default=dict(OAUTH2_PROXY.headers))


class ToldAuthelia(Told):
    """The same at the addresses of Authelia."""

    headers: dict[str, str] = Field(default=dict(AUTHELIA.headers))


def _assertion_life(time_ms: int) -> int:
    if not 30_000 <= time_ms <= 3_600_000:
        raise ValueError("must be between 30s and 1h")
    return time_ms


class Assertion(Section):
    """The identity once more, signed, for applications that can be reached by others."""

    keys: SecretStr = SecretStr("")
    header: str = "X-Auth-Jwt-Assertion"
    issuer: Annotated[str, Field(max_length=200)] = ""
    audience: Annotated[str, Field(max_length=200)] = ""
    lifetime: Annotated[Duration, AfterValidator(_assertion_life)] = 300_000

    @property
    def is_on(self) -> bool:
        return bool(self.keys.get_secret_value())


class Identity(Told):
    """What applications are told: at our own addresses, and at those of the profiles."""

    remove_unset: tuple[Literal["ext_authz", "forward_auth"], ...] = ()
    assertion: Assertion = Assertion()
    oauth2_proxy: ToldOAuth2Proxy = ToldOAuth2Proxy()
    authelia: ToldAuthelia = ToldAuthelia()

    @property
    def native(self) -> HeaderSet:
        return self._signed(self)

    def of(self, profile: ProfileName) -> HeaderSet:
        return self._signed(self.oauth2_proxy if profile == "oauth2-proxy" else self.authelia)

    def _signed(self, told: Told) -> HeaderSet:
        assertion = self.assertion.header if self.assertion.is_on else ""
        return replace(told.header_set, assertion=assertion)


class Pages(Section):
    """Where people are sent to sign in."""

    listen: tuple[ListenAddress, ...] = ()
    login_url: Annotated[str, AfterValidator(_login_url)] = ""


class AdminToken(Section):
    """A bearer token of the admin API; only its SHA-256 is configured."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: tuple[Literal["sessions:read", "sessions:write", "events:read", "metrics"], ...]


class Admin(Section):
    """The internal listener of operators and of the application's back end."""

    listen: tuple[ListenAddress, ...] = ("127.0.0.1:9182",)
    tokens: tuple[AdminToken, ...] = ()
    insecure: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    without_token: tuple[Literal["metrics", "openapi"], ...] = ()
    max_body: Annotated[int, Field(ge=1024, le=1_048_576)] = 65536


class Redis(Section):
    """Where the sessions are."""

    url: Annotated[SecretStr, AfterValidator(_redis_url)] = SecretStr("")
    username: str = ""
    password: SecretStr = SecretStr("")
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9:._-]{1,32}$")] = "gw:"
    partitions: Annotated[int, Field(ge=1, le=256), AfterValidator(_power_of_two)] = 16


class Cookie(Section):
    """The cookie that carries the token."""

    name: Annotated[str, AfterValidator(_cookie_name)] = "__Host-sid"
    same_site: Literal["lax", "strict", "none"] = "lax"
    domain: Annotated[str, Field(pattern=r"^(\.?[a-z0-9-]+(\.[a-z0-9-]+)+)?$")] = ""
    secure: bool = True

    @property
    def full_name(self) -> str:
        """With a Domain the prefix `__Host-` would make browsers refuse the cookie."""
        if self.domain and self.name.startswith("__Host-"):
            return "__Secure-" + self.name.removeprefix("__Host-")
        return self.name


class Session(Section):
    """How long sessions live and how many a user may have."""

    idle: SessionTime = 4 * 3_600_000
    absolute: SessionTime = 30 * 86_400_000
    preset: Literal["", "aal1", "aal2", "aal3", "pci"] = ""
    max_per_user: Annotated[int, Field(ge=0, le=1000)] = 5
    on_limit: Literal["evict", "deny"] = "evict"
    one_per_device: bool = True
    cookie: Cookie = Cookie()

    @property
    def lifetime(self) -> Lifetime:
        """The preset's timeouts where they are not set themselves."""
        own = Lifetime(self.idle, self.absolute)
        if not self.preset:
            return own
        preset = PRESETS[self.preset]
        return Lifetime(
            own.idle_ms if "idle" in self.model_fields_set else preset.idle_ms,
            own.absolute_ms if "absolute" in self.model_fields_set else preset.absolute_ms,
        )


def _lease(time_ms: int) -> int:
    if not 100 <= time_ms <= 60_000:
        raise ValueError("must be between 100ms and 1m")
    return time_ms


class Revocation(Section):
    """How long a replica may go on trusting its memory, and an answer may wait for the others."""

    lease: Annotated[Duration, AfterValidator(_lease)] = 500
    confirm_timeout: Duration = 1000


class NearCache(Section):
    """What a replica remembers of live sessions."""

    enabled: bool = True
    max_entries: Annotated[int, Field(ge=1000, le=100_000_000)] = 500_000
    max_bytes: Annotated[int, Field(ge=1_048_576)] = 256 * 1_048_576
    unknown_per_second: Annotated[int, Field(ge=0, le=1_000_000)] = 5000


def _postgres_url(dsn: SecretStr) -> SecretStr:
    text = dsn.get_secret_value()
    if text and not _is_postgres(text):
        raise ValueError("must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or with a socket "
                         "postgresql:///DATABASE?host=/FOLDER")  # fmt: skip
    return dsn


def _is_postgres(text: str) -> bool:
    try:
        url = urlsplit(text)
        there = (bool(url.hostname) and url.port != 0) or "host" in parse_qs(url.query)
        return url.scheme in ("postgres", "postgresql") and there
    except ValueError:
        return False


def _retention(time_ms: int) -> int:
    if time_ms and not 31 * 86_400_000 <= time_ms <= _LONGEST_MS:
        raise ValueError("must be 0s (keep everything) or between 31d and 3650d")
    return time_ms


def _patience(time_ms: int) -> int:
    if not 100 <= time_ms <= 300_000:
        raise ValueError("must be between 100ms and 5m")
    return time_ms


def _takeover(time_ms: int) -> int:
    if not 1000 <= time_ms <= 600_000:
        raise ValueError("must be between 1s and 10m")
    return time_ms


Patience = Annotated[Duration, AfterValidator(_patience)]


def _webhook_url(url: str) -> str:
    if not re.fullmatch(r"https?://[!-~]+", url) or not _has_host(url):
        raise ValueError("must be an absolute https URL in ASCII, without a user or a fragment")
    return url


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = parts.username is None and parts.password is None and not parts.fragment
        return bool(parts.hostname) and parts.port != 0 and plain
    except ValueError:
        return False


def _webhook_secret(secret: SecretStr) -> SecretStr:
    key_of(secret.get_secret_value())
    return secret


WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]


class Postgres(Section):
    """Where events are kept."""

    dsn: Annotated[SecretStr, AfterValidator(_postgres_url)] = SecretStr("")
    connections: Annotated[int, Field(ge=1, le=64)] = 5
    connect_timeout: Patience = 3000
    command_timeout: Patience = 4000
    retention: Annotated[Duration, AfterValidator(_retention)] = 0


class Geo(Section):
    """Where addresses are looked up."""

    city: str = ""
    asn: str = ""


def _list_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if any(not re.fullmatch(r"[\x21-\x7e]{1,128}", name) for name in names):
        raise ValueError("names of Redis lists: 1 to 128 printable ASCII characters, no spaces")
    if len(set(names)) < len(names):
        raise ValueError("names the same list twice")
    return names


AtMost = Annotated[int, Field(ge=1, le=40)]  # of the 50 that are remembered


def _at_sign_in(action: Action) -> Action:
    if action is Action.DENY:
        raise ValueError('"deny" is for [binding]; a sign-in can be refused with "end"')
    return action


SignInAction = Annotated[Action, AfterValidator(_at_sign_in)]


class Binding(Section):
    """What follows when a session is used by somebody else than signed in."""

    fingerprint: Action = Action.OFF
    asn: Action = Action.OFF
    network: Action = Action.OFF
    address: Action = Action.OFF

    @property
    def bonds(self) -> Bonds:
        return Bonds(self.fingerprint, self.asn, self.network, self.address)


def _alert_link(url: str) -> str:
    if url and not re.fullmatch(r"https?://[^/?#\s]+(/[!-~]*)?/was-this-you/\{token\}", url):
        raise ValueError(
            "must be a whole address that ends with /was-this-you/{token}, such as "
            "https://login.example.com/was-this-you/{token}"
        )
    return url


def _link_secret(secret: SecretStr) -> SecretStr:
    if 0 < len(secret.get_secret_value()) < _SHORTEST_SECRET:
        raise ValueError(f"must have {_SHORTEST_SECRET} characters at least")
    return secret


class Alerts(Section):
    """What is looked for at a sign-in, and what follows."""

    new_device: SignInAction = Action.ALERT
    new_country: SignInAction = Action.ALERT
    impossible_travel: SignInAction = Action.ALERT
    network_change: SignInAction = Action.SHADOW
    shared_account: SignInAction = Action.ALERT
    shared_device: SignInAction = Action.ALERT
    max_speed_kmh: Annotated[int, Field(ge=100, le=40_000)] = 1000
    shared_window: SessionTime = 3_600_000
    max_devices: AtMost = 4
    max_countries: AtMost = 2
    max_networks: AtMost = 4
    max_accounts: Annotated[int, Field(ge=1, le=900)] = 5
    memory: SessionTime = 180 * 86_400_000
    lists: Annotated[tuple[str, ...], AfterValidator(_list_names)] = (
        "security:alerts",
        "notification:queue",
    )
    list_limit: Annotated[int, Field(ge=100, le=10_000_000)] = 10_000
    link: Annotated[str, AfterValidator(_alert_link)] = ""
    link_secret: Annotated[SecretStr, AfterValidator(_link_secret)] = SecretStr("")
    link_lifetime: SessionTime = 24 * 3_600_000

    @property
    def links(self) -> Links | None:
        """How to ask users; None if they are not asked."""
        secret = self.link_secret.get_secret_value().encode()
        return Links(self.link, secret, self.link_lifetime) if self.link and secret else None

    @property
    def watch(self) -> Watch | None:
        """The rules that are on; None if none is."""
        limits = Limits(
            self.max_speed_kmh, self.shared_window, self.max_devices, self.max_countries,
            self.max_networks, self.max_accounts,
        )  # fmt: skip
        watch = Watch({name: getattr(self, name) for name in RULES}, limits, self.memory)
        return watch if watch.is_on else None


TURN_MARGIN_MS = 1000  # from when a webhook's last delivery has ended to when the relay ends it


class Webhook(Section):
    """One server to which events are posted."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    url: Annotated[str, AfterValidator(_webhook_url)]
    secrets: Annotated[tuple[WebhookSecret, ...], Field(min_length=1, max_length=4)]
    types: tuple[Annotated[str, Field(pattern=r"^[a-z._-]{1,64}$")], ...] = ()
    allow_http: bool = False
    allow_networks: tuple[Network, ...] = ()
    timeout: Patience = 3000
    give_up: SessionTime = 86_400_000

    @property
    def keys(self) -> tuple[bytes, ...]:
        return tuple(key_of(each.get_secret_value()) for each in self.secrets)


class Events(Section):
    """The outbox in Redis, and who besides Postgres is told of events."""

    outbox_limit: Annotated[int, Field(ge=100, le=10_000_000)] = 10_000
    takeover: Annotated[Duration, AfterValidator(_takeover)] = 10_000
    webhooks: tuple[Webhook, ...] = ()


class PolicyRule(Section):
    """One rule; the first that matches decides."""

    access: Access
    host: str = ""
    path: str = ""
    methods: tuple[str, ...] = ()
    ignore_case: bool = False
    query: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    country: tuple[str, ...] = ()
    asn: tuple[int, ...] = ()
    preflight: bool = False
    roles: tuple[str, ...] = ()
    roles_all: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    aal: Annotated[int, Field(ge=LOWEST_AAL, le=HIGHEST_AAL)] = LOWEST_AAL
    max_age: Limit = 0
    idle: Limit = 0
    without_alerts: tuple[str, ...] = ()
    counts_as_activity: bool = True
    shadow: bool = False

    def spec(self) -> RuleSpec:
        return RuleSpec(
            access=self.access, host=self.host, path=self.path, methods=self.methods,
            ignore_case=self.ignore_case, query=self.query, networks=self.networks,
            countries=self.country, asns=self.asn, preflight=self.preflight, roles=self.roles,
            roles_all=self.roles_all, users=self.users, aal=self.aal, max_age_ms=self.max_age,
            idle_ms=self.idle, without_alerts=self.without_alerts,
            counts_as_activity=self.counts_as_activity, shadow=self.shadow,
        )  # fmt: skip


class Policy(Section):
    """Who may pass where."""

    rules: tuple[PolicyRule, ...] = ()

    def specs(self) -> tuple[RuleSpec, ...]:
        return tuple(rule.spec() for rule in self.rules)


class Log(Section):
    """What is written to standard error, as JSON lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    denials: bool = True


class Settings(BaseSettings):
    """The whole configuration, frozen."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    check: Check = Check()
    identity: Identity = Identity()
    pages: Pages = Pages()
    admin: Admin = Admin()
    redis: Redis = Redis()
    session: Session = Session()
    revocation: Revocation = Revocation()
    near_cache: NearCache = NearCache()
    postgres: Postgres = Postgres()
    geo: Geo = Geo()
    alerts: Alerts = Alerts()
    binding: Binding = Binding()
    events: Events = Events()
    policy: Policy = Policy()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: Any, init_settings: Any, *others: Any, **named: Any
    ) -> Any:
        """Only what `load` merged: a second, hidden look at the environment would surprise."""
        del settings_cls, others, named
        return (init_settings,)
