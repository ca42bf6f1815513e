"""Settings: where they come from, and what a mistake in them is told."""

from __future__ import annotations

import tomllib

import pytest

from govmiddleware.app import Governance
from govmiddleware.core.providers import Provider
from govmiddleware.errors import ConfigurationError
from govmiddleware.settings import Settings, load

SHA = "ab" * 32
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRET = "s3cr3t"
"""Whatever stands here must not come back in an error."""

pytestmark = pytest.mark.usefixtures("nothing_around")


UPSTREAMS = """
[[upstreams]]
name = "openai"
url = "https://api.openai.com"
api_key_env = "OPENAI_API_KEY"
models = ["gpt-*", "o*"]
connect_timeout = 2

[[upstreams]]
name = "local"
url = "http://127.0.0.1:8000"
auth = "forward"
max_connections = 8

"""


# Where they come from -----------------------------------------------------------------------------

CONTRACTS_DEFAULTS = """
upstream_auth = "replace"
redis_url = "embedded"
on_store_failure = "closed"
mode = "enforced"
attribution = "trusted"
unmetered_routes = "refuse"
lease_seconds = 60
sweep_seconds = 15
max_body_bytes = 33554432
connect_timeout = 5
trusted_proxies = []
soft_fraction = 0.8
default_max_output_tokens = 4096
clamp_min_output_tokens = 64
slice_output_tokens = 1024
bound_coverage = 0.99
unknown_size_tokens = 2000
body_timeout = 30
journal_max_records = 5000000
public_url = "http://127.0.0.1:8080"
login_throttle = "10/minute"
control_prefix = "/gov"
"""


def test_defaults_are_the_contracts() -> None:
    settings = load()
    for name, value in tomllib.loads(CONTRACTS_DEFAULTS).items():
        found = getattr(settings, name)
        assert (list(found) if isinstance(found, tuple) else found) == value, name
    unset = (
        "upstream",
        "upstream_api_key",
        "metrics_token",
        "admin_token",
        "webhook_url",
        "webhook_secret",
        "audit_key",
    )
    assert [getattr(settings, name) for name in unset] == [None] * 7
    assert (settings.api_tokens, settings.limits, settings.prices) == ((), (), ())
    assert settings.data_dir.name == "govmiddleware"


def test_the_environment_wins_over_the_file_and_flags_over_both(written, monkeypatch) -> None:
    file = written("lease_seconds = 10\nsweep_seconds = 10\nbody_timeout = 10")
    monkeypatch.setenv("GOV_SWEEP_SECONDS", "20")
    monkeypatch.setenv("GOV_BODY_TIMEOUT", "20")
    settings = load(file, body_timeout=30, lease_seconds=None)
    assert (settings.lease_seconds, settings.sweep_seconds, settings.body_timeout) == (10, 20, 30)


def test_the_file_is_the_named_one_or_gov_config_or_the_one_here(written, monkeypatch, tmp_path) -> None:
    named, by_environment = written("lease_seconds = 1"), tmp_path / "environment.toml"
    by_environment.write_text("lease_seconds = 2")
    assert load().lease_seconds == 60
    (tmp_path / "govmiddleware.toml").write_text("lease_seconds = 3")
    assert load().lease_seconds == 3
    monkeypatch.setenv("GOV_CONFIG", str(by_environment))
    assert load().lease_seconds == 2
    assert load(named).lease_seconds == 1


def test_lists_in_the_environment_are_json(monkeypatch) -> None:
    monkeypatch.setenv(
        "GOV_LIMITS", '[{"name": "a", "scope": "user", "meter": "requests", "rate": "1/minute"}]'
    )
    monkeypatch.setenv("GOV_TRUSTED_PROXIES", '["10.0.0.0/8"]')
    settings = load()
    assert settings.limits[0].name == "a"
    assert settings.trusted_proxies == ("10.0.0.0/8",)


def test_governance_comes_from_a_file_and_overrides(written) -> None:
    file = written('[[limits]]\nname = "a"\nscope = "user"\nmeter = "requests"\nrate = "60/minute"')
    governance = Governance.from_settings(file, lease_seconds=7)
    assert [limit.name for limit in governance.settings.limits] == ["a"]
    assert governance.settings.lease_seconds == 7
    assert Governance.from_settings(str(file)).settings.lease_seconds == 60
    assert Governance.from_settings(governance.settings).settings is governance.settings


