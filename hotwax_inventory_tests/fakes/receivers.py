"""An alert webhook and a mail server on loopback; each keeps what it was sent, and can be told to refuse."""

import base64
import json
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """Takes POSTs of JSON; `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.posts: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if hook.status == 200:
                    hook.posts.append(content)
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/T0/canary-hook"


class MailServer:
    """Speaks enough SMTP for one message a session: EHLO, STARTTLS with a context, AUTH PLAIN, MAIL, RCPT, DATA."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.refuses = False
        self.pause_seconds = 0.0
        self.messages: list[str] = []
        self.logins: list[tuple[str, str, bool]] = []
        mailbox = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                is_encrypted, lines = False, self.request.makefile("rb")
                self.request.sendall(b"220 fake\r\n")
                while line := lines.readline().decode().strip():
                    answer, command = "250 yes", line.upper().split()[0]
                    if command == "QUIT":
                        return  # without a good-bye, as some servers do
                    if command == "EHLO":
                        offers = ["250-fake", "250-AUTH PLAIN", *(["250-STARTTLS"] if tls and not is_encrypted else [])]
                        answer = "\r\n".join([*offers, "250 8BITMIME"])
                    elif command == "STARTTLS" and tls:
                        self.request.sendall(b"220 go on\r\n")
                        self.request = tls.wrap_socket(self.request, server_side=True)
                        is_encrypted, lines = True, self.request.makefile("rb")
                        continue
                    elif command == "AUTH":
                        _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
                        mailbox.logins.append((user, password, is_encrypted))
                        answer = f"535 no {password}" if mailbox.refuses else "235 yes"
                    elif command == "DATA":
                        self.request.sendall(b"354 go on\r\n")
                        text = []
                        while (part := lines.readline()) != b".\r\n":
                            text.append(part.decode())
                        mailbox.messages.append("".join(text))
                    time.sleep(mailbox.pause_seconds)
                    self.request.sendall(f"{answer}\r\n".encode())

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@contextmanager
def serving(receiver: Webhook | MailServer) -> Iterator[None]:
    """The receiver answers until the end of the block."""
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join(timeout=5)
