"""Reading the configuration: every problem at once, each with its place and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from gateway.config import Loaded, load
from gateway.errors import ConfigurationError

DIGEST = "a" * 64
GOOD = f"""
[admin]
tokens = [{{ name = "app", sha256 = "{DIGEST}", scopes = ["sessions:read"] }}]
[[policy.rules]]
path = "/**"
access = "session"
"""
SECRET = "hunter2-redis"


def places(found: Loaded) -> list[str]:
    return sorted(problem.place for problem in found.problems)


def read(tmp_path: Path, text: str, **env: str) -> Loaded:
    """Load a text with these overrides."""
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return load(str(path), env)


TEN_FAULTS = f"""
[check]
listen = ["nowhere"]
trusted_proxies = ["10.0.0.1/8"]
[pages]
login_url = "/login"
[admin]
tokens = [{{ name = "a b", sha256 = "{DIGEST}", scopes = ["all"] }}]
[redis]
url = "http://user:{SECRET}@redis"
partitions = 17
[session]
idle = 900
max_per_users = 5
[session.cookie]
secure = false
[sesion]
idle = "1h"
[[policy.rules]]
path = "/a"
access = "session"
[[policy.rules]]
path = "no-slash"
access = "session"
"""


def test_ten_faults_are_ten_problems(tmp_path: Path) -> None:
    """Each of the faults is reported in one go, with its place and what to do about it."""
    found = read(tmp_path, TEN_FAULTS)
    assert found.settings is None
    assert places(found) == [
        "admin.tokens[1].name",
        "admin.tokens[1].scopes[1]",
        "check.listen[1]",
        "check.trusted_proxies[1]",
        "pages.login_url",
        "policy.rules[2].path",
        "redis.partitions",
        "redis.url",
        "sesion",
        "session.cookie.secure",
        "session.idle",
        "session.max_per_users",
    ]
    assert all(len(problem.message) > 10 for problem in found.problems)


@pytest.mark.parametrize("text", [GOOD, GOOD + "[redis]\n", GOOD + '[session]\npreset = "aal2"\n'])
def test_a_good_file_has_no_problems(tmp_path: Path, text: str) -> None:
    """A sensible file loads without a problem or a warning."""
    found = read(tmp_path, text)
    assert (found.problems, found.warnings) == ((), ())


def test_every_setting_has_a_default_that_loads(tmp_path: Path) -> None:
    """What is not set has a safe default; only the tokens must be given."""
    found = read(tmp_path, GOOD)
    assert found.settings is not None
    for name in type(found.settings).model_fields:
        section = getattr(found.settings, name)
        assert type(section)() == section or name in ("admin", "policy"), name
    assert found.settings.session.cookie.full_name == "__Host-sid"
    assert (found.settings.session.idle, found.settings.session.absolute) == (
        4 * 3_600_000,
        30 * 86_400_000,
    )


def test_no_file_is_the_environment_alone() -> None:
    """Without a file the environment is the whole configuration."""
    token = f'[{{"name": "app", "sha256": "{DIGEST}", "scopes": []}}]'
    found = load(None, {"GW_ADMIN__TOKENS": token, "GW_SESSION__IDLE": "5m"})
    assert found.problems == ()
    assert found.settings is not None
    assert found.settings.session.idle == 300_000
    assert [problem.place for problem in load(None, {}).problems] == ["admin.tokens"]


# --- the environment ---------------------------------------------------------------------------


def test_variables_override_the_file(tmp_path: Path) -> None:
    """A variable wins over the file, at every depth, and leaves its neighbours alone."""
    text = GOOD + '[session]\nidle = "1h"\nabsolute = "2h"\n[session.cookie]\nname = "a"\n'
    found = read(
        tmp_path, text, GW_SESSION__IDLE="15m", GW_SESSION__COOKIE__SAME_SITE="strict",
        GW_CHECK__LISTEN='["127.0.0.1:1", "unix:/x.sock"]', GW_IDENTITY__RAW_UTF8="true",
        GW_REDIS__PARTITIONS="4",
    )  # fmt: skip
    assert found.problems == ()
    settings = found.settings
    assert settings is not None
    assert (settings.session.idle, settings.session.absolute) == (900_000, 7_200_000)
    assert (settings.session.cookie.name, settings.session.cookie.same_site) == ("a", "strict")
    assert settings.check.listen == ("127.0.0.1:1", "unix:/x.sock")
    assert (settings.identity.raw_utf8, settings.redis.partitions) == (True, 4)


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("GW_SESION__IDLE", "1h", "GW_SESION__IDLE"),
        ("GW_SESSION_IDLE", "1h", "GW_SESSION_IDLE"),
        ("GW_SESSION__IDEL", "1h", "session.idel"),
        ("GW_SESSION__IDLE", "soon", "session.idle"),
        ("GW_SESSION__IDLE", "", "session.idle"),
        ("GW_SESSION__COOKIE__NAM", "x", "session.cookie.nam"),
        ("GW_REDIS__PARTITIONS", "many", "redis.partitions"),
        ("GW_POSTGRES__DSN", "mysql://h/db", "postgres.dsn"),
        ("GW_POSTGRES__DSN", "postgresql://h:port/db", "postgres.dsn"),
        ("GW_POSTGRES__DSN", "postgresql:///db", "postgres.dsn"),
        ("GW_POSTGRES__RETENTION", "30d", "postgres.retention"),
        ("GW_POSTGRES__COMMAND_TIMEOUT", "10ms", "postgres.command_timeout"),
        ("GW_EVENTS__TAKEOVER", "999ms", "events.takeover"),
        ("GW_CHECK", "{not json", "GW_CHECK"),
        ("GW_CHECK__LISTEN", "127.0.0.1:9180", "check.listen"),
        ("GW_POLICY__RULES", "[", "policy.rules"),
        ("GW_", "x", "GW_"),
    ],
)
def test_a_misspelt_variable_is_a_problem(
    tmp_path: Path, name: str, value: str, place: str
) -> None:
    """A variable that would have no effect, or no sensible one, is a problem with its place."""
    found = read(tmp_path, GOOD, **{name: value})
    assert found.settings is None
    assert [problem.place for problem in found.problems] in ([place], [name])


def test_variables_of_the_commands_are_no_settings(tmp_path: Path) -> None:
    """The variables of the commands do not disturb the service."""
    found = read(tmp_path, GOOD, GW_CONFIG="x", GW_ADMIN_URL="y", GW_ADMIN_TOKEN="z", OTHER="1")
    assert found.problems == ()


# --- secrets -----------------------------------------------------------------------------------


def test_secrets_come_from_files(tmp_path: Path) -> None:
    """A secret is read from its file, without the newline at its end, also named by a variable."""
    url, password = tmp_path / "url", tmp_path / "password"
    url.write_text(f"redis://u:{SECRET}@redis:6379/0\n")
    password.write_text(f"  {SECRET}\r\n")
    found = read(
        tmp_path, GOOD + f'[redis]\nurl_file = "{url}"\n', GW_REDIS__PASSWORD_FILE=str(password)
    )
    assert found.settings is not None, found.problems
    assert found.settings.redis.url.get_secret_value() == f"redis://u:{SECRET}@redis:6379/0"
    assert found.settings.redis.password.get_secret_value() == SECRET
    assert SECRET not in repr(found.settings) + str(found.settings) + repr(found)


@pytest.mark.parametrize(
    "value", ['"/does/not/exist"', '"/"', "5", '""', '"a\\u0000b"', f'"redis://:{SECRET}@h"', "[]"]
)
def test_a_secret_file_that_cannot_be_read_is_a_problem(tmp_path: Path, value: str) -> None:
    """A secret file that is missing or no file is a problem; what was written is not repeated."""
    found = read(tmp_path, GOOD + f"[redis]\nurl_file = {value}\n")
    assert places(found) == ["redis.url_file"]
    assert SECRET not in str(found.problems[0])


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_an_empty_secret_file_is_a_problem(tmp_path: Path, content: bytes) -> None:
    """An empty file must not turn into the embedded Valkey that keeps nothing."""
    (tmp_path / "secret").write_bytes(content)
    found = read(tmp_path, GOOD + f'[redis]\nurl_file = "{tmp_path}/secret"\n')
    assert places(found) == ["redis.url_file"]


def test_a_secret_twice_is_a_problem(tmp_path: Path) -> None:
    """A secret both written down and in a file is a problem: nobody knows which is meant."""
    (tmp_path / "secret").write_text("redis://other")
    text = GOOD + f'[redis]\nurl = "redis://:{SECRET}@h"\nurl_file = "{tmp_path}/secret"\n'
    found = read(tmp_path, text)
    assert places(found) == ["redis.url_file"]
    assert SECRET not in str(found.problems)


@pytest.mark.parametrize(
    "text",
    [
        f'[redis]\nurl = "{SECRET}"',
        f'[redis]\nurl = ["{SECRET}"]',
        f'[redis]\npassword = ["{SECRET}"]',
        f'[redis]\npasword = "{SECRET}"',
        f'[redis]\nurl = "redis-sentinel://:{SECRET}@h"',
        f'[postgres]\ndsn = ["{SECRET}"]',
        f'redis = "{SECRET}"',
    ],
)
def test_no_problem_repeats_a_secret(tmp_path: Path, text: str) -> None:
    """What is wrong about a secret is said without it."""
    before, after = (text, GOOD) if text.startswith("redis") else (GOOD, text)
    found = read(tmp_path, f"{before}\n{after}")
    assert found.problems
    assert SECRET not in str(found) + repr(found)


# --- files that are none -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[check\n", "line 1"),
        (b"[check]\nlisten = \n", "line 2"),
        (b"a = 1\na = 2\n", "line 2"),
        (b"\xff", "UTF-8"),
        (b"x = " + b"[" * 5000, "TOML"),
        (b"x = " + b"9" * 5000, "TOML"),
    ],
)
def test_what_is_no_toml_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    """A file that is not TOML is one line that says where."""
    path = tmp_path / "gateway.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load(str(path), {})
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """A missing file and a folder are said in one line."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            load(str(path), {})