def test_settings_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        load().lease_seconds = 3  # type: ignore[misc]


# Upstreams ----------------------------------------------------------------------------------------


def test_upstream_alone_is_one_named_default_that_takes_every_model() -> None:
    [upstream] = Settings(upstream="http://x/v", upstream_api_key="k").all_upstreams
    assert upstream.url == "http://x/v"
    assert upstream.provider() == Provider("default", None, "http://x/v")
    assert upstream.credential("upstreams[0]") == "k"
    [nowhere] = Settings().all_upstreams
    assert (nowhere.name, nowhere.url, nowhere.credential("upstreams[0]")) == ("default", None, None)


def test_upstreams_keep_their_order_and_what_they_say(written) -> None:
    settings = load(written(UPSTREAMS))
    assert settings.all_upstreams == settings.upstreams
    openai, local = settings.upstreams
    assert openai.provider() == Provider("openai", ("gpt-*", "o*"), "https://api.openai.com")
    assert (openai.url, openai.connect_timeout, openai.max_connections) == ("https://api.openai.com", 2, None)
    assert local.provider() == Provider("local", None, local.url)
    assert (local.auth, local.connect_timeout, local.max_connections) == ("forward", None, 8)


def test_upstreams_in_the_environment_are_json_and_replace_those_of_the_file(written, monkeypatch) -> None:
    monkeypatch.setenv(
        "GOV_UPSTREAMS", '[{"name": "b", "url": "http://b", "models": ["m-*"], "idle_timeout": 9}]'
    )
    [upstream] = load(written(UPSTREAMS)).upstreams
    assert upstream.provider() == Provider("b", ("m-*",), "http://b")
    assert (upstream.url, upstream.idle_timeout) == ("http://b", 9)


def test_a_credential_is_read_from_the_environment_when_it_is_asked_for(written, monkeypatch) -> None:
    [openai, _] = load(written(UPSTREAMS)).upstreams
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert openai.credential("upstreams[0]") == SECRET
    assert SECRET not in repr(openai)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "an environment variable that is set and not empty"),
        ("", "an environment variable that is set and not empty"),
        ("s3cr3t\n", "an environment variable that holds printable ASCII without space or line break"),
        (" s3cr3t", "an environment variable that holds printable ASCII without space or line break"),
    ],
)
def test_a_credential_that_cannot_be_used_is_told_by_its_variable(
    written, monkeypatch, value: str | None, expected: str
) -> None:
    if value is None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    else:
        monkeypatch.setenv("OPENAI_API_KEY", value)
    [openai, _] = load(written(UPSTREAMS)).upstreams
    with pytest.raises(ConfigurationError) as raised:
        openai.credential("upstreams[0]")
    assert str(raised.value).startswith(f"upstreams[0].api_key_env = 'OPENAI_API_KEY': expected {expected}")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_an_upstream_by_flag_or_environment_does_not_stand_beside_those_of_the_file(
    written, monkeypatch, way: str
) -> None:
    if way == "environment":
        monkeypatch.setenv("GOV_UPSTREAM", "http://x")
    with pytest.raises(ConfigurationError, match="be it --upstream, GOV_UPSTREAM or in the file"):
        load(written(UPSTREAMS), upstream="http://x" if way == "flag" else None)


# Mistakes -----------------------------------------------------------------------------------------

LIMIT = '[[limits]]\nname = "a"\nscope = "user"\nmeter = "requests"\n'
TOKEN = f'[[api_tokens]]\nname = "a"\nworkspace = "w"\nsha256 = "{SHA}"\n'
UPSTREAM = '[[upstreams]]\nname = "a"\n'
PRICE = '[[prices]]\nmodel = "m"\n'
A_RATE = "a whole number above 0 per second, minute, hour or day, such as 60/minute or 100/5 minutes"

