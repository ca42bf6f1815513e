"""Attribution: on whose behalf a request is made, as its headers say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from govmiddleware.core.call import Attribution, Principal
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.scopes import ANONYMOUS

LONGEST_NAME = 128
"""Characters."""

_BYTES = 2
"""On average, of a character in UTF-8: databases index names up to a length in bytes."""

_MOST_TAGS = 16

_USER_HEADERS = (b"x-gov-user", b"x-litellm-end-user-id", b"x-litellm-customer-id")
_SESSION_HEADERS = (
    b"x-gov-session",
    b"x-gov-thread",
    b"x-gov-conversation",
    b"x-claude-code-session-id",  # Claude Code 2.1
    b"session-id",  # Codex 0.169
    b"x-litellm-session-id",
)
_AGENT_HEADERS = (b"x-gov-agent",)
_TAG_HEADERS = (b"x-gov-tags", b"x-litellm-tags")


def read_attribution(
    headers: Iterable[tuple[bytes, bytes]], principal: Principal, *, trust_caller: bool
) -> Attribution:
    """First found: the token's pins, then the headers, in the order of CONTRACT.

    Raises InvalidRequest for a name that is too long, not UTF-8 or has control characters: names from
    clients become names of counters, so they are bounded.
    """
    given = dict(headers) if trust_caller else {}
    return Attribution(
        user=principal.user or _first(given, _USER_HEADERS) or ANONYMOUS,
        session=_first(given, _SESSION_HEADERS) or ANONYMOUS,
        agent=principal.agent or _first(given, _AGENT_HEADERS) or ANONYMOUS,
        tags=_tags(given, principal.tags),
    )


def first_named(*attributions: Attribution) -> Attribution:
    """Each name from the first that has one; the tags of all, the first ones winning."""

    def first(names: Iterable[str]) -> str:
        return next((name for name in names if name != ANONYMOUS), ANONYMOUS)

    tags: dict[str, str] = {}
    for attribution in reversed(attributions):
        tags.update(attribution.tags)
    return Attribution(
        user=first(attribution.user for attribution in attributions),
        session=first(attribution.session for attribution in attributions),
        agent=first(attribution.agent for attribution in attributions),
        tags=tuple(sorted(tags.items())),
    )


def is_too_long(name: str, longest: int = LONGEST_NAME) -> bool:
    """Whether a name has more than `longest` characters, or more than twice as many bytes in UTF-8: what an index of
    the journal's database could not take would keep all records behind it out."""
    if len(name) > longest:
        return True
    return not name.isascii() and len(name.encode(errors="surrogatepass")) > longest * _BYTES


def refuse_unprintable(name: str, param: str) -> None:
    """Refuse a name from a body that has control characters or line ends: names from clients become names
    of counters, and counters stand in the journal line by line. Raises InvalidRequest."""
    if not name.isprintable():
        raise InvalidRequest(f"{param!r} must be printable.", param=param)


def _first(headers: Mapping[bytes, bytes], names: Iterable[bytes]) -> str | None:
    for name in names:
        if name in headers and (value := headers[name]):
            return _checked(value, name)
    return None


def _tags(headers: Mapping[bytes, bytes], pinned: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """`team=search,env=prod`; a bare word is `tag=word`."""
    if not pinned and headers.keys().isdisjoint(_TAG_HEADERS):
        return ()
    tags: dict[str, str] = {}
    for name in _TAG_HEADERS:
        if value := headers.get(name):
            for word in _checked(value, name, longest=LONGEST_NAME * _MOST_TAGS).split(","):
                key, equals, text = (part.strip() for part in word.partition("="))
                if is_too_long(key) or is_too_long(text):
                    param = name.decode()
                    raise InvalidRequest(
                        f"A tag in the header {param} is longer than {LONGEST_NAME} characters or {LONGEST_NAME * _BYTES} bytes.",
                        param=param,
                    )
                if key:
                    tags.update({key: text} if equals else {"tag": key})
            break
    tags.update(pinned)
    if len(tags) > _MOST_TAGS:
        raise InvalidRequest(f"At most {_MOST_TAGS} tags can be given.", param="x-gov-tags")
    return tuple(sorted(tags.items()))


def _checked(value: bytes, header: bytes, longest: int = LONGEST_NAME) -> str:
    name = header.decode()
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The header {name} is not UTF-8.", param=name) from None
    # A name of so many bytes at most has no more characters.
    if not text.isprintable() or (len(value) > longest and is_too_long(text, longest)):
        raise InvalidRequest(
            f"The header {name} must be printable, {longest} characters and {longest * _BYTES} bytes at most.",
            param=name,
        )
    return text
