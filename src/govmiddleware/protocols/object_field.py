"""An object in a request body whose fields are judged, and edited, one by one."""

from __future__ import annotations

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import InvalidRequest


class ObjectField:
    """The object at `name`. What was judged is what is sent on: of duplicate keys the last alone.

    Raises InvalidRequest where it is none. One that is absent, or null, has no fields.

    Attributes:
        fields: to be read; edits go by `set`.
    """

    def __init__(self, body: RequestBody, name: str) -> None:
        self._body, self._name = body, name
        raw = body.raw(name)
        try:
            self.fields = RequestBody(b"{}" if raw in (None, b"null") else raw)
        except InvalidRequest:
            raise InvalidRequest(f"'{name}' must be an object.", param=name) from None
        if raw is not None:
            self._write_back()

    def set(self, name: str, value: object) -> None:
        """Replace or add one field with a JSON-serialisable value."""
        self.fields.set(name, value)
        self._write_back()

    def _write_back(self) -> None:
        self._body.set(self._name, msgspec.Raw(self.fields.serialise()))