@pytest.mark.parametrize("line", ["_env_file = '.env'", "unknown = 1", "_cli_parse_args = true"])
def test_an_unknown_key_at_the_top_is_a_problem(tmp_path: Path, line: str) -> None:
    """No key is ignored, whatever it is called."""
    assert places(read(tmp_path, f"{line}\n{GOOD}")) == [line.partition(" ")[0]]


@pytest.mark.parametrize(
    "text",
    ["check = 5", "check = []", "policy = 'x'", "[policy]\nrules = 'x'", "[policy]\nrules = [1]",
     "[session]\ncookie = 'x'", "[admin]\nlisten = 'x'", "[check]\nlisten = [[]]",
     "session = 1979-05-27"],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_a_problem(tmp_path: Path, text: str) -> None:
    """A value of the wrong kind anywhere is a problem, not a traceback."""
    found = read(tmp_path, text)
    assert found.settings is None
    assert found.problems


# --- dangers -----------------------------------------------------------------------------------

ASK = "https://login.example.com/was-this-you/{token}"
TLS = 'tls_cert = "/c"\ntls_key = "/k"\n'


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[admin]\ntokens = []\n", "admin.tokens"),
        ("[admin]\nlisten = ['0.0.0.0:9182']\n", "admin.listen"),
        ("[admin]\nlisten = ['127.0.0.1:1', '[::]:9182']\n", "admin.listen"),
        ("[admin]\nlisten = ['admin.internal:9182']\n", "admin.listen"),
        ("[admin]\ntls_cert = '/c'\n", "admin.tls_cert"),
        ("[check]\ntrusted_proxies = ['0.0.0.0/0']\n", "check.trusted_proxies"),
        ("[check]\ntrusted_proxies = ['::/0']\n", "check.trusted_proxies"),
        ("[check]\nlisten = []\n", "check.listen"),
        ("[session]\nidle = '31d'\n", "session.idle"),
        ("[session]\nidle = '0s'\n", "session.idle"),
        ("[session]\nabsolute = '99999999999d'\n", "session.absolute"),
        ("[session]\npreset = 'aal2'\nidle = '2h'\n", "session.idle"),
        ("[session]\npreset = 'pci'\nabsolute = '25h'\n", "session.absolute"),
        ("[session.cookie]\nsecure = false\n", "session.cookie.secure"),
        ("[session.cookie]\nname = '__host-sid'\nsecure = false\n", "session.cookie.secure"),
        ("[session.cookie]\nname = 's'\nsame_site = 'none'\nsecure = false\n",
         "session.cookie.same_site"),
        ("[session.cookie]\nname = 'a;b'\n", "session.cookie.name"),
        ("[session.cookie]\ndomain = 'com'\n", "session.cookie.domain"),
        ("[session.cookie]\ndomain = 'a.b; Path=/x'\n", "session.cookie.domain"),
        ("[pages]\nlogin_url = 'https://login/'\n", "pages.login_url"),
        ("[pages]\nlogin_url = 'javascript:alert({url})'\n", "pages.login_url"),
        ("[redis]\nprefix = 'a{b}'\n", "redis.prefix"),
        ("[binding]\nasn = 'alert'\n", "binding.asn"),
        ("[binding]\naddress = 'refuse'\n", "binding.address"),
        ("[alerts]\nnew_device = 'deny'\n", "alerts.new_device"),
        ("[alerts]\nlink = 'https://a/{token}'\n", "alerts.link"),
        ("[alerts]\nlink_secret = 'short'\n", "alerts.link_secret"),
        (f"[alerts]\nlink = '{ASK}'\n[pages]\nlisten = ['127.0.0.1:1']\n", "alerts.link_secret"),
        (f"[alerts]\nlink = '{ASK}'\nlink_secret = '{DIGEST}'\n", "pages.listen"),
        ("[check]\nprofiles = ['oauth2']\n", "check.profiles[1]"),
        ("[check]\nprofiles = ['authelia', 'authelia']\n", "check.profiles"),
        ("[check.oauth2_proxy]\nfamily = 'caddy'\n", "check.oauth2_proxy.family"),
        ("[check.oauth2_proxy]\nmethod_header = 'X_Method'\n", "check.oauth2_proxy.method_header"),
        ("[check.oauth2_proxy]\nredirect_domains = ['https://a']\n",
         "check.oauth2_proxy.redirect_domains[1]"),
        ("[check.oauth2_proxy]\nallowed_email_domains = ['*']\n",
         "check.oauth2_proxy.allowed_email_domains[1]"),
        ("[check.authelia]\next_authz_prefix = '/'\n", "check.authelia.ext_authz_prefix"),
        ("[check.authelia]\next_authz_prefix = '/check/'\n", "check.authelia.ext_authz_prefix"),
        ("[identity]\nheaders = {}\n", "identity.headers"),
        ("[identity]\nseparator = ''\n", "identity.separator"),
        ("[identity.authelia]\nseparator = 'ab'\n", "identity.authelia.separator"),
        ("[identity]\nheaders = { X-User = 'password' }\n", "identity.headers.X-User"),
        ("[identity]\nheaders = { X-User = 'metadata.' }\n", "identity.headers.X-User"),
        ("[identity.oauth2_proxy]\nheaders = { X-User = 'User' }\n",
         "identity.oauth2_proxy.headers.X-User"),
    ],
)  # fmt: skip
def test_dangerous_settings_are_refused(tmp_path: Path, text: str, place: str) -> None:
    """What would harm somebody is refused, in its place."""
    token = f'[[admin.tokens]]\nname = "a"\nsha256 = "{DIGEST}"\nscopes = []\n'
    found = read(tmp_path, text + ("" if place == "admin.tokens" else token))
    assert places(found) == [place]


