"""The route table: every path, who may call it, what it takes and gives. It routes, and it is ``/api/openapi.json``."""

from __future__ import annotations

from schedule_zero.web.api import (
    access,
    compat,
    events,
    execution_records,
    executions,
    handlers,
    nodes,
    schedule_records,
    schedules,
    schemas,
    system,
    system_records,
    triggers,
)
from schedule_zero.web.api.routing import Access, OneOrMany, Route, RouteTable

PUBLIC, PROBE = Access.PUBLIC, Access.PROBE
VIEWER, OPERATOR, ADMIN = Access.VIEWER, Access.OPERATOR, Access.ADMIN

SUBMIT = OneOrMany(schemas.SubmitBody, schemas.SubmitManyBody, "executions")
CREATE = OneOrMany(schemas.ScheduleBody, schemas.SchedulesBody, "schedules")
TEXT, EVENTS = "text/plain", "text/event-stream"

ROUTES: tuple[Route, ...] = (
    # --- executions ---
    Route("POST", "/api/executions", OPERATOR, executions.submit, "Submit one execution, or many at once",
          {202: execution_records.Ids}, body=SUBMIT, bulk=True, idempotency=True, errors=(404,)),
    Route("GET", "/api/executions", VIEWER, executions.search, "Executions, newest first",
          {200: execution_records.ExecutionPage}, query=schemas.ExecutionsQuery),
    Route("GET", "/api/executions/stats", VIEWER, executions.stats, "Executions by state and by handler",
          {200: execution_records.StatsRecord}),
    Route("GET", "/api/executions/errors", VIEWER, executions.errors, "The newest executions that failed",
          {200: execution_records.ErrorPage}, query=schemas.ErrorsQuery),
    Route("POST", "/api/executions/clear", ADMIN, executions.clear, "Forget executions that are over",
          {200: execution_records.Cleared}, body=schemas.ClearBody, body_required=False),
    Route("GET", "/api/executions/{id}", VIEWER, executions.show, "One execution; waits for its end if asked to",
          {200: execution_records.ExecutionDetail}, query=schemas.WaitQuery),
    Route("POST", "/api/executions/{id}/cancel", OPERATOR, executions.cancel, "Cancel an execution",
          {200: execution_records.Cancelled, 202: execution_records.Cancelled}),
    Route("POST", "/api/executions/{id}/retry", OPERATOR, executions.retry, "Run the same work again",
          {201: execution_records.Created}, idempotency=True, errors=(409,)),
    # --- schedules ---
    Route("POST", "/api/schedules", OPERATOR, schedules.create, "Create one schedule, or many in one transaction",
          {201: schedule_records.SchedulesCreated}, body=CREATE, bulk=True, idempotency=True, errors=(404, 409)),
    Route("GET", "/api/schedules", VIEWER, schedules.search, "Schedules by id",
          {200: schedule_records.SchedulePage}, query=schemas.SchedulesQuery),
    Route("POST", "/api/schedules/delete", OPERATOR, schedules.delete_many, "Delete schedules in one transaction",
          {200: schedule_records.DeletedMany}, body=schemas.DeleteBody, bulk=True),
    Route("GET", "/api/schedules/{id}", VIEWER, schedules.show, "One schedule",
          {200: schedule_records.ScheduleRecord, 304: None}, headers=("If-None-Match",)),
    Route("PUT", "/api/schedules/{id}", OPERATOR, schedules.put, "Replace or create a schedule",
          {200: schedule_records.ScheduleRecord, 201: schedule_records.ScheduleRecord}, body=schemas.ScheduleBody,
          headers=("If-Match", "If-None-Match"), errors=(404, 412)),
    Route("PATCH", "/api/schedules/{id}", OPERATOR, schedules.patch, "Change a schedule (RFC 7386 merge patch)",
          {200: schedule_records.ScheduleRecord}, body=schemas.SchedulePatch, headers=("If-Match",), errors=(412,)),
    Route("DELETE", "/api/schedules/{id}", OPERATOR, schedules.delete, "Delete a schedule",
          {200: schedule_records.Deleted}, headers=("If-Match",), errors=(412,)),
    Route("POST", "/api/schedules/{id}/pause", OPERATOR, schedules.pause, "Pause a schedule",
          {200: schedule_records.ScheduleRecord}, body=schemas.PauseBody, body_required=False, errors=(409,)),
    Route("POST", "/api/schedules/{id}/resume", OPERATOR, schedules.resume, "Resume a schedule",
          {200: schedule_records.ScheduleRecord}, errors=(409,)),
    Route("POST", "/api/schedules/{id}/run", OPERATOR, schedules.run, "Run a schedule's job once, now",
          {202: execution_records.Created}, idempotency=True),
    Route("GET", "/api/schedules/{id}/fires", VIEWER, schedules.fires, "The ledger of a schedule, newest first",
          {200: schedule_records.FirePage}, query=schemas.FiresQuery),
    Route("POST", "/api/triggers/preview", VIEWER, triggers.preview, "A trigger in words, and its next fires",
          {200: schedule_records.PreviewRecord}, body=schemas.PreviewBody),
    # --- handlers and nodes ---
    Route("GET", "/api/handlers", VIEWER, handlers.search, "All handlers, connected or not",
          {200: system_records.Handlers}),
    Route("GET", "/api/nodes", VIEWER, nodes.search, "All nodes, connected or not",
          {200: system_records.Nodes}),
    Route("POST", "/api/nodes/{id}/drain", OPERATOR, nodes.drain, "Give a node no new work",
          {200: system_records.NodeRecord}),
    Route("POST", "/api/nodes/{id}/resume", OPERATOR, nodes.resume, "Give a node work again",
          {200: system_records.NodeRecord}),
    # --- the earlier ScheduleZero's writes ---
    Route("POST", "/api/schedule", OPERATOR, compat.schedule, "Create one schedule",
          {201: schedule_records.Scheduled}, body=schemas.EarlierScheduleBody, idempotency=True, errors=(404, 409)),
    Route("POST", "/api/run_now", OPERATOR, compat.run_now, "Run a job now and wait for its result",
          {200: execution_records.Ran, 202: execution_records.Ran}, body=schemas.RunNowBody, idempotency=True,
          errors=(404,)),
    # --- events ---
    Route("GET", "/api/events", VIEWER, events.stream, "What is committed, as it is committed (server-sent events)",
          {200: EVENTS}, query=schemas.EventsQuery, headers=("Last-Event-ID",)),
    # --- access ---
    Route("GET", "/api/tokens", ADMIN, access.tokens, "All API tokens, without their secrets",
          {200: system_records.Tokens}),
    Route("POST", "/api/tokens", ADMIN, access.create_token, "Make an API token",
          {201: system_records.TokenCreated}, body=schemas.TokenBody, errors=(409,)),
    Route("DELETE", "/api/tokens/{id}", ADMIN, access.revoke_token, "Revoke an API token",
          {200: system_records.Revoked}, errors=(409,)),
    Route("GET", "/api/node-keys", ADMIN, access.node_keys, "All node keys, without their secrets",
          {200: system_records.NodeKeys}),
    Route("POST", "/api/node-keys", ADMIN, access.create_node_key, "Make a CURVE key pair for a node",
          {201: system_records.NodeKeyCreated}, body=schemas.NodeKeyBody, errors=(409,)),
    Route("DELETE", "/api/node-keys/{id}", ADMIN, access.revoke_node_key, "Revoke a node key and end its session",
          {200: system_records.Revoked}),
    # --- system ---
    Route("GET", "/api/health", PUBLIC, system.health, "Whether the server works", {200: system_records.Health}),
    Route("GET", "/api/config", ADMIN, system.config, "The settings in force, secrets masked", {200: dict}),
    Route("GET", "/api/openapi.json", VIEWER, system.openapi, "This API as OpenAPI 3.1", {200: dict}),
    Route("GET", "/livez", PROBE, system.livez, "The process answers", {200: system_records.Live}),
    Route("GET", "/readyz", PROBE, system.readyz, "Whether the server can do its work",
          {200: system_records.Ready, 503: system_records.Ready}, query=schemas.ReadyQuery),
    Route("GET", "/metrics", PROBE, system.metrics, "Everything that is counted, for Prometheus", {200: TEXT}),
    Route("GET", "/version", PROBE, system.version, "Which software this is", {200: system_records.Version}),
)  # fmt: skip

TABLE = RouteTable(ROUTES)
