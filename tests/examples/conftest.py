"""Where the examples run: in a copy of their folder, on the test's store, against scripted models."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.sidecar.books import Books

from govmiddleware.cli.root import run
from govmiddleware.testing import ScriptedProvider

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True, slots=True)
class Example:
    """A copy of one, in the current directory, with an API token for it."""

    folder: Path
    token: str

    def run(self, file: str) -> dict[str, Any]:
        """What a program of it defines, once it has run."""
        return runpy.run_path(str(self.folder / file))

    def change(self, file: str, old: str, new: str) -> None:
        text = (self.folder / file).read_text()
        assert text.count(old) == 1
        (self.folder / file).write_text(text.replace(old, new))

    def requests(self, file: str, url: str) -> Iterator[httpx.Response]:
        """The answers to the curl commands that the head of a file names, at another origin."""
        head = re.sub(r"^# ?", "", (self.folder / file).read_text(), flags=re.MULTILINE)
        for command in re.findall(r"^ *(curl .*)$", head.replace("\\\n", ""), re.MULTILINE):
            _, where, *options = shlex.split(command.removesuffix("&").replace("$TOKEN", self.token))
            assert set(options[::2]) <= {"-H", "-d"}
            given = list(zip(options[::2], options[1::2], strict=True))
            headers = dict(value.split(": ", 1) for option, value in given if option == "-H")
            [body] = [value for option, value in given if option == "-d"] or [None]
            address = re.sub(r"^localhost:\d+", url, where)
            yield httpx.request("GET" if body is None else "POST", address, headers=headers, content=body)

    @property
    def authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store, "default")


@pytest.fixture
def example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gov_store: str, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Example]:
    """Takes one by the name of its folder."""

    def take(name: str) -> Example:
        folder = tmp_path / name
        shutil.copytree(EXAMPLES / name, folder)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("GOV_REDIS_URL", gov_store)
        capsys.readouterr()
        assert run(["token", "create", "laptop"]) == 0
        return Example(folder, capsys.readouterr().out.strip())

    return take


@pytest.fixture
def provider(gov_provider: tuple[ScriptedProvider, str]) -> ScriptedProvider:
    return gov_provider[0]


@pytest.fixture
def provider_url(gov_provider: tuple[ScriptedProvider, str]) -> str:
    return gov_provider[1]
