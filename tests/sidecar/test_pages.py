"""The pages behind a refusal's link: for browsers, terminals and programs, and what people do there."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from tests.sidecar.conftest import RunningSidecar
from tests.sidecar.people import ADMIN, NOBODY, PEOPLE, Client, audit_entries
from tests.sidecar.waiting import until
from tests.webhook import SECRET, Receiver, is_signed

from govmiddleware.services.links import LIFE_SECONDS
from govmiddleware.testing import serve_in_thread

Run = Callable[..., RunningSidecar]

PUBLIC = "http://127.0.0.1:8080"
USER = {"name": "user-day", "scope": "user", "meter": "requests", "window": "day", "hard": 1}
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 20}
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
ASKED = {"amount": "1", "seconds": "600", "reason": "the release"}


class Pages:
    """A client of the pages of one sidecar, which nothing but its links leads to."""

    def __init__(self, sidecar: RunningSidecar, http: httpx.Client) -> None:
        self.sidecar = sidecar
        self.http = http

    def refused(self, secret: str = "bob", **headers: str) -> str:
        """The link of a call that is refused."""
        answer = self.http.post(
            f"{self.sidecar.url}/v1/chat/completions",
            json=BODY,
            headers={"authorization": f"Bearer {secret}", **headers},
        )
        assert answer.status_code == 429
        link: str = answer.json()["error"]["override_url"]
        assert answer.json()["error"]["message"].endswith(link)
        return self.here(link)

    def here(self, text: str) -> str:
        """Where the sidecar of the test listens, in place of where its public URL says it does."""
        return text.replace(PUBLIC, self.sidecar.url)

    def get(self, url: str, accept: str = BROWSER) -> httpx.Response:
        return self.http.get(url, headers={"accept": accept})

    def post(self, url: str, accept: str = BROWSER, **fields: str) -> httpx.Response:
        return self.http.post(url, data=fields, headers={"accept": accept})

    def ask(self, link: str, **fields: str) -> dict[str, Any]:
        answer = self.post(link, "application/json", **{**ASKED, **fields})
        assert answer.status_code == 201
        found: dict[str, Any] = answer.json()
        return found | {"page": self.here(found["page"])}


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


@pytest.fixture
def serve(run_sidecar: Run, http: httpx.Client) -> Serve:
    """Serves the pages of a sidecar with settings given as keywords."""
    return lambda **settings: Pages(run_sidecar(api_tokens=PEOPLE, admin_token=ADMIN, **settings), http)


@pytest.fixture
def pages(serve: Serve) -> Pages:
    return serve(limits=[NOBODY])


Serve = Callable[..., Pages]


class Shown(HTMLParser):
    """What is in a page: its tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


# What is shown ------------------------------------------------------------------------------------


def test_a_link_tells_what_was_refused_and_how_the_limit_stands_now(serve: Serve) -> None:
    pages = serve(limits=[USER])
    calls = {"authorization": "Bearer oscar", "x-gov-user": "ann"}
    assert pages.http.post(f"{pages.sidecar.url}/v1/chat/completions", json=BODY, headers=calls).is_success
    link = pages.refused("oscar", **{"x-gov-user": "ann"})
    facts = pages.get(link, "application/json").json()
    assert facts["refused"] == {
        "workspace": "acme",
        "api_token": "oscar",
        "user": "ann",
        "request_id": facts["refused"]["request_id"],
        "model": "gpt-4o-mini",
        "limit": "user-day",
        "scope": "user",
        "value": "ann",
        "meter": "requests",
        "requested": 1,
        "at": facts["refused"]["at"],
    }
    assert facts["now"]["resets_at"].endswith("T00:00:00Z")
    figures = {name: facts["now"][name] for name in ("used", "reserved", "maximum", "remaining", "percent")}
    assert figures == {"used": 1, "reserved": 0, "maximum": 1, "remaining": 0, "percent": 100}
    for accept in (BROWSER, "*/*"):
        shown = pages.get(link, accept).text
        for words in ("user-day", "ann", "gpt-4o-mini", "1 request", facts["refused"]["request_id"]):
            assert words in shown, (accept, words)


