"""An SFTP server on loopback that serves one folder as its root, with faults on demand."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar, cast

import asyncssh
from asyncssh import SFTPAttrs, SFTPFailure, SFTPName, SFTPServer

from hotwax_inventory.simulator.faults import SFTP_KINDS_BY_PLACE, Fault, Faults
from hotwax_inventory.simulator.identity import Identity

HOST_KEY_FILE = "ssh_host_ed25519_key"
AUTHORIZED_KEYS_FILE = "authorized_keys"
FXF_READ = 1

T = TypeVar("T")


class Login(asyncssh.SSHServer):
    """Lets in who has the password or a listed key."""

    def __init__(self, identity: Identity, authorized_keys: Path) -> None:
        self._identity = identity
        self._authorized_keys = authorized_keys
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        if self._connection is not None and self._authorized_keys.exists() and self._authorized_keys.stat().st_size:
            self._connection.set_authorized_keys(str(self._authorized_keys))
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (self._identity.sftp_username, self._identity.sftp_password)


class FaultyServer(SFTPServer):
    """Files below a root; before each call it asks whether a fault strikes."""

    def __init__(self, chan: asyncssh.SSHServerChannel, root: bytes, faults: Faults) -> None:
        super().__init__(chan, chroot=root)
        self._faults = faults
        self._struck: dict[object, Fault] = {}
        self._paths: dict[object, bytes] = {}

    async def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:
        await self._strike("sftp.open", path)
        file = await _result(super().open(path, pflags, attrs))
        if pflags & FXF_READ:
            fault = self._faults.take("sftp.read", SFTP_KINDS_BY_PLACE["sftp.read"], path.decode(errors="replace"))
            if fault is not None:
                self._struck[file] = fault
                self._paths[file] = self.map_path(path)
        return file

    async def close(self, file_obj: object) -> None:
        self._struck.pop(file_obj, None)
        self._paths.pop(file_obj, None)
        await _result(super().close(file_obj))

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        fault = self._struck.get(file_obj)
        if fault is not None:
            size = await self._before_read(fault, file_obj, offset, size)
        return await _result(super().read(file_obj, offset, size)) if size > 0 else b""

    async def _before_read(self, fault: Fault, file_obj: object, offset: int, size: int) -> int:
        """Do what the fault does to a read; how many bytes may still be read."""
        match fault.kind:
            case "fail":
                raise SFTPFailure("The read fails on demand.")
            case "slow":
                await asyncio.sleep(fault.number(0.1))
            case "disconnect_at_byte":
                if offset + size > fault.number(0):
                    self.connection.abort()
                    raise SFTPFailure("The connection is cut on demand.")
            case "short_read":
                return min(size, int(fault.number(0)) - offset)
            case "grow_while_reading":
                path = self._paths.pop(file_obj, None)
                if path is not None:
                    with Path(path.decode()).open("ab") as file:
                        file.write(b"#" * int(fault.number(1)))
        return size

    async def fstat(self, file_obj: object) -> SFTPAttrs:
        attrs = await self.convert_attrs(super().fstat(file_obj))
        return _resized(attrs, self._struck.get(file_obj))

    async def stat(self, path: bytes) -> SFTPAttrs:
        fault = await self._strike("sftp.stat", path)
        return _resized(await self.convert_attrs(super().stat(path)), fault)

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        fault = await self._strike("sftp.listdir", path)
        async for name in super().scandir(path):
            if fault is not None and name.attrs is not None:
                name.attrs = _resized(name.attrs, fault)
            yield name

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        await self._strike("sftp.rename", oldpath)
        await _result(super().rename(oldpath, newpath))

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        await self._strike("sftp.rename", oldpath)
        await _result(super().posix_rename(oldpath, newpath))

    async def _strike(self, where: str, path: bytes) -> Fault | None:
        fault = self._faults.take(where, SFTP_KINDS_BY_PLACE[where], path.decode(errors="replace"))
        if fault is not None and fault.kind == "fail":
            raise SFTPFailure(f"{where} fails on demand.")
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.number(0.1))
        return fault


class SftpService:
    """The server in a thread with an event loop of its own."""

    def __init__(self, directory: Path, identity: Identity, faults: Faults) -> None:
        self.root = directory / "sftp"
        self.root.mkdir(exist_ok=True)
        self._identity = identity
        self._faults = faults
        self._authorized_keys = directory / AUTHORIZED_KEYS_FILE
        self._host_key = _host_key(directory / HOST_KEY_FILE)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulator-sftp", daemon=True)
        self._acceptor: asyncssh.SSHAcceptor | None = None

    def start(self, port: int) -> int:
        """Listen on loopback, on the wanted port when it is free; the port in the end."""
        self._thread.start()
        self._acceptor = asyncio.run_coroutine_threadsafe(self._listen(port), self._loop).result(timeout=15)
        return self._acceptor.get_port()

    def stop(self) -> None:
        """Cut all connections and close."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=15)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def known_host(self, port: int) -> str:
        """The line of a known_hosts file for this server."""
        return f"[127.0.0.1]:{port} {self._host_key.export_public_key('openssh').decode().strip()}\n"

    async def _listen(self, port: int) -> asyncssh.SSHAcceptor:
        for wanted in dict.fromkeys([port, 0]):
            try:
                return await asyncssh.listen(
                    "127.0.0.1",
                    wanted,
                    server_factory=lambda: Login(self._identity, self._authorized_keys),
                    server_host_keys=[self._host_key],
                    sftp_factory=lambda chan: FaultyServer(chan, str(self.root).encode(), self._faults),
                    allow_scp=False,
                    reuse_address=True,
                    tcp_keepalive=True,
                )
            except OSError:
                if wanted == 0:
                    raise
        raise OSError("No port on 127.0.0.1 can be bound.")

    async def _close(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


def _host_key(file: Path) -> asyncssh.SSHKey:
    if not file.exists():
        key = asyncssh.generate_private_key("ssh-ed25519", comment="simulator")
        file.touch(mode=0o600)
        key.write_private_key(str(file))
    return asyncssh.read_private_key(str(file))


def _resized(attrs: SFTPAttrs, fault: Fault | None) -> SFTPAttrs:
    if fault is not None and fault.kind == "wrong_size" and attrs.size is not None:
        attrs.size = max(0, attrs.size + int(fault.number(1)))
    return attrs


async def _result(value: T | Awaitable[T]) -> T:
    return await cast(Awaitable[T], value) if isinstance(value, Awaitable) else value
