"""The HTTP server of the simulator, in a thread of its own, and answers that never come."""

import asyncio
import socket
import threading
import time

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

# (server's address, client's address) -> the connection that serves it
_connections: dict[tuple[str, str], asyncio.Transport] = {}


class Connection(H11Protocol):
    """A connection that can be found by its addresses, and so be cut."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _connections[_key(self.server, self.client)] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        _connections.pop(_key(self.server, self.client), None)
        super().connection_lost(exc)


class NoAnswer(Response):
    """The connection ends without a byte of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(scope["server"], scope["client"])
        transport = _connections.get(key)
        if transport is not None:
            transport.abort()
        # uvicorn answers for an application that says nothing, unless it knows that the client is gone
        while key in _connections:
            await asyncio.sleep(0)


def _key(server: object, client: object) -> tuple[str, str]:
    return str(server), str(client)


def bound_socket(port: int) -> socket.socket:
    """A listening place on loopback: the wanted port when it is free, else any."""
    for wanted in dict.fromkeys([port, 0]):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", wanted))
            listener.listen(128)
        except OSError:
            listener.close()
            continue
        return listener
    raise OSError("No port on 127.0.0.1 can be bound.")


class HttpServer:
    """One application on one socket."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            access_log=False,
            loop="asyncio",
            # its own would replace the logging set-up of the process around
            log_config=None,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=60,
        )
        self._listener = listener
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=[[listener]], name="simulator-http", daemon=True)

    def start(self) -> None:
        """Serve; returns when it answers."""
        self._thread.start()
        deadline = time.monotonic() + 15
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("The simulator's HTTP server did not start within 15 seconds.")
            time.sleep(0.005)

    def stop(self) -> None:
        """End open requests and close."""
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._listener.close()