MISTAKES = [
    # what is written, the key that is named, the value that is shown, what would be right
    ("max_body_bytes = 'x'", "max_body_bytes", "'x'", "a valid integer"),
    ("max_body_bytes = 0", "max_body_bytes", "0", "greater than 0"),
    ("max_body_bytes = 1.5", "max_body_bytes", "1.5", "a valid integer"),
    ("max_body_bytes = true", "max_body_bytes", "True", "a number"),
    ("connect_timeout = true", "connect_timeout", "True", "a number"),
    ("connect_timeout = -1", "connect_timeout", "-1", "greater than 0"),
    ("connect_timeout = nan", "connect_timeout", "nan", "a number greater than 0"),
    ("lease_seconds = inf", "lease_seconds", "inf", "finite"),
    ("lease_seconds = 0.5", "lease_seconds", "0.5", "greater than or equal to 1"),
    ("default_max_output_tokens = 0", "default_max_output_tokens", "0", "greater than 0"),
    ("clamp_min_output_tokens = 0", "clamp_min_output_tokens", "0", "greater than 0"),
    ("slice_output_tokens = -1", "slice_output_tokens", "-1", "greater than or equal to 0"),
    ("slice_output_tokens = true", "slice_output_tokens", "True", "a number"),
    ("bound_coverage = 1", "bound_coverage", "1", "less than or equal to 0.9999"),
    ("bound_coverage = 0.4", "bound_coverage", "0.4", "greater than or equal to 0.5"),
    ("unknown_size_tokens = 'x'", "unknown_size_tokens", "'x'", "a valid integer"),
    # upstreams
    *(
        (f"upstream = {url!r}", "upstream", repr(url), "an http or https URL with a host")
        for url in (
            "",
            "localhost:80",
            "ftp://x",
            "http://",
            "http://x?y",
            "http://x#y",
            "http://x:y",
            "http://x:0",
        )
    ),
    ("upstream = 'http://u:p@x'", "upstream", "'http://…@x'", "an http or https URL with a host"),
    (UPSTREAM + "url = 'x'", "upstreams[0].url", "'x'", "an http or https URL with a host"),
    (UPSTREAM + "url = 'http://u:p@x'", "upstreams[0].url", "'http://…@x'", "an http or https URL"),
    (UPSTREAM + "url = 'http://x'\n" + UPSTREAM, "upstreams[1].name", "'a'", "that no other upstream has"),
    (UPSTREAM.replace('"a"', '"a b"'), "upstreams[0].name", "'a b'", "1 to 64 letters"),
    ("[[upstreams]]\nurl = 'http://x'", "upstreams[0].name", "None", "a value; it is required"),
    ("upstreams = ['http://x']", "upstreams[0]", "'…'", "a table"),
    ("[upstreams]\nname = 'a'", "upstreams", "'…'", "a list"),
    (UPSTREAM + "models = []", "upstreams[0].models", "[]", "names or globs, such as gpt-*"),
    (UPSTREAM + "models = ['']", "upstreams[0].models", "['']", "names or globs, such as gpt-*"),
    (UPSTREAM + "models = 'gpt-*'", "upstreams[0].models", "'gpt-*'", "a list"),
    (UPSTREAM + "auth = 'both'", "upstreams[0].auth", "'both'", "'replace' or 'forward'"),
    (UPSTREAM + "auth = 'forward'\napi_key_env = 'A'", "upstreams[0].auth", "'forward'", "replace"),
    ("upstream_auth = 'forward'\n" + UPSTREAM + "api_key = 'k'", "upstreams[0].auth", "'forward'", "replace"),
    (
        UPSTREAM + "api_key = 'k'\napi_key_env = 'A'",
        "upstreams[0]",
        "'…'",
        "api_key_env or api_key, not both",
    ),
    (UPSTREAM + "api_key = 'k '", "upstreams[0].api_key", "'…'", "printable ASCII without space"),
    (UPSTREAM + "api_key_env = 'MY-KEY'", "upstreams[0].api_key_env", "'…'", "in capital letters"),
    (UPSTREAM + "max_connections = 0", "upstreams[0].max_connections", "0", "greater than 0"),
    (UPSTREAM + "connect_timeout = 0", "upstreams[0].connect_timeout", "0", "greater than 0"),
    (UPSTREAM + "first_byte_timeout = inf", "upstreams[0].first_byte_timeout", "inf", "finite"),
    (UPSTREAM + "idle_timeout = true", "upstreams[0].idle_timeout", "True", "a number"),
    (UPSTREAM + "trust_cost_header = 3", "upstreams[0].trust_cost_header", "3", "boolean"),
    ("upstream = 'http://x'\n" + UPSTREAM, "upstream", "'http://x'", "nothing beside [[upstreams]], be it"),
    ("upstream_api_key = 'k'\n" + UPSTREAM, "upstream_api_key", "'…'", "nothing beside [[upstreams]]: each"),
    ("redis_url = 'http://h'", "redis_url", "'http://h'", "embedded, or a URL of redis://"),
    ("redis_url = 'redis+ring://h'", "redis_url", "'redis+ring://h'", "embedded, or a URL of redis://"),
    ("redis_url = 3", "redis_url", "3", "a valid string"),
    ("upstream_auth = 'both'", "upstream_auth", "'both'", "'replace' or 'forward'"),
    ("on_store_failure = 'open'", "on_store_failure", "'open'", "'closed'"),
    ("attribution = ''", "attribution", "''", "'trusted' or 'pinned'"),
    ("unmetered_routes = 'allow'", "unmetered_routes", "'allow'", "'refuse' or 'forward'"),
    ("trusted_proxies = ['x']", "trusted_proxies", "['x']", "such as 10.0.0.0/8"),
    ("trusted_proxies = ['10.0.0.1/8']", "trusted_proxies", "['10.0.0.1/8']", "such as 10.0.0.0/8"),
    ("trusted_proxies = '10.0.0.0/8'", "trusted_proxies", "'10.0.0.0/8'", "a list"),
    ("trusted_proxies = [1.5]", "trusted_proxies[0]", "1.5", "a valid string"),
    ("control_prefix = 'gov'", "control_prefix", "'gov'", "a path such as /gov"),
    ("control_prefix = '/'", "control_prefix", "'/'", "a path such as /gov"),
    ("login_throttle = '0/minute'", "login_throttle", "'0/minute'", A_RATE),
    ("webhook_url = 'hooks.example'", "webhook_url", "'…'", "an http or https URL with a host"),
    ("webhook_url = 'https://hooks.example/x'", "webhook_secret", "None", "openssl rand -base64 32"),
    ("journal_url = 'postgresql://h/d'", "audit_key", "None", "GOV_AUDIT_KEY from `openssl rand -base64 32`"),
    ("audit_key = 'thirty-one characters, not more'", "audit_key", "'…'", "at least 32"),
    ("public_url = 'gov.example'", "public_url", "'gov.example'", "an http or https URL with a host"),
    (f"webhook_secret = {WEBHOOK_SECRET!r}", "webhook_url", "None", "a URL beside webhook_secret"),
    ("webhook_secret = 'whsec_c2hvcnQ='", "webhook_secret", "'…'", "the base64 of 24 to 64 random bytes"),
    ("redis = 'embedded'", "redis", "'embedded'", "a setting that exists"),
    # limits
    ("mode = 'block'", "mode", "'block'", "'enforced', 'dry_run' or 'suggest'"),
    ("audit_seconds = -1", "audit_seconds", "-1", "greater than or equal to 0"),
    ("audit_seconds = 1e9", "audit_seconds", "1000000000.0", "less than or equal to 2678400"),
    ("soft_fraction = 0", "soft_fraction", "0", "a number greater than 0"),
    ("soft_fraction = 1.1", "soft_fraction", "1.1", "a number less than or equal to 1"),
    ("soft_fraction = nan", "soft_fraction", "nan", "a number"),
    ("soft_fraction = true", "soft_fraction", "True", "a number"),
    ((LIMIT + "rate = '1/minute'\n") * 2, "limits[1].name", "'a'", "a name that no other limit has"),
    ("limits = 3", "limits", "3", "a list"),
    ("limits = ['a']", "limits[0]", "'a'", "a table"),
    ("[limits]\nname = 'a'", "limits", "'name': 'a'", "a list"),
    ('[[limits]]\nname = "a"\nmeter = "requests"\nrate = "1/minute"', "limits[0].scope", "None", "required"),
    # API tokens
    (TOKEN.replace('"w"', '"w w"'), "api_tokens[0].workspace", "'w w'", "a workspace name: 1 to 64 letters"),
    (TOKEN.replace('"w"', '"{w}"'), "api_tokens[0].workspace", "'{w}'", "a workspace name: 1 to 64 letters"),
    (TOKEN.replace('"a"', '""'), "api_tokens[0].name", "''", "1 to 128 printable characters"),
    (TOKEN.replace('"a"', '"a\\nb"'), "api_tokens[0].name", r"'a\nb'", "1 to 128 printable characters"),
    (TOKEN + 'user = "a\\u2028b"', "api_tokens[0].user", r"'a\u2028b'", "1 to 128 printable characters"),
    (TOKEN + 'agent = ""', "api_tokens[0].agent", "''", "1 to 128 printable characters"),
    (TOKEN + "role = 'root'", "api_tokens[0].role", "'root'", "'owner', 'admin' or 'operator'"),
    (TOKEN.replace(SHA, "abc"), "api_tokens[0].sha256", "'…'", "64 hexadecimal digits"),
    (TOKEN * 2, "api_tokens[1].name", "'a'", "a name that no other API token of its workspace has"),
    (TOKEN + TOKEN.replace('"a"', '"b"'), "api_tokens[1].sha256", "'…'", "no other API token has"),
    # prices
    (
        PRICE,
        "prices[0]",
        "'model': 'm'",
        "input_usd_per_mtok and output_usd_per_mtok, request_usd, image_usd, audio_minute_usd or same_as",
    ),
    (PRICE + "input_usd_per_mtok = -1", "prices[0].input_usd_per_mtok", "-1", "greater than or equal to 0"),
    (PRICE + "pixel_usd = 1\nsame_as = 'x'", "prices[0].pixel_usd", "1", "a setting that exists"),
]


