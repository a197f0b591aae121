"""Who may speak to the server: the token of the opened address, the host, the origin, the size of what is sent."""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Of everything but uploads of images.
SMALL = 4 << 20
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; "
        b"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]
_NO_TOKEN = "Open the whole address that maskseg serve printed when it started: the part after ?token= is the key."


class TooLarge(Exception):
    """A body beyond its limit."""


class Guard:
    """An ASGI application before another one, which lets in what the page itself, or a script with the token, sends.

    The token comes as ``?token=`` once, in the opened address, then as a cookie that scripts cannot read; or as
    ``Authorization: Bearer TOKEN`` from a program. The Host header must name this machine, so that no other site can
    have its name lead here; an Origin, where there is one, must be the server's own.

    Parameters
    ----------
    app : ASGI application
    token : str
    port : int
    hosts : set of str
        Names beside ``localhost`` and this machine's addresses by which the server may be called.
    largest : int
        Bytes of an upload at most.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, hosts: set[str], largest: int) -> None:
        self.app, self._token, self._port, self._largest = app, token, port, largest
        self._hosts = {host.lower() for host in hosts} | {"localhost"}
        # Cookies do not tell ports apart, and two servers may run.
        self._cookie = f"maskseg-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            # There are no websockets.
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal:
            # To a person who opened the page, as text.
            await _answer(send, *refusal, plain=not scope["path"].startswith("/api/"))
            return
        fresh = self._in_address(scope)
        if fresh and scope["method"] == "GET" and scope["path"] == "/":
            cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            # Away from the address bar and the history.
            await _answer(send, 303, "", [(b"location", b"/"), (b"set-cookie", cookie.encode("ascii"))])
            return
        limit = self._largest if _is_upload(scope) else SMALL
        try:
            await self.app(scope, _limited(receive, limit), _with_headers(send))
        except TooLarge:
            await _answer(send, 413, _too_large(limit, _is_upload(scope)))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason, where a request is not let in."""
        if not self._is_here(headers.get("host", "")):
            return 421, "this server answers only to the address that maskseg serve printed"
        origin = headers.get("origin")
        if origin is not None and not _is_of(origin, headers["host"]):
            return 403, "another site may not use this server"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["path"] != "/":
            return 403, "another site may not use this server"
        if not (self._in_address(scope) or self._in_headers(headers)):
            return 401, _NO_TOKEN
        length = headers.get("content-length", "0")
        limit = self._largest if _is_upload(scope) else SMALL
        if not length.isdecimal() or int(length) > limit:
            return 413, _too_large(limit, _is_upload(scope))
        return None

    def _is_here(self, host: str) -> bool:
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not name:
            name, port = host, ""
        if port and port != str(self._port):
            return False
        name = name.strip("[]").lower()
        if name in self._hosts:
            return True
        try:
            # A number is no name that another site could have lead here.
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or bool(self._hosts - {"localhost"})

    def _in_address(self, scope: Scope) -> bool:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _in_headers(self, headers: dict[str, str]) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            morsel = None
        given = bearer.strip() if scheme.lower() == "bearer" else morsel.value if morsel else ""
        return hmac.compare_digest(given.encode(), self._token.encode())


def _is_of(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # of no form that an address has
        return False


def own_names(host: str) -> set[str]:
    """Names by which a server that listens on `host` may be called; none for this machine alone."""
    if host in ("127.0.0.1", "localhost", "::1"):
        return set()
    names = {host, socket.gethostname(), socket.getfqdn()}
    return {name for name in names if name not in ("0.0.0.0", "::")}


def _limited(receive: Receive, limit: int) -> Receive:
    """`receive` that ends a body beyond its limit, also where no length was given."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise TooLarge
        return message

    return counted


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return sending


def _is_upload(scope: Scope) -> bool:
    return bool(scope["method"] == "PUT" and scope["path"].startswith("/api/upload/"))


def _too_large(limit: int, upload: bool) -> str:
    if not upload:
        return "the request is too large"
    return f"more than {limit / 2**20:.0f} MB; open large images with: maskseg serve PATH"


async def _answer(
    send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None, plain: bool = False
) -> None:
    body = text.encode("utf-8") if plain else json.dumps({"detail": text}).encode("utf-8")
    kind = b"text/plain; charset=utf-8" if plain else b"application/json"
    about = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    about += [(b"connection", b"close"), *_HEADERS, *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": about})
    await send({"type": "http.response.body", "body": body})
