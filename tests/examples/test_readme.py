"""examples/README.md."""

from __future__ import annotations

import re

from tests.examples.conftest import EXAMPLES


def test_it_links_to_every_example() -> None:
    links = re.findall(r"\]\(([\w/.]+)\)", (EXAMPLES / "README.md").read_text())
    assert {link.partition("/")[0] for link in links} == {
        path.name for path in EXAMPLES.iterdir() if path.is_dir()
    }
    assert all((EXAMPLES / link).is_file() for link in links)
