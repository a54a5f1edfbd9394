"""The door to one bucket: the calls that we make of S3, and what their faults are called here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from s3transfer.exceptions import RetriesExceededError

from tunesmith.domain.errors import (
    ArtifactMissingError,
    ArtifactsUnavailableError,
    DiskFullError,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CopySourceTypeDef

PART = 8 << 20
"""Bytes of a part of a multipart upload; S3 takes none below 5 MiB but the last."""

LARGEST_COPY = 5 << 30
"""Bytes that one copy on the server may have at the most; larger ones go in parts."""

_MANY = 1000
"""Objects that one request deletes at the most."""

_NO_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_NO_ROOM = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuota"}


class ConditionFailedError(Exception):
    """An object is not, or is no longer, what a conditional write expected."""


class ReplacedError(ArtifactsUnavailableError):
    """The bytes were replaced while they were read."""


@dataclass(frozen=True)
class Found:
    """What is known of an object."""

    name: str
    """Its name in the bucket, without the prefix of the URL."""
    size: int
    """Bytes."""
    etag: str
    """What S3 calls this version of it."""
    written_at: float
    """When it was written, in unix seconds by the server's clock."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What its writer noted beside it; lists do not tell it."""
    now: float = 0.0
    """When the server said so, by the same clock; 0 from lists."""


