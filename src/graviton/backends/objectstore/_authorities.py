"""The certificate authorities that both drivers trust: left to itself, one brings authorities of its own, and reads of
others in the profile.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from graviton.errors import ConfigError

__all__ = ["certificates", "system_authorities"]


def certificates(file: Path) -> bytes:
    """The file of authorities. Raises ConfigError unless it has some."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        return file.read_bytes()
    except OSError as error:
        what = "has none" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        raise ConfigError(
            f"the file of certificate authorities {file} {what}",
            operation="configure",
            subject="AWS_CA_BUNDLE",
        ) from error


def system_authorities() -> str | bool:
    """The file with those that the system trusts, as `obstore` does (SSL_CERT_FILE names one), for `botocore`; True,
    for those that it brings, where Python's OpenSSL knows of no such file."""
    return ssl.get_default_verify_paths().cafile or True
