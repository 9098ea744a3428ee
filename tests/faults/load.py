"""The load: agents' apps with the SDK that remember, repeat, change, forget and recall, and note the answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from threading import Event, Thread
from time import sleep

from uuid_utils.compat import uuid7

from memlane import Client
from memlane.contract import MemoryItem, State
from memlane.contract.memory import key_id
from memlane.errors import Unavailable, WaitTimeout
from tests.faults.notes import Fate, Note, Notes

THREADS = 4

TENANT = "acme"
"""Whose the agents are, unless it is said."""

_TIMEOUT_S = 4.0
"""How long the clients wait for an answer before they ask again."""

_PAUSE_S = 0.04

_STOP_S = 90.0
"""How long a call may go on after the load was asked to stop."""

_TAGS = ("red", "green", "blue")

_DRINKS = ("green tea", "black coffee", "cold water", "apple juice", "hot chocolate")


class App:
    """One agents' app: its agents are its own, the keys of one more agent it shares with all.

    Args:
        client: the SDK's.
        notes: where it writes to.
        name: begins the names of its agents.
        tenant: whose the agents are.
        rng: decides what it does.
    """

    def __init__(self, client: Client, notes: Notes, name: str, tenant: str, rng: Random) -> None:
        self._client, self._notes, self._rng = client, notes, rng
        self._agents = [f"{name}-{number}" for number in range(6)]
        self._shared = f"{name.rpartition('-')[0]}-all"
        self._tenant = tenant
        self._count = 0

    def step(self) -> None:
        """Do one thing."""
        ways: dict[Callable[[], None], int] = {
            self._one: 30,
            self._batch: 18,
            self._repeat: 12,
            self._update: 12,
            self._forget: 10,
            self._forget_agent: 2,
            self._forget_matching: 2,
            self._recall: 10,
            self._wait: 6,
        }
        self._rng.choices(list(ways), list(ways.values()))[0]()

    def _item(self, agent: str, key: str | None = None, content: str | None = None) -> MemoryItem:
        self._count += 1
        content = content or f"{agent} likes {self._rng.choice(_DRINKS)}, note {self._count}"
        identity = {"key": key} if key else {"id": uuid7()}
        thread = self._rng.choice((None, "morning", "evening"))
        tags = () if key else (self._rng.choice(_TAGS),)
        fields = {"agent": agent, "content": content, "thread": thread, "tags": tags}
        return MemoryItem.model_validate({**fields, **identity})

    def _noted(self, item: MemoryItem) -> Note:
        tag = item.tags[0] if item.tags else None
        return self._notes.about(item.agent, item.identity(self._tenant), item.content, item.key, tag)

    def _hand_over(self, items: list[MemoryItem]) -> None:
        notes = [self._noted(item) for item in items]
        try:
            batch = self._client.remember_many(items)
        except Unavailable:
            return
        for note, receipt in zip(notes, batch.receipts, strict=True):
            if receipt is None:
                continue
            if receipt.id != note.id:
                self._notes.refused.append(f"{note.name} was answered as {receipt.id}")
            note.answered()
            forgotten = State.FORGOTTEN in (receipt.state, receipt.first)
            if note.fate is Fate.GONE and not note.soon and not forgotten:
                self._notes.seen_again.append(f"{note.name} was accepted again as {receipt.state}")
        for rejection in batch.rejections:
            if not rejection.retryable:
                self._notes.refused.append(f"{notes[rejection.index].name}: {rejection.detail}")

    def _one(self) -> None:
        self._hand_over([self._item(self._rng.choice(self._agents))])

    def _batch(self) -> None:
        items = [self._item(self._rng.choice(self._agents)) for _ in range(self._rng.randint(3, 16))]
        self._hand_over(items)

    def _repeat(self) -> None:
        """A memory with a key, perhaps of many that others hand over at the same moment."""
        key = f"key {self._rng.randrange(12)}"
        if self._rng.random() < 0.5:
            item = self._item(self._shared, key, f"{self._shared} says what {key} says")
            self._hand_over([item])
            return
        agent = self._rng.choice(self._agents)
        known = self._notes.get((agent, key_id(self._tenant, agent, key)))
        if known is None:
            self._hand_over([self._item(agent, key, f"{agent} keeps {key}")])
        else:
            self._hand_over([MemoryItem(agent=agent, key=key, content=f"{agent} keeps {key}")])

    def _mine(self) -> list[Note]:
        return [
            note for note in self._notes if note.agent in self._agents and note.fate is Fate.THERE and not note.maybe
        ]

    def _update(self) -> None:
        if not (mine := self._mine()):
            return
        note = self._rng.choice(mine)
        self._count += 1
        content = f"{note.agent} now likes {self._rng.choice(_DRINKS)}, change {self._count}"
        note.maybe.add(content)
        try:
            self._client.update(note.agent, note.id, content=content)
        except Unavailable:
            return
        note.maybe.clear()
        note.said = content

    def _forget(self) -> None:
        if not (mine := self._mine()):
            return
        note = self._rng.choice(mine)
        note.forgotten(sure=False)
        try:
            receipt = self._client.forget(note.agent, note.id)
        except Unavailable:
            return
        if receipt.state is not State.FORGOTTEN:
            self._notes.refused.append(f"{note.name} is {receipt.state} after it was forgotten")
        note.forgotten(sure=True)

    def _forget_agent(self) -> None:
        mine = self._mine()
        if not mine:
            return
        agent = self._rng.choice(mine).agent
        before = [note for note in self._notes.of(agent) if note.fate is not Fate.UNKNOWN]
        for note in before:
            note.forgotten(sure=False)
        try:
            self._client.forget_agent(agent)
        except Unavailable:
            self._agents = [f"{agent}-next" if one == agent else one for one in self._agents]
            return
        for note in before:
            note.forgotten(sure=True)

    def _forget_matching(self) -> None:
        """Everything of an agent with a tag, in the background."""
        agent, tag = self._rng.choice(self._agents), self._rng.choice(_TAGS)
        matching = [note for note in self._notes.of(agent) if note.fate is not Fate.UNKNOWN and note.tag == tag]
        if not matching:
            return
        for note in matching:
            note.soon = note.soon or note.fate is not Fate.GONE
            note.forgotten(sure=False)
        try:
            self._client.forget_matching(agent, tags=[tag])
        except Unavailable:
            return
        for note in matching:
            note.forgotten(sure=True)

    def _recall(self) -> None:
        agent = self._rng.choice(self._agents)
        gone = {note.id for note in self._notes.of(agent) if note.fate is Fate.GONE and not note.soon}
        try:
            hits = self._client.recall(agent, f"what does {agent} like to drink", limit=20).hits
        except Unavailable:
            return
        self._notes.seen_again += [f"{agent}, {hit.memory.id} was recalled" for hit in hits if hit.memory.id in gone]

    def _wait(self) -> None:
        if not (mine := self._mine()):
            return
        note = self._rng.choice(mine)
        try:
            self._client.receipt(note.agent, note.id).wait("stored", timeout=1.0)
        except (Unavailable, WaitTimeout):
            return


@contextmanager
def load(url: str, key: str, name: str, seed: int, tenant: str = TENANT) -> Iterator[Notes]:
    """Apps at work for the time of the block; when it ends, none has a call under way."""
    notes = Notes()
    stop = Event()
    with Client(url, key, timeout=_TIMEOUT_S) as client:
        apps = [App(client, notes, f"{name}-{n}", tenant, Random(seed * 100 + n)) for n in range(THREADS)]
        threads = [Thread(target=_work, args=(app, notes, stop), name=f"app {n}") for n, app in enumerate(apps)]
        for thread in threads:
            thread.start()
        try:
            yield notes
        finally:
            stop.set()
            for thread in threads:
                thread.join(_STOP_S)
            notes.refused += [f"{thread.name} waits for an answer for ever" for thread in threads if thread.is_alive()]


def _work(app: App, notes: Notes, stop: Event) -> None:
    while not stop.is_set():
        try:
            app.step()
        except Exception as error:  # noqa: BLE001  # an app that stops for any other reason is a finding
            notes.refused.append(f"{type(error).__name__}: {error}")
        sleep(_PAUSE_S)
