"""Requests of agents that try to reach this network, or to be other than they are declared."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import json
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import tasks.web.addresses
from tasks.effects.calls import NotPerformed
from tasks.web.addresses import is_public, public_addresses
from tasks.web.answers import text_of
from tasks.web.http_request import BODY_BYTES, HttpAccess, http_tool
from tests.support.receiver import Receiver
from workflows.core.permissions.grants import Grants
from workflows.core.plans.plan import HttpPlan
from workflows.core.tools.built_in.http_request import METHOD_EFFECTS

NAME = "rebinding.test"
FORMS = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "::"],
    "private": ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "fc00::1"],
    "link": ["169.254.169.254", "fe80::1", "fe80::1%eth0", "fec0::1"],
    "many": ["224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:93.184.216.34"],
    "compatible": ["::127.0.0.1", "::7f00:1", "::10.0.0.1"],
    "translated": ["::ffff:0:127.0.0.1", "::ffff:0:10.0.0.1"],
    "nat64": ["64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::10.0.0.1", "64:ff9b:1:abcd::7f00:1"],
    "6to4": ["2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:101::"],
    "teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:0:0:0:0:0:80ff:fffe"],
    "isatap": ["2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1"],
    "special": ["192.0.0.8", "192.0.0.170", "192.88.99.1", "198.18.0.1", "203.0.113.1", "3fff::1", "5f00::1"],
    "none": ["", "localhost", "127.1", "2130706433"],
}


@pytest.mark.parametrize("kind", FORMS)
def test_addresses_that_are_or_may_be_inside(kind: str) -> None:
    assert [address for address in FORMS[kind] if is_public(address)] == []


def test_addresses_outside() -> None:
    assert all(map(is_public, ("93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450::1")))


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "[::ffff:127.0.0.1]", "[::127.0.0.1]",
     "localhost.", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
     "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021"],
)  # fmt: skip
def test_no_way_of_writing_it_reaches_this_machine(host: str) -> None:
    with Receiver() as receiver, pytest.raises(NotPerformed):
        ask("GET", f"http://{host}:{receiver.port}/")
    assert receiver.received == []


@pytest.mark.parametrize("host", ["[fe80::1%25lo]", "[::1%25lo]"])
def test_an_address_with_a_zone_is_refused(host: str) -> None:
    for endpoints in (("*",), ("[::1]",), ("[fe80::1]",)):
        with pytest.raises(NotPerformed):
            ask("GET", f"http://{host}/", endpoints=endpoints)


def test_a_name_without_an_address_is_refused() -> None:
    """It may have one a moment later."""
    with pytest.raises(NotPerformed, match="has no address"):
        ask("GET", "http://no-such-name.invalid/")


def ask(method: str, url: str, endpoints: tuple[str, ...] = ("*",), **more: Any) -> str:
    given = dict(more.pop("access", {}))
    methods = tuple(METHOD_EFFECTS) if given.pop("narrowed", False) else ()
    access = HttpAccess(Grants(http=HttpPlan(endpoints=endpoints, methods=methods)), **given)
    return str(asyncio.run(access.send({"method": method, "url": url, **more}, "key")).content)


class Names:
    """A resolver whose answers change: the first is what is checked, the others what an attacker wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.asked: list[str] = []
        self.name = NAME
        self._answers, self._real = list(answers), socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)
        # For these tests one loopback address is the open internet, the other this network.
        monkeypatch.setattr(tasks.web.addresses, "is_public", lambda address: address == "127.0.0.1")

    def look_up(self, host: Any, port: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name != self.name:
            return self._real(host, port, *more, **named)
        self.asked.append(name)
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in found]


def test_a_name_is_looked_up_once_and_what_was_checked_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    with Receiver() as receiver:
        ask("GET", f"http://{NAME}:{receiver.port}/a")
        (request,) = receiver.received
        assert request.headers["host"] == f"{NAME}:{receiver.port}" and names.asked == [NAME]
        with pytest.raises(NotPerformed, match="inside this network"):
            ask("GET", f"http://{NAME}:{receiver.port}/b")
    assert len(receiver.received) == 1


def test_each_hop_of_a_redirect_is_looked_up_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    with Receiver() as receiver:
        receiver.otherwise = (302, {"location": f"http://{NAME}:{receiver.port}/next"}, b"")
        with pytest.raises(NotPerformed, match="inside this network"):
            ask("GET", f"http://{NAME}:{receiver.port}/a")
    assert [request.path for request in receiver.received] == ["/a"] and len(names.asked) == 2


def test_addresses_inside_are_left_out_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["127.0.0.2", "127.0.0.1", "10.0.0.1"])
    assert asyncio.run(public_addresses(NAME)) == ["127.0.0.1"]


def test_what_acts_carries_its_body_and_key_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["127.0.0.1"])
    with Receiver() as receiver:
        ask("POST", f"http://{NAME}:{receiver.port}/a", body={"amount": 5})
    (request,) = receiver.received
    assert (request.json(), request.key) == ({"amount": 5}, "key")