@pytest.mark.parametrize(
    "field",
    ["methods", "query", "networks", "country", "asn", "roles", "roles_all", "users",
     "without_alerts"],
)  # fmt: skip
def test_a_list_that_was_emptied_is_refused(tmp_path: Path, field: str) -> None:
    """Whoever takes the last country out of a rule does not want it to be for all of them."""
    for access in ("session", "public"):
        rule = f'[[policy.rules]]\nhost = "a.example.com"\naccess = "{access}"\n{field} = []\n'
        found = read(tmp_path, GOOD + rule)
        assert [each.place for each in found.problems] == [f"policy.rules[2].{field}"]
        assert "leave it out" in found.problems[0].message


DANGEROUS = [
    "Host", "Connection", "Cookie", "Set-Cookie", "Content-Length", "Transfer-Encoding", "Upgrade",
    "TE", "Trailer", "Location", "Authorization", "WWW-Authenticate", "Cache-Control", "Vary",
    "Content-Type", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Uri",
    "X-Forwarded-Method", "X-Real-IP", "X-Original-URL", "X-Original-URI", "X-Rewrite-URL",
    "X-Accel-Redirect", "X-Accel-Expires", "X-Envoy-Auth-Headers-To-Remove", "Proxy-Authorization",
    "Sec-Fetch-Site", "Forwarded", "X-HTTP-Method-Override", "X-Auth-Reason", "X-Auth-Login",
    "X-Auth-Step-Up",
    "Keep-Alive", "Date", "Server", "Origin", "Referer", "X_User", "X.User", "X-User-", "-X-User",
    "X--User", "Ä",
]  # fmt: skip


