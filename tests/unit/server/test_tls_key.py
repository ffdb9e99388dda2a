from __future__ import annotations

import base64
import random

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from graviton.server.tls_key import is_taken

PKCS8 = serialization.PrivateFormat.PKCS8


def pem(key: object, form: serialization.PrivateFormat = PKCS8, password: bytes = b"") -> str:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, hidden).decode()  # type: ignore[attr-defined, no-any-return]


def of_curve(curve: ec.EllipticCurve) -> str:
    return pem(ec.generate_private_key(curve))


RSA_2048 = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    "key",
    [of_curve(ec.SECP256R1()), of_curve(ec.SECP384R1()), pem(ed25519.Ed25519PrivateKey.generate()), pem(RSA_2048)],
    ids=["P-256", "P-384", "Ed25519", "RSA"],
)
def test_what_the_server_below_takes(key: str) -> None:
    assert is_taken(key)
    assert is_taken("a certificate before it\n" + key.replace("\n", "\r\n"))


@pytest.mark.parametrize(
    "key",
    [
        of_curve(ec.SECP521R1()),
        of_curve(ec.SECP256K1()),
        pem(ed448.Ed448PrivateKey.generate()),
        pem(dsa.generate_private_key(1024)),
        pem(rsa.generate_private_key(65537, 1024)),
        pem(RSA_2048, serialization.PrivateFormat.TraditionalOpenSSL),
        pem(RSA_2048, password=b"a password"),
        "",
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----",
    ],
    ids=["P-521", "secp256k1", "Ed448", "DSA", "RSA 1024", "PKCS#1", "encrypted", "nothing", "empty", "cut off"],
)
def test_what_it_would_abort_at(key: str) -> None:
    assert not is_taken(key)


def test_rsa_of_more_bits_than_it_takes() -> None:
    """Made by hand: such a key takes seconds to find."""

    def element(tag: int, content: bytes) -> bytes:
        return bytes([tag, 0x82]) + len(content).to_bytes(2) + content

    for bits, taken in ((2047, False), (2048, True), (4096, True), (4097, False), (6144, False)):
        modulus = b"\0" + ((1 << (bits - 1)) | 1).to_bytes(bits // 8 + 1)
        key = element(0x30, element(2, b"\0") + element(2, modulus))
        algorithm = bytes.fromhex("06092a864886f70d0101010500")
        whole = element(0x30, element(2, b"\0") + element(0x30, algorithm) + element(4, key))
        text = f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(whole).decode()}\n-----END PRIVATE KEY-----"
        assert is_taken(text) is taken, bits


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_damage_is_never_more_than_a_no(seed: int, count: int) -> None:
    rng = random.Random(seed)
    data = bytearray(base64.b64decode("".join(pem(RSA_2048).split("\n")[1:-2])))
    for _ in range(count):
        data[rng.randrange(60)] = rng.randrange(256)
    is_taken(f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(data).decode()}\n-----END PRIVATE KEY-----")
