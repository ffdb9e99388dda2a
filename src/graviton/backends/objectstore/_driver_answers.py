"""What an error of the drivers says: `obstore`'s are text, `botocore`'s are values, and both say the same of an answer,
the status, S3's own code and a sentence. What that means to whoever asked is in errors.py.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["CREDENTIALS", "STRANGER", "Answer", "MalformedKeysError", "answer_of", "cause_of", "is_numbered"]


class MalformedKeysError(Exception):
    """What our sources of keys raise to the drivers; its text shows none."""


class Answer(NamedTuple):
    """What a server, or the way to it, said."""

    status: int = 0
    """0: there was no answer."""
    code: str = ""
    """Of S3, such as `SlowDown`."""
    text: str = ""
    """One line for people."""
    passes: bool = True
    """Without an answer: whether it may be otherwise next time."""
    hint: str = ""
    """Without an answer: what to do, if it is another thing than usual."""


CREDENTIALS = (
    "Check the keys: MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, or what AWS's own tools use (AWS_ACCESS_KEY_ID,"
    " AWS_PROFILE, a role)."
)
"""What to do where there are no keys, or wrong ones."""

STRANGER = "what answered is no S3 server"

_STATUS = re.compile(r"status code: ([0-9]{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,80})</Code>")
_SENTENCE = re.compile(r"<Message>([^<]{1,300})</Message>")
_REASON = re.compile(r"kind: (Connect|Timeout|Interrupted)")
_REASONS: Final = {
    "Connect": "the server cannot be reached",
    "Timeout": "the server took too long",
    "Interrupted": "the connection broke",
}
_CERTIFICATE = re.compile(r"\bInvalidCertificate\(|CERTIFICATE_VERIFY_FAILED|certificate verify failed")
_NO_TLS = re.compile(r"\bInvalidContentType\b|WRONG_VERSION_NUMBER|HTTP_REQUEST|wrong version number")
"""What `rustls` and OpenSSL say. Whatever else goes wrong with TLS (a connection cut in the handshake or without a word
of farewell, a record that was damaged) is a connection that broke."""
_STATUS_OF_CLASS: Final = {
    "FileNotFoundError": 404,
    "NotFoundError": 404,
    "AlreadyExistsError": 412,
    "PreconditionError": 412,
    "UnauthenticatedError": 401,
    "PermissionDeniedError": 403,
}
"""Of errors that no server answered: stores in memory and on disk."""
_UNTRUSTED = Answer(
    text="the certificate of the server is not trusted (AWS_CA_BUNDLE names a file of authorities)", passes=False
)
_SPEAKS_NO_TLS = Answer(
    text="the server does not speak TLS",
    passes=False,
    hint="Check the port, or write http:// in the address of the server if it is meant to be without TLS.",
)
_PROVIDER = re.compile(r"External AWS credential provider: (?:[\w.]+\.)?([A-Za-z]+): ?(.{0,300})")
"""How the driver of blocks tells what our source of keys raised: the name of the class and the text."""
_REFUSED_ROLE = re.compile(r"An error occurred \(([^)]{1,80})\)")
_PASSING_ROLE = re.compile(
    r"^5[0-9][0-9]$|^4(08|25|29)$|Throttl|Internal|Unavailable|SlowDown|Timeout|IDPCommunicationError"
)
"""Codes of the service that gives the keys of a role."""
_LASTING: Final = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "FileNotFoundError",
        "PermissionError",
        "UnauthenticatedError",
    }
)
"""Failures to have keys that stay until somebody does something; a service that gives keys may come back."""
_NO_KEYS: Final = "InvalidAccessKeyId"
"""What a server would say to a request without keys."""
_TOKEN_REQUEST: Final = "Error performing token request"
"""How the driver of blocks begins to tell that it got no keys, at Google and Azure."""
_MALFORMED_KEYS = Answer(403, _NO_KEYS, "the keys have characters in them that no key has")
_GONE: Final = "NotFound"
"""In place of the code that is missing where none can be: in the answer to a HEAD, and where no server was asked."""
_DUMP = "\n\nDebug source:"
"""What an error of the driver of blocks has behind its sentence, also where it is one of Python's own classes."""
_MAX_READ = 20_000
"""Characters of an error's text that are looked at: the server's answer is in it, and may be of any length."""


