"""The pages and forms of the UI: a part of the one route table, so that each of them says who may open it."""

from __future__ import annotations

from msgspec import Struct

from schedule_zero.web.api.routing import Access, AnyForm, Endpoint, NoBody, NoQuery, Route
from schedule_zero.web.pages import (
    audit,
    calendars,
    dead_letters,
    docs,
    execution,
    execution_log,
    executions,
    find,
    forecast,
    groups,
    handlers,
    live,
    login,
    nodes,
    overview,
    run_now,
    schedule,
    schedule_editor,
    schedule_state,
    schedule_verbs,
    schedules,
    settings,
    settings_access,
    static,
    testbed,
)
from schedule_zero.web.pages.dead_letter_view import RequeueForm

PUBLIC, VIEWER, OPERATOR, ADMIN = Access.PUBLIC, Access.VIEWER, Access.OPERATOR, Access.ADMIN
HTML = "text/html"


def page(path: str, access: Access, endpoint: Endpoint, summary: str, query: type[Struct] = NoQuery) -> Route:
    """Something to look at."""
    return Route("GET", path, access, endpoint, summary, {200: HTML}, query=query, page=True)


def form(
    path: str, access: Access, endpoint: Endpoint, summary: str, body: type[Struct] = NoBody, *, bulk: bool = False
) -> Route:
    """Something to be done. ``bulk``: with more in it than an object has."""
    return Route("POST", path, access, endpoint, summary, {204: None, 303: None}, body=body, bulk=bulk, page=True)


def draft(path: str, access: Access, endpoint: Endpoint, summary: str) -> Route:
    """What a form comes to: it is sent as it is typed, and nothing is done."""
    return Route("POST", path, access, endpoint, summary, {200: HTML}, body=AnyForm, page=True)


