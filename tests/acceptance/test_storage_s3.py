"""The whole command with its storage in S3: runs, resumes from the bucket alone, and clear faults."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Answer, User
from tests.support.delivery import EDGES, NODES, Writer, step_of
from tests.support.messages_api import MessagesApi
from tests.support.prefect_api import PrefectApi
from tests.support.s3 import S3Server, s3_server

OUTPUTS = ["product_spec", "tech_design_doc", "deployed_model", "review_report"]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket()


def deliver(user: User, storage: str, *words: str) -> Answer:
    return user.phaseline("run", "end-to-end-delivery", "--json", "--storage", storage, *words)


def body_of(s3: S3Server, address: str) -> str:
    """An object's text, read as the bucket's owner would: past phaseline."""
    import boto3  # type: ignore[import-untyped]

    bucket, _, key = address.removeprefix("s3://").partition("/")
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        aws_access_key_id=s3.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=s3.environ["AWS_SECRET_ACCESS_KEY"],
        region_name=s3.environ["AWS_DEFAULT_REGION"],
    )
    try:
        text: str = client.get_object(Bucket=bucket, Key=key)["Body"].read().decode("utf-8")
    finally:
        client.close()
    return text


def keys(s3: S3Server, bucket: str) -> list[str]:
    """The keys of all objects, from the server's own listing."""
    with urllib.request.urlopen(f"{s3.endpoint}/{bucket}?list-type=2", timeout=30) as answer:
        return re.findall(r"<Key>([^<]+)</Key>", answer.read().decode())


def refused(answer: Answer, *words: str) -> None:
    """Ended by itself, with what to do about it."""
    assert answer.code not in (0, None), answer
    assert "Traceback" not in answer.out + answer.err
    error = answer.document["error"]
    assert error["cure"]
    for word in words:
        assert word in f"{error['message']} {error['cure']}"


# ---------------------------------------------------------------- it works


def test_an_offline_run_lives_in_the_bucket(
    newcomer: User, s3: S3Server, bucket: str, prefect_api: PrefectApi
) -> None:
    person = newcomer.with_variables(**s3.environ)
    answer = deliver(person, f"s3://{bucket}/team/a", "--offline")
    document = answer.completed
    assert list(document["places"]) == OUTPUTS
    for name, place in document["places"].items():
        assert place.startswith(f"s3://{bucket}/team/a/")
        assert len(body_of(s3, place).encode()) == document["outputs"][name]["size"]
        assert document["outputs"][name]["uri"].startswith(f"s3://{bucket}/team/a/")
    assert not (person.home / "storage").exists()
    secret = s3.environ["AWS_SECRET_ACCESS_KEY"]
    assert secret not in answer.out + answer.err
    files = [f for f in person.home.rglob("*") if f.is_file() and secret.encode() in f.read_bytes()]
    assert files == []
    told = prefect_api.everything()
    assert f"s3://{bucket}" in told
    assert secret not in told
    assert not any(secret in body_of(s3, f"s3://{bucket}/{key}") for key in keys(s3, bucket))


def test_killed_it_goes_on_from_the_bucket_alone_on_an_empty_home(
    newcomer: User, s3: S3Server, bucket: str, prefect_api: PrefectApi, tmp_path: Path
) -> None:
    """A workflow whose tools act on nothing needs no ledger: what is in the bucket is not done again."""
    storage, writer = f"s3://{bucket}/prefix", Writer(held=frozenset({"step-3"}))
    with MessagesApi() as api:
        api.answer_with(writer)
        person = newcomer.with_variables(
            **s3.environ, ANTHROPIC_API_KEY="sk-any", ANTHROPIC_BASE_URL=api.base_url
        )
        words = ("run", "end-to-end-delivery", "--json", "--storage", storage, "--run-id", "moved")
        with person.start(*words) as process:
            writer.hold(process)
            process.kill()
        writer.release()
        elsewhere = replace(person, home=tmp_path / "other-machine")
        document = deliver(elsewhere, storage, "--run-id", "moved").completed
        assert [s["reused"] for s in document["steps"]] == [True, True, False, False]
        assert Counter(step_of(r["body"]) for r in api.asked) == {
            "step-1": 2,
            "step-2": 1,
            "step-3": 2,
            "step-4": 3,
        }
    assert "spec-7431" in body_of(s3, document["places"]["product_spec"])
    assert prefect_api.step_edges(document["flow_run_id"], NODES) == EDGES
    shown = elsewhere.phaseline("show", "moved", "--json").document
    assert {step["status"] for step in shown["steps"]} == {"completed"}


# ---------------------------------------------------------------- it does not


@pytest.fixture
def swift() -> Iterator[None]:
    """Fails when the test took longer than a person waits for an error."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 60


def test_a_bucket_that_is_not_there(newcomer: User, s3: S3Server, swift: None) -> None:
    answer = deliver(newcomer.with_variables(**s3.environ), "s3://no-such-bucket-here/x", "--offline")
    refused(answer, "no-such-bucket-here", "bucket")


def test_an_endpoint_nobody_listens_on(newcomer: User, s3: S3Server, swift: None) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"  # bound, but not listening
        person = newcomer.with_variables(**{**s3.environ, "AWS_ENDPOINT_URL": nobody})
        answer = deliver(person, "s3://any-bucket/x", "--offline")
    refused(answer, nobody, "AWS_ENDPOINT_URL")


def test_credentials_the_server_refuses(newcomer: User, swift: None) -> None:
    secret = "a-secret-nobody-should-read"
    with strict_s3_server() as server:
        variables = {
            **server.environ,
            "AWS_ACCESS_KEY_ID": "AKIAWRONGWRONGWRONG1",
            "AWS_SECRET_ACCESS_KEY": secret,
        }
        answer = deliver(newcomer.with_variables(**variables), "s3://any-bucket/x", "--offline")
    refused(answer, "AWS_SECRET_ACCESS_KEY")
    assert secret not in answer.out + answer.err


def test_no_credentials_at_all(newcomer: User, s3: S3Server, bucket: str, swift: None) -> None:
    names = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED")
    person = newcomer.with_variables(**{name: s3.environ[name] for name in names})
    refused(deliver(person, f"s3://{bucket}/x", "--offline"), "AWS_ACCESS_KEY_ID")


def strict_s3_server() -> Any:
    """A server that checks signatures, so that unknown keys are refused as S3 refuses them."""
    return s3_server(INITIAL_NO_AUTH_ACTION_COUNT="0")