@pytest.mark.parametrize("spell", [str, str.lower, str.upper])
@pytest.mark.parametrize("name", DANGEROUS)
def test_dangerous_header_names_are_refused(
    tmp_path: Path, name: str, spell: Callable[[str], str]
) -> None:
    """What proxies and servers act on, and what one of them would drop or fold into another."""
    text = f'[identity.authelia]\nheaders = {{ "{spell(name)}" = "user", X-Other = "email" }}\n'
    assert places(read(tmp_path, text + GOOD)) == [f"identity.authelia.headers.{spell(name)}"]


def test_names_that_differ_by_case_alone_are_refused(tmp_path: Path) -> None:
    """They would be one header, with two values."""
    text = '[identity]\nheaders = { X-User = "user", x-user = "email" }\n'
    assert places(read(tmp_path, text + GOOD)) == ["identity.headers.x-user"]


def test_headers_can_be_chosen(tmp_path: Path) -> None:
    """Any other name, of any field or of what the application keeps in metadata."""
    text = (
        '[identity]\nheaders = { X-Forwarded-User = "user", Tenant = "metadata.org.id" }\n'
        "separator = '|'\n[identity.oauth2_proxy]\nraw_utf8 = true\n"
    )
    found = read(tmp_path, text + GOOD)
    assert (found.problems, found.warnings) == ((), ())
    assert found.settings is not None
    told = found.settings.identity.header_set
    assert told.headers == (("X-Forwarded-User", "user"), ("Tenant", "metadata.org.id"))
    assert (told.separator, told.raw_utf8) == ("|", False)
    assert found.settings.identity.of("oauth2-proxy").raw_utf8


