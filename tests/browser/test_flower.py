"""Flower as an operator sees it in a browser: who works, and what the last drains came to."""

from collections.abc import Callable

import httpx
import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from memlane import Client
from tests.browser.conftest import RunningStack
from tests.support import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

READ_ONLY = "Read only mode is enabled"
WORKERS = {"ingest", "upkeep", "maintenance", "sweep"}


def rows(browser: Chrome, table: str) -> list[list[str]]:
    """What a table holds now; names are drawn on two lines where there is little room."""
    try:
        found = browser.find_elements(By.CSS_SELECTOR, f"#{table} tbody tr")
        return [
            [cell.get_attribute("textContent") or "" for cell in row.find_elements(By.TAG_NAME, "td")] for row in found
        ]
    except StaleElementReferenceException:  # it was just drawn anew
        return []


def row_with(browser: Chrome, table: str, text: str) -> list[str]:
    """The row of a table that has a text in a cell, once there is one; tables are drawn anew every few seconds."""
    found: list[list[str]] = []

    def seen() -> bool:
        found[:] = [row for row in rows(browser, table) if any(text in cell for cell in row)]
        return bool(found)

    eventually(seen, 30)
    return found[0]


def test_an_operator_sees_the_workers_and_a_drain_with_its_counts(
    stack: RunningStack, open_browser: Callable[[], Chrome]
) -> None:
    browser = open_browser()
    browser.get(stack.flower_as(*stack.login))
    browser.get(f"{stack.flower}/workers")
    assert "Flower" in browser.title

    def online() -> set[str]:
        return {row[0].partition("@")[0] for row in rows(browser, "workers-table") if row[1:2] == ["Online"]}

    eventually(lambda: online() == WORKERS, 30)

    with Client(stack.environment["MEMLANE_URL"], stack.environment["MEMLANE_API_KEY"]) as client:
        batch = client.remember_many([{"agent": "ada", "content": f"secret tea {n}"} for n in range(9)])
        assert len(batch.receipts) == 9
        batch.wait("searchable", timeout=20)

    browser.get(f"{stack.flower}/tasks")

    drain = row_with(browser, "tasks-table", "stored 9, searchable 9")
    assert drain[0] == "drain.remember"
    assert drain[1].startswith("shard ")
    assert 0 <= int(drain[1].removeprefix("shard ")) < 8
    assert drain[2] == "SUCCESS"
    assert drain[-1].startswith("ingest@")
    assert "secret tea" not in browser.page_source


def test_a_wrong_password_sees_nothing(stack: RunningStack, open_browser: Callable[[], Chrome]) -> None:
    user, _ = stack.login
    assert httpx.get(stack.flower, auth=(user, "wrong")).status_code == 401
    browser = open_browser()
    browser.get(stack.flower_as(user, "wrong"))
    assert "Flower" not in browser.title
    assert not browser.find_elements(By.ID, "workers-table")


def test_nobody_can_shut_a_worker_down_from_the_browser(
    stack: RunningStack, open_browser: Callable[[], Chrome]
) -> None:
    browser = open_browser()
    browser.get(stack.flower_as(*stack.login))
    browser.get(f"{stack.flower}/workers")
    worker = row_with(browser, "workers-table", "ingest@")[0]
    browser.get(f"{stack.flower}/worker/{worker}")
    assert worker in browser.page_source
    assert not browser.find_elements(By.ID, "worker-shutdown")
    for path in (f"worker/shutdown/{worker}", "task/send-task/drain.remember"):
        answer = httpx.post(f"{stack.flower}/api/{path}", auth=stack.login)
        assert (answer.status_code, answer.text) == (403, READ_ONLY)
    cookie = browser.get_cookie("_xsrf")
    assert cookie is not None
    token = {"X-XSRFToken": cookie["value"]}
    asked = (
        "return fetch('/api/worker/shutdown/' + arguments[0], {method: 'POST', headers: arguments[1]})"
        ".then(answer => answer.text())"
    )
    assert browser.execute_script(asked, worker, token) == READ_ONLY
