"""API tokens: who may call. Static ones come from the configuration, the others from the store."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hmac import compare_digest

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from govmiddleware.core import ids
from govmiddleware.core.call import Principal, Role
from govmiddleware.core.query import keys_in
from govmiddleware.core.refusals import TooManyFailedLogins, Unauthenticated, Unavailable
from govmiddleware.core.registries import ApiTokenStore, StoredApiToken
from govmiddleware.errors import StoreLost, StoreUnavailable
from govmiddleware.services.admission import store_unavailable

_REMEMBERED = 10_000

REMEMBERED_SECONDS = 30.0
"""How soon a change of a stored token's expiry is known everywhere."""

_UNKNOWN = (None, 0.0)

_SIGNED = re.compile(rb"AWS4-HMAC-SHA256\s+Credential=([^/,\s]+)/")
"""AWS Signature Version 4. We cannot check the signature, which is by a secret that stays with the client: the id is
taken for the token itself."""


class ApiTokens:
    """Turns secrets into principals.

    A stored token is remembered here for a while by the hash of its secret. Whether it is revoked, the ledger checks
    at every admission.

    Args:
        static: by the SHA-256 of the secret.
        store: None where there are static tokens alone.
        failed_logins: how many failures an address may have, such as `10/minute`. Past it, only secrets
            that were valid here before are looked at, so that one stray client behind a shared proxy does
            not lock out the others.
    """

    def __init__(
        self,
        static: Mapping[str, Principal],
        store: ApiTokenStore | None,
        *,
        failed_logins: str = "10/minute",
    ) -> None:
        self._static = static
        self._store = store
        self._failed_logins = parse(failed_logins)
        self._throttle = MovingWindowRateLimiter(MemoryStorage())
        self._known: OrderedDict[str, tuple[StoredApiToken | Principal, float]] = OrderedDict()

    async def authenticate(self, secret: str | None, address: str) -> Principal:
        """Who brings this secret, from this address.

        Raises Unauthenticated, TooManyFailedLogins, and Unavailable where the store has to be asked and
        does not answer.
        """
        if secret is None:
            raise Unauthenticated(
                "No API token: send it as 'Authorization: Bearer TOKEN', or in the x-api-key or x-goog-api-key"
                " header."
            )
        sha256 = ids.hash_api_token(secret)
        found, until = self._known.get(sha256, _UNKNOWN)
        if found is None or time.monotonic() >= until:
            if found is None:
                self._check_throttle(address)
            found = await self._look_up(secret, sha256, address)
        if isinstance(found, Principal):
            return found
        if found.expires_at is not None and found.expires_at <= time.time():
            raise Unauthenticated("This API token has expired.")
        return principal_of(found)

    async def _look_up(self, secret: str, sha256: str, address: str) -> StoredApiToken | Principal:
        found = self._static.get(sha256) or await self._stored(secret, sha256)
        if found is None:
            self._known.pop(sha256, None)
            self.failed(address)
            raise Unauthenticated("This API token is not known here.")
        self._remember(sha256, found)
        return found

    async def authenticate_active(self, secret: str | None, address: str) -> Principal:
        """As `authenticate`, where no admission follows that would find out that the token was revoked.

        Raises StoreUnavailable, too.
        """
        principal = await self.authenticate(secret, address)
        stored_id, store = principal.stored_id, self._store
        if stored_id and store and not await store.is_active(principal.workspace, stored_id):
            raise Unauthenticated("This API token has been revoked.")
        return principal

    def is_same(self, secret: str | None, expected: str, address: str) -> bool:
        """Whether a secret is the one expected, such as the admin token; under the same throttle.

        Raises TooManyFailedLogins.
        """
        self._check_throttle(address)
        return compare_digest((secret or "").encode("utf-8", "surrogateescape"), expected.encode())

    def failed(self, address: str) -> None:
        """Count a failed login."""
        self._throttle.hit(self._failed_logins, address)

    def guessed(self, address: str) -> None:
        """Count a wrong guess at something else that only who was told knows. Raises TooManyFailedLogins."""
        self._check_throttle(address)
        self.failed(address)

    def _check_throttle(self, address: str) -> None:
        if not self._throttle.test(self._failed_logins, address):
            frees_at = self._throttle.get_window_stats(self._failed_logins, address).reset_time
            wait_ms = max(1000, round((frees_at - time.time()) * 1000))
            raise TooManyFailedLogins("Too many failed logins from this address.", retry_after_ms=wait_ms)

    async def _stored(self, secret: str, sha256: str) -> StoredApiToken | None:
        is_a_typo = ids.looks_like_api_token(secret) and not ids.is_well_formed_api_token(secret)
        if self._store is None or is_a_typo:
            return None
        try:
            return await self._store.find(sha256)
        except StoreLost as error:
            raise store_unavailable(error) from error
        except StoreUnavailable as error:
            raise Unavailable(
                "The store that knows the API tokens does not answer; try again shortly.",
                code="store_unavailable",
            ) from error

    def _remember(self, sha256: str, found: StoredApiToken | Principal) -> None:
        self._known[sha256] = found, time.monotonic() + REMEMBERED_SECONDS
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def principal_of(token: StoredApiToken) -> Principal:
    """The principal that a stored token stands for."""
    return Principal(
        workspace=token.workspace,
        api_token=token.name,
        role=Role(token.role),
        stored_id=token.id,
        user=token.user,
        agent=token.agent,
        tags=tuple((token.tags or {}).items()),
    )


def secret_in(headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> str | None:
    """The credential a client sends: the rest of the Bearer line; `x-api-key`, which is Anthropic's, or Google's
    `x-goog-api-key`; the id of the key with which AWS's SDKs sign; `?key=` of a raw query string."""
    given = dict(headers)
    authorization = given.get(b"authorization", b"")
    scheme, _, secret = authorization.partition(b" ")
    if scheme.lower() == b"bearer" and secret.strip():
        return secret.strip().decode("utf-8", "surrogateescape")
    key = given.get(b"x-api-key", b"").strip() or given.get(b"x-goog-api-key", b"").strip()
    if not key and (signed := _SIGNED.match(authorization)):
        key = signed[1]
    return key.decode("utf-8", "surrogateescape") if key else next(keys_in(query), None)