def test_a_profile_without_a_sign_in_page_is_warned_of(tmp_path: Path) -> None:
    text = "[check]\nprofiles = ['oauth2-proxy']\n[identity.oauth2_proxy]\nraw_utf8 = true\n"
    found = read(tmp_path, text + GOOD)
    assert [each.place for each in found.warnings] == [
        "identity.oauth2_proxy.raw_utf8",
        "pages.login_url",
    ]


@pytest.mark.parametrize(
    ("host", "audience", "warned"),
    [
        ("", "", True),
        ("*.example.com", "", True),
        ("**.example.com", "", True),
        ("app.example.com", "", False),
        ("", "everybody", False),
    ],
)
def test_audiences_that_clients_make_up_are_warned_of(
    tmp_path: Path, host: str, audience: str, warned: bool
) -> None:
    """Each of them costs a signature, and one session gets only so many."""
    keys = ECKey.generate_key("P-256").as_pem(private=True).decode()
    text = GOOD.replace('path = "/**"', f'host = "{host}"') + (
        f'[identity.assertion]\nissuer = "https://a"\naudience = "{audience}"\n'
        f'keys = """{keys}"""\n[pages]\nlisten = ["127.0.0.1:1"]\n'
    )
    found = read(tmp_path, text)
    assert found.problems == ()
    places = [each.place for each in found.warnings]
    assert places == ["identity.assertion.audience"] * warned


