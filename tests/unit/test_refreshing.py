"""Refreshing: each part is looked at by itself; what hangs or fails holds up nobody."""

import asyncio
from collections import Counter

from memlane.errors import NodeDown
from memlane.gateway.refreshing import Part, Refreshing


def test_a_part_that_hangs_or_fails_holds_up_no_other() -> None:
    looks: Counter[str] = Counter()
    often = asyncio.Event()

    async def hangs() -> None:
        looks["hangs"] += 1
        await asyncio.Event().wait()

    async def fails() -> None:
        looks["fails"] += 1
        raise NodeDown("down") if looks["fails"] % 2 else KeyError("a defect")

    async def goes_on() -> None:
        looks["goes on"] += 1
        if looks["goes on"] >= 3 and looks["fails"] >= 3:
            often.set()

    async def scene() -> None:
        refreshing = Refreshing([Part(one.__name__, one, 0.01) for one in (hangs, fails, goes_on)])
        assert not looks, "nobody has asked"
        await refreshing.begun()
        assert looks.keys() == {"hangs", "fails", "goes on"}
        async with asyncio.timeout(60):
            await often.wait()
        await refreshing.begun()
        await refreshing.close()
        before = looks.copy()
        await asyncio.sleep(0.1)
        assert looks == before
        assert looks["hangs"] == 1

    asyncio.run(scene())
