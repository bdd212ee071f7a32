"""Where alerts go: a webhook (Slack's form, with fields beside it) and a mail server, as the ALERT_* variables say."""

import contextlib
import http.client
import json
import re
import smtplib
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate
from urllib.parse import unquote, urlsplit

from hotwax_inventory import settings

# For an answer; for a mail in all, once its server has greeted.
TIMEOUT_SECONDS = 10
MOST_CHARACTERS = 3000
PORTS = {"smtp": 587, "smtps": 465}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Shopify's tokens and secrets, and passwords in addresses: they need not come from a variable.
SECRET_FORMS = re.compile(r"shp[a-z]{2}_\w+|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")


class NotDelivered(Exception):
    """A receiver did not take an alert; the message says which and why, and has nothing secret in it."""


@dataclass(frozen=True)
class Alert:
    """What a person is told: one line, the sentences, and the same as fields for programs."""

    title: str
    text: str
    fields: dict[str, str] = field(default_factory=dict)


def receivers() -> dict[str, Callable[[Alert], None]]:
    """What takes an alert, by the variable that says so; each raises NotDelivered or SettingError."""
    found: dict[str, Callable[[Alert], None]] = {}
    if settings.alert_webhook_url():
        found["ALERT_WEBHOOK_URL"] = post
    if settings.alert_smtp_url() or settings.alert_email_to():
        found["ALERT_SMTP_URL"] = mail
    return found


def scrubbed(text: str) -> str:
    """The text without any value of a secret setting, not longer than a person reads, and such as every receiver takes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    for secret in settings.secrets():
        text = text.replace(secret, "***")
    text = SECRET_FORMS.sub("***", text)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} …"


def post(alert: Alert) -> None:
    """Post an alert to ALERT_WEBHOOK_URL: `text` for Slack, and the fields as they are. Raises NotDelivered, SettingError."""
    url = settings.alert_webhook_url() or ""
    if not url.startswith(("https://", "http://")):
        raise settings.SettingError("ALERT_WEBHOOK_URL must begin with https:// or http://.")
    shown = f"*{_escaped(alert.title)}*\n{_escaped(alert.text)}"
    content = json.dumps({"text": shown, "title": alert.title, "message": alert.text, **alert.fields}).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"}, method="POST")  # noqa: S310 - see above
    try:
        # not httpx, which writes the address to its log: who knows it may post
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        raise NotDelivered(f"ALERT_WEBHOOK_URL answers HTTP {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise NotDelivered(f"ALERT_WEBHOOK_URL cannot be reached ({type(reason).__name__})") from None


def _escaped(text: str) -> str:
    """Slack takes `<!channel>` and the like for commands; a file's name must not give any."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def mail(alert: Alert) -> None:
    """Mail an alert to ALERT_EMAIL_TO by ALERT_SMTP_URL. Raises NotDelivered, SettingError."""
    people = settings.alert_email_to()
    if not people:
        raise settings.SettingError("ALERT_EMAIL_TO is not set. It takes the addresses that alerts go to.")
    server = _mail_server()
    message = EmailMessage()
    try:
        message["Subject"] = " ".join(alert.title.split())[:150]
        message["From"] = server.user if "@" in server.user else people[0]
        message["To"] = ", ".join(people)
        message["Date"] = formatdate()
        message.set_content(alert.text + "\n\n" + "".join(f"{name}: {value}\n" for name, value in alert.fields.items()))
        with _session(server) as session:
            session.send_message(message)
    except smtplib.SMTPResponseException as error:
        raise NotDelivered(f"ALERT_SMTP_URL refuses ({error.smtp_code} {type(error).__name__})") from None
    except (smtplib.SMTPException, OSError, ValueError) as error:
        # the last where an address or a password is not ASCII
        raise NotDelivered(f"ALERT_SMTP_URL cannot be used ({type(error).__name__})") from None


@dataclass(frozen=True)
class MailServer:
    """The parts of ALERT_SMTP_URL."""

    host: str
    port: int
    is_tls: bool
    user: str
    password: str = field(repr=False)


def _mail_server() -> MailServer:
    try:
        url = urlsplit(settings.alert_smtp_url() or "")
        if url.scheme not in PORTS or not url.hostname:
            raise ValueError
        port, is_tls = url.port or PORTS[url.scheme], url.scheme == "smtps"
    except ValueError:
        raise settings.SettingError("ALERT_SMTP_URL takes smtp://user:password@host:port, or smtps://.") from None
    return MailServer(url.hostname, port, is_tls, unquote(url.username or ""), unquote(url.password or ""))


@contextlib.contextmanager
def _session(server: MailServer) -> Iterator[smtplib.SMTP]:
    """A logged-in session, encrypted where the server can; no password goes over a network in the clear."""
    context = ssl.create_default_context()
    if server.is_tls:
        session = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_SECONDS, context=context)
    else:
        session = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_SECONDS)

    def hang_up() -> None:
        with contextlib.suppress(OSError):
            if session.sock is not None:
                session.sock.shutdown(socket.SHUT_RDWR)

    # smtplib's own limit is for each answer, of which a mail has many
    limit = threading.Timer(TIMEOUT_SECONDS, hang_up)
    limit.start()
    try:
        session.ehlo()
        if session.has_extn("starttls"):
            session.starttls(context=context)
        elif server.user and not server.is_tls and server.host not in LOOPBACK:
            raise NotDelivered("ALERT_SMTP_URL has a password, and its server offers no encryption: take one that does")
        if server.user:
            session.login(server.user, server.password)
        try:
            yield session
        finally:
            with contextlib.suppress(smtplib.SMTPException, OSError):  # it was taken before, or was not
                session.quit()
    finally:
        limit.cancel()
        session.close()