def test_a_page_is_without_scripts_and_closed_to_all_that_is_not_its_own(pages: Pages) -> None:
    link = pages.refused()
    for url in (link, pages.ask(link)["page"], f"{link}x"):
        answer = pages.get(url)
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in answer.headers
        shown = Shown(answer.text)
        assert not {"script", "style", "img"} & {tag for tag, _ in shown.tags}
        [sheet] = shown.all("link")
        style = pages.http.get(urljoin(url, sheet["href"]))
        assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")


def test_every_field_of_a_form_has_a_label(pages: Pages) -> None:
    link = pages.refused()
    for url in (link, pages.ask(link)["page"]):
        shown = Shown(pages.get(url).text)
        fields = {field["id"] for tag in ("input", "select", "textarea") for field in shown.all(tag)}
        assert fields == {label["for"] for label in shown.all("label")}


def test_names_that_callers_choose_are_text_and_nothing_else(serve: Serve) -> None:
    pages = serve(limits=[{**USER, "hard": 0}])
    user = "<b>&\"'ann"
    link = pages.refused("oscar", **{"x-gov-user": user})
    override = pages.ask(link, reason="<script>alert(1)</script>")
    for url in (link, override["page"]):
        shown = Shown(pages.get(url).text)
        assert not {"b", "script"} & {tag for tag, _ in shown.tags}
        assert user in shown.text
        assert "<script>alert(1)</script>" in shown.text
        assert repr(user) in pages.get(url, "*/*").text


def test_a_limit_that_is_gone_is_said_to_be(serve: Serve) -> None:
    pages = serve()
    admin = Client(ADMIN, pages.sidecar.url)
    assert admin.send("PUT", "limits/nobody", json=NOBODY).is_success
    link = pages.refused()
    assert admin.send("DELETE", "limits/nobody").is_success
    for accept in (BROWSER, "*/*"):
        assert "no limit of this name any more" in pages.get(link, accept).text
    assert pages.post(link, "*/*", **ASKED).status_code == 404


# Links that are none -------------------------------------------------------------------------------


def test_a_link_that_is_not_ours_or_too_old_is_a_page_that_says_so(pages: Pages) -> None:
    link = pages.refused()
    base, _, token = link.rpartition("/")
    for url, status, words in (
        (f"{base}/{token[:-1]}", 404, "not one of ours"),
        (f"{base}/{_old(pages, token)}", 410, "has expired"),
        (f"{pages.sidecar.url}/gov/overrides/ovr_none", 404, "no such override"),
    ):
        for accept, kind in (
            (BROWSER, "text/html"),
            ("*/*", "text/plain"),
            ("application/json", "application/json"),
        ):
            answer = pages.get(url, accept)
            assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, kind)
            assert words in answer.text


def _old(pages: Pages, token: str) -> str:
    links = pages.sidecar.governance.links
    said = links.read(token)
    fields = {name: getattr(said, name) for name in said.__struct_fields__}
    return links.token(type(said)(**fields | {"at": said.at - LIFE_SECONDS - 1}))


def test_who_guesses_at_links_is_held_up_and_who_has_one_is_not(serve: Serve) -> None:
    pages = serve(limits=[NOBODY], login_throttle="3/minute")
    link = pages.refused()
    statuses = [pages.get(f"{link}{number}").status_code for number in range(3)]
    assert [*statuses, pages.get(f"{link}x").status_code] == [404, 404, 404, 429]
    assert pages.get(f"{pages.sidecar.url}/gov/overrides/ovr_guessed").status_code == 429
    assert pages.get(link).status_code == 200


# Asking -------------------------------------------------------------------------------------------


