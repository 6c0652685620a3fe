"""A case of `prove` whose Prefect server cannot be used: it is started again, some times, and says why."""

from __future__ import annotations

from pathlib import Path

from tests.support.catalogs import make_catalog
from tests.support.prefect_server import finished, run_python
from tests.support.receiver import Receiver

CASE = """
import os, sys
from pathlib import Path

from deployments.prover.cases import Case
from deployments.prover.child import Place, Subject, await_exit, fork_child, make_ledger, preload
from tests.support.catalogs import compiled

catalog, folder = Path(sys.argv[1]), Path(sys.argv[2])
preload()
pid = fork_child(lambda: make_ledger(folder / "ledger.db"), folder / "log", folder / "fault")
assert await_exit(pid, 60) == 0
place = Place(folder / "case")
place.prepare(folder / "ledger.db")
end = Case(Subject(compiled(catalog), {}, catalog, dict(os.environ)), place).run()
print(end.trouble)
"""


def test_a_server_that_cannot_be_used_is_met_again_some_times(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path / "catalog", w="workflow: w\nsteps: [{id: a, agent: ann}]\n")
    with Receiver(otherwise=503) as server:
        told = finished(
            run_python(
                CASE,
                str(catalog),
                str(tmp_path),
                PREFECT_API_URL=f"{server.url}/api",
                PREFECT_CLIENT_MAX_RETRIES="0",
                PREFECT_HOME=str(tmp_path / "prefect"),
            )
        )
        asked = [f"{r.method} {r.path}" for r in server.received]
    assert "cannot be used" in told and "503" in told
    assert asked.count(asked[0]) == 4, "the first start, and three more"