class Bucket:
    """The objects below an `s3://bucket/prefix`, by their names behind the prefix.

    Every method raises `ArtifactsUnavailableError` where the store does not do as it is asked.
    """

    def __init__(self, url: str, *, attempts: int) -> None:
        """Take the URL; endpoint and keys come from the usual `AWS_…` variables and files.

        A request is tried `attempts` times.
        """
        parts = urlsplit(url)
        self.url = url
        """What was given."""
        self.name = parts.netloc
        """The bucket's name."""
        self._attempts = attempts
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        config = Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            max_pool_connections=32,
            user_agent_extra="tunesmith",
        )
        with self._naming():
            self.client: S3Client = boto3.session.Session().client("s3", config=config)
        """boto3's client, which threads may share."""

    def path(self, name: str) -> str:
        """Return the whole name of the object `name`, as S3 knows it."""
        return f"{self._prefix}{name}"

    def put(
        self,
        name: str,
        data: bytes,
        *,
        metadata: dict[str, str] | None = None,
        match: str | None = None,
        new: bool = False,
    ) -> str:
        """Store `data`, whole or not at all, and return the object's new ETag.

        With `match` only in place of the version of that ETag, with `new` only where there is none.
        Raises `ConditionFailedError` otherwise.
        """
        condition = {"IfNoneMatch": "*"} if new else {"IfMatch": match} if match else {}
        with self._naming():
            answer = self.client.put_object(
                Bucket=self.name,
                Key=self.path(name),
                Body=data,
                Metadata=metadata or {},
                **condition,  # type: ignore[arg-type]
            )
        return answer["ETag"]

    def head(self, name: str) -> Found | None:
        """Return what is known of the object; `None` where there is none."""
        try:
            with self._naming(name):
                answer = self.client.head_object(Bucket=self.name, Key=self.path(name))
        except ArtifactMissingError:
            return None
        return self._found(name, answer, size=answer["ContentLength"])

    def get(
        self, name: str, *, start: int = 0, end: int | None = None, match: str | None = None
    ) -> tuple[bytes, Found]:
        """Return the bytes from `start` up to before `end`, and what is known of the object.

        Where it has no bytes there, they are empty. Raises `ArtifactMissingError` where there is no
        object, and `ReplacedError` where it is not the version with the ETag `match`.
        """
        asked: dict[str, Any] = {"Bucket": self.name, "Key": self.path(name)}
        if start or end is not None:
            asked["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if match is not None:
            asked["IfMatch"] = match
        for attempt in range(1, self._attempts + 1):
            try:
                with self._naming(name):
                    try:
                        answer = self.client.get_object(**asked)
                    except ClientError as error:
                        if _code(error) not in ("InvalidRange", "416"):
                            raise
                        return b"", self._known(name)
                    # A connection that breaks off behind the head is not tried again by boto3.
                    content = answer["Body"].read()
            except ConditionFailedError:
                raise ReplacedError(f"'{name}' was replaced while it was read.") from None
            except ArtifactsUnavailableError as error:
                if attempt == self._attempts or not isinstance(
                    error.__cause__, (HTTPClientError, IncompleteReadError)
                ):
                    raise
                time.sleep(0.1 * 2**attempt)
            else:
                whole = answer.get("ContentRange", "").rpartition("/")[2]
                size = int(whole) if whole.isdecimal() else len(content)
                return content, self._found(name, answer, size=size)
        raise ArtifactsUnavailableError

    def list(self, below: str) -> Iterator[Found]:
        """Yield all objects whose names begin with `below`, by name."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.path(below)
        )
        with self._naming():
            for page in pages:
                for each in page.get("Contents", ()):
                    yield Found(
                        name=each["Key"].removeprefix(self._prefix),
                        size=each["Size"],
                        etag=each["ETag"],
                        written_at=each["LastModified"].timestamp(),
                    )

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; nothing happens where there are none."""
        paths = [self.path(name) for name in names]
        for first in range(0, len(paths), _MANY):
            batch = paths[first : first + _MANY]
            with self._naming():
                if len(batch) == 1:
                    self.client.delete_object(Bucket=self.name, Key=batch[0])
                    continue
                answer = self.client.delete_objects(
                    Bucket=self.name,
                    Delete={"Objects": [{"Key": path} for path in batch], "Quiet": True},
                )
                for error in answer.get("Errors", ()):
                    raise ArtifactsUnavailableError(
                        f"{self.url} keeps '{error.get('Key')}': {error.get('Message')}"
                    )

    def copy(self, source: Found, target: str, *, metadata: dict[str, str] | None = None) -> None:
        """Make `target` hold what the version `source` holds, on the server.

        Raises `ArtifactMissingError` where it is gone, `ConditionFailedError` where it is another.
        """
        place: CopySourceTypeDef = {"Bucket": self.name, "Key": self.path(source.name)}
        with self._naming(source.name):
            if source.size > LARGEST_COPY:
                self.client.copy(place, self.name, self.path(target))
                return
            self.client.copy_object(
                Bucket=self.name,
                Key=self.path(target),
                CopySource=place,
                CopySourceIfMatch=source.etag,
                MetadataDirective="REPLACE",
                Metadata=metadata or {},
            )

    def upload(self, path: Path, name: str) -> None:
        """Store the file `path`, in parts where it is large."""
        with self._naming():
            self.client.upload_file(str(path), self.name, self.path(name))

    def download(self, name: str, path: Path) -> None:
        """Write the object to the file `path`. Raises `ArtifactMissingError`."""
        with self._naming(name):
            self.client.download_file(self.name, self.path(name), str(path))

    def begin(self, name: str) -> str:
        """Begin a multipart upload of the object `name` and return its id."""
        with self._naming():
            answer = self.client.create_multipart_upload(Bucket=self.name, Key=self.path(name))
        return answer["UploadId"]

    def part(self, name: str, upload: str, *, number: int, data: bytes) -> str:
        """Send part `number`, from 1, of a multipart upload and return its ETag."""
        with self._naming(name):
            answer = self.client.upload_part(
                Bucket=self.name,
                Key=self.path(name),
                UploadId=upload,
                PartNumber=number,
                Body=data,
            )
        return answer["ETag"]

    def complete(self, name: str, upload: str, *, etags: Sequence[str]) -> None:
        """Let the object be what was sent, all at once. Raises `ArtifactMissingError`."""
        with self._naming(name):
            self.client.complete_multipart_upload(
                Bucket=self.name,
                Key=self.path(name),
                UploadId=upload,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": number, "ETag": etag}
                        for number, etag in enumerate(etags, start=1)
                    ]
                },
            )

    def abort(self, path: str, upload: str) -> None:
        """Forget what was sent for the object of the whole name `path`, if anything was."""
        try:
            with self._naming(path):
                self.client.abort_multipart_upload(Bucket=self.name, Key=path, UploadId=upload)
        except ArtifactMissingError:
            pass

    def unfinished(self) -> Iterator[tuple[str, str, float]]:
        """Yield whole name, id and beginning, in unix seconds, of uploads that have not ended."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.name, Prefix=self._prefix
        )
        with self._naming():
            for page in pages:
                for each in page.get("Uploads", ()):
                    yield each["Key"], each["UploadId"], each["Initiated"].timestamp()

    def _known(self, name: str) -> Found:
        found = self.head(name)
        if found is None:
            raise ArtifactMissingError(f"There are no bytes under '{name}'.")
        return found

    def _found(self, name: str, answer: Any, *, size: int) -> Found:
        said = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        return Found(
            name=name,
            size=size,
            etag=answer["ETag"],
            written_at=answer["LastModified"].timestamp(),
            metadata=answer.get("Metadata", {}),
            now=_unix(said),
        )

    @contextmanager
    def _naming(self, name: str = "") -> Iterator[None]:
        """Turn what boto3 raises inside the block into errors of ours."""
        try:
            yield
        except ClientError as error:
            self._explain(error, name)
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise ArtifactsUnavailableError(
                f"There are no keys for {self.url}. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or what else boto3 reads, for the service and on the nodes."
            ) from error
        except (BotoCoreError, Boto3Error, RetriesExceededError) as error:
            if isinstance(error.__context__, ClientError):
                self._explain(error.__context__, name)
            raise ArtifactsUnavailableError(
                f"{self.url} cannot be reached ({error}). Look at AWS_ENDPOINT_URL, the network "
                "and the store itself."
            ) from error

    def _explain(self, error: ClientError, name: str) -> NoReturn:
        code, status = _code(error), error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in ("PreconditionFailed", "ConditionalRequestConflict", "412"):
            raise ConditionFailedError from error
        if code == "NoSuchBucket":
            raise ArtifactsUnavailableError(
                f"There is no bucket '{self.name}' for {self.url}. Create it, or mend "
                "TUNESMITH_ARTIFACTS_URL and AWS_ENDPOINT_URL."
            ) from error
        if status == 404:
            raise ArtifactMissingError(f"There are no bytes under '{name}'.") from error
        if code in _NO_ROOM or status == 507:
            raise DiskFullError from error
        if code in _NO_KEYS:
            raise ArtifactsUnavailableError(
                f"{self.url} refuses the keys ({code}). Mend AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, for the service and on the nodes."
            ) from error
        if status == 403:
            raise ArtifactsUnavailableError(
                f"{self.url} forbids {error.operation_name} to these keys ({code}). Let them list, "
                "read, write and delete there, and abort multipart uploads."
            ) from error
        raise ArtifactsUnavailableError(
            f"{self.url} does not do {error.operation_name}: "
            f"{error.response['Error'].get('Message') or code}"
        ) from error


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", ""))


def _unix(date: str) -> float:
    """Return the unix seconds of an HTTP date; of none, the time of this machine."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return time.time()
