"""A real S3 server over HTTP for tests: moto's, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class S3Server:
    """A running server. Any key and secret are accepted."""

    endpoint: str
    process: subprocess.Popen[str]

    @property
    def environ(self) -> dict[str, str]:
        """The AWS variables that lead a process here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str = "") -> str:
        """A new bucket; its name."""
        bucket = name or f"tests-{uuid.uuid4().hex[:12]}"
        request = urllib.request.Request(f"{self.endpoint}/{bucket}", data=b"", method="PUT")
        with urllib.request.urlopen(request, timeout=30):
            return bucket


@contextlib.contextmanager
def s3_server(**variables: str) -> Iterator[S3Server]:
    """A server on a port the system chose; ended on leaving. `variables` are added to its environment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        endpoint = _endpoint(process)
        # It logs every request: unread, the pipe would fill and the server stop.
        reader = threading.Thread(target=process.stderr.read, daemon=True)
        reader.start()
        yield S3Server(endpoint, process)
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(UnboundLocalError):
            reader.join()
        process.stderr.close()


def _endpoint(process: subprocess.Popen[str]) -> str:
    seen = ""
    assert process.stderr is not None
    for line in process.stderr:
        seen += line
        if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", line):
            return found[1]
    raise AssertionError(f"the S3 server did not start:\n{seen}")
