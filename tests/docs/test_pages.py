"""Links lead somewhere, and code blocks are what they say they are."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclopts import CycloptsError
from sqlalchemy import create_engine, text
from tests.docs.pages import DOCS, PAGES, ROOT, anchors, blocks, links, name_of, spans

from govmiddleware.cli.root import app
from govmiddleware.journal.tables import metadata
from govmiddleware.settings import load

OURS = "govmiddleware.toml"
PROMPT = re.compile(r"(?:^|[\s(])(?:govmiddleware )*govmiddleware((?: (?!\\)[^\n|&)#;>]+| \\\n)+)")
"""A command as it stands in a shell: alone, after `TOKEN=$(`, behind a prompt, behind the name of a container."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_page_and_a_heading_that_are_there(page: Path) -> None:
    broken = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


def test_pages_of_the_site_link_to_nothing_outside_of_it() -> None:
    outside = [
        (name_of(page), link)
        for page in DOCS.rglob("*.md")
        for link in links(page)
        if not (page.parent / link.partition("#")[0]).resolve().is_relative_to(DOCS)
    ]
    assert outside == []


@pytest.mark.usefixtures("nothing_around")
def test_configurations_load(written: Callable[[str], Path]) -> None:
    ours = [block for block in blocks("toml") if block.file in (None, OURS)]
    assert len(ours) > 6
    for block in ours:
        try:
            load(written(block.text))
        except Exception as error:
            error.add_note(block.place)
            raise


def test_json_is_json() -> None:
    for block in blocks("json"):
        try:
            json.loads(block.text)
        except ValueError as error:
            error.add_note(block.place)
            raise


def test_python_compiles() -> None:
    assert blocks("python")
    for block in blocks("python"):
        compile(block.text, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_queries_are_answered_by_the_tables_there_are() -> None:
    assert blocks("sql")
    with create_engine("sqlite://").connect() as connection:
        metadata.create_all(connection)
        for block in blocks("sql"):
            connection.execute(text(block.text))


def commands() -> list[tuple[str, str]]:
    """Where each stands, and what follows `govmiddleware`; those that stand for several, with `[…]` or `|`, left out."""
    shells = [(block.place, block.text) for block in blocks("sh", "bash", "console")]
    inline = [
        (name_of(page), span) for page in PAGES for span in spans(page) if not re.search(r"[|\[…]", span)
    ]
    found = [
        (place, command.replace("\\\n", " ").strip())
        for place, shell in shells + inline
        for command in PROMPT.findall(shell)
    ]
    return sorted({command: place for place, command in found if command[0] != "-"}.items())


def mistake(command: str) -> str | None:
    """What the command line has against it, without running it."""
    words = ["1" if word == "N" else word for word in shlex.split(command)]
    group, rest = app, words
    while rest and rest[0] in group:
        group, *rest = group[rest[0]], *rest[1:]
    if group is app:
        return "no such command"
    if rest:  # a name alone speaks of the command, arguments or not
        try:
            app.parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            return str(error)
    return None


def test_commands_are_commands_and_their_options_are_options() -> None:
    found = commands()
    assert len(found) > 20
    mistakes = [(place, command, mistake(command)) for command, place in found]
    assert [one for one in mistakes if one[2]] == []


@pytest.mark.parametrize(
    "command", ["tokn create laptop", "token creat laptop", "serve --prot 80", "usage --by"]
)
def test_a_command_that_is_none_is_noticed(command: str) -> None:
    assert mistake(command)


def test_nothing_of_a_page_was_overlooked() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/index.md", "docs/limits.md"} <= {
        name_of(page) for page in PAGES
    }
    assert all(page.is_relative_to(ROOT) for page in PAGES)


def test_the_quickstart_in_an_app_is_the_readmes_which_runs() -> None:
    """tests/test_readme.py follows it to the letter."""
    for language, place in (("python", "govern("), ("toml", "[[limits]]"), ("sh", "uvicorn app:app")):
        found = {
            block.place.partition(":")[0]: block.text for block in blocks(language) if place in block.text
        }
        assert found["docs/quickstart/app.md"] in found["README.md"]
