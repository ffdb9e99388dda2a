"""Where a server listens: a port that is its own, and the files of TLS."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from pathlib import Path

from graviton.assembly.server_settings import ServerSettings
from graviton.errors import ConfigError, GravitonError, PermissionDenied, Unavailable
from graviton.server.tls_key import TAKEN, is_taken

__all__ = ["check_tls", "reserve_port", "url_of"]


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket that is bound to the port (0: one that is free) and never listens, so that the port stays this server's
    while workers come and go. Whoever sets SO_REUSEPORT may share it, so it is looked first whether somebody else has
    it: two servers on one port would each get some of the requests. Raises Unavailable, PermissionDenied, ConfigError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port:
        with _bound(family, host, port, socket.SO_REUSEADDR):
            pass
    return _bound(family, host, port, socket.SO_REUSEPORT)


def _bound(family: socket.AddressFamily, host: str, port: int, option: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise _bind_error(error, host, port) from error
    return made


def _bind_error(error: OSError, host: str, port: int) -> GravitonError:
    where, why = f"{host} port {port}", os.strerror(error.errno or 0)
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"somebody else listens on {where}",
            operation="serve",
            subject=where,
            hint="Stop it, or choose another port: --port 0 takes one that is free.",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(
            f"cannot listen on {where}: {why}",
            operation="serve",
            subject=where,
            hint="Ports below 1024 are for root; choose a higher one, with a proxy in front.",
        )
    return ConfigError(
        f"cannot listen on {where}: {why}",
        operation="serve",
        subject=where,
        hint="Give the address of an interface of this machine: 127.0.0.1, 0.0.0.0 or ::1.",
    )


def url_of(settings: ServerSettings, port: int) -> str:
    """The address to be told to people."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.uses_tls else 'http'}://{host}:{port}"


_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")

_OLD_KEYS = ("RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY")


def check_tls(settings: ServerSettings) -> None:
    """Look at the files of TLS before the server does, which would end with less to go by. Raises ConfigError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    if "CERTIFICATE" not in _BEGIN.findall(_text(settings.tls_cert)):
        raise _bad_file(settings.tls_cert, "holds no certificate", "Give the chain as PEM, the server's own first.")
    key = _text(settings.tls_key)
    kinds = _BEGIN.findall(key)
    if "PRIVATE KEY" not in kinds:
        if any(kind in kinds for kind in (*_OLD_KEYS, "ENCRYPTED PRIVATE KEY")):
            what = "holds a key in another form than PKCS#8 without a password"
            raise _bad_file(
                settings.tls_key, what, f"Write it anew: openssl pkcs8 -topk8 -nocrypt -in {settings.tls_key} -out NEW."
            )
        raise _bad_file(settings.tls_key, "holds no key", "Give the key as PEM: -----BEGIN PRIVATE KEY-----.")
    if not is_taken(key):
        raise _bad_file(settings.tls_key, "holds a key of a kind that is not taken, or damaged", f"Use {TAKEN}.")
    try:  # with a password, or it would be asked for on the terminal
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (ssl.SSLError, OSError) as error:
        raise _bad_file(
            settings.tls_key, f"is not the key of {settings.tls_cert}, or damaged", "Give the two that belong together."
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError as error:
        raise _bad_file(path, f"cannot be read: {os.strerror(error.errno or 0)}", "Check its path and mode.") from error


def _bad_file(path: Path, what: str, hint: str) -> ConfigError:
    return ConfigError(f"{path} {what}", operation="serve", subject=str(path), hint=hint)
