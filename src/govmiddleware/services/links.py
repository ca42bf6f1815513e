"""Links out of refusals: signed, so that whoever has one may see what was refused and ask for an override as the
caller that was refused, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable

import msgspec

from govmiddleware.core.call import Call
from govmiddleware.core.overrides import Person
from govmiddleware.core.refusals import Evaluation, ExpiredLink, LimitRefusal, UnknownLink
from govmiddleware.core.scopes import ANONYMOUS

LIFE_SECONDS = 24 * 3600

_LONGEST = 4096
"""Characters of a token: servers and proxies on the way take lines of 8 KB."""
_MAC_BYTES = hashlib.sha256().digest_size

FindLink = Callable[[Call, LimitRefusal], str | None]


class RefusedCall(msgspec.Struct, frozen=True, array_like=True):
    """What a link says: nothing that the caller does not know.

    Attributes:
        user: whom the API token is pinned to; `on_behalf_of`: for whom the caller said that it called.
        limit, scope, meter, value: the limit that refused, and the value of its scope.
        asked: what the call needed at least, in the meter's unit.
        at: Unix seconds.
    """

    workspace: str
    api_token: str
    user: str | None
    on_behalf_of: str | None
    request_id: str
    model: str | None
    limit: str
    scope: str
    meter: str
    value: str
    asked: int
    at: int

    @property
    def person(self) -> Person:
        return Person(f"api_token:{self.api_token}", None, self.workspace, self.user)


class Links:
    """Makes and reads them.

    Args:
        key: of the signatures; asked for each time, as it may have to be read from a file.
        base_url: of the control plane.
        now: the clock, in Unix seconds.
    """

    def __init__(self, key: Callable[[], bytes], base_url: str, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._base_url = base_url
        self._now = now

    def link_for(self, call: Call, refusal: LimitRefusal) -> str | None:
        """The page of a refusal: of the first of its limits that an override helps with. None where none does, for
        it frees by itself in seconds, or where the names in it are too long for a link."""
        failure = next((each for each in refusal.failures if _outlasts(each)), None)
        if failure is None:
            return None
        token = self.token(self._refused(call, failure))
        return self.refusal(token) if len(token) <= _LONGEST else None

    def refusal(self, token: str) -> str:
        return f"{self._base_url}/refusals/{token}"

    def override(self, override_id: str) -> str:
        """The page of an override."""
        return f"{self._base_url}/overrides/{override_id}"

    def override_api(self, override_id: str) -> str:
        """What programs decide it at, with `/approve`, `/deny` or `/revoke` behind."""
        return f"{self._base_url}/api/v1/overrides/{override_id}"

    def token(self, refused: RefusedCall) -> str:
        """MessagePack and its HMAC-SHA256, in base64url without padding (RFC 4648, 5)."""
        said = msgspec.msgpack.encode(refused)
        return base64.urlsafe_b64encode(said + self._mac(said)).rstrip(b"=").decode()

    def read(self, token: str) -> RefusedCall:
        """The inverse of `token`. Raises UnknownLink and ExpiredLink."""
        if len(token) > _LONGEST or not re.fullmatch("[A-Za-z0-9_-]+", token) or len(token) % 4 == 1:
            raise _unknown()
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        said, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(said)):
            raise _unknown()
        try:
            refused = msgspec.msgpack.decode(said, type=RefusedCall)
        except msgspec.MsgspecError as error:  # of a version that says something else
            raise _unknown() from error
        if refused.at + LIFE_SECONDS < self._now():
            raise ExpiredLink("This link has expired. Make the call again: its refusal has a new one.")
        return refused

    def _refused(self, call: Call, failure: Evaluation) -> RefusedCall:
        principal, user = call.require_principal(), call.attribution.user
        return RefusedCall(
            workspace=principal.workspace,
            api_token=principal.api_token,
            user=principal.user,
            on_behalf_of=None if user in (ANONYMOUS, principal.user) else user,
            request_id=call.request_id,
            model=call.model,
            limit=failure.limit.name,
            scope=failure.limit.scope,
            meter=failure.limit.meter.value,
            value=failure.value,
            asked=failure.asked,
            at=int(self._now()),
        )

    def _mac(self, said: bytes) -> bytes:
        return hmac.digest(self._key(), said, hashlib.sha256)


def _outlasts(failure: Evaluation) -> bool:
    """Whether waiting a little does not help."""
    return not failure.limit.refuses_as_rate or failure.can_never_fit


def _unknown() -> UnknownLink:
    return UnknownLink("This link is not one of ours, or not whole: copy all of it.")