def test_the_digest_of_an_empty_token_is_refused(tmp_path: Path) -> None:
    """A token line made from a variable that was not set would open the API to everybody."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert places(read(tmp_path, GOOD.replace(DIGEST, empty))) == ["admin.tokens[1].sha256"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[admin]\nlisten = ['0.0.0.0:9182']\ninsecure = true\n", "admin.insecure"),
        ("[admin]\nwithout_token = ['metrics']\n", "admin.without_token"),
        ("[session.cookie]\nname = 's'\nsecure = false\n", "session.cookie.secure"),
        ("[session.cookie]\ndomain = 'example.com'\n", "session.cookie.domain"),
        ("[identity]\nraw_utf8 = true\n", "identity.raw_utf8"),
        ("", "policy.rules"),
        ("[[policy.rules]]\naccess = 'deny'\n[[policy.rules]]\naccess = 'public'\n",
         "policy.rules[2]"),
        ("[[policy.rules]]\naccess = 'session'\nidle = '4h'\n", "policy.rules[1].idle"),
        ("[[policy.rules]]\naccess = 'session'\nmax_age = '30d'\n", "policy.rules[1].max_age"),
    ],
)  # fmt: skip
def test_doubtful_settings_are_warned_of(tmp_path: Path, text: str, place: str) -> None:
    """What an operator may want, but should know, is a warning and not a refusal."""
    token = f'[[admin.tokens]]\nname = "a"\nsha256 = "{DIGEST}"\nscopes = []\n'
    found = read(tmp_path, text + token)
    assert found.problems == ()
    assert place in [warning.place for warning in found.warnings]


def test_an_admin_listener_with_tls_may_be_reached(tmp_path: Path) -> None:
    """With a certificate the admin listener may be reached from other machines."""
    text = GOOD.replace("[admin]", f"[admin]\nlisten = ['0.0.0.0:9182']\n{TLS}")
    assert read(tmp_path, text).problems == ()


# --- rules -------------------------------------------------------------------------------------


def test_a_rule_with_everything(tmp_path: Path) -> None:
    """What is written is what is compiled."""
    text = GOOD.partition("[[policy")[0] + """