def test_a_proxy_of_the_environment_is_given_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name it would look up itself."""
    names = Names(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    with Receiver() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        ask("GET", f"http://{NAME}:8080/a")
    (request,) = proxy.received
    assert request.path == "http://127.0.0.1:8080/a" and request.headers["host"] == f"{NAME}:8080"
    assert names.asked == [NAME]


# --- certificates ---


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server over TLS whose certificate is for NAME, trusted here; gives its port."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(plain, server_side=True) as secured:
                        secured.recv(65536)
                        secured.sendall(
                            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
                        )
                except OSError:
                    plain.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_a_certificate_is_held_against_the_name(monkeypatch: pytest.MonkeyPatch, certified: int) -> None:
    Names(monkeypatch, ["127.0.0.1"])
    assert ask("GET", f"https://{NAME}:{certified}/").endswith("ok")


def test_a_certificate_of_another_name_is_refused(monkeypatch: pytest.MonkeyPatch, certified: int) -> None:
    names = Names(monkeypatch, ["127.0.0.1"])
    monkeypatch.setattr(names, "name", "other.test")
    with pytest.raises(NotPerformed, match=r"(?i)certificate"):
        ask("GET", f"https://other.test:{certified}/")


# --- other methods ---

READING = {"narrowed": True}
HEADERS = ("X-HTTP-Method-Override", "x-http-method", "X-Method-Override", "X_HTTP_METHOD_OVERRIDE")


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_header_makes_it_another_method(header: str, method: str) -> None:
    with Receiver() as receiver, pytest.raises(NotPerformed, match="cannot be set"):
        ask(method, receiver.url, ("127.0.0.1",), headers={header: "DELETE"})
    assert receiver.received == []


@pytest.mark.parametrize(
    "body",
    [
        {"_method": "DELETE"},
        '{"_method": "DELETE"}',
        "a=1&_method=DELETE",
        "_Method%5B%5D=DELETE",
        "a=1; _method=DELETE",
        ".method=DELETE",
        "%5Bmethod=DELETE",
        "_method%00x=DELETE",
        "x-method-override=DELETE",
        {" .method": "DELETE"},
        "--x\r\nContent-Disposition: form-data; name=.method\r\n\r\nDELETE\r\n--x--",
        '--x\r\nContent-Disposition: form-data; name="_method"\r\n\r\nDELETE\r\n--x--',
    ],
)
def test_no_body_makes_it_another_method_where_methods_are_narrowed(body: Any) -> None:
    with Receiver() as receiver:
        with pytest.raises(NotPerformed, match="another method"):
            ask("POST", receiver.url, ("127.0.0.1",), body=body, access=READING)
        assert receiver.received == []
        ask("POST", receiver.url, ("127.0.0.1",), body=body)
        assert len(receiver.received) == 1, "what may do anything may say so"


@pytest.mark.parametrize(
    "body", [{"method": "DELETE"}, "method=DELETE", '{"payment_method": "card"}', "the_method;it_works"]
)
def test_ordinary_fields_are_no_method(body: Any) -> None:
    with Receiver() as receiver:
        ask("POST", receiver.url, ("127.0.0.1",), body=body, access=READING)
        assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "query",
    [
        "_method=delete",
        "a=1&_METHOD=delete",
        "%5fmethod=x",
        "x-http-method-override=PUT",
        "a;_method=x",
        ".method=x",
    ],
)
def test_no_query_makes_reading_another_method(query: str) -> None:
    with Receiver() as receiver, pytest.raises(NotPerformed, match="another method"):
        ask("GET", f"{receiver.url}/?{query}", ("127.0.0.1",))
    assert receiver.received == []


def test_the_tool_knows_that_its_methods_are_narrowed() -> None:
    tool = http_tool(Grants(http=HttpPlan(endpoints=("127.0.0.1",), methods=("GET", "POST"))))
    with pytest.raises(NotPerformed, match="another method"):
        asyncio.run(tool.send({"method": "POST", "url": "http://127.0.0.1:1/?_method=PUT"}, "key"))


# --- what comes back ---


@pytest.mark.parametrize(
    ("charset", "text"),
    [("gb18030", "交付"), ("GBK", "交付"), ("big5", "交付"), ("shift_jis", "納品"), ("euc-kr", "납품"),
     ("windows-1251", "да"), ("latin-1", "café"), ("utf-16", "交付"), ("UTF8", "交付")],
)  # fmt: skip
def test_encodings_that_people_use(charset: str, text: str) -> None:
    assert text_of(text.encode(charset), charset) == text


@pytest.mark.parametrize(
    "charset",
    ["punycode", "idna", "utf-7", "unicode_escape", "raw_unicode_escape", "rot13", "zip", "bz2", "base64",
     "hex", "uu", "quopri", "undefined", "mbcs", "x" * 10_000, "../../etc/passwd", "utf\x008", "", None],
)  # fmt: skip
def test_a_server_chooses_no_other(charset: str | None) -> None:
    body = b"a" * 256 * 1024 + b"-" + b"b" * 1024
    assert text_of(body, charset) == body.decode()


def test_an_answer_in_a_charset_of_its_own_is_read_at_once() -> None:
    """Decoding this as `punycode` takes minutes."""
    body = b"a" * (BODY_BYTES - 70_000) + b"-" + b"z9" * 30_000
    with Receiver() as receiver:
        receiver.otherwise = (200, {"content-type": "text/plain; charset=punycode"}, body)
        begun = time.monotonic()
        assert "aaaa" in ask("GET", receiver.url, ("127.0.0.1",))
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_packed_answer_is_unpacked_no_further_than_it_is_read(coding: str) -> None:
    import resource

    plain = bytes(200 * 2**20)
    packed = gzip.compress(plain) if coding == "gzip" else zlib.compress(plain)
    del plain
    with Receiver() as receiver:
        receiver.otherwise = (200, {"content-type": "text/plain", "content-encoding": coding}, packed)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        told = ask("GET", receiver.url, ("127.0.0.1",))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert f"only the first {BODY_BYTES} bytes" in told and grown < 50 * 1024
    assert json.dumps(told)
