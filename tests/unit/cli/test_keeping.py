"""What `tunesmith doctor` says of the database and of the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from sqlalchemy import NullPool, create_engine, text

from postgres import Server, server_or_skip
from s3_server import BUCKET, S3Server, s3_server
from tunesmith.artifacts.s3_bucket import Bucket
from tunesmith.cli.keeping import look_at_keeping
from tunesmith.cli.machine import Finding
from tunesmith.settings import load_settings
from tunesmith.store.schema import HEAD, upgrade


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    with server_or_skip() as running:
        yield running


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture
def store(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The object store, which the environment names."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return s3


def look(data: Path, **given: str) -> dict[str, Finding]:
    settings = load_settings({"data": data, **given})
    return {finding.name: finding for finding in look_at_keeping(settings)}


def set_schema(url: str, revision: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))


def test_a_folder_without_a_database_is_well_and_stays_so(tmp_path: Path) -> None:
    found = look(tmp_path / "data")
    assert {name: finding.state for name, finding in found.items()} == {"database": "ok"}
    assert found["database"].told.startswith("none yet")
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_no_database_fails(tmp_path: Path) -> None:
    (tmp_path / "tunesmith.db").write_bytes(b"no database" * 100)
    found = look(tmp_path)["database"]
    assert found.state == "fail"
    assert "tunesmith.db cannot be used" in found.told


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_schema_of_the_database_is_told_with_its_mend(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/other.db"
    else:
        server: Server = request.getfixturevalue("postgresql")
        url = server.url(server.database())
    empty = look(tmp_path, database_url=url)["database"]
    assert (empty.state, "has no schema yet" in empty.told) == ("warn", True)
    assert "`tunesmith db upgrade`" in (empty.mend or "")

    upgrade(url)
    well = look(tmp_path, database_url=url)["database"]
    assert (well.state, f"has schema {HEAD}" in well.told, well.mend) == ("ok", True, None)
    assert "ssword" not in well.told

    set_schema(url, "0001")
    older = look(tmp_path, database_url=url)["database"]
    assert (older.state, "has schema 0001" in older.told) == ("warn", True)
    assert "Back it up; then run `tunesmith db upgrade`" in (older.mend or "")

    set_schema(url, "9999")
    newer = look(tmp_path, database_url=url)["database"]
    assert (newer.state, "or a newer one" in (newer.mend or "")) == ("fail", True)


def test_a_server_that_does_not_answer_fails_without_its_password(tmp_path: Path) -> None:
    away = "postgresql://ann:s3cret@/tunes?host=/nowhere"
    found = look(tmp_path, database_url=away)["database"]
    assert found.state == "fail"
    assert "ann:***@" in found.told
    assert "TUNESMITH_DATABASE_URL" in (found.mend or "")
    assert "s3cret" not in found.model_dump_json()


def test_a_bucket_that_can_be_used_is_told_and_left_as_it_was(
    tmp_path: Path, store: S3Server
) -> None:
    found = look(tmp_path, artifacts_url=f"s3://{BUCKET}/here")["bucket"]
    assert (found.state, found.mend) == ("ok", None)
    assert store.names("here/") == []


def test_a_bucket_that_is_missing_fails_with_the_mend(tmp_path: Path, store: S3Server) -> None:
    found = look(tmp_path, artifacts_url="s3://absent-bucket/here")["bucket"]
    assert found.state == "fail"
    assert found.told == "There is no bucket 'absent-bucket' for s3://absent-bucket/here"
    assert (found.mend or "").startswith("Create it")


def test_keys_that_are_missing_fail_with_the_mend(
    tmp_path: Path, store: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    found = look(tmp_path, artifacts_url=f"s3://{BUCKET}/here")["bucket"]
    assert found.state == "fail"
    assert found.told == f"There are no keys for s3://{BUCKET}/here"
    assert "AWS_ACCESS_KEY_ID" in (found.mend or "")


@pytest.mark.parametrize(
    ("call", "operation"),
    [("get", "GetObject"), ("list", "ListObjectsV2"), ("delete", "DeleteObject")],
)
def test_keys_that_may_not_do_all_fail_with_what_they_lack(
    tmp_path: Path, store: S3Server, monkeypatch: pytest.MonkeyPatch, call: str, operation: str
) -> None:
    def forbidden(self: Bucket, *_: object, **__: object) -> None:
        denied = ClientError(
            {
                "Error": {"Code": "AccessDenied", "Message": "no"},
                "ResponseMetadata": {"HTTPStatusCode": 403},  # type: ignore[typeddict-item]
            },
            operation,
        )
        with self._naming():
            raise denied

    monkeypatch.setattr(Bucket, call, forbidden)
    found = look(tmp_path, artifacts_url=f"s3://{BUCKET}/denied-{call}")["bucket"]
    assert found.state == "fail"
    assert f"forbids {operation} to these keys" in found.told
    assert (found.mend or "").startswith("Let them list, read, write and delete")


def test_an_install_without_the_extra_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.artifacts.opening.find_spec", lambda _: None)
    found = look(tmp_path, artifacts_url="s3://bucket")["bucket"]
    assert found.state == "fail"
    assert "tunesmith[s3]" in found.told
    assert (found.mend or "").startswith("Install it")
