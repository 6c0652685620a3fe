"""A storage root in an S3 bucket. Imports s3fs and botocore: only `storage_root.open_root` imports this.

Where it connects and with which keys is taken from the environment of each process (the standard AWS
variables, profiles and instance roles); nothing of it is stored or shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import s3fs  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    SSLError,
)
from fsspec.asyn import sync  # type: ignore[import-untyped]
from s3fs.core import _error_wrapper  # type: ignore[import-untyped]

from blocks.names import checked_key
from blocks.secrecy.secrets import is_secret
from blocks.storage.errors import MOST_BODY, StorageError, too_large
from workflows.core.errors import UsageError

_BUCKET = re.compile(r"[a-z0-9A-Z][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
# Who waits, and how long, is blocks.patience's: botocore and s3fs try once.
_CONFIG = {"connect_timeout": 3, "read_timeout": 30, "retries": {"mode": "standard", "total_max_attempts": 1}}
_PASSING_CODES = frozenset(
    ("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling")
)
_PROBE_SECONDS = 8
_CHECK_ADDRESS = "check AWS_ENDPOINT_URL and the network, then run the command again"
_CHECK_KEYS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) and what they may do"


@dataclass(frozen=True)
class Connection:
    """How to reach a bucket. Never printed: `repr` hides every field."""

    endpoint: str = ""
    region: str = ""
    key: str = ""
    secret: str = ""
    token: str = ""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Connection:
        """From the AWS variables; a service's own address wins over the common one, as in every AWS tool."""
        endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL", "")
        if "@" in urlsplit(endpoint).netloc:
            raise UsageError(
                "AWS_ENDPOINT_URL must not hold a user's name or password",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        return cls(
            endpoint=endpoint,
            region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION", ""),
            key=environ.get("AWS_ACCESS_KEY_ID", ""),
            secret=environ.get("AWS_SECRET_ACCESS_KEY", ""),
            token=environ.get("AWS_SESSION_TOKEN", ""),
        )

    def __repr__(self) -> str:
        return "Connection(...)"

    def scrub(self, text: str) -> str:
        """`text` with nothing in it that belongs to the keys."""
        for value in filter(is_secret, (self.secret, self.token, self.key)):
            text = text.replace(value, "********")
        return text

    def file_system(self, profile: str) -> Any:
        """A file system of s3fs for this connection alone."""
        fs = s3fs.S3FileSystem(
            endpoint_url=self.endpoint or None,
            key=self.key or None,
            secret=self.secret or None,
            token=self.token or None,
            client_kwargs={"region_name": self.region} if self.region else {},
            config_kwargs=_CONFIG,
            use_listings_cache=False,
            skip_instance_cache=True,
            **({"profile": profile} if profile else {}),
        )
        fs.retries = 1
        return fs


class S3Root:
    """A bucket with a prefix. An object appears whole or not at all, and is durable once written."""

    def __init__(self, bucket: str, prefix: str, connection: Connection, profile: str = "") -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._connection = connection
        self._profile = profile
        self._fs: Any = None
        self._pid = 0

    @classmethod
    def open(cls, uri: str, environ: Mapping[str, str]) -> S3Root:
        """The root at s3://bucket/prefix with the connection of `environ`. Connects at the first use."""
        bucket, _, prefix = uri.partition("://")[2].partition("/")
        if "@" in bucket:
            raise UsageError(
                "an s3:// address must not hold a key or a password",
                "write s3://bucket/prefix and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        if not _BUCKET.fullmatch(bucket):
            raise UsageError(f"not a bucket name: {bucket!r}", "write s3://bucket/prefix")
        prefix = prefix.strip("/")
        try:
            prefix = checked_key(prefix) if prefix else ""
        except ValueError as error:
            raise UsageError(f"not a prefix: {prefix!r}", "write s3://bucket/prefix") from error
        # Given keys win over a profile, as everywhere with AWS.
        profile = "" if environ.get("AWS_ACCESS_KEY_ID") else environ.get("AWS_PROFILE", "")
        return cls(bucket, prefix, Connection.read(environ), profile)

    def __repr__(self) -> str:
        return f"S3Root({self.uri!r})"

    @property
    def uri(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def describe(self) -> str:
        endpoint = self._connection.endpoint
        return f"{self.uri} at {endpoint}" if endpoint else self.uri

    def address(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._key(key)}"

    def place(self, key: str) -> str:
        return self.address(key)

    def read(self, key: str, most: int = MOST_BODY) -> bytes:
        client = self._client()
        with self._faults("read", key):
            body: bytes | None = sync(client.loop, _read_object, client, self._bucket, self._key(key), most)
        if body is None:
            raise too_large(self.address(key), most)
        return body

    def write(self, key: str, body: bytes, *, media_type: str = "", durable: bool = False) -> None:
        path = f"{self._bucket}/{self._key(key)}"
        with self._faults("write", key), self._missing_is_a_fault():
            self._client().pipe_file(path, body, **_content_type(media_type))
            if durable:
                self._verify_size(key, len(body))

    def probe(self) -> None:
        # One fixed key, never deleted: keys that may write and read but not delete are enough.
        path, client = f"{self._bucket}/{self._key('_probe')}", self._client()
        with self._missing_is_a_fault(), self._faults("use", "_probe"):
            client.pipe_file(path, b"phaseline", timeout=_PROBE_SECONDS)
            if client.cat_file(path, max_concurrency=1, timeout=_PROBE_SECONDS) != b"phaseline":
                raise StorageError(
                    f"{self.describe()} does not give back what is written", "use another bucket or prefix"
                )

    def close(self) -> None:
        fs, self._fs = self._fs, None
        if fs is not None and self._pid == os.getpid() and getattr(fs, "_s3creator", None) is not None:
            fs.close_session(fs.loop, fs._s3creator)

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{checked_key(key)}" if self._prefix else checked_key(key)

    def _client(self) -> Any:
        # Connections of s3fs belong to the process that made them.
        if self._fs is None or self._pid != os.getpid():
            self._fs, self._pid = self._connection.file_system(self._profile), os.getpid()
        return self._fs

    def _verify_size(self, key: str, size: int) -> None:
        head = self._client().call_s3("head_object", Bucket=self._bucket, Key=self._key(key))
        if head["ContentLength"] != size:
            raise StorageError(
                f"{self.address(key)} holds {head['ContentLength']} bytes where {size} were written",
                "run the command again; if it happens again, use another store",
            )

    @contextmanager
    def _faults(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise self._no_bucket() from None
            raise FileNotFoundError(self.address(key)) from None
        except (BotoCoreError, OSError) as error:
            # No cause: botocore's exceptions may show parts of the request.
            raise self._fault(error, f"cannot {action} {self.address(key)}") from None

    @contextmanager
    def _missing_is_a_fault(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise self._no_bucket() from None

    def _no_bucket(self) -> StorageError:
        return StorageError(
            f"there is no bucket {self._bucket!r} ({self.describe()})",
            "make the bucket, or name another in PHASELINE_STORAGE or --storage",
        )

    def _fault(self, error: Exception, message: str) -> StorageError:
        if isinstance(error, NoCredentialsError | PermissionError):
            cure = _CHECK_KEYS
        elif isinstance(error, ConnectionError | HTTPClientError | TimeoutError):
            cure = _CHECK_ADDRESS
        else:
            cure = "check the bucket and the AWS variables, then run the command again"
        reason = str(error) or ("no answer" if isinstance(error, TimeoutError) else type(error).__name__)
        told = f"{message}: {self._connection.scrub(reason)}"
        return StorageError(told, cure, passing=_is_passing(error))


async def _read_object(client: Any, bucket: str, key: str, most: int) -> bytes | None:
    """The object by one request; None, before any of it is read, where it is larger than that.

    `cat_file` of s3fs takes whatever comes.
    """

    async def call() -> bytes | None:
        answer = await client._call_s3("get_object", Bucket=bucket, Key=key)
        stream = answer["Body"]
        try:
            # What comes is what was announced: the HTTP client ends there.
            return None if answer.get("ContentLength", most + 1) > most else await stream.read()
        finally:
            stream.close()

    body: bytes | None = await _error_wrapper(call, retries=client.retries)
    return body


def _content_type(media_type: str) -> dict[str, str]:
    return {"ContentType": media_type} if media_type else {}


def _is_passing(error: Exception) -> bool:
    """Whether the bucket may be there again a little later."""
    if isinstance(error, SSLError | NoCredentialsError | PermissionError):
        return False
    if isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError | TimeoutError):
        return True
    response = getattr(error.__cause__, "response", None) or {}
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    return status >= 500 or status == 429 or _code(error) in _PASSING_CODES


def _code(error: Exception) -> str:
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
