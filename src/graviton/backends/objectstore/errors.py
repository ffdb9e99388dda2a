"""The one translation of what the drivers raise into errors of ours; docs/object-storage.md has the table."""

from __future__ import annotations

from typing import Final

from graviton.backends.objectstore._driver_answers import CREDENTIALS, STRANGER, Answer, answer_of
from graviton.errors import (
    AlreadyExists,
    ConfigError,
    GravitonError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RangeNotSatisfiable,
    Retry,
    StorageFull,
    Unavailable,
    Unsupported,
)

__all__ = ["CLOUD_KEYS", "no_bucket", "no_server", "translate"]


CLOUD_KEYS: Final = {
    "gs": (
        "Check the credentials of Google Cloud: GOOGLE_APPLICATION_CREDENTIALS names the file of a service account;"
        " without it those of `gcloud auth application-default login` count, or the role of the machine."
    ),
    "az": (
        "Check the credentials of Azure: AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_CLIENT_ID,"
        " AZURE_CLIENT_SECRET and AZURE_TENANT_ID; without them the identity of the machine counts."
    ),
}
"""By scheme: what to do where there are no keys, wrong ones, or keys without the right."""


_DENIED: Final[dict[str, str]] = {
    "RequestTimeTooSkewed": "The clock of this machine is wrong: set it (NTP), then try again.",
    "RequestExpired": "The clock of this machine is wrong: set it (NTP), then try again.",
    "InvalidAccessKeyId": CREDENTIALS,
    "SignatureDoesNotMatch": CREDENTIALS,
    "InvalidToken": CREDENTIALS,
    "InvalidTokenId": CREDENTIALS,
    "ExpiredToken": "The session token has expired: get a new one.",
    "AccountProblem": "Ask whoever runs the account.",
}
_MAY_NOT = "The keys are known but may not do this: docs/guides/s3.md has the rights that are needed."
_UNTOLD = "The server does not say why: check the keys, the clock, and the rights (docs/guides/s3.md)."

_PASSING_CODES: Final = frozenset(
    {
        "RequestTimeout",
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "IncompleteBody",
        "XAmzContentChecksumMismatch",
        "InternalError",
        "SlowDown",
        "ServiceUnavailable",
        "ThrottlingException",
        "KMS.ThrottlingException",
    }
)
"""With whatever status (200 and 400 occur): of this one request, whose body arrived late, short or changed on its way,
or of a server, or its KMS, that has too much to do."""

