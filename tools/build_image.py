"""Build the Dockerfile where there is neither a container engine nor a registry: with buildah, as root.

    python tools/build_image.py DIRECTORY

The image's files are then in the directory that it prints; nothing runs, nothing stays mounted. In place of the base
image there is the bare Debian that it is made of, with Debian's Python, which debootstrap leaves in the user's cache.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cached_build

PROJECT = Path(__file__).parent.parent
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""The host's: it may be behind a proxy that has its own."""
NEEDED = ("buildah", "debootstrap", "unshare")
PACKAGES = "python3,python3-venv,ca-certificates"


class Image(NamedTuple):
    files: Path
    config: dict[str, Any]
    """As `docker inspect` shows it."""


def why_not() -> str | None:
    """What is missing here to build it, if anything."""
    if os.name != "posix" or os.geteuid() != 0:
        return "only root can build an image without an engine"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    return f"needs Debian's {', '.join(missing)}" if missing else None


def build(storage: Path, *, name: str = "govmiddleware") -> Image:
    """Build an image into `storage`, which other images may share. Raises CalledProcessError."""
    # vfs keeps copies, not mounts.
    buildah = [
        "buildah",
        "--root",
        storage / "images",
        "--runroot",
        storage / "run",
        "--storage-driver",
        "vfs",
    ]
    base = f"docker.io/library/python:{_base_tag()}"
    if base not in _output(*buildah, "images", "--format", "{{.Name}}:{{.Tag}}"):
        container = _output(*buildah, "from", "scratch")
        _output(*buildah, "add", "--quiet", container, _debian(), "/")
        _output(*buildah, "copy", "--quiet", container, CERTIFICATES, CERTIFICATES)
        path = "/usr/local/bin:/usr/bin:/bin"
        _output(*buildah, "config", "--env", f"PATH={path}", "--env", f"PIP_CERT={CERTIFICATES}", container)
        _output(
            *buildah,
            "run",
            "--isolation",
            "chroot",
            container,
            "ln",
            "-s",
            "/usr/bin/python3",
            "/usr/local/bin/python",
        )
        _output(*buildah, "commit", "--quiet", "--rm", container, base)
    how = ["--isolation", "chroot", "--network", "host", "--pull-never", "--format", "docker"]
    _output(*buildah, "bud", "--quiet", *how, "--tag", name, PROJECT)
    container = _output(*buildah, "from", "--pull-never", name)
    inspected = json.loads(_output(*buildah, "inspect", "--type", "image", name))
    return Image(Path(_output(*buildah, "mount", container)), inspected["Docker"]["config"])


def _debian() -> Path:
    """The base's release of Debian, bare, with its Python."""
    suite = _base_tag().rpartition("-")[2]
    target = cached_build.directory("GOVMIDDLEWARE_DEBIAN", f"debian-{suite}", PACKAGES.encode())
    how = ["--variant=minbase", f"--include={PACKAGES}", "--merged-usr"]
    cached_build.build(target, Path("usr/bin/python3"), lambda aside: [["debootstrap", *how, suite, aside]])
    return target


def _base_tag() -> str:
    found = re.search(r"^ARG PYTHON=(\S+)$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None, "the Dockerfile names no PYTHON"
    return found[1]


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(f"build_image: {reason}")
    print(build(Path(sys.argv[1]).absolute()).files)