def answer_of(error: BaseException) -> Answer:
    """What `error` says, whichever driver raised it."""
    module = type(error).__module__
    if module.startswith("botocore"):
        return _of_botocore(error)
    if module.startswith("urllib3"):  # below botocore, which lets some through when an answer's body breaks off
        return Answer(text=_said_by_botocore(error))
    if module.startswith("obstore") or (isinstance(error, FileNotFoundError | FileExistsError) and _DUMP in str(error)):
        return _of_obstore(error)
    if isinstance(
        error, FileNotFoundError | builtins.PermissionError | MalformedKeysError
    ):  # a token or a program that gives keys
        return _without_keys(type(error).__name__, str(error))
    if isinstance(error, TimeoutError):
        return Answer(text=_REASONS["Timeout"])
    if isinstance(error, ValueError) and _repeats_header(error):
        return _MALFORMED_KEYS
    return Answer(text=_one_line(str(error) or type(error).__name__), passes=isinstance(error, OSError))


def _without_keys(name: str, text: str) -> Answer:
    """Of a request that was not sent, because there were no keys to sign it with."""
    if name == MalformedKeysError.__name__:
        return Answer(403, _NO_KEYS, _one_line(text))
    refused = _REFUSED_ROLE.search(text) if name == "ClientError" else None
    if name in _LASTING or (refused is not None and not _PASSING_ROLE.search(refused[1])):
        return Answer(403, _NO_KEYS, f"there are no keys: {_one_line(text)}")
    return Answer(text=f"the keys could not be had: {_one_line(text)}", hint=CREDENTIALS)


def _of_obstore(error: BaseException) -> Answer:
    """Its errors hold what the server said, then a dump of their own. No address in them is signed."""
    whole = str(error)[:_MAX_READ]
    told, _, dump = whole.partition(_DUMP)
    status = _STATUS.search(told)
    if told.partition(": ")[2].startswith(_TOKEN_REQUEST):  # to a service that gives keys, not to the server
        says = f"says {status[1]}" if status else "cannot be reached"
        if status is None or _PASSING_ROLE.search(status[1]):
            return Answer(text=f"the service that gives keys {says}", hint=CREDENTIALS)
        return Answer(403, _NO_KEYS, f"there are no keys: the service that gives them {says}")
    code = _CODE.search(told)
    sentence = _SENTENCE.search(told)
    name = type(error).__name__
    if status is not None:
        number = int(status[1])
    elif "Server returned error response" in told:
        number = 200 if code is not None else 500  # the failure is in the body of an answer that began well
    elif "redirect without LOCATION" in told:
        number = 301
    else:
        number = _STATUS_OF_CLASS.get(name, 0)
    if number == 404 and code is None and (status is None or "performing HEAD" in told):
        return Answer(404, _GONE, "it is not there")
    if status is None and name == "UnauthenticatedError":
        said = _PROVIDER.search(told)
        return _without_keys(*said.groups()) if said else _without_keys(name, told.rpartition(": ")[2])
    if number:
        what = f"{code[1]}: {sentence[1]}" if code and sentence else code[1] if code else f"the server says {number}"
        return Answer(number, code[1] if code else "", _one_line(what))
    if name == "NotSupportedError" or isinstance(error, NotImplementedError):
        return Answer(501, "", "the store does not offer it")
    inner = dump.partition("inner:")[2]  # before it stands the address, in which there may be any word
    if (wrong := _wrong_tls(inner)) is not None:
        return wrong
    reason = _REASON.search(inner)
    return Answer(text=_REASONS[reason[1]] if reason else f"no answer ({_one_line(told.rpartition(': ')[2])})")