def test_the_call_that_the_terminal_shows_asks_as_the_caller_that_was_refused(
    pages: Pages, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    link = pages.refused()
    text = subprocess.run(["curl", "-s", link], capture_output=True, text=True, check=True).stdout
    command = pages.here(text[text.index("  curl ") :])
    asked = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert asked.startswith("Asked for override ovr_")
    [override] = Client("bob", pages.sidecar.url).overrides()
    assert (override["requester"], override["limit"], override["value"]) == (
        "api_token:bob",
        "nobody",
        "acme",
    )
    assert (override["amount"], override["seconds"], override["reason"]) == (1, 3600, "why")
    assert audit_entries(tmp_path / "gov") == [("api_token:bob", "requested", "usage-budget:nobody:acme")]
    assert (
        override["id"]
        in subprocess.run(["curl", "-s", link], capture_output=True, text=True, check=True).stdout
    )


def test_a_form_that_was_sent_leads_back_to_the_page_which_shows_the_request(pages: Pages) -> None:
    link = pages.refused()
    sent = pages.post(link, amount="", factor="1.5", seconds="900", reason=" the demo ")
    assert sent.status_code == 400, "no factor adds to a limit of nothing"
    assert "factor: one that adds something" in sent.text
    sent = pages.post(link, amount="2", factor="", seconds="900", reason=" the demo ")
    assert sent.status_code == 303
    assert urljoin(link, sent.headers["location"]) == link
    shown = Shown(pages.get(link).text).text
    assert "2 requests more for 15 minutes" in shown
    assert "the demo" in shown


def test_what_cannot_be_asked_for_is_said_in_words(pages: Pages) -> None:
    link = pages.refused()
    cases: list[tuple[dict[str, str], str]] = [
        ({}, "reason"),
        ({"reason": "why"}, "an amount or for a factor"),
        ({"reason": "why", "amount": "1", "factor": "2"}, "an amount or for a factor"),
        ({"reason": "why", "amount": "much"}, "amount"),
        ({"reason": "why", "amount": "1", "seconds": "0"}, "seconds"),
        ({"reason": "why", "amount": "1", "value": "other"}, "value"),
        ({"reason": "w" * 20_000}, "at most"),
    ]
    for fields, words in cases:
        answer = pages.post(link, **fields)
        assert answer.status_code in (400, 413)
        shown = Shown(answer.text)
        assert [tag for tag, attributes in shown.tags if attributes.get("role") == "alert"] == ["p"]
        assert words in shown.text
        assert pages.http.post(link, json=fields).status_code == answer.status_code
    assert pages.http.post(link, content=b"[1]").status_code == 400
    assert Client("bob", pages.sidecar.url).overrides() == []


def test_a_form_that_has_to_be_put_right_keeps_what_was_filled_in(pages: Pages) -> None:
    filled = {"amount": "<1>", "factor": "2", "seconds": "14400", "reason": "a & b"}
    shown = Shown(pages.post(pages.refused(), **filled).text)
    kept = {field["name"]: field["value"] for field in shown.all("input")}
    assert kept == {"amount": "<1>", "factor": "2"}
    assert [option["value"] for option in shown.all("option") if "selected" in option] == ["14400"]
    assert "a & b" in shown.text


def test_who_has_asked_already_is_told_so(pages: Pages) -> None:
    link = pages.refused()
    pages.ask(link)
    again = pages.post(link, **ASKED)
    assert (again.status_code, "have asked for this already" in again.text) == (409, True)


# Deciding ------------------------------------------------------------------------------------------


def test_an_override_is_approved_on_its_page_lets_the_call_pass_and_is_revoked(
    pages: Pages, tmp_path: Path
) -> None:
    bob = Client("bob", pages.sidecar.url)
    page = pages.ask(pages.refused(), amount="5")["page"]
    for secret, status, words in (
        ("bobs-other", 403, "Nobody approves an override that was asked by or for them"),
        ("oscar", 403, "an owner or admin"),
        ("guessed", 401, "not known"),
        ("", 401, "No API token"),
    ):
        answer = pages.post(page, decision="approve", api_token=secret)
        assert (answer.status_code, words in answer.text) == (status, True), secret
    assert bob.call() == 429
    approved = pages.post(page, decision="approve", api_token="alice", reason="go")
    assert (approved.status_code, "Your approval is recorded" in approved.text) == (200, True)
    assert bob.call() == 200
    revoked = pages.post(page, decision="revoke", api_token="olga")
    assert (revoked.status_code, "is revoked" in revoked.text) == (200, True)
    assert bob.call() == 429
    assert pages.post(page, decision="revoke", api_token="olga").status_code == 409
    assert [entry[:2] for entry in audit_entries(tmp_path / "gov")] == [
        ("api_token:bob", "requested"),
        ("api_token:alice", "approved"),
        ("api_token:olga", "revoked"),
    ]


def test_an_override_of_another_workspace_is_nobodys_here(pages: Pages) -> None:
    page = pages.ask(pages.refused())["page"]
    answer = pages.post(page, decision="deny", api_token="stranger")
    assert answer.status_code == 404
    denied = pages.post(page, decision="deny", api_token=ADMIN)
    assert "The request is denied" in denied.text


def test_a_decision_that_is_none_is_said_in_words(pages: Pages) -> None:
    page = pages.ask(pages.refused())["page"]
    answer = pages.post(page, decision="perhaps", api_token="alice")
    assert (answer.status_code, 'role="alert"' in answer.text) == (400, True)


# The webhook ----------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    receiver = Receiver()
    with serve_in_thread(receiver, lifespan="off") as server:
        yield receiver, server.url


def test_approvers_hear_of_each_step_in_a_message_that_slack_shows(
    serve: Serve, receiver: tuple[Receiver, str]
) -> None:
    limit = {**NOBODY, "approvals_required": 2}
    pages = serve(limits=[limit], webhook_url=receiver[1], webhook_secret=SECRET)
    override = pages.ask(pages.refused(), reason="<now> & here", amount="1")
    for secret in ("alice", "olga"):
        assert pages.post(override["page"], decision="approve", api_token=secret).is_success
    assert pages.post(override["page"], decision="revoke", api_token=ADMIN).is_success
    attempts = until(lambda: _about_overrides(receiver[0], 4))
    events = {}
    for headers, body in attempts:
        assert is_signed(headers, body)
        event = json.loads(body)
        assert headers["webhook-id"] == event["id"]
        events[event["type"]] = event
    assert set(events) == {
        "override.requested",
        "override.approval",
        "override.approved",
        "override.revoked",
    }
    asked = events["override.requested"]
    assert asked["text"] == (
        "api_token:bob asks for an override of limit 'nobody' of workspace acme for workspace 'acme':"
        " 1 request more for 10 minutes. 0 of 2 approved. Reason: &lt;now&gt; &amp; here"
    )
    assert (asked["data"]["id"], asked["data"]["reason"]) == (override["override"]["id"], "<now> & here")
    section, actions = asked["blocks"]
    assert section == {"type": "section", "text": {"type": "mrkdwn", "text": asked["text"]}}
    buttons = [(each["text"]["text"], pages.here(each["url"])) for each in actions["elements"]]
    page = override["page"]
    assert buttons == [("Approve", f"{page}#decide"), ("Deny", f"{page}#decide")]
    assert 'id="decide"' in pages.get(page).text or "revoked" in pages.get(page).text
    assert [each["text"]["text"] for each in events["override.approval"]["blocks"][1]["elements"]] == [
        "Approve",
        "Deny",
    ]
    assert events["override.revoked"]["text"].endswith("1 request more for 10 minutes, is revoked.")


def _about_overrides(receiver: Receiver, count: int) -> list[tuple[dict[str, str], bytes]] | None:
    """Beside the crossings of limits."""
    found = [attempt for attempt in receiver.attempts if b'"type":"override.' in attempt[1]]
    return found if len(found) == count else None
