"""The image, built and run without an engine, as a cluster runs it: its user, its root read-only, no network."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import build_image
from build_image import Image

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

RUN_IMAGE = Path(__file__).parent / "run_image.sh"
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net"]
INSTALLED = "opt/govmiddleware"

A_LIFE = """
import json, os, subprocess, sys, time

start, health = json.loads(sys.argv[1])
server = subprocess.Popen(start, env={**os.environ, "GOV_UPSTREAM": "http://127.0.0.1:9"})
while subprocess.run(health, stderr=subprocess.DEVNULL).returncode:
    assert server.poll() is None
    time.sleep(0.2)
token = subprocess.run(["govmiddleware", "token", "create", "laptop"], check=True, capture_output=True, text=True)
server.terminate()
print(token.stdout.strip(), server.wait(), os.getuid())
"""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if reason := build_image.why_not():
        pytest.skip(reason)
    yield (storage := tmp_path_factory.mktemp("storage"))
    shutil.rmtree(storage)  # gigabytes, which pytest would keep


@pytest.fixture(scope="module")
def image(storage: Path) -> Image:
    return build_image.build(storage)


def run(image: Image, scratch: Path, *command: str) -> str:
    """What a command prints inside. Raises CalledProcessError."""
    [volume] = image.config["Volumes"]
    where = [image.files, scratch, image.config["User"], volume, image.config["WorkingDir"]]
    inside = ["env", "-i", *image.config["Env"], *command]
    whole = [*NAMESPACES, "sh", RUN_IMAGE, *where, *inside]
    return subprocess.run(whole, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout


def test_it_serves_is_healthy_and_ends_when_it_is_told_to(image: Image, tmp_path: Path) -> None:
    start = image.config["Entrypoint"] + image.config["Cmd"]
    kind, *health = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert image.config["StopSignal"] == "SIGTERM"
    token, code, user = run(image, tmp_path, "python", "-c", A_LIFE, json.dumps([start, health])).split()
    assert token.startswith("gov_")
    assert (code, user) == ("0", "10001")


def test_the_demo_runs_in_it_with_the_embedded_store(image: Image, tmp_path: Path) -> None:
    assert "user-month" in run(image, tmp_path, "govmiddleware", "demo")


def test_its_user_may_write_into_its_folder_and_temporary_files_alone(image: Image) -> None:
    user = int(image.config["User"].split(":")[0])
    found = {
        str(path.relative_to(image.files))
        for path in image.files.rglob("*")
        for is_ in [path.lstat()]
        if not stat.S_ISLNK(is_.st_mode) and (user in (is_.st_uid, is_.st_gid) or is_.st_mode & stat.S_IWOTH)
        if not path.is_relative_to(image.files / "dev")
    }
    assert found <= {"tmp", "var/tmp", "run/lock", "var/lib/govmiddleware"}
    assert "var/lib/govmiddleware" in found


def test_nothing_that_builds_is_left(image: Image) -> None:
    tools = {"gcc", "cc", "g++", "ld", "make", "pip", "pip3", "uv", "git", "curl"}
    folders = [image.files / each for each in ("usr/bin", "usr/local/bin", "opt/govmiddleware/bin")]
    assert tools & {path.name for folder in folders for path in folder.iterdir()} == set()


def test_its_bill_of_materials_names_what_is_installed(image: Image) -> None:
    bill = json.loads((image.files / INSTALLED / "sbom.cdx.json").read_text())
    named = {(canonicalize_name(each["name"]), each["version"]) for each in bill["components"]}
    named.add((bill["metadata"]["component"]["name"], bill["metadata"]["component"]["version"]))
    [packages] = (image.files / INSTALLED / "lib").glob("python3*/site-packages")
    installed = {
        (canonicalize_name(name), version)
        for path in packages.glob("*.dist-info")
        for name, version in [path.name.removesuffix(".dist-info").split("-")]
    }
    assert named == installed


def test_it_is_the_same_when_it_is_built_again(storage: Path, image: Image) -> None:
    again = build_image.build(storage, name="again")
    assert _digests(again) == _digests(image)


def _files(image: Image) -> Iterator[Path]:
    yield from (image.files / INSTALLED).rglob("*")


def _digests(image: Image) -> dict[str, tuple[str, float]]:
    return {
        str(path.relative_to(image.files)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime,
        )
        for path in _files(image)
        if path.is_file() and not path.is_symlink()
    }
