"""The pages and forms of the UI: a part of the one route table, so that each of them says who may open it."""

from __future__ import annotations

from msgspec import Struct

from schedule_zero.web.api.routing import Access, Endpoint, NoBody, NoQuery, Route
from schedule_zero.web.pages import execution, execution_log, executions, find, live, login, nodes, overview, static

PUBLIC, VIEWER, OPERATOR, ADMIN = Access.PUBLIC, Access.VIEWER, Access.OPERATOR, Access.ADMIN
HTML = "text/html"


def page(path: str, access: Access, endpoint: Endpoint, summary: str, query: type[Struct] = NoQuery) -> Route:
    """Something to look at."""
    return Route("GET", path, access, endpoint, summary, {200: HTML}, query=query, page=True)


def form(path: str, access: Access, endpoint: Endpoint, summary: str, body: type[Struct] = NoBody) -> Route:
    """Something to be done."""
    return Route("POST", path, access, endpoint, summary, {204: None, 303: None}, body=body, page=True)


ROUTES: tuple[Route, ...] = (
    # --- what pages are made of ---
    page("/static/*", PUBLIC, static.send, "A file of the UI"),
    page("/live", VIEWER, live.stream, "What has changed, by topic", query=live.LiveQuery),
    page("/find", VIEWER, find.find, "What has a text in its name", find.FindQuery),
    # --- signing in ---
    page("/login", PUBLIC, login.form, "Sign in", query=login.LoginQuery),
    form("/login", PUBLIC, login.sign_in, "Sign in", login.LoginForm),
    form("/logout", VIEWER, login.sign_out, "Sign out"),
    page("/", VIEWER, overview.index, "How everything is"),
    # --- executions ---
    page("/executions", VIEWER, executions.index, "Executions, by a search", executions.ListQuery),
    page("/executions/bulk", OPERATOR, executions.bulk, "Before many are cancelled or retried", executions.BulkQuery),
    form("/executions/bulk", OPERATOR, executions.begin, "Cancel or retry many", executions.BulkQuery),
    page("/executions/{id}", VIEWER, execution.show, "One execution", execution_log.LogQuery),
    page("/executions/{id}/log", VIEWER, execution_log.show, "The log of an execution", execution_log.LogQuery),
    Route(
        "GET",
        "/executions/{id}/log.txt",
        VIEWER,
        execution_log.download,
        "The log of an execution, as a file",
        {200: "text/plain"},
        query=execution_log.DownloadQuery,
        page=True,
    ),
    form("/executions/{id}/cancel", OPERATOR, execution.cancel, "End an execution"),
    form("/executions/{id}/retry", OPERATOR, execution.retry, "Run the same work again"),
    form("/executions/{id}/requeue", OPERATOR, execution.requeue, "Run a dead letter again"),
    form("/executions/views", OPERATOR, executions.save_view, "Keep a search by a name", executions.ViewForm),
    form("/views/{id}/delete", OPERATOR, executions.delete_view, "Forget a search that was kept"),
    form("/batches/{id}/stop", OPERATOR, executions.stop, "Do no more of a batch"),
    # --- nodes ---
    page("/nodes", VIEWER, nodes.index, "All nodes"),
    page("/nodes/{id}", VIEWER, nodes.show, "One node"),
    form("/nodes/{id}/cordon", OPERATOR, nodes.cordon, "Give a node no new work", nodes.NoteForm),
    form("/nodes/{id}/drain", OPERATOR, nodes.drain, "Empty a node", nodes.NoteForm),
    form("/nodes/{id}/release", OPERATOR, nodes.release, "Give a node work again", nodes.NoteForm),
)
