"""Takes the pictures of the pages that the documents show: ``make screenshots``.

    python tools/screenshots.py [--out docs/pictures] [--browser /usr/bin/chromium]

A server and two nodes of its own, on ports of their own, with schedules, failures and a backlog to show; everything is
in a temporary folder, and gone afterwards. Exit codes: 69 there is no browser, 1 a page could not be taken.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
OUT = ROOT / "docs" / "pictures"
TARGETS = ("schedule_zero.handlers.demo:DemoHandler", "schedule_zero.testbed.chaos:ChaosHandler")

# Name, path, width, dark.
SHOTS = (
    ("overview", "/", 1280, False),
    ("overview-dark", "/", 1280, True),
    ("overview-narrow", "/", 390, False),
    ("schedules", "/schedules", 1280, False),
    ("schedule", "/schedules/billing.invoices", 1280, False),
    ("schedule-new", "/schedules/new?handler=demo&method=hello", 1280, False),
    ("executions", "/executions", 1280, False),
    ("executions-dark", "/executions?q=state%3Afailed", 1280, True),
    ("execution", "/executions/{late}", 1280, False),
    ("nodes", "/nodes", 1280, False),
    ("handlers", "/handlers", 1280, False),
    ("dead-letters", "/dead-letters", 1280, False),
    ("forecast", "/forecast", 1280, False),
    ("audit", "/audit", 1280, False),
    ("settings", "/settings", 1280, False),
    ("docs", "/docs", 1280, False),
)

SCHEDULES: tuple[tuple[str, str, dict[str, Any], dict[str, Any]], ...] = (
    ("etl.load", "demo.sleep", {"seconds": 0.4}, {"type": "interval", "seconds": 10}),
    ("etl.check", "chaos.ok", {"value": {"rows": 4711}}, {"type": "interval", "seconds": 5}),
    ("billing.invoices", "demo.hello", {"name": "the first"}, {"type": "cron", "expression": "0 8 1 * *"}),
    ("billing.reminders", "chaos.error", {"message": "no answer from the bank"}, {"type": "interval", "seconds": 20}),
    ("reports.weekly", "demo.hello", {"name": "Monday"}, {"type": "cron", "expression": "30 7 * * MON"}),
    ("reports.quarterly", "demo.hello", {"name": "the quarter"}, {"type": "cron", "expression": "0 6 1 */3 *"}),
    ("backup.nightly", "demo.sleep", {"seconds": 1}, {"type": "cron", "expression": "15 2 * * *"}),
    ("cleanup.tmp", "chaos.ok", {}, {"type": "cron", "expression": "H */2 * * *"}),
    ("mail.digest", "demo.hello", {"name": "everybody"}, {"type": "cron", "expression": "0 9 * * MON-FRI"}),
)


class Site:
    """What is looked at."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._run("server", "--http", "127.0.0.1:0", "--zmq", "127.0.0.1:0", "--state-dir", str(folder / "state"))
        addresses = self._until(self._addresses, "the server to answer")
        self.url, self._zmq = str(addresses["http"]), str(addresses["zmq"])
        token = (folder / "state" / "admin.token").read_text().strip()
        self._api = stack.enter_context(
            httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        )

    def _run(self, kind: str, *arguments: str) -> None:
        with (self._folder / f"{kind}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(BIN / f"schedule-zero-{kind}"), *arguments], stdout=log, stderr=log, cwd=self._folder
            )
        self._stack.callback(_end, process)

    def _addresses(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self._folder / "state" / "server.json").read_bytes()))
        except (FileNotFoundError, ValueError):
            return None

    def _until(self, look: Any, what: str) -> Any:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if found := look():
                return found
            time.sleep(0.1)
        raise TimeoutError(f"waited in vain for {what}; see {self._folder}")

    def _post(self, path: str, body: Any) -> Any:
        answer = self._api.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    def live(self) -> dict[str, str]:
        """Fill it with a morning's work; ids for the paths of the shots."""
        for number in (1, 2):
            self._run(
                "handler", *TARGETS, "--server", self._zmq, "--node-id", f"worker-{number}",
                "--label", f"rack={number}", "--state-dir", str(self._folder / "nodes"),
            )  # fmt: skip
        self._until(lambda: len(self._api.get("/api/nodes").json()["nodes"]) == 2, "the nodes")
        schedules = [
            {
                "id": id_,
                "handler_id": job.partition(".")[0],
                "job_method": job.partition(".")[2],
                "job_params": params,
                "trigger": {"timezone": "Europe/Berlin"} | trigger if trigger["type"] == "cron" else trigger,
                "options": {"max_attempts": 2} if job == "chaos.error" else {},
            }
            for id_, job, params, trigger in SCHEDULES
        ]
        self._post("/api/schedules", {"schedules": schedules})
        self._post("/api/schedules/cleanup.tmp/pause", {"note": "the disk is being replaced"})
        for id_ in ("billing.invoices", "mail.digest", "reports.weekly"):
            self._post(f"/api/schedules/{id_}/run", {})
        job = {"handler_id": "chaos", "job_method": "ok"}
        customers = [job | {"job_params": {"value": {"customer": number}}} for number in range(40)]
        self._post("/api/executions", {"executions": customers})
        long = [{"handler_id": "demo", "job_method": "sleep", "job_params": {"seconds": 120}}] * 3
        self._post("/api/executions", {"executions": long})
        # (Not one with a traceback: that would show where this checkout lies.)
        slow = {"handler_id": "demo", "job_method": "sleep", "job_params": {"seconds": 60}, "options": {"timeout_s": 2}}
        late = self._post("/api/executions", slow)["ids"][0]
        self._until(lambda: self._api.get(f"/api/executions/{late}").json()["status"] == "timeout", "a timeout")
        # Some history for the charts.
        time.sleep(75)
        return {"late": late}

    def login(self) -> str:
        return self.url + str(self._post("/api/login-links", {})["path"])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def window(browser: str, site: Site) -> Iterator[Page]:
    """A signed-in page."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.goto(site.login())
        page.wait_for_url(site.url + "/")
        yield page
        chromium.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--browser", default=shutil.which("chromium") or "/usr/bin/chromium")
    args = parser.parse_args()
    if not Path(args.browser).exists():
        print(f"there is no browser at {args.browser}: apt-get install chromium, or --browser", file=sys.stderr)
        return 69
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="schedule-zero-shots-") as folder, ExitStack() as stack:
        site = Site(Path(folder), stack)
        ids = site.live()
        with window(args.browser, site) as page:
            for name, path, width, dark in SHOTS:
                page.emulate_media(color_scheme="dark" if dark else "light")
                page.set_viewport_size({"width": width, "height": 800 if width > 640 else 844})
                answer = page.goto(site.url + path.format(**ids))
                if answer is None or not answer.ok:
                    print(f"{path}: {answer.status if answer else 'no answer'}", file=sys.stderr)
                    return 1
                page.wait_for_timeout(700)
                page.screenshot(path=str(args.out / f"{name}.png"))
                print(args.out / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
