"""The keys of the audit log and of links: one secret for all processes of a host, made once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from govmiddleware.errors import ConfigurationError
from govmiddleware.services.signing_keys import SigningKeys, _made

SECRET = "a secret of thirty-two characters"


def test_all_who_make_the_file_at_once_have_the_same_key(tmp_path: Path) -> None:
    file = tmp_path / "data" / "audit.key"
    together = Barrier(16)

    def make(_: int) -> str:
        together.wait()  # as all have found that there is no file
        return _made(file)

    with ThreadPoolExecutor(16) as threads:
        secrets = set(threads.map(make, range(16)))
    assert len(secrets) == 1
    assert SigningKeys(None, file).audit_log == SigningKeys(secrets.pop(), file).audit_log
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_each_purpose_has_a_key_of_its_own(tmp_path: Path) -> None:
    keys = SigningKeys(SECRET, tmp_path / "audit.key")
    assert keys.audit_log != keys.links
    assert keys.audit_log == SigningKeys(SECRET, tmp_path / "other").audit_log
    assert not list(tmp_path.iterdir()), "who has a secret needs no file"


@pytest.mark.parametrize("content", [b"", b"too short\n", b"\xff" * 64])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "audit.key"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=str(file)) as raised:
        _ = SigningKeys(None, file).links
    assert raised.value.key == "audit_key"
    assert file.read_bytes() == content, "what it was signed with may be restored yet"


def test_a_file_that_cannot_be_made_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(ConfigurationError, match="Not a directory"):
        _ = SigningKeys(None, tmp_path / "data" / "audit.key").audit_log
