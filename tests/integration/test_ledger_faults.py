"""Which faults of PostgreSQL pass by themselves: told by what a real psycopg raises."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.errors import lookup
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from blocks.ledger import Ledger, LedgerError
from blocks.ledger.database.engine import Database, explanation
from blocks.ledger.database.faults import passing
from blocks.patience import Patience, Vigil
from tests.support.ledgers import new_address

NOWHERE = "127.0.0.1:1"


def engine_of(address: str) -> Engine:
    return create_engine(address.replace("postgresql://", "postgresql+psycopg://"))


def met(address: str, statement: str = "SELECT 1") -> DBAPIError:
    """What connecting there, or the statement, ends with."""
    engine = engine_of(address)
    try:
        with pytest.raises(DBAPIError) as caught, engine.connect() as connection:
            connection.execute(text(statement))
        return caught.value
    finally:
        engine.dispose()


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does so with each connection, and closes it; its host and port."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            connection, _ = server.accept()
            with connection:
                if not over.is_set():
                    answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        try:
            yield f"127.0.0.1:{port}"
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def hang_up(connection: socket.socket) -> None:
    connection.recv(1000)


def hang_up_encrypted(connection: socket.socket) -> None:
    """Takes the request for encryption, then ends: what a proxy does whose server is away."""
    connection.recv(8)
    connection.sendall(b"S")
    connection.recv(1000)


def refuse(connection: socket.socket, severity: bytes, code: bytes, message: bytes) -> None:
    """A server's own error in the place of a login."""
    connection.recv(1000)
    connection.sendall(b"N")  # no encryption
    connection.recv(1000)
    body = b"S" + severity + b"\0V" + severity + b"\0C" + code + b"\0M" + message + b"\0\0"
    connection.sendall(b"E" + (len(body) + 4).to_bytes(4, "big") + body)


class TestWithoutServer:
    """Faults of the way there."""

    @pytest.mark.parametrize(
        "address",
        [
            f"postgresql://u:p@{NOWHERE}/d",
            f"postgresql://password:p@{NOWHERE}/certificate",
            "postgresql://u:p@database.invalid/d",
            "postgresql://u:p@ssl-db.invalid/d",
            "postgresql://u:p@password-authentication.invalid/d",
            "postgresql:///d?host=/no-such-folder-of-permission-denied",
        ],
    )
    def test_nobody_there_passes(self, address: str) -> None:
        assert passing(met(address)) is not None

    def test_a_server_that_hangs_up_passes(self) -> None:
        for answer in (hang_up, hang_up_encrypted):
            with answering(answer) as place:
                error = met(f"postgresql://u:p@{place}/d?sslmode=require")
                assert passing(error) is not None, str(error.orig)

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("57P03", "the database system is starting up"),
            ("57P03", "the database system is shutting down"),
            ("53300", "sorry, too many clients already"),
            ("53300", "remaining connection slots are reserved for roles with the SUPERUSER attribute"),
            ("08P01", "server login has been failing, try again later (server_login_retry)"),
        ],
    )
    def test_a_server_that_is_not_ready_passes(self, code: str, message: str) -> None:
        with answering(lambda c: refuse(c, b"FATAL", code.encode(), message.encode())) as place:
            error = met(f"postgresql://u:p@{place}/d")
        assert message in str(error.orig) and passing(error) is not None

    @pytest.mark.parametrize(
        ("address", "words"),
        [
            (f"postgresql://u:p@{NOWHERE}/d?sslmode=bogus", "invalid sslmode"),
        ],
    )
    def test_what_cannot_be_meant_does_not(self, address: str, words: str) -> None:
        error = met(address)
        assert words in str(error.orig) and passing(error) is None

    def test_a_certificate_that_is_not_there_does_not(self, tmp_path: Path) -> None:
        def offer(connection: socket.socket) -> None:
            connection.recv(8)
            connection.sendall(b"S")
            connection.recv(1000)

        with answering(offer) as place:
            missing = tmp_path / "none.crt"
            error = met(f"postgresql://u:p@{place}/d?sslmode=verify-full&sslrootcert={missing}")
        assert "certificate" in str(error.orig) and passing(error) is None

    @pytest.mark.parametrize("code", ["57014", "40001", "40P01", "55P03", "57P01", "57P02", "57P03", "08006"])
    def test_codes_that_pass(self, code: str) -> None:
        assert passing(of_code(code)) == "in words that say nothing"

    @pytest.mark.parametrize(
        "code", ["28P01", "28000", "3D000", "42P01", "42501", "53100", "23505", "57P04", "25006"]
    )
    def test_codes_that_do_not(self, code: str) -> None:
        assert passing(of_code(code, "connection busy, locked")) is None

    def test_opening_a_ledger_waits_for_an_address_that_is_not_known_yet(self) -> None:
        told: list[str] = []
        vigil = Vigil(Patience(40), lambda name, data: told.append(data.get("reason", "")))
        began = time.monotonic()
        with pytest.raises(LedgerError, match="failed to resolve host"):
            Ledger.open("postgresql://u:p@database.invalid/d", vigil=vigil)
        assert time.monotonic() - began >= 2, "a twentieth of patience"
        assert any("failed to resolve host" in reason for reason in told)

    def test_a_short_password_is_no_reason_to_spoil_the_words(self) -> None:
        address = f"postgresql://u:p@{NOWHERE}/d"
        told = explanation(met(address), Database.parse(address))
        assert "port 1 failed: Connection refused" in told.message

    def test_the_cure_is_not_about_words_in_names(self) -> None:
        address = "postgresql://u:p@password-db.invalid/d"
        assert "user and password" not in explanation(met(address), Database.parse(address)).cure


def of_code(code: str, message: str = "in words that say nothing") -> DBAPIError:
    error = DBAPIError.instance("SELECT 1", None, lookup(code)(message), psycopg.Error)
    assert isinstance(error, DBAPIError)
    return error


@pytest.mark.cluster
class TestWithServer:
    """What a real server says."""

    @pytest.fixture
    def address(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        return new_address(request, "postgresql", tmp_path)

    def test_a_statement_that_takes_too_long_passes(self, address: str) -> None:
        error = met(address, "SET statement_timeout = 50; SELECT pg_sleep(20)")
        assert passing(error) == "canceling statement due to statement timeout"

    def test_a_connection_that_is_ended_passes(self, address: str) -> None:
        error = met(address, "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(20)")
        assert passing(error) == "terminating connection due to administrator command"

    def test_a_refused_login_does_not(self, address: str) -> None:
        base = address.rpartition("/")[0]
        with psycopg.connect(address, autocommit=True) as admin:
            admin.execute("DROP ROLE IF EXISTS out_of_work")
            admin.execute("CREATE ROLE out_of_work NOLOGIN")
        refused = (
            f"{base}/no-such-database",
            address.replace("postgres@", "nobody@"),
            address.replace("postgres@", "out_of_work@"),
            f"{address}?sslmode=require",
        )
        for place in refused:
            error = met(place)
            assert passing(error) is None, str(error.orig)

    def test_a_wrong_statement_does_not(self, address: str) -> None:
        assert passing(met(address, 'SELECT "connection busy locked"')) is None
