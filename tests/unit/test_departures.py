"""Units set out a few at a time, and none of them for long."""

from __future__ import annotations

import asyncio

import pytest

from flows.steps.departures import Departures


async def _set_out(departures: Departures, path: str, order: list[str], go_on: asyncio.Event) -> None:
    async with departures.departing(path):
        order.append(path)
        await go_on.wait()


async def _settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_next_sets_out_when_one_is_on_its_way() -> None:
    async def scenario() -> None:
        departures, order, go_on = Departures(lanes=2, longest=3600), [], asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for path in ("a", "b", "c", "d"):
                group.create_task(_set_out(departures, path, order, go_on))
            await _settled()
            assert order == ["a", "b"]
            departures.note_departure("a")
            departures.note_departure("a")  # again: it makes room once
            await _settled()
            assert order == ["a", "b", "c"]
            departures.note_departure("c")
            await _settled()
            assert order == ["a", "b", "c", "d"]
            go_on.set()

    asyncio.run(scenario())


def test_one_that_takes_long_makes_room() -> None:
    async def scenario() -> None:
        departures, together = Departures(lanes=1, longest=0.001), asyncio.Barrier(3)

        async def set_out(path: str) -> None:
            async with departures.departing(path):
                await together.wait()  # all three are on their way at once

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for path in ("a", "b", "c"):
                group.create_task(set_out(path))

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["ends", "fails", "is cut off"])
def test_one_that_ends_makes_room(how: str) -> None:
    async def scenario() -> None:
        departures = Departures(lanes=1, longest=3600)

        async def end() -> None:
            async with departures.departing("a"):
                if how == "fails":
                    raise ValueError
                if how == "is cut off":
                    await asyncio.sleep(3600)

        first = asyncio.create_task(end())
        await _settled()
        if how == "is cut off":
            first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        async with asyncio.timeout(30), departures.departing("b"):
            pass

    asyncio.run(scenario())


def test_one_cut_off_in_the_queue_takes_no_place() -> None:
    async def scenario() -> None:
        departures, order, go_on = Departures(lanes=1, longest=3600), [], asyncio.Event()
        waiting = [asyncio.create_task(_set_out(departures, p, order, go_on)) for p in ("a", "b", "c")]
        await _settled()
        waiting[1].cancel()
        departures.note_departure("a")
        await _settled()
        assert order == ["a", "c"]
        go_on.set()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(scenario())


def test_two_of_one_path_give_both_places_back() -> None:
    async def scenario() -> None:
        departures, order, go_on = Departures(lanes=2, longest=3600), [], asyncio.Event()
        pair = [asyncio.create_task(_set_out(departures, "a", order, go_on)) for _ in range(2)]
        await _settled()
        pair[0].cancel()
        departures.note_departure("a")
        departures.note_departure("a")
        await _settled()
        async with asyncio.timeout(30), departures.departing("b"), departures.departing("c"):
            assert order == ["a", "a"]
        go_on.set()
        await asyncio.gather(*pair, return_exceptions=True)

    asyncio.run(scenario())
