"""Addresses that an operator sets; what is none raises `PydanticCustomError`, with the mend."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError


def check_server(uri: str) -> str:
    """Return `uri` if it is the address of a server, with no secret in it."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise PydanticCustomError("server", "Give its address, such as http://host:5000")
    if parts.username or parts.password or parts.query:
        raise PydanticCustomError(
            "secret",
            "A secret has no place in it; set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD, in the environment of the nodes",
        )
    return uri


def check_database(url: str) -> str:
    """Return `url` if it names a database that we can use."""
    if url.partition("://")[0] not in {"postgresql", "postgres", "postgresql+psycopg", "sqlite"}:
        raise PydanticCustomError(
            "database",
            "Give a URL such as postgresql://user:password@host:5432/name or sqlite:////srv/it.db",
        )
    return url


def check_bucket(url: str | None) -> str | None:
    """Return `url` if it names a bucket and, perhaps, a prefix in it, with no secret."""
    if url is None:
        return None
    parts = urlsplit(url)
    plain = all(part not in {"", ".", ".."} for part in parts.path.strip("/").split("/"))
    if parts.scheme != "s3" or not parts.netloc or (parts.path.strip("/") and not plain):
        raise PydanticCustomError("bucket", "Give a bucket, such as s3://bucket/prefix")
    if "@" in parts.netloc or ":" in parts.netloc or parts.query or parts.fragment:
        raise PydanticCustomError(
            "secret",
            "Give a bucket and a prefix alone; endpoint and keys come from AWS_ENDPOINT_URL, "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    return url.rstrip("/")