ROUTES: tuple[Route, ...] = (
    # --- what pages are made of ---
    page("/static/*", PUBLIC, static.send, "A file of the UI"),
    page("/live", VIEWER, live.stream, "What has changed, by topic", query=live.LiveQuery),
    page("/find", VIEWER, find.find, "What has a text in its name", find.FindQuery),
    # --- signing in ---
    page("/login", PUBLIC, login.form, "Sign in", query=login.LoginQuery),
    form("/login", PUBLIC, login.sign_in, "Sign in", login.LoginForm),
    form("/logout", VIEWER, login.sign_out, "Sign out"),
    page("/", VIEWER, overview.index, "How everything is", overview.OverviewQuery),
    page("/forecast", VIEWER, forecast.index, "What comes", forecast.ForecastQuery),
    # --- executions ---
    page("/executions", VIEWER, executions.index, "Executions, by a search", executions.ListQuery),
    page("/executions/bulk", OPERATOR, executions.bulk, "Before many are cancelled or retried", executions.BulkQuery),
    form("/executions/bulk", OPERATOR, executions.begin, "Cancel or retry many", executions.BulkForm),
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
    form("/views/{id}/undelete", OPERATOR, executions.undelete_view, "Keep a search again"),
    form("/batches/{id}/stop", OPERATOR, executions.stop, "Do no more of a batch"),
    # --- nodes ---
    page("/nodes", VIEWER, nodes.index, "All nodes", nodes.NodesQuery),
    page("/nodes/{id}", VIEWER, nodes.show, "One node"),
    form("/nodes/{id}/cordon", OPERATOR, nodes.cordon, "Give a node no new work", nodes.NoteForm),
    form("/nodes/{id}/drain", OPERATOR, nodes.drain, "Empty a node", nodes.NoteForm),
    form("/nodes/{id}/operate", OPERATOR, nodes.operate, "Take a node out of service", nodes.OperateForm),
    form("/nodes/{id}/release", OPERATOR, nodes.release, "Give a node work again", nodes.NoteForm),
    # --- schedules ---
    page("/schedules", VIEWER, schedules.index, "Schedules that a filter finds", query=schedules.ListQuery),
    form("/schedules/bulk", OPERATOR, schedules.bulk, "Do one thing with many schedules", schedules.BulkForm),
    form("/schedules/freeze", OPERATOR, schedules.freeze, "Let no schedule fire", schedules.FreezeForm),
    form("/schedules/thaw", OPERATOR, schedules.thaw, "Let schedules fire again", schedules.ThawForm),
    page("/schedules/{id}", VIEWER, schedule.show, "One schedule", query=schedule_state.ShowQuery),
    form("/schedules/{id}/pause", OPERATOR, schedule_verbs.pause, "Pause a schedule", schedule_verbs.PauseForm),
    form("/schedules/{id}/resume", OPERATOR, schedule_verbs.resume, "Resume a schedule"),
    form("/schedules/{id}/run", OPERATOR, schedule_verbs.run, "Run a schedule's job once, now"),
    form("/schedules/{id}/skip", OPERATOR, schedule_verbs.skip, "Leave out the next fires", schedule_verbs.SkipForm),
    form("/schedules/{id}/skip-none", OPERATOR, schedule_verbs.skip_none, "Leave out none of the fires to come"),
    form("/schedules/{id}/delete", OPERATOR, schedule_verbs.delete, "Delete a schedule"),
    form("/schedules/{id}/undelete", OPERATOR, schedule_verbs.undelete, "Make a deleted schedule again"),
    form(
        "/schedules/{id}/restore",
        OPERATOR,
        schedule_verbs.restore,
        "Bring an old version back",
        schedule_verbs.RestoreForm,
    ),
    form(
        "/schedules/{id}/backfill", OPERATOR, schedule_verbs.backfill, "Run a past range", schedule_verbs.BackfillForm
    ),
    form("/backfills/{id}/cancel", OPERATOR, schedule_verbs.cancel_backfill, "Create no more executions of a backfill"),
    # --- schedules: making and changing one ---
    page("/schedules/new", OPERATOR, schedule_editor.new, "The form of a new schedule", schedule_editor.NewQuery),
    form("/schedules/new", OPERATOR, schedule_editor.create, "Make a schedule", AnyForm),
    page("/schedules/{id}/edit", OPERATOR, schedule_editor.edit, "The form of a schedule"),
    form("/schedules/{id}/edit", OPERATOR, schedule_editor.save, "Change a schedule", AnyForm),
    draft("/schedules/draft", OPERATOR, schedule_editor.draft, "What a schedule's form comes to"),
    # --- running a job now ---
    page("/handlers/{id}/run", OPERATOR, run_now.show, "The form of one run", run_now.RunQuery),
    form("/handlers/{id}/run", OPERATOR, run_now.run, "Run a job", AnyForm),
    draft("/handlers/{id}/run/draft", OPERATOR, run_now.draft, "What a run's form comes to"),
    page("/executions/{id}/retry-edit", OPERATOR, run_now.show_retry, "The form of a retry"),
    form("/executions/{id}/retry-edit", OPERATOR, run_now.retry, "Retry with other parameters", AnyForm),
    draft("/executions/{id}/retry-edit/draft", OPERATOR, run_now.draft_retry, "What a retry's form comes to"),
    # --- handlers ---
    page("/handlers", VIEWER, handlers.index, "All handlers", handlers.HandlersQuery),
    page("/handlers/{id}", VIEWER, handlers.show, "One handler", handlers.HandlerQuery),
    # --- dead letters ---
    page("/dead-letters", VIEWER, dead_letters.index, "What failed for good", dead_letters.GroupsQuery),
    page("/dead-letters/{id}", VIEWER, dead_letters.show, "What failed alike", dead_letters.CursorQuery),
    page("/dead-letters/requeue", OPERATOR, dead_letters.requeue_form, "Run many dead letters again", RequeueForm),
    form("/dead-letters/requeue", OPERATOR, dead_letters.requeue, "Run them again", RequeueForm),
    form("/dead-letters/requeue/preview", OPERATOR, dead_letters.preview, "What that would do", RequeueForm),
    form(
        "/dead-letters/requeue-ticked",
        OPERATOR,
        dead_letters.requeue_ticked,
        "Run a few again",
        dead_letters.TickedForm,
    ),
    form(
        "/dead-letters/discard", OPERATOR, dead_letters.discard, "Put many dead letters aside", dead_letters.DiscardForm
    ),
    form(
        "/dead-letters/discard-ticked",
        OPERATOR,
        dead_letters.discard_ticked,
        "Put a few aside",
        dead_letters.TickedForm,
    ),
    form("/discards/{id}/undo", OPERATOR, dead_letters.undo_discard, "Take a discard back"),
    page("/requeues", VIEWER, dead_letters.requeues, "Dead letters that are run again", dead_letters.CursorQuery),
    page("/requeues/{id}", VIEWER, dead_letters.show_requeue, "How far a requeue is"),
    form("/requeues/{id}/cancel", OPERATOR, dead_letters.cancel_requeue, "Requeue no more of them"),
    # --- groups ---
    page("/groups", VIEWER, groups.index, "Groups of executions", groups.GroupsQuery),
    page("/groups/{id}", VIEWER, groups.show, "One group", groups.MembersQuery),
    form("/groups/{id}/cancel", OPERATOR, groups.cancel, "Cancel all members of a group"),
    # --- settings ---
    page("/settings", VIEWER, settings.index, "How the server fares"),
    page("/settings/configuration", ADMIN, settings.configuration, "The settings in force",
         query=settings.ConfigurationQuery),
    page("/settings/about", VIEWER, settings.about, "Which software this is"),
    page("/settings/access", ADMIN, settings_access.index, "Tokens, sessions and keys",
         query=settings_access.AccessQuery),
    form("/tokens", ADMIN, settings_access.create_token, "Make an API token", settings_access.TokenForm),
    form("/tokens/{id}/revoke", ADMIN, settings_access.revoke_token, "Revoke an API token"),
    form("/sessions/{id}/end", ADMIN, settings_access.end_session, "Sign a browser out"),
    form("/sessions/end-others", ADMIN, settings_access.end_others, "Sign all other browsers out"),
    form("/login-links", ADMIN, settings_access.create_link, "Make a sign-in link", settings_access.LinkForm),
    form("/node-keys", ADMIN, settings_access.create_key, "Make a key for a node", settings_access.KeyForm),
    form("/node-keys/{id}/revoke", ADMIN, settings_access.revoke_key, "Revoke a node's key"),
    # --- calendars ---
    page("/calendars", VIEWER, calendars.index, "Named calendars", query=calendars.CalendarsQuery),
    page("/calendars/{id}", VIEWER, calendars.show, "A named calendar", query=calendars.CalendarQuery),
    page("/new-calendar", OPERATOR, calendars.new, "Write a calendar", query=calendars.NewQuery),
    form("/new-calendar", OPERATOR, calendars.create, "Create a calendar", calendars.EditForm, bulk=True),
    page("/calendars/{id}/edit", OPERATOR, calendars.edit, "Write a calendar anew"),
    form("/calendars/{id}/edit", OPERATOR, calendars.save, "Replace a calendar", calendars.EditForm, bulk=True),
    form("/calendars/{id}/import", OPERATOR, calendars.import_ical, "Import an iCalendar file", calendars.ImportForm,
         bulk=True),
    form("/calendars/{id}/delete", OPERATOR, calendars.delete, "Delete a calendar"),
    form("/calendars/{id}/restore", OPERATOR, calendars.restore, "Bring a version back", calendars.VersionForm),
    # --- the audit log ---
    page("/audit", OPERATOR, audit.index, "Who changed what", query=audit.AuditQuery),
    # --- the test bed's runs ---
    page("/testbed", VIEWER, testbed.index, "Runs of the test bed", query=testbed.RunsQuery),
    page("/testbed/{id}", VIEWER, testbed.show, "One run of the test bed"),
    page("/testbed/{id}/report", VIEWER, testbed.report, "What a run of the test bed reports"),
    # --- API and docs ---
    page("/docs", VIEWER, docs.index, "The API and the documentation", query=docs.SearchQuery),
    page("/docs/api/*", VIEWER, docs.chapter, "A chapter of the API's reference", query=docs.ChapterQuery),
    page("/docs/*", VIEWER, docs.show, "A page of the documentation"),
)  # fmt: skip
