"""Pure domain: no Redis, no Starlette, no sockets."""
