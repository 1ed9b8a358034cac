"""A real server with a real node, and a browser that looks at its pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.support import eventually_sync
from tests.system.processes import NodeProcess, ServerProcess

TARGETS = ("schedule_zero.handlers.demo:DemoHandler", "schedule_zero.testbed.chaos:ChaosHandler")
# Commits are not waited for on the disk: these tests cut no power.
ENV = {"SCHEDULE_ZERO_STORE__DURABILITY": "fast"}
AXE = Axe()
# Nothing else of a page is different in the dark.
OF_COLOURS = ("color-contrast", "link-in-text-block")


class Site:
    """One server and its nodes; ``api`` is signed in as its administrator."""

    def __init__(self, folder: Path, *, targets: Sequence[str] = TARGETS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._targets = targets
        self.server = ServerProcess(folder, env=ENV)
        self.server.wait_ready()
        self.url = str(self.server.addresses["http"])
        self.api = self.server.client()
        self.nodes: dict[str, NodeProcess] = {}

    def start_node(self, node_id: str = "n1", *targets: str) -> NodeProcess:
        """A node that is connected when this returns."""
        node = NodeProcess(self._folder, self.server.addresses["zmq"], *(targets or self._targets), node_id=node_id)
        self.nodes[node_id] = node
        eventually_sync(lambda: self.node_state(node_id) == "online", within_s=30)
        return node

    def node_state(self, node_id: str) -> str | None:
        answer = self.api.get(f"/api/nodes/{node_id}")
        return None if answer.status_code == 404 else str(answer.json()["state"])

    def restart(self) -> None:
        """Kill the server, and start it again on the same ports."""
        ports = self.server.ports
        self.server.kill()
        self.server = ServerProcess(self._folder, env=ENV, **ports)
        self.server.wait_ready()

    def link(self, role: str = "admin") -> str:
        """The address that signs one browser in, once."""
        answer = self.api.post("/api/login-links", json={"role": role})
        assert answer.status_code == 201, answer.text
        return self.url + str(answer.json()["path"])

    def post(self, path: str, body: Any) -> Any:
        """What the API answers; an error is the test's."""
        answer = self.api.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def run(self, method: str, params: dict[str, Any], handler: str = "chaos", **options: Any) -> str:
        """Submit one execution; its id."""
        body = {"handler_id": handler, "job_method": method, "job_params": params, **options}
        return str(self.post("/api/executions", body)["ids"][0])

    def over(self, execution_id: str) -> dict[str, Any]:
        """The execution, once it has ended."""
        answer = self.api.get(f"/api/executions/{execution_id}", params={"wait_s": 30})
        assert answer.is_success, answer.text
        return dict(answer.json())

    def close(self) -> None:
        self.api.close()
        for node in self.nodes.values():
            node.kill()
        self.server.kill()


class Visitor:
    """One signed-in browser window. What its console complains of is kept: a test must not leave any."""

    def __init__(self, browser: Browser, site: Site, role: str = "admin", **context: Any) -> None:
        self.site = site
        self.context: BrowserContext = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **context})
        self.context.set_default_timeout(15_000)
        self.complaints: list[str] = []
        self.page: Page = self.new_page()
        self.page.goto(site.link(role))
        # The page of the link sends its form by itself, if it may run scripts.
        if context.get("java_script_enabled") is False:
            self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(site.url + "/")

    def new_page(self) -> Page:
        page = self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def open(self, path: str) -> Page:
        """Go to a page of the site, and wait until its scripts have run."""
        answer = self.page.goto(self.site.url + path)
        assert answer is not None
        assert answer.status == 200, f"{path}: {answer.status}"
        return self.page

    def barriers(self, *, rules: Sequence[str] = ()) -> list[str]:
        """What keeps somebody out, by axe (all of its rules, if none are named): rule and element."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.axe_script)
        asked = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
        found = self.page.evaluate("asked => axe.run(asked).then(found => found.violations)", asked)
        return [f"{one['id']}: {node['html'][:150]}" for one in found for node in one["nodes"]]

    def look(self, *, dark: bool, width: int) -> list[str]:
        """What is wrong with the present page in these colours and at this width; in the dark, with its colours."""
        self.page.emulate_media(color_scheme="dark" if dark else "light")
        self.page.set_viewport_size({"width": width, "height": 860})
        wrong = self.barriers(rules=OF_COLOURS if dark else ())
        if self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            wrong.append(f"it has to be scrolled sideways at {width} px")
        return wrong

    def close(self) -> None:
        self.context.close()
