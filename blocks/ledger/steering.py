"""What other processes may ask of a run, and which runs may go on by themselves."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from sqlalchemy import Connection, select, text, update

from blocks.ledger.database.access import Access, run_order
from blocks.ledger.runs.runs import Values, finish
from blocks.ledger.tables.columns import from_text
from blocks.ledger.tables.process_identity import Owner
from blocks.ledger.tables.records import TAKEN_BACK, EndState, Lease
from blocks.ledger.tables.rows import holder_of, now, run_query, this_run
from blocks.ledger.tables.schema import run
from blocks.ledger.waits.deadlines import cancel_of_run, runs_to_resume

CancelResult = Literal["requested", "cancelled", "ended", "unknown"]
"""`requested`: somebody works on it and was asked to end. `cancelled`: nobody did, and it is cancelled now.
`ended`: it was completed or cancelled before. `unknown`: there is no such run."""


_STIRRING = text(
    "SELECT EXISTS (SELECT 1 FROM run WHERE tenant = :tenant "
    "AND state IN ('waiting', 'stopped', 'running')), "
    "EXISTS (SELECT 1 FROM wait WHERE tenant = :tenant AND state = 'open')"
)
# Written out, since every command asks: putting a statement together costs more than running it.


class SteeringLedger:
    """Cancelling runs and finding those that are due, as the ledger's attribute `steering`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def request_cancel(self, tenant: str, run_id: str) -> CancelResult:
        """Cancel a run with its open waits, or ask the process that works on it to do so.

        A holder sees it within some seconds (`Ledger.keep_lease`). Blocks.
        """
        operation = partial(_request_cancel, tenant=tenant, run_id=run_id, viewer=Owner.current())
        result: CancelResult = self._access.write_blocking(operation, run_order(tenant, run_id))
        return result

    async def asked_to_end(self, lease: Lease) -> bool:
        """Whether somebody asked for the end of the run while this lease holds it."""
        return await self._access.read(partial(_is_cancel_requested, lease=lease))

    def is_idle(self, tenant: str) -> bool:
        """Whether nothing waits, is stopped or is at work, so that nothing is due or lost. Blocks; cheap."""
        return self._access.reader.read(lambda c: not any(c.execute(_STIRRING, {"tenant": tenant}).one()))

    def due(self, tenant: str) -> list[str]:
        """The runs that can go on now, the longest waiting first. Blocks.

        Waiting ones that were answered, and stopped ones whose `wake_at` has passed.
        """
        return self._access.reader.read(partial(_find_due, tenant=tenant))

    def due_by_clock(self, tenant: str) -> list[str]:
        """Those of `due` that no person let go on: a quota's reset came, or a deadline decided. Blocks."""
        return self._access.reader.read(partial(_find_due, tenant=tenant, only_clock=True))


def _request_cancel(connection: Connection, tenant: str, run_id: str, viewer: Owner) -> CancelResult:
    found = connection.execute(run_query(connection, tenant, run_id).with_for_update()).first()
    if found is None:
        return "unknown"
    at = now(connection)
    if holder_of(found, viewer) is not None:
        asked = update(run).where(this_run(tenant, run_id)).values(cancel_requested=at)
        connection.execute(asked)
        return "requested"
    if found.state in ("completed", "cancelled"):
        return "ended"
    ended: dict[str, Any] = {"state": "cancelled", "ended": at, "updated": at, "wake_at": None}
    # A holder that only lost touch with the ledger writes nothing more: its epoch is over.
    over = {"lease_until": 0, "lease_epoch": found.lease_epoch + 1, "version": found.version + 1}
    connection.execute(update(run).where(this_run(tenant, run_id)).values(**ended, **over, wake_reason=""))
    if not from_text(found.labels).get(TAKEN_BACK):
        # What undoing asks people is asked of a run that ended already: it stays open.
        cancel_of_run(connection, tenant, run_id)
    return "cancelled"


def finish_cancelled(
    connection: Connection, lease: Lease, state: EndState, values: Values, ttl_us: int
) -> Any:
    """`runs.finish`, with the run's open waits cancelled in the same commit."""
    refusal = finish(connection, lease, state, values, ttl_us)
    if refusal is None:
        cancel_of_run(connection, lease.tenant, lease.run_id)
    return refusal


def _is_cancel_requested(connection: Connection, lease: Lease) -> bool:
    mine = (this_run(lease.tenant, lease.run_id), run.c.lease_epoch == lease.epoch)
    found = connection.execute(select(run.c.cancel_requested).where(*mine)).first()
    return found is not None and found.cancel_requested is not None


def _find_due(connection: Connection, tenant: str, only_clock: bool = False) -> list[str]:
    woken = select(run.c.run_id).where(
        run.c.tenant == tenant, run.c.state == "stopped", run.c.wake_at <= now(connection)
    )
    stopped = connection.execute(woken.order_by(run.c.wake_at, run.c.run_id)).scalars()
    return [*runs_to_resume(connection, tenant, only_clock), *stopped]
