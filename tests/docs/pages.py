"""The pages of this repository, as those who read them meet them: prose, links, code blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FOLDERS = ("", "bench/", "docs/**/", "examples/**/", "helm/**/", ".github/")
PAGES = sorted({page for folder in _FOLDERS for page in ROOT.glob(f"{folder}*.md")})

_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"(?<!\\)\]\((?!https?://|mailto:)([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A code block. `file`: what its `title=` names, for blocks that are files of other programs."""

    place: str
    language: str
    file: str | None
    text: str


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> list[Block]:
    """All of some languages, wherever they stand."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for fence in _FENCE.finditer(text):
            language, _, info = fence[2].partition(" ")
            if language in languages:
                title = re.search(r'title="([^"]*)"', info)
                line = text.count("\n", 0, fence.start()) + 1
                found.append(Block(f"{name_of(page)}:{line}", language, title and title[1], fence[3]))
    return found


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """What stands in `code` within the prose."""
    return [span.strip("`") for span in _SPAN.findall(prose(page))]


def links(page: Path) -> list[str]:
    """Targets of its links that are no addresses."""
    return _LINK.findall(_SPAN.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """What its headings can be linked by, on GitHub and, as none of them is odd, on the site."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return names
