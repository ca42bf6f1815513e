"""Who an Anthropic client says that it calls for, in `metadata.user_id`."""

from __future__ import annotations

import re

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.protocols.fields import LONGEST_CALLER, Object, bounded_name, read
from govmiddleware.protocols.readers import UNREADABLE

_CLAUDE_CODE = re.compile(r"user_([0-9a-f]{64})_account_(.*)_session_.*", re.DOTALL)


class _Caller(msgspec.Struct):
    """What Claude Code 2.1 writes into `user_id`, as JSON."""

    device_id: str
    account_uuid: str = ""


def read_user(body: RequestBody) -> str | None:
    """The end user. Claude Code names account, device and session in one: its user is the account, or
    else the device, for a user is not another one in each session. Raises InvalidRequest."""
    metadata = read(body, "metadata", Object) or {}
    named = metadata.get("user_id")
    if not isinstance(named, str):
        return None
    if told := _CLAUDE_CODE.fullmatch(named):
        named = told[2] or told[1]
    elif named.startswith("{"):
        try:
            caller = msgspec.json.decode(named, type=_Caller)
            named = caller.account_uuid or caller.device_id
        except UNREADABLE:
            pass  # somebody else's name
    return bounded_name(named, "metadata.user_id", LONGEST_CALLER)
