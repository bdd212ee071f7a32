"""What can go wrong on the way to or from an SFTP server, and which of it is worth another try.

* SftpError
  - SftpUnavailable   the network or the server is away: another try may work
  - SftpRefused       a person must act: log-in, host key, rights, our own disk
  - FileChanged       the remote file changed while it was read: leave it for the next look
"""


class SftpError(Exception):
    """Something on the way to or from the SFTP server."""


class SftpUnavailable(SftpError):
    """The server cannot be reached, or the connection was cut."""


class SftpRefused(SftpError):
    """The server, or our own check of it, said no; it will say no again."""


class DiskRefused(SftpRefused):
    """Our own disk takes no more of a download."""


class FileChanged(SftpError):
    """The remote file was not the same before and after the download."""
