"""Which addresses `serve` listens on."""

from __future__ import annotations

import socket

import pytest

from govmiddleware.cli.server import listen


def listening_on(host: str) -> list[str]:
    sockets = listen(host, 0)
    try:
        return [each.getsockname()[0] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def test_a_name_is_listened_on_at_all_its_addresses_that_this_machine_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        found = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "192.0.2.1"), (socket.AF_INET, "127.0.0.2")]
        return [(family, socket.SOCK_STREAM, 0, "", (address, 0)) for family, address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert listening_on("some-name") == ["127.0.0.1", "127.0.0.2"]


def test_an_address_that_this_machine_has_not_got_is_an_error() -> None:
    with pytest.raises(OSError, match="Cannot assign requested address"):
        listen("192.0.2.1", 0)