_FULL_CODES: Final = frozenset(
    {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"}
)
_NAME_CODES: Final = frozenset({"KeyTooLongError", "XMinioInvalidObjectName", "XMinioInvalidResourceName"})
_REGION_CODES: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_KIND_OF_STATUS: Final[dict[int, tuple[type[GravitonError], str]]] = {
    405: (Unsupported, "This server does not offer it."),
    416: (RangeNotSatisfiable, ""),
    501: (Unsupported, "This server does not offer it."),
}
_PASSING_STATUS: Final = frozenset({302, 303, 308, 408, 409, 425, 429, 500, 502, 503, 504})
"""S3 sends nobody elsewhere by the first three: a network does that wants one to sign in."""
_NO_ANSWER = "Check the address of the server (QUASAR_MINIO_URL), whether it runs, and the network; then try again."
_TRY_LATER = "Look at the server and the network between; then try again."

_HINT_OF_CODE: Final = {
    "InvalidObjectState": "It was moved to an archive: have the server restore it, and let no lifecycle rule move it"
    " (docs/guides/s3.md).",
}


def translate(error: BaseException, operation: str, subject: str, bucket: str) -> GravitonError:
    """The error of ours that says what `error` says; its `retry` tells whether the same request may succeed later. What
    is no failure of a driver is a GravitonError already, or comes back as Unavailable."""
    if isinstance(error, GravitonError):
        return error
    answer = answer_of(error)
    kind, text, hint, passes = _judged(answer, operation, subject, bucket)
    hint = _hint_at(bucket, hint)
    retry = Retry.TEMPORARY if passes else Retry.PERMANENT
    return kind(text, operation=operation, subject=subject, hint=hint, retry=retry)


def _judged(answer: Answer, operation: str, subject: str, bucket: str) -> tuple[type[GravitonError], str, str, bool]:
    """Class, message, hint, and whether it may pass."""
    status, code = answer.status, answer.code
    told = f"{operation} {subject}: {answer.text}"
    if code in ("NoSuchBucket", "ContainerNotFound"):
        return ConfigError, f"there is no bucket {bucket}", _no_bucket(bucket), False
    if code in _REGION_CODES or status in (301, 307):
        hint = "Set GRAVITON_S3_REGION to the region of the bucket, and check the address of the server."
        return ConfigError, f"bucket {bucket} is not in this region: {answer.text}", hint, False
    if code in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
        return AlreadyExists, f"there is a bucket {bucket} already", "", False
    if code in _PASSING_CODES:
        return Unavailable, told, _TRY_LATER, True
    if _is_denied(status, code):
        hint = _DENIED.get(code, _MAY_NOT if code else _UNTOLD)
        return PermissionDenied, f"{operation} {subject} is not allowed: {answer.text}", hint, False
    if status == 404 and code:
        return NotFound, f"there is no {subject}", "", False
    if status == 404:  # of a gateway that has lost its server: taken for absence, every block would seem gone
        return Unavailable, f"{told}, and not in the way of S3", _TRY_LATER, True
    if code in _FULL_CODES or status == 507:
        return (
            StorageFull,
            f"no room for {subject}: {answer.text}",
            "Make room on the server, or raise the quota.",
            False,
        )
    if code in _NAME_CODES:
        return InvalidInput, f"{subject} is no name that this server takes: {answer.text}", "Choose another one.", False
    if code == "EntityTooLarge" or status == 413:
        return LimitExceeded, f"{subject} is too large for this server: {answer.text}", "", False
    if code == "PreconditionFailed" or status == 412:
        return PreconditionFailed, told, "", False
    if status in _PASSING_STATUS:
        return Unavailable, told, _TRY_LATER, True
    if status in _KIND_OF_STATUS:
        kind, hint = _KIND_OF_STATUS[status]
        return kind, told, hint, False
    if status:
        return Unavailable, told, _HINT_OF_CODE.get(code, _TRY_LATER), status >= 500
    return Unavailable, told, answer.hint or (_NO_ANSWER if answer.passes else ""), answer.passes


def _is_denied(status: int, code: str) -> bool:
    by_code = code in _DENIED or (code.startswith("KMS.") and status < 500)
    return by_code or (status in (401, 403) and code not in _HINT_OF_CODE)


def _hint_at(bucket: str, hint: str) -> str:
    """The hint; at other clouds without what S3 alone has."""
    if "://" not in bucket:
        return hint
    if hint == _NO_ANSWER:
        return _TRY_LATER
    return CLOUD_KEYS[bucket.partition("://")[0]] if hint in (CREDENTIALS, _UNTOLD, _MAY_NOT) else hint


def no_bucket(bucket: str) -> ConfigError:
    """The error of who looked for the bucket and was told that there is none."""
    return ConfigError(f"there is no bucket {bucket}", operation="head_bucket", subject=bucket, hint=_no_bucket(bucket))


def no_server(operation: str, subject: str) -> Unavailable:
    """The error of an answer that says that all is well and lacks what every answer of S3 to this has. It is somebody
    else's: of a network that wants one to sign in, of a gateway that has lost its server."""
    return Unavailable(f"{operation} {subject}: {STRANGER}", operation=operation, subject=subject, hint=_NO_ANSWER)


def _no_bucket(bucket: str) -> str:
    if "://" in bucket:
        return "Check the address; the tools of that cloud make a bucket."
    return f"Check GRAVITON_S3_BLOCK_BUCKET; `graviton store init` makes the bucket {bucket}."
