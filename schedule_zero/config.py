"""The server's settings: their names, types, limits and defaults. Read once, validated as a whole, frozen."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal

from msgspec import Meta, Struct

from schedule_zero.job_options import Rate

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400 * 365)]


# How long, and how many; 0: no limit.
Age = Annotated[float, Meta(ge=0, le=86_400 * 36_525)]
Rows = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]
DAY_S = 86_400.0


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of config.yaml."""


class HttpConfig(_Section, frozen=True):
    host: str = "127.0.0.1"
    port: Port = 8888
    # Names under which the server may be addressed, beside its own address and localhost (Host allow-list).
    allowed_hosts: list[str] = []
    max_body_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 16 << 20
    max_depth: Annotated[int, Meta(ge=4, le=256)] = 64
    max_wait_s: Seconds = 300.0
    # How long a browser stays signed in, at most; a day without a request ends it as well.
    session_s: Seconds = 604_800.0


class ZmqConfig(_Section, frozen=True):
    host: str = "127.0.0.1"
    port: Port = 4242
    # auto: off on loopback, on elsewhere. off beyond loopback is refused.
    curve: Literal["auto", "on", "off"] = "auto"
    max_message_bytes: Annotated[int, Meta(ge=65_536, le=1 << 30)] = 16 << 20


class StoreConfig(_Section, frozen=True):
    # Empty: sqlite in the state directory.
    url: str = ""
    # full: survives power loss (fsync at each commit). fast: survives SIGKILL, not power loss.
    durability: Literal["full", "fast"] = "full"
    readers: Annotated[int, Meta(ge=1, le=32)] = 3


class DispatchConfig(_Section, frozen=True):
    heartbeat_s: Seconds = 2.0
    suspect_s: Seconds = 6.0
    lost_s: Seconds = 10.0
    lease_s: Seconds = 15.0
    lease_margin_s: Seconds = 1.0
    resend_s: Seconds = 2.0
    # Pending executions per method held in memory; the rest waits in the store.
    window: Annotated[int, Meta(ge=10, le=1_000_000)] = 10_000
    # So many bytes of their parameters at most: 10,000 of the largest would take 2.5 GB.
    window_bytes: Annotated[int, Meta(ge=65_536, le=1 << 40)] = 64 << 20
    max_lost: Annotated[int, Meta(ge=1, le=100)] = 3
    # A node where so many executions in a row failed that do well elsewhere gets no new work for a while. 0: never.
    quarantine_failures: Annotated[int, Meta(ge=0, le=10_000)] = 10
    # The same for one whose process was lost with work so many times in 10 minutes. 0: never.
    quarantine_losses: Annotated[int, Meta(ge=0, le=1_000)] = 5
    # After so long it is tried with one attempt at a time; doubled each time that this fails, up to an hour.
    quarantine_s: Seconds = 60.0


class LimitsConfig(_Section, frozen=True):
    params_bytes: Annotated[int, Meta(ge=64, le=64 << 20)] = 256 << 10
    result_bytes: Annotated[int, Meta(ge=64, le=64 << 20)] = 1 << 20
    # A larger one goes in chunks and is stored aside, up to so many bytes; 0: it is refused.
    big_result_bytes: Annotated[int, Meta(ge=0, le=4 << 30)] = 64 << 20
    # What one attempt may log; 0: no logs are taken.
    log_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 8 << 20
    bulk: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    # Executions that are not over; above it nothing more is accepted (429).
    backlog: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1_000_000


class TimingConfig(_Section, frozen=True):
    # The longest the scheduler sleeps, so that a step of the wall clock is noticed.
    max_sleep_s: Seconds = 2.0
    min_interval_ms: Annotated[int, Meta(ge=1, le=86_400_000)] = 1
    misfire_grace_s: Seconds = 10.0
    catch_up_window_s: Seconds = 3600.0
    catch_up_rows: Annotated[int, Meta(ge=1, le=10_000)] = 100


class RetentionConfig(_Section, frozen=True):
    events_s: Seconds = 86_400.0
    events_rows: Annotated[int, Meta(ge=1000, le=100_000_000)] = 1_000_000
    # How long the change log (audit log) is kept, and at most how many rows of it.
    changes_s: Age = 365 * DAY_S
    changes_rows: Rows = 1_000_000
    # How long a repeated request with the same Idempotency-Key gets the first one's answer.
    idempotency_s: Seconds = 86_400.0
    # How far back charts go.
    series_s: Seconds = 7 * DAY_S
    # How long executions are kept that ended in that state, and at most how many of them.
    completed_s: Age = 30 * DAY_S
    completed_rows: Rows = 0
    failed_s: Age = 90 * DAY_S
    failed_rows: Rows = 0
    timeout_s: Age = 90 * DAY_S
    timeout_rows: Rows = 0
    dead_s: Age = 90 * DAY_S
    dead_rows: Rows = 0
    cancelled_s: Age = 90 * DAY_S
    cancelled_rows: Rows = 0
    misfired_s: Age = 90 * DAY_S
    misfired_rows: Rows = 0
    # Executions that wait for somebody to deal with them are kept whatever their age.
    keep_dead_letters: bool = True


class AuditConfig(_Section, frozen=True):
    # How often all schedules are audited: is there a ledger row for each nominal time since the last audit?
    every_s: Seconds = 3600.0


class BedConfig(_Section, frozen=True):
    # In this folder are the folders of the test bed's runs, as `schedule-zero-testbed run` leaves them.
    reports: str = "testbed-results"


class LogConfig(_Section, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    # Level per module: {"schedule_zero.dispatch": "debug"}.
    levels: dict[str, Literal["debug", "info", "warning", "error"]] = {}
    file: str = ""
    file_max_bytes: Annotated[int, Meta(ge=4096, le=1 << 40)] = 20 << 20
    file_backups: Annotated[int, Meta(ge=0, le=1000)] = 5


class ServerConfig(_Section, frozen=True):
    """Everything in config.yaml."""

    instance_name: str = "ScheduleZero"
    description: str = ""
    admin_contact: str = ""
    state_dir: str = ""
    handler_registry: str = "handler_registry.yaml"
    drain_s: Seconds = 30.0
    http: HttpConfig = HttpConfig()
    zmq: ZmqConfig = ZmqConfig()
    store: StoreConfig = StoreConfig()
    dispatch: DispatchConfig = DispatchConfig()
    limits: LimitsConfig = LimitsConfig()
    timing: TimingConfig = TimingConfig()
    retention: RetentionConfig = RetentionConfig()
    audit: AuditConfig = AuditConfig()
    testbed: BedConfig = BedConfig()
    log: LogConfig = LogConfig()


class HandlerLimits(_Section, frozen=True):
    """What an operator allows one handler's jobs, below the server's own limits. ``None``: no limit of its own."""

    # Executions of this handler that run at once, over all nodes.
    max_running: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    # Starts of this handler's executions in a time, over all nodes; at most ``rate_burst`` (1) at once.
    rate: Rate | None = None
    rate_burst: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    # Executions of this handler that are not over; above it no more of them are accepted (429).
    backlog: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    # Size of a job's parameters as JSON.
    params_bytes: Annotated[int, Meta(ge=2, le=64 << 20)] | None = None
    # The longest that an attempt may run: caps what a job, schedule or submission asks for.
    timeout_s: Seconds | None = None


class HandlerRule(_Section, frozen=True):
    """What an operator declares about one handler in handler_registry.yaml."""

    # Methods that may be run; None: all that the nodes declare.
    allowed_methods: list[str] | None = None
    limits: HandlerLimits = HandlerLimits()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address bound to ``host``. A name other than localhost: no."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
