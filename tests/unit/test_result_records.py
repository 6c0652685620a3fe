"""A stored result may not say how it is read: what is not exactly what is written here is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from blocks.storage.result_records import LARGEST, SERIALIZER, ForeignResult, checked_record

KEY = "default/run/step/key"


def record(**changes: Any) -> dict[str, Any]:
    head = {
        "storage_key": KEY,
        "expiration": None,
        "serializer": SERIALIZER,
        "prefect_version": "3.9.1",
        "storage_block_id": "0b0d6d0a-0000-0000-0000-000000000000",
    }
    return {"metadata": {**head, **changes}, "result": json.dumps("a text")}


def spelt(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_our_own_is_spelt_anew() -> None:
    read = json.loads(checked_record(spelt(record(expiration="2026-01-01T00:00:00Z")), KEY, "ours"))
    assert json.loads(read["result"]) == "a text"
    assert read["metadata"] == {
        **record()["metadata"],
        "expiration": "2026-01-01T00:00:00+00:00",
        "storage_block_id": "ours",
    }


def test_what_prefect_writes_is_ours() -> None:
    from prefect.results import ResultRecord, ResultRecordMetadata
    from prefect.serializers import JSONSerializer

    assert JSONSerializer().model_dump(mode="json") == SERIALIZER
    for text in ("文", "", None):
        about = ResultRecordMetadata(storage_key=KEY, serializer=JSONSerializer())
        body = ResultRecord(result=text, metadata=about).serialize()
        assert ResultRecord.deserialize(checked_record(body, KEY, None)).result == text


def with_result(result: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {**document, "result": result}


def with_serializer(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: record(serializer={**SERIALIZER, **changes})


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pickle": lambda _: record(serializer={"type": "pickle", "picklelib": "pickle"}),
    "compressed pickle": lambda _: record(serializer={"type": "compressed/pickle"}),
    "compressed json": lambda _: record(
        serializer={"type": "compressed", "serializer": SERIALIZER, "compressionlib": "os"}
    ),
    "a module that is imported": with_serializer(jsonlib="antigravity"),
    "a decoder that is called": with_serializer(object_decoder="os.system"),
    "no decoder": with_serializer(object_decoder=None),
    "arguments of the parser": with_serializer(loads_kwargs={"parse_int": "x"}),
    "one more setting": with_serializer(more=1),
    "a name of a serializer": lambda _: record(serializer="json"),
    "no serializer": lambda d: {
        **d,
        "metadata": {k: v for k, v in d["metadata"].items() if k != "serializer"},
    },
    "an object of a class": with_result(json.dumps({"__class__": "subprocess.Popen", "data": ["id"]})),
    "an exception": with_result(json.dumps({"__exc_type__": "os.system", "message": "id"})),
    "a list of objects": with_result(json.dumps([{"__class__": "os.system"}])),
    "a number": with_result("1"),
    "no JSON in the result": with_result("__import__('os')"),
    "an object instead of its JSON": with_result({"__class__": "os.system"}),
    "nothing instead of its JSON": with_result(None),
    "the old form": lambda d: {"data": d["result"], "serializer": {"type": "pickle"}},
    "more beside it": lambda d: {**d, "data": "x"},
    "another block": lambda _: record(block="x"),
    "another key": lambda _: record(storage_key="default/run/approval/key"),
    "a time that is none": lambda _: record(expiration=[1]),
    "a time without a zone": lambda _: record(expiration="2026-01-01T00:00:00"),
    "a version that is none": lambda _: record(prefect_version={"a": 1}),
    "a long version": lambda _: record(prefect_version="3" * 1000),
    "a list": lambda _: [],
    "a text": lambda _: "text",
    "metadata that is none": lambda d: {**d, "metadata": "x"},
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_anything_else_is_none(forge: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(ForeignResult):
        checked_record(spelt(forge(record())), KEY, None)


@pytest.mark.parametrize(
    "body",
    [b"", b"\x80\x04", b"not json", b"[" * 100_000, b"\xff\xfe{\x00", b'"' + b"x" * LARGEST + b'"'],
    ids=["empty", "pickle", "words", "deep", "bytes", "large"],
)
def test_bytes_that_are_no_record(body: bytes) -> None:
    with pytest.raises(ForeignResult):
        checked_record(body, KEY, None)


def test_a_record_of_our_form_may_be_too_large() -> None:
    with pytest.raises(ForeignResult, match="is the most"):
        checked_record(spelt({**record(), "result": json.dumps("x" * LARGEST)}), KEY, None)


def test_of_two_values_of_one_name_the_checked_one_is_handed_on() -> None:
    pickled = '"serializer": {"type": "pickle"}'
    ours = json.dumps(record()).replace('"serializer": {', f'{pickled}, "serializer": {{')
    assert json.loads(checked_record(ours.encode(), KEY, None))["metadata"]["serializer"] == SERIALIZER
    theirs = json.dumps(record()).replace('}, "prefect_version"', f'}}, {pickled}, "prefect_version"')
    with pytest.raises(ForeignResult):
        checked_record(theirs.encode(), KEY, None)
