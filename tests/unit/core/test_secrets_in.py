from __future__ import annotations

from graviton.assembly.server_settings import server_settings_from
from graviton.assembly.settings import settings_from
from graviton.core.secret import Secret, secrets_in


def test_every_secret_that_a_server_is_given_is_found() -> None:
    """So that its log can look for all of them, wherever they are kept."""
    environment = {
        "GRAVITON_API_TOKEN": "the-token-of-the-server",
        "GRAVITON_METADATA": "postgres",
        "PG_JDBC_URL": "jdbc:postgresql://db/graviton?user=me&password=of-the-database",
        "GRAVITON_BLOB_BACKEND": "s3",
        "MINIO_ROOT_USER": "me",
        "MINIO_ROOT_PASSWORD": "of-the-bucket",
    }
    both = server_settings_from(environment), settings_from(environment)
    assert {secret.reveal() for secret in secrets_in(both)} == {
        "the-token-of-the-server",
        "of-the-database",
        "of-the-bucket",
    }


def test_where_there_is_none() -> None:
    assert list(secrets_in((settings_from({}), None, 5, "text"))) == []
    assert list(secrets_in(Secret("x"))) == [Secret("x")]