[[policy.rules]]
host = "**.example.com"
path = "/a/**"
methods = ["GET"]
ignore_case = true
query = ["a", "!b", "c=d"]
networks = ["10.0.0.0/8", "2001:db8::/32"]
access = "session"
roles = ["r"]
roles_all = ["s", "t"]
users = ["u"]
aal = 2
max_age = "15m"
idle = "10m"
counts_as_activity = false
shadow = true
"""
    settings = read(tmp_path, text).settings
    assert settings is not None
    (spec,) = settings.policy.specs()
    assert (spec.query, spec.roles_all, spec.users) == (("a", "!b", "c=d"), ("s", "t"), ("u",))
    assert (spec.aal, spec.max_age_ms, spec.idle_ms) == (2, 900_000, 600_000)
    assert [str(network) for network in spec.networks] == ["10.0.0.0/8", "2001:db8::/32"]
    assert spec.ignore_case
    assert spec.shadow
    assert not spec.counts_as_activity


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('query = ["a b"]', "query"),
        ('query = ["!a=b"]', "query"),
        ('networks = ["10.0.0.1/8"]', "networks[1]"),
        ('networks = ["::ffff:10.0.0.0/104"]', "networks"),
        ("aal = 4", "aal"),
        ("max_age = 5", "max_age"),
        ('max_age = "10ms"', "max_age"),
        ('idle = "1m"', "idle"),
        ("preflight = true", "preflight"),
        ('preflight = true\nmethods = ["GET"]', "methods"),
        ('country = ["DE"]', "country"),  # and no database
        ('country = ["de"]', "country"),
        ("asn = [3320]", "asn"),
        ("asn = [0]", "asn"),
        ('without_alerts = ["theft"]', "without_alerts"),
        ("shadow = 'x'", "shadow"),
    ],
)
def test_a_wrong_condition_or_demand_is_a_problem(tmp_path: Path, line: str, field: str) -> None:
    """A rule that asked less than was meant would let too many pass."""
    found = read(tmp_path, f'{GOOD.partition("[[policy")[0]}[[policy.rules]]\n{line}\n'
                           'access = "session"\n')  # fmt: skip
    assert f"policy.rules[1].{field}" in places(found)


@pytest.mark.parametrize("line", ['users = ["a"]', 'roles_all = ["a"]', "aal = 2",
                                  'max_age = "5m"', 'idle = "5m"'])  # fmt: skip
@pytest.mark.parametrize("access", ["public", "deny"])
def test_only_a_session_can_be_asked_for_more(tmp_path: Path, line: str, access: str) -> None:
    """A public rule with a demand is a mistake, and not one to be guessed at."""
    field = line.partition(" ")[0]
    text = f'{GOOD.partition("[[policy")[0]}[[policy.rules]]\n{line}\naccess = "{access}"\n'
    assert places(read(tmp_path, text)) == [f"policy.rules[1].{field}"]


# --- webhooks --------------------------------------------------------------------------------

WHSEC = "whsec_" + "a2V5" * 8
SECRETS = f'secrets = ["{WHSEC}"]'
HOOK = f"""
[[events.webhooks]]
name = "siem"
url = "https://siem.example.com/x"
{SECRETS}
"""


def test_a_webhook_is_read_with_its_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path, GOOD + HOOK).settings
    assert settings is not None
    [hook] = settings.events.webhooks
    assert (hook.name, hook.keys, hook.types) == ("siem", (b"key" * 8,), ())
    assert WHSEC not in repr(settings)


def test_the_secrets_of_a_webhook_can_be_read_from_a_file(tmp_path: Path) -> None:
    secrets, other = tmp_path / "secrets", "whsec_" + "b3Ro" * 8
    secrets.write_text(f"{WHSEC}\n\n{other}\n")
    text = HOOK.replace(SECRETS, f'secrets_file = "{secrets}"')
    settings = read(tmp_path, GOOD + text).settings
    assert settings is not None
    assert settings.events.webhooks[0].keys == (b"key" * 8, b"oth" * 8)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("https://siem", "http://siem", "events.webhooks[1].url"),
        ("https://siem", "ftp://siem", "events.webhooks[1].url"),
        ("https://siem.example.com", "https://user:pass@siem", "events.webhooks[1].url"),
        ("https://siem.example.com", "https://", "events.webhooks[1].url"),
        ("https://siem.example.com", "https://sïem", "events.webhooks[1].url"),
        ("example.com/x", "example.com/x#y", "events.webhooks[1].url"),
        ("whsec_", "", "events.webhooks[1].secrets[1]"),
        (f'["{WHSEC}"]', "[]", "events.webhooks[1].secrets"),
        ('"siem"', '"SIEM 1"', "events.webhooks[1].name"),
        ('name = "siem"', 'name = "siem"\ntimeout = "4500ms"', "events.webhooks[1].timeout"),
        ('name = "siem"', 'name = "siem"\nallow_networks = ["x"]',
         "events.webhooks[1].allow_networks[1]"),
        (SECRETS, 'secrets_file = "/nowhere"', "events.webhooks[1].secrets_file"),
        ('name = "siem"', 'name = "siem"\nsecrets_file = "/dev/null"',
         "events.webhooks[1].secrets_file"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_webhook_is_said_at_its_place(
    tmp_path: Path, old: str, new: str, place: str
) -> None:
    found = read(tmp_path, GOOD + HOOK.replace(old, new))
    assert place in places(found)
    assert not any(WHSEC.removeprefix("whsec_") in str(problem) for problem in found.problems)


def test_two_webhooks_of_one_name_are_refused_and_plain_http_where_it_is_allowed(
    tmp_path: Path,
) -> None:
    assert places(read(tmp_path, GOOD + HOOK + HOOK)) == ["events.webhooks"]
    plain = HOOK.replace("https:", "http:") + "allow_http = true\n"
    assert read(tmp_path, GOOD + plain).problems == ()