@pytest.mark.parametrize(("text", "key", "value", "expected"), MISTAKES, ids=[each[0] for each in MISTAKES])
def test_a_mistake_is_told_by_key_value_and_what_would_be_right(
    written, text: str, key: str, value: str, expected: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(written(text))
    said = [str(raised.value), *getattr(raised.value, "__notes__", ())]
    assert any(line.startswith(f"{key} = ") for line in said), said
    [line] = [line for line in said if line.startswith(f"{key} = ")]
    found, wanted = line.removeprefix(f"{key} = ").split(": expected ", 1)
    assert value in found
    assert expected in wanted
    assert SHA not in "".join(said), "nor any hash of a secret"


def test_all_mistakes_are_told_at_once(written) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(written("lease_seconds = 0\nsweep_seconds = 0\nmode = 'x'"))
    said = " ".join([str(raised.value), *raised.value.__notes__])
    assert all(key in said for key in ("lease_seconds", "sweep_seconds", "mode"))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("redis_url = 'http://user:s3cr3t@h'", "redis_url"),
        ("upstream_api_key = ['s3cr3t']", "upstream_api_key"),
        ("admin_token = {is = 's3cr3t'}", "admin_token"),
        ("metrics_token = ['s3cr3t']", "metrics_token"),
        ("audit_key = 's3cr3t'", "audit_key"),
        ("webhook_secret = 's3cr3t'", "webhook_secret"),
        ("webhook_url = 'ftp://hooks/s3cr3t'", "webhook_url"),
        ("openai_password = 's3cr3t'", "openai_password"),
        ("admin_tokens = 's3cr3t'", "admin_tokens"),
        ("api_tokens = 's3cr3t'", "api_tokens"),
        ("api_tokens = ['s3cr3t']", "api_tokens[0]"),
        ("api_tokens = {ci = 's3cr3t'}", "api_tokens"),
        ("[[api_tokens]]\nname = 'a'\nworkspace = 'w'\nsha256 = 's3cr3t'", "api_tokens[0].sha256"),
        ("[[api_tokens]]\nname = 'a'\nworkspace = 'w'\nsecret = 's3cr3t'", "api_tokens[0].secret"),
        ("admin_token = 's3cr3t'\n" + (LIMIT + "rate = '1/minute'\n") * 2, "limits[1].name"),
        ("upstream_api_key = 's3cr3t'\nlease_seconds = 0", "lease_seconds"),
        ("journal_url = 'mysql://user:s3cr3t@h/db'", "journal_url"),
        ("[[upstreams]]\napi_key = 's3cr3t'", "upstreams[0].name"),
        ("[[upstreams]]\nname = 'a'\napi_key = 's3cr3t'\napi_key_env = 'A'", "upstreams[0]"),
        ("[[upstreams]]\nname = 'a'\napi_key = ['s3cr3t']", "upstreams[0].api_key"),
        ("[[upstreams]]\nname = 'a'\napi_key_env = 's3cr3t'", "upstreams[0].api_key_env"),
        ("[[upstreams]]\nname = 'a'\nbearer = 's3cr3t'", "upstreams[0].bearer"),
        ("[[upstreams]]\nname = 'a'\nurl = 'https://user:s3cr3t@h'", "upstreams[0].url"),
        ("upstreams = ['s3cr3t']", "upstreams[0]"),
        ("upstreams = {a = 's3cr3t'}", "upstreams"),
        ("upstream_api_key = 's3cr3t'\n[[upstreams]]\nname = 'a'", "upstream_api_key"),
    ],
)
def test_secrets_never_appear_in_errors(written, text: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(written(text))
    said = [str(raised.value), *getattr(raised.value, "__notes__", ())]
    assert any(line.startswith(f"{key} = ") for line in said), said
    assert SECRET not in "".join(said)
    assert SECRET not in repr(raised.value.__cause__)


def test_secrets_do_not_show_in_settings_either(written) -> None:
    settings = load(written("admin_token = 's3cr3t'\nupstream_api_key = 's3cr3t'\nmetrics_token = 's3cr3t'"))
    assert SECRET not in repr(settings)
    assert settings.admin_token is not None
    assert settings.admin_token.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("GOV_MAX_BODY_BYTES", "abc", "max_body_bytes"),
        ("GOV_LIMITS", "[nonsense", "GOV_LIMITS"),
        ("GOV_API_TOKENS", "s3cr3t", "GOV_API_TOKENS"),
        ("GOV_UPSTREAMS", "s3cr3t", "GOV_UPSTREAMS"),
        ("GOV_UPSTREAMS__0__API_KEY", "s3cr3t", "upstreams"),
        ("GOV_LIMITS__0__HARD", "3", "limits"),
        ("GOV_TRUSTED_PROXIES", "10.0.0.0/8", "GOV_TRUSTED_PROXIES"),
    ],
)
def test_a_mistake_in_the_environment_names_its_variable(monkeypatch, name, value, key) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load()
    assert raised.value.key == key
    assert SECRET not in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken.toml").write_text("limits = [")
    (tmp_path / "latin.toml").write_bytes(b"upstream = '\xe4'")
    for name, expected in {
        "missing.toml": "a file",
        "broken.toml": "TOML",
        "latin.toml": "TOML",
        ".": "a file",
    }.items():
        with pytest.raises(ConfigurationError, match=expected) as raised:
            load(tmp_path / name)
        assert str(tmp_path / name) in str(raised.value)
    monkeypatch.setenv("GOV_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigurationError, match=r"GOV_CONFIG = 'nowhere.toml'"):
        load()


@pytest.mark.parametrize(
    ("settings", "key", "expected"),
    [
        ({"redis_url": "redis://u:s3cr3t@h:port"}, "redis_url", "hosts must be HOST or HOST:PORT"),
        ({"redis_url": "redis://u:s3cr3t@h:99999"}, "redis_url", "hosts must be HOST or HOST:PORT"),
        ({"redis_url": "redis://h/0?db=abc"}, "redis_url", "Invalid value for 'db'"),
        ({"redis_url": "redis://h/0?sokcet_keepalive=1"}, "redis_url", "'sokcet_keepalive'"),
        ({"redis_url": "redis://h/0?socket_timeout=5"}, "redis_url", "socket_timeout is govmiddleware's own"),
        ({"redis_url": "redis+sentinel://u:s3cr3t@a,b:1"}, "redis_url", "the name of the master must follow"),
        (
            {"redis_url": "redis+sentinel://u:s3cr3t@a,:1/books"},
            "redis_url",
            "hosts must be HOST or HOST:PORT",
        ),
        ({"redis_url": "redis://:s3cr3t/x@h:1"}, "redis_url", "a password before @ percent-encoded"),
        ({"redis_url": "redis+cluster://:s3cr3t/x@h:1"}, "redis_url", "a password before @ percent-encoded"),
        ({"redis_url": "redis+cluster://u:s3cr3t@a,b:1/3"}, "redis_url", "a cluster has no databases"),
        ({"redis_url": "redis+cluster://"}, "redis_url", "hosts must follow"),
        ({"prices": [{"model": "m", "same_as": "unheard-of"}]}, "prices[0].same_as", ""),
    ],
)
def test_what_only_the_parts_can_tell_is_told_when_they_are_built(settings, key, expected) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Governance.from_settings(load(**settings))
    assert raised.value.key == key
    assert expected in str(raised.value)
    assert "s3cr3t" not in str(raised.value)
