"""Fixtures of tests in a real Chromium: one browser and one site for each of pytest's workers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.ui.site import Site, Visitor

CHROMIUM = "/usr/bin/chromium"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of one file share a worker, and so its browser and its site."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.xdist_group(f"ui-{item.path.stem}"))


# (A file's, not the session's: Playwright keeps a loop running in this thread, beside which no other test's could run.)
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Root gets it installed by ``make test``, so that there its absence is no excuse."""
    found = shutil.which("chromium") or CHROMIUM
    if not Path(found).exists():
        said = "no chromium here: apt-get install chromium (as root, `make test` does it)"
        if os.geteuid() == 0:
            pytest.fail(said)
        pytest.skip(said)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with one node (``n1``: demo and chaos). Tests share it: they give what they make names of their own."""
    made = Site(tmp_path_factory.mktemp("site"))
    try:
        made.start_node("n1")
        yield made
    finally:
        made.close()


SignIn = Callable[..., Visitor]


@pytest.fixture
def sign_in(browser: Browser, site: Site) -> Iterator[SignIn]:
    """``sign_in("viewer")``: another window. At the test's end no window's console may have complained."""
    visitors: list[Visitor] = []

    def enter(role: str = "admin", **context: object) -> Visitor:
        visitors.append(Visitor(browser, site, role, **context))
        return visitors[-1]

    yield enter
    complaints = [text for visitor in visitors for text in visitor.complaints]
    for visitor in visitors:
        visitor.close()
    assert not complaints, complaints


@pytest.fixture
def visitor(sign_in: SignIn) -> Visitor:
    """An administrator's window."""
    return sign_in()


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """His page, signed in, on the overview."""
    return visitor.page
