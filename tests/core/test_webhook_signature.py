"""Signatures of webhook messages, against what Standard Webhooks publishes."""

from __future__ import annotations

import base64

import pytest

from govmiddleware.core.webhook_signature import read_secret, signature


def test_the_published_example_is_signed_as_published() -> None:
    key = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("length", [24, 64])
def test_a_secret_is_24_to_64_bytes(length: int) -> None:
    key = bytes(range(length))
    assert read_secret("whsec_" + base64.b64encode(key).decode()) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        base64.b64encode(b"x" * 32).decode(),
        "whsec_not base64 but long enough for a secret",
        "whsec_éééééééééééééééééééééééééééééééé",
    ],
)
def test_anything_else_is_no_secret(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and the base64 of 24 to 64 random bytes"):
        read_secret(text)
