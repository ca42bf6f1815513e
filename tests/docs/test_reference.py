"""The reference pages say what the code does, and all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.docs.pages import DOCS, ROOT, name_of

import settings_page
from govmiddleware.core.refusals import BudgetExhausted, RateLimited, Refusal
from govmiddleware.protocols.anthropic_errors import refusal_response as anthropic
from govmiddleware.protocols.bedrock_errors import refusal_response as bedrock
from govmiddleware.protocols.gemini_errors import error_body as gemini
from govmiddleware.protocols.openai_errors import error_body as openai

ERRORS, _, ENVELOPES = (DOCS / "errors.md").read_text().partition("## Envelopes")
SOURCES = [file for file in (ROOT / "src").rglob("*.py") if "testing" not in file.parts]


# Settings -----------------------------------------------------------------------------------------


def test_the_settings_are_those_of_the_tree() -> None:
    page = settings_page.PAGE.read_text()
    assert settings_page.missing(page) == []
    assert page == settings_page.up_to_date(page), "python tools/settings_page.py brings it up to date"


def test_a_setting_without_a_meaning_is_missed() -> None:
    page = settings_page.PAGE.read_text()
    assert settings_page.missing(re.sub(r"(\| `batches`.*\|)[^|]+\|\n", r"\1  |\n", page)) == ["batches"]
    without = re.sub(r"\| `sha256` .*\n", "", page)
    assert settings_page.missing(without) == ["sha256"]


# Errors -------------------------------------------------------------------------------------------


def kinds(of: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def codes() -> set[tuple[int, str]]:
    """With their statuses: those of the classes, and what `Unavailable` is made with."""
    named = {(kind.status, kind.code) for kind in kinds() if isinstance(getattr(kind, "code", None), str)}
    return named | {(503, code) for file in SOURCES for code in re.findall(r'code="(\w+)"', file.read_text())}


def test_every_code_is_on_the_page_with_its_status_and_no_other_is() -> None:
    found = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", ERRORS, re.MULTILINE)
    assert {(int(status), code) for status, code in found} == codes()
    assert len(codes()) > 25


def refused_as(what: str) -> Refusal:
    """The refusal that a row of the table of envelopes is of."""
    if what == "429, a budget":
        return BudgetExhausted("No.", (), None)
    if what == "429, a rate":
        return RateLimited("No.", (), None)
    refusal = Refusal("No.")
    refusal.__dict__ |= {"status": int(what), "code": "any"}  # a subclass would be one of `kinds()`
    return refusal


@pytest.mark.parametrize(
    "row",
    re.findall(r"^\| (\d{3}(?:, a \w+)?) \| (`.*) \|$", ENVELOPES, re.MULTILINE),
    ids=lambda row: row[0],
)
def test_envelopes_are_as_the_page_has_them(row: tuple[str, str]) -> None:
    what, shapes = row
    refusal = refused_as(what)
    claude = anthropic(refusal, "req")
    kind = dict(bedrock(refusal, "req").headers)[b"x-amzn-errortype"].decode()
    said = [
        _field(openai(refusal), "type"),
        f"{claude.status} `{_field(claude.body, 'type', nth=1)}`",
        f"`{_field(gemini(refusal), 'status')}`",
        f"`{kind}`",
    ]
    first, *others = shapes.split(" | ")
    assert others == said[1:]
    assert f"`{said[0]}`" in first.split(" or ")


def _field(body: bytes, name: str, nth: int = 0) -> str:
    return re.findall(rf'"{name}":"([^"]*)"', body.decode())[nth]


# Headers ------------------------------------------------------------------------------------------

OF_PAGES = {"x-content-type-options", "x-robots-tag"}
"""Of the pages for people alone, as their security wants it."""
CODINGS = {"x-gzip"}


def headers_in_the_code() -> set[str]:
    found = set()
    for file in SOURCES:
        found |= set(re.findall(r'"(x-[a-z0-9-]+[a-z0-9])-?(?=["{])', file.read_text()))
    return found - OF_PAGES - CODINGS


def test_every_header_of_the_code_is_on_the_page() -> None:
    page = (DOCS / "headers.md").read_text()
    assert len(headers_in_the_code()) > 30
    assert {header for header in headers_in_the_code() if header not in page} == set()


def test_every_header_that_a_request_loses_or_gets_on_its_way_upstream_is_on_the_page() -> None:
    page = (DOCS / "headers.md").read_text()
    rules = (ROOT / "src/govmiddleware/upstream/headers.py").read_text()
    named = set(re.findall(r'b"([a-z0-9-]*[a-z0-9])"', rules))
    assert len(named) > 30
    assert {header for header in named if f"`{header}`" not in page} == set()


def test_every_header_of_ours_on_the_page_is_in_the_code() -> None:
    page = (DOCS / "headers.md").read_text()
    ours = set(re.findall(r"`(x-gov-[a-z-]*[a-z])`", page))
    assert ours
    assert ours <= headers_in_the_code()


# Guarantees ---------------------------------------------------------------------------------------

PROOFS = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (DOCS / "guarantees.md").read_text())


def test_every_proof_of_a_guarantee_is_a_test_that_is_there() -> None:
    assert len(PROOFS) > 30
    gone = []
    for file, test in PROOFS:
        path = ROOT / file
        names = re.findall(r"^(?:async )?def (\w+)", path.read_text(), re.MULTILINE) if path.exists() else []
        if not path.exists() or (test and test not in names):
            gone.append(f"{file}::{test}")
    assert gone == []


def test_every_page_of_the_docs_is_in_the_navigation_and_no_other_is() -> None:
    listed = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    assert listed == {name_of(page).removeprefix("docs/") for page in DOCS.rglob("*.md")}
