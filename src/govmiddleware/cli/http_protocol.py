"""The server's HTTP parser, with one repair."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HttpProtocol(HttpToolsProtocol):
    """Drops the trailers of requests.

    uvicorn 0.54 appends them to the headers, even while the app runs, so that a client could smuggle
    `x-gov-user` or `x-forwarded-for` past a proxy that sets them. RFC 9110, 6.5.1: a trailer field must
    not be merged into the header section.
    """

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.headers = list(self.headers)  # what still comes is put there; the app has the list before it