def _of_botocore(error: BaseException) -> Answer:
    from botocore import exceptions as botocore
    from botocore.parsers import ResponseParserError

    _forget_request(error)
    if isinstance(error, botocore.ClientError):
        return _of_client_error(error.response, error.operation_name)
    if isinstance(error, botocore.SSLError):
        # Its text has the address too, in which there may be any word.
        return _wrong_tls(str(getattr(error, "kwargs", {}).get("error", ""))) or Answer(text=_REASONS["Interrupted"])
    if isinstance(error, botocore.HTTPClientError) and _repeats_header(error):
        return _MALFORMED_KEYS
    broken = (botocore.ConnectionError, botocore.HTTPClientError, botocore.IncompleteReadError)
    if isinstance(error, (*broken, botocore.ResponseStreamingError)):
        return Answer(text=_said_by_botocore(error))
    if isinstance(error, botocore.ChecksumError | botocore.FlexibleChecksumError):
        return Answer(text="the answer was changed on its way")
    if isinstance(error, ResponseParserError):
        return Answer(text=STRANGER)
    if isinstance(error, botocore.CredentialRetrievalError) or type(error).__name__ in _LASTING:
        return _without_keys(type(error).__name__, str(error))
    return Answer(text=_one_line(str(error)), passes=False)


def _of_client_error(response: Mapping[str, Any], operation: str) -> Answer:
    told, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    status, code = meta.get("HTTPStatusCode", 0), str(told.get("Code", ""))
    region = meta.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
    if code.isdigit():  # of an answer without a body, as every HEAD's
        status, code = int(code), _code_of_none(int(code), operation, region)
    text = f"{code or status}: {told.get('Message', '')}{f' (the bucket is in {region})' if region else ''}"
    return Answer(status or 500, code, _one_line(text))


def is_numbered(error: BaseException) -> bool:
    """Whether an error of ours has an answer behind it with the number that S3 gives every request. Gateways have none
    of that name, and neither have some servers that speak like S3."""
    meta = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {})
    return "x-amz-request-id" in meta.get("HTTPHeaders", {})


def _code_of_none(status: int, operation: str, region: str) -> str:
    """The code that an answer would have if it had a body."""
    if status == 404 and operation.startswith("Head"):
        return _GONE
    # Signed for another region: of a look at a bucket nothing else can be malformed; of others AWS tells the right one.
    if status == 400 and (operation == "HeadBucket" or (operation.startswith("Head") and region)):
        return "AuthorizationHeaderMalformed"
    return ""


def _wrong_tls(text: str) -> Answer | None:
    """What is wrong with the certificate, or that there is no TLS at all; None for all that may pass."""
    if _CERTIFICATE.search(text):
        return _UNTRUSTED
    return _SPEAKS_NO_TLS if _NO_TLS.search(text) else None


def _forget_request(error: Any) -> None:
    """The driver keeps the request in some errors: the session token is in its headers, and it has the payload."""
    kept = vars(error)
    kept.get("kwargs", {}).pop("request", None)
    if "request" in kept:
        error.request = None


def _said_by_botocore(error: BaseException) -> str:
    name = type(error).__name__
    if "Timeout" in name:
        return _REASONS["Timeout"]
    return _REASONS["Connect" if "Connect" in name and "Closed" not in name else "Interrupted"]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def cause_of(error: Exception) -> Exception | None:
    """`error` as the cause of ours: without its frames, which have the payload (and a future of the driver keeps the
    error for a while), and not at all if its text repeats a header, as that of a malformed key does."""
    return None if _repeats_header(error) else error.with_traceback(None)


def _repeats_header(error: BaseException) -> bool:
    return "invalid header value" in str(error).lower()
