"""The rule by which a call finds its provider."""

from __future__ import annotations

import pytest

from govmiddleware.core.providers import Provider, provider_for

OPENAI = Provider("openai", ("gpt-*", "o[134]*"))
LOCAL = Provider("local", ("gpt-oss-*", "meta-llama/*", "o?", "o?-*"))
REST = Provider("rest")


def chosen(model: str | None, *providers: Provider) -> str | None:
    found = provider_for(model, providers)
    return found and found.name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "openai"),
        ("gpt-", "openai"),
        ("o3-mini", "openai"),
        ("o2-mini", "local"),
        ("o2", "local"),
        ("meta-llama/Llama-3.1/8B", "local"),
        ("claude-opus-4", "rest"),
        ("GPT-4o", "rest"),
        ("my-gpt-4o", "rest"),
        ("ft:gpt-4o:acme", "rest"),
        ("", "rest"),
        ("gpt-4o\nmore", "openai"),
    ],
)
def test_a_model_goes_to_the_first_that_has_a_glob_for_all_of_its_name(model: str, name: str) -> None:
    assert chosen(model, OPENAI, LOCAL, REST) == name


def test_the_order_of_the_providers_decides_and_not_how_well_a_glob_fits() -> None:
    assert chosen("gpt-oss-20b", OPENAI, LOCAL) == "openai"
    assert chosen("gpt-oss-20b", LOCAL, OPENAI) == "local"
    assert chosen("gpt-oss-20b", REST, LOCAL, OPENAI) == "rest"


def test_a_model_that_nobody_takes_has_no_provider() -> None:
    assert chosen("claude-opus-4", OPENAI, LOCAL) is None


def test_what_names_no_model_goes_to_the_first() -> None:
    assert chosen(None, LOCAL, OPENAI, REST) == "local"


def test_the_one_that_stands_alone_is_named_default_and_takes_every_model() -> None:
    assert chosen("anything/at all", Provider()) == "default"
