"""cost: what models cost, and what a file of memories would."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from memlane.cli.counting import counting
from memlane.cli.output import table
from memlane.cli.session import Session, connected, perhaps_connected
from memlane.cli.simulation import Prices, Row, Simulation, read, simulate
from memlane.contract.cost import SHIPPED_PRICES, Latency, PriceRemoved
from memlane.contract.money import dollars, exact, micro
from memlane.errors import FieldError, InvalidInput, MemlaneError
from memlane.files import read_memories

cost = typer.Typer(no_args_is_help=True, help="What models cost, and what a file of memories would.")

_MODEL = "text-embedding-3-small"
_BATCHES = (1, 20, 100)
_LARGEST = 2048
"""Most texts that OpenAI takes in one request."""


@cost.command("prices")
@connected
def list_prices(session: Session) -> None:
    """List what each model costs, in dollars for a million tokens; needs the admin key.

    Example: memlane cost prices
    """
    with session.admin() as admin:
        found = admin.prices()
    rows = [(price.model, exact(price.micro_per_million)) for price in found]
    session.out.result(found, table("", ["model", "$ per million tokens"], rows))


@cost.command("price")
@connected
def set_price(
    session: Session,
    model: Annotated[str, typer.Argument(help="As its provider calls it.")],
    dollars_per_million: Annotated[
        str | None, typer.Argument(metavar="[DOLLARS]", help="For a million tokens: 0.02.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="It has none any more: budgets then refuse it.")] = False,
) -> None:
    """Set what a model costs from now on; needs the admin key. What was spent before stays as it was.

    Example: memlane cost price text-embedding-3-small 0.02
    """
    if remove == (dollars_per_million is not None):
        raise typer.BadParameter("give a price, or --remove")
    with session.admin() as admin:
        if dollars_per_million is None:
            admin.remove_price(model)
            session.out.result(PriceRemoved(model, True), f"{model} has no price any more")
            return
        made = admin.set_price(model, micro(dollars_per_million, "price"))
    session.out.result(made, f"{model} costs {exact(made.micro_per_million)} for a million tokens")


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a simulation goes by, and where that comes from."""

    model: str
    price: int
    price_of: str
    latencies: Sequence[Latency]


@cost.command("simulate")
@perhaps_connected
def simulate_file(
    session: Session,
    file: Annotated[Path, typer.Argument(help="Memories, as `memlane ingest` takes them; - is standard input.")],
    batch: Annotated[list[int] | None, typer.Option(help="Memories in a batch; may be repeated.")] = None,
    model: Annotated[str, typer.Option(help="As its provider calls it.")] = _MODEL,
    price: Annotated[str | None, typer.Option(help="In dollars for a million tokens; as listed unless given.")] = None,
    latency_ms: Annotated[
        float | None, typer.Option(min=0, help="How long a request takes where none was measured.")
    ] = None,
) -> None:
    """Say what a file would cost one by one and in batches: requests, tokens, money, time. Nothing is sent.

    Prices and measured times are the server's, where there is one and the key is the admin's; else the prices are those
    that this version comes with.

    Example: memlane cost simulate memories.jsonl --batch 1 --batch 20 --batch 100
    """
    batches = tuple(dict.fromkeys(batch or _BATCHES))
    if any(not 1 <= size <= _LARGEST for size in batches):
        raise InvalidInput([FieldError("--batch", f"must be 1 to {_LARGEST}")])
    told = read(read_memories(file))
    basis, count = _basis(session, model, price), counting(model)
    latency_s = None if latency_ms is None else latency_ms / 1000
    found = simulate(told, batches, count.count, Prices(basis.price, basis.latencies, latency_s))
    value = {"model": model, "micro_per_million": basis.price, "price": basis.price_of, "tokens": count.how}
    times = _times(basis, found, latency_ms)
    session.out.result(
        {**value, "times": times, **asdict(found)},
        [
            *_summary(found),
            _rows(found),
            f"tokens: {count.how}",
            f"price: {exact(basis.price)} for a million tokens of {model}, {basis.price_of}",
            f"time: one request after the other, {times}",
        ],
    )


def _basis(session: Session, model: str, price: str | None) -> _Basis:
    """Prices and times: of the server, if one answers; a price that is given counts before all.

    Raises:
        InvalidInput: nobody knows what the model costs.
    """
    listed, source = dict(SHIPPED_PRICES), "as memlane comes with it"
    latencies: Sequence[Latency] = ()
    if session.url:
        try:
            with session.admin() as admin:
                listed, source = {one.model: one.micro_per_million for one in admin.prices()}, "as the server has it"
                latencies = [one for one in admin.latencies() if one.model == model]
        except MemlaneError as error:
            session.out.warn(f"without the server's prices and times: {error}")
    if price is not None:
        return _Basis(model, micro(price, "--price"), "as given", latencies)
    if model not in listed:
        raise InvalidInput([FieldError("--price", f"nobody knows what {model} costs: give it in dollars")])
    return _Basis(model, listed[model], source, latencies)


def _summary(found: Simulation) -> list[str]:
    lines = found.memories + found.duplicates + found.conflicts + found.bad
    left_out = [
        f"{count:,} {what}"
        for count, what in (
            (found.duplicates, "said again under the same key or id"),
            (found.conflicts, "under the key or id of another"),
            (found.bad, "no memories"),
        )
        if count
    ]
    kept = f"{found.memories:,} memories are kept of {lines:,}" + (f" ({', '.join(left_out)})" if left_out else "")
    saved = f"{found.saved_texts:,} texts, {found.saved_tokens:,} tokens, {dollars(found.saved_micro)}"
    return [kept, f"saved since a text is embedded once: {saved}"]


def _rows(found: Simulation) -> Table:
    columns = ["batch", "requests", "fewer", "texts", "tokens", "cost", "time"]
    rows = [
        (r.batch, r.requests, r.saved_requests, r.texts, r.tokens, dollars(r.cost_micro), _time(r)) for r in found.rows
    ]
    return table("", columns, rows)


def _time(row: Row) -> str:
    return "-" if row.seconds is None else f"{row.seconds:,.1f} s"


def _times(basis: _Basis, found: Simulation, latency_ms: float | None) -> str:
    """Where the times come from."""
    requests = sum(one.requests for one in basis.latencies)
    sizes = ", ".join(str(one.texts) for one in basis.latencies)
    seen = f"as measured in {requests:,} requests with up to {sizes} texts" if requests else "nothing was measured"
    if latency_ms is not None:
        return f"{seen}; {latency_ms:g} ms each where it was not"
    return f"{seen}; --latency-ms says how long others take" if any(r.seconds is None for r in found.rows) else seen
