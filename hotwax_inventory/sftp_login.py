"""The way onto an SFTP server: a connection, its host key checked before anything secret is sent, a log-in by key or password."""

import socket
from collections.abc import Iterator
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey
from paramiko.ssh_exception import IncompatiblePeer

from hotwax_inventory.settings import SftpSettings
from hotwax_inventory.sftp_errors import SftpRefused

CONNECT_SECONDS = 15
# paramiko's own hand-shake limits are 15 s each for banner and log-in; the socket must outlast both
LOGIN_SECONDS = 45


class _Socket(socket.socket):
    """A connection that acknowledges at once what it has read.

    sshd tells all its keys after the log-in, and sends nothing more before it knows that they have come: 40 ms, which Linux would
    wait for something to send along."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        received = super().recv(bufsize, flags)
        if hasattr(socket, "TCP_QUICKACK"):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return received


def logged_in(server: SftpSettings) -> paramiko.Transport:
    """A transport whose host key was found in the known-hosts file before anything secret was sent."""
    name = server.host if server.port == 22 else f"[{server.host}]:{server.port}"
    known = _known_keys(server, name)
    connection = _Socket(fileno=socket.create_connection((server.host, server.port), timeout=CONNECT_SECONDS).detach())
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = paramiko.Transport(connection)
    try:
        options = transport.get_security_options()
        # GCM ciphers are some 20 % faster here than paramiko's default order
        options.ciphers = tuple(sorted(options.ciphers, key=lambda cipher: "gcm" not in cipher))
        if known:
            options.key_types = sorted(options.key_types, key=lambda kind: _key_family(kind) not in known)
        try:
            transport.start_client(timeout=LOGIN_SECONDS)
        except IncompatiblePeer as error:
            raise SftpRefused(
                f"{server} and this client have no algorithm in common ({error}). Servers that offer only SHA-1 are not supported."
            ) from error
        _check_host_key(server, name, transport.get_remote_server_key(), known)
        _authenticate(server, transport)
        transport.set_keepalive(15)
    except BaseException:
        transport.close()
        raise
    return transport


def _known_keys(server: SftpSettings, name: str) -> dict[str, list[paramiko.PKey]]:
    """The keys that the known-hosts file has for a server, by family: there are two of one while it is changed for another."""
    if not server.known_hosts_file.exists():
        return {}
    known: dict[str, list[paramiko.PKey]] = {}
    revoked: list[paramiko.PKey] = []
    try:
        for line in server.known_hosts_file.read_text(errors="replace").splitlines():
            marker, *marked = line.split(maxsplit=1) or [""]
            if marker == "@revoked":  # for whatever host
                revoked += [entry.key for entry in _entries(*marked) if entry.key is not None]
            elif not marker.startswith("@"):  # the third kind of line is of certificates, which paramiko does not check
                for kind, key in _keys_of(line.strip(), name):
                    known.setdefault(_key_family(kind), []).append(key)
    except OSError as error:
        raise SftpRefused(
            f"{server.variables}KNOWN_HOSTS_FILE {server.known_hosts_file} cannot be read: {error}."
        ) from error
    except InvalidHostKey as error:
        raise SftpRefused(
            f"{server.variables}KNOWN_HOSTS_FILE {server.known_hosts_file} has a line that is no key. Mend it, or take it out: "
            f"{error.line}"
        ) from error
    return {family: [key for key in keys if key not in revoked] for family, keys in known.items()}


def _keys_of(line: str, name: str) -> Iterator[tuple[str, paramiko.PKey]]:
    """What a line of a known-hosts file says of a server. Raises InvalidHostKey."""
    keys = paramiko.HostKeys()
    for entry in _entries(line):
        for host in entry.hostnames or ():
            keys.add(host, entry.key.get_name(), entry.key)
    yield from (keys.lookup(name) or {}).items()


def _entries(line: str = "") -> list[HostKeyEntry]:
    """What a line without a marker says: one key of some hosts, or nothing. Raises InvalidHostKey."""
    try:
        entry = HostKeyEntry.from_line(line) if line and not line.startswith("#") else None
    except paramiko.SSHException:  # a key that is cut off is none
        return []
    return [entry] if entry is not None and entry.key is not None else []


def _key_family(kind: str) -> str:
    """`rsa-sha2-256` and `rsa-sha2-512` are signatures by an `ssh-rsa` key."""
    return "ssh-rsa" if kind.startswith("rsa-sha2") else kind


def _check_host_key(server: SftpSettings, name: str, key: paramiko.PKey, known: dict[str, list[paramiko.PKey]]) -> None:
    if key in known.get(_key_family(key.get_name()), ()):
        return
    fingerprint = key.fingerprint  # pyright: ignore[reportAttributeAccessIssue]
    how = f"ssh-keyscan -p {server.port} {server.host} >> {server.known_hosts_file}"
    if not known:
        raise SftpRefused(
            f"The host key of {name} is not in {server.known_hosts_file} ({server.variables}KNOWN_HOSTS_FILE). The server shows "
            f"{fingerprint}. When its operator confirms that, add it: {how}"
        )
    raise SftpRefused(
        f"The host key of {name} has CHANGED: the server shows {fingerprint}, which {server.known_hosts_file} does not have. "
        f"Nothing was sent. When its operator confirms the new key, remove the old line and add the new one: {how}"
    )


def _authenticate(server: SftpSettings, transport: paramiko.Transport) -> None:
    missing, what, variable = list[str](), "password", "PASSWORD"
    try:
        if server.private_key_file is not None:
            what, variable = "key", "PRIVATE_KEY_FILE"
            missing = transport.auth_publickey(server.username, _private_key(server, server.private_key_file))
        elif server.password is None:
            raise SftpRefused(f"Set {server.variables}PASSWORD or {server.variables}PRIVATE_KEY_FILE for {server}.")
        if server.password is not None and (missing or server.private_key_file is None):
            what, variable = "password", "PASSWORD"
            missing = transport.auth_password(server.username, server.password)
        if missing:
            raise SftpRefused(
                f"{server} wants more than that: {' or '.join(missing)}. Set {server.variables}PASSWORD beside "
                f"{server.variables}PRIVATE_KEY_FILE where it asks for both; it can be asked for nothing else."
            )
    except paramiko.AuthenticationException as error:
        raise SftpRefused(
            f"{server} refuses the {what} of {server.username}. See {server.variables}USERNAME and {server.variables}{variable}."
        ) from error


def _private_key(server: SftpSettings, path: Path) -> paramiko.PKey:
    try:
        try:
            return paramiko.PKey.from_path(path)
        except (TypeError, paramiko.PasswordRequiredException):  # it is encrypted
            passphrase = server.password.encode() if server.password else None
            return paramiko.PKey.from_path(path, password=passphrase)  # pyright: ignore[reportArgumentType]
    except (OSError, ValueError, TypeError, paramiko.SSHException) as error:
        raise SftpRefused(
            f"{server.variables}PRIVATE_KEY_FILE {path} cannot be read as a private key "
            f"({type(error).__name__}); its passphrase, if any, is {server.variables}PASSWORD."
        ) from error
