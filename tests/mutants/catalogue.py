"""Seeded bugs: each is one small change of the product that breaks a promise, and the tests that have to notice.

``old`` stands exactly once in ``file`` (``test_catalogue`` sees to that); ``new`` takes its place in a scratch copy.
A change of the product that moves such a place moves the entry with it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Mutant:
    name: str
    # The promises that it breaks, as the design numbers them.
    promises: str
    # What somebody might do by mistake, in words.
    what: str
    file: str
    old: str
    new: str
    # Files (or single tests) of which one has to fail.
    tests: tuple[str, ...]


MUTANTS = (
    # --- the store ---------------------------------------------------------------------------------
    Mutant(
        name="ledger-without-unique-index",
        promises="C1",
        what="the ledger's unique index is removed",
        file="schedule_zero/store/tables.py",
        old='    UniqueConstraint("schedule_id", "generation", "nominal_us", name="uq_fires"),\n',
        new="",
        tests=("tests/store/test_store_schedules.py", "tests/store/test_store_migration.py"),
    ),
    Mutant(
        name="acknowledge-before-commit",
        promises="C4 C13",
        what="a write is answered although its commit failed",
        file="schedule_zero/store/writer.py",
        old="            if not (committing and seq and self._was_committed(seq, error)):\n",
        new="            if not committing:\n",
        tests=("tests/store/test_store_sqlite.py", "tests/store/test_store_writer.py"),
    ),
    Mutant(
        name="no-fsync-at-commit",
        promises="C4",
        what="durability: full no longer waits for the disk",
        file="schedule_zero/store/sqlite.py",
        old='self._synchronous = "FULL" if durability == "full" else "NORMAL"',
        new='self._synchronous = "NORMAL"',
        tests=("tests/store/test_store_sqlite.py",),
    ),
    Mutant(
        name="token-ignored-at-end",
        promises="C6 C7",
        what="the end of an attempt is recorded without looking at its token",
        file="schedule_zero/store/execution_ends.py",
        old='    ("id", "token"),\n    ("result", "started_us", "finished_us", "stored_us"),\n',
        new='    ("id",),\n    ("token", "result", "started_us", "finished_us", "stored_us"),\n',
        tests=("tests/store/test_store_executions.py",),
    ),
    Mutant(
        name="old-token-counts",
        promises="C6",
        what="a result with an older token than the running attempt's is taken for a duplicate, not for superseded",
        file="schedule_zero/store/execution_ends.py",
        old="        return Refusal.SUPERSEDED if archived[token] in _GIVEN_UP else Refusal.DUPLICATE\n",
        new="        return Refusal.DUPLICATE\n",
        tests=("tests/store/test_store_executions.py",),
    ),
    Mutant(
        name="terminal-state-revived",
        promises="C21",
        what="a start does not look whether the execution is over",
        file="schedule_zero/store/executions.py",
        old='    f" AND {_STARTABLE}",\n',
        new='    " AND executions.id IS NOT NULL",\n',
        tests=("tests/store/test_store_executions.py",),
    ),
    Mutant(
        name="release-without-fence",
        promises="C1",
        what="a release does not look whether its schedule was changed, or released by another, meanwhile",
        file="schedule_zero/store/schedule_release.py",
        old="tx.bulk(_RELEASE_ONE, simple) + tx.bulk(_RELEASE, others) != len(items):\n",
        new="tx.bulk(_RELEASE_ONE, simple) + tx.bulk(_RELEASE, others) < 0:\n",
        tests=("tests/store/test_store_schedules.py::test_a_user_s_change_makes_a_release_in_flight_fail_its_fence",),
    ),
    Mutant(
        name="cancel-loses-against-retry",
        promises="C21",
        what="an attempt that failed goes on although its cancel was committed before",
        file="schedule_zero/store/execution_ends.py",
        old='    where=f"executions.cancel_requested = 0 AND {_RUNS}",\n',
        new="    where=_RUNS,\n",
        tests=("tests/store/test_store_executions.py",),
    ),
    Mutant(
        name="idempotency-key-forgotten",
        promises="C4",
        what="a request's Idempotency-Key is not written with what it did",
        file="schedule_zero/store/idempotency.py",
        old="            self._known[record.key] = record\n            self._new.append(record)\n",
        new="            self._known[record.key] = record\n",
        tests=("tests/store/test_store_executions.py",),
    ),
    Mutant(
        name="damaged-database-opened",
        promises="C15",
        what="a damaged database file is opened as if it were sound",
        file="schedule_zero/store/sqlite.py",
        old='                if found != ["ok"]:\n',
        new="                if not found:\n",
        tests=("tests/store/test_store_sqlite.py",),
    ),
    # --- dispatch ----------------------------------------------------------------------------------
    Mutant(
        name="dispatch-before-commit",
        promises="C4 C6",
        what="attempts go to their node before the store has them",
        file="schedule_zero/dispatch/placing.py",
        old="        self._out.starting.append(att)\n",
        new="        self._out.starting.append(att)\n        self.launch(node, [att], now)\n",
        tests=("tests/unit/test_core_attempts.py", "tests/unit/test_core_simulation.py"),
    ),
    Mutant(
        name="result-acknowledged-before-commit",
        promises="C4 C9",
        what="a result is acknowledged although it could not be recorded",
        file="schedule_zero/dispatch/endings.py",
        old="            if att.phase == ENDING:\n                att.phase = REPORTED\n",
        new="            if att.phase == ENDING:\n                att.phase = REPORTED\n"
        "                if att.node.session is not None:\n"
        "                    s = att.node.session\n"
        "                    self._out.send(s.peer, ResultAck(s=s.s, recorded=[att.token]))\n",
        tests=("tests/unit/test_core_attempts.py", "tests/unit/test_core_simulation.py"),
    ),
    Mutant(
        name="rerun-while-the-lease-holds",
        promises="C6 C10",
        what="the attempts of a node that is away are given to others before its lease is over",
        file="schedule_zero/dispatch/membership.py",
        old="        if now.mono_s >= node.instance.lease_end_s + self._config.lease_margin_s:\n",
        new="        if now.mono_s >= node.heard_s + self._config.suspect_s:\n",
        tests=("tests/unit/test_core_attempts.py", "tests/unit/test_core_simulation.py"),
    ),
    Mutant(
        name="restart-reruns-what-runs",
        promises="C11",
        what="after a server's restart nodes have no time to come back with their work",
        file="schedule_zero/dispatch/membership.py",
        old="        lease_end_s = now.mono_s + self._config.lease_s\n        for one in known:\n",
        new="        lease_end_s = now.mono_s - self._config.lease_s\n        for one in known:\n",
        tests=("tests/unit/test_core_sessions.py",),
    ),
    Mutant(
        name="credit-ignored",
        promises="C20",
        what="a node is sent more than it asked for",
        file="schedule_zero/dispatch/membership.py",
        old="        node.asked = min(message.window, MAX_WINDOW)\n",
        new="        node.asked = MAX_WINDOW\n",
        tests=(
            "tests/unit/test_core_lanes.py",
            "tests/unit/test_core_attempts.py",
            "tests/unit/test_core_simulation.py",
        ),
    ),
    Mutant(
        name="silence-unnoticed",
        promises="C8",
        what="a node that says nothing any more is never lost",
        file="schedule_zero/dispatch/membership.py",
        old="                if silent_s >= self._config.lost_s:\n",
        new="                if silent_s >= 100 * self._config.lost_s:\n",
        tests=("tests/unit/test_core_sessions.py",),
    ),
    Mutant(
        name="duplicate-node-admitted",
        promises="C18",
        what="a second process with a living node's id takes over",
        file="schedule_zero/dispatch/sessions.py",
        old="    if node.session is not None and node.state is NodeState.ONLINE:\n",
        new="    if node.session is not None and node.state is NodeState.LOST:\n",
        tests=("tests/unit/test_core_sessions.py",),
    ),
    Mutant(
        name="never-dead",
        promises="C16",
        what="a job that kills its node is rerun without end",
        file="schedule_zero/rules/ending.py",
        old="    elif lost_count + 1 >= max_lost:\n",
        new="    elif lost_count >= 1000 * max_lost:\n",
        tests=("tests/unit/test_ending.py", "tests/unit/test_core_attempts.py"),
    ),
    Mutant(
        name="hand-back-burns-an-attempt",
        promises="C22",
        what="what a draining node gives back has used up an attempt",
        file="schedule_zero/rules/ending.py",
        old="HANDED_BACK = Ending(outcome=AttemptOutcome.HANDED_BACK, state=State.PENDING, burn=False)",
        new="HANDED_BACK = Ending(outcome=AttemptOutcome.HANDED_BACK, state=State.PENDING)",
        tests=("tests/unit/test_ending.py", "tests/unit/test_core_attempts.py"),
    ),
    Mutant(
        name="dispatch-not-repeated",
        promises="C5",
        what="a DISPATCH that was lost on the way is not sent again",
        file="schedule_zero/dispatch/membership.py",
        old="                if att is not None and att.phase == SENT:\n                    again.append(att)\n",
        new="                if att is not None and att.phase == LOSING:\n                    again.append(att)\n",
        tests=("tests/unit/test_core_attempts.py", "tests/unit/test_core_simulation.py"),
    ),
    Mutant(
        name="bad-message-raises",
        promises="C17",
        what="a message that can't be read raises on the server's loop",
        file="schedule_zero/dispatch/inbound.py",
        old="        except ProtocolError as error:\n            self._bad(peer, error.message)\n",
        new="        except ProtocolError:\n            raise\n",
        tests=("tests/integration/test_router_socket.py", "tests/integration/test_router_dispatch.py"),
    ),
    # --- the node ----------------------------------------------------------------------------------
    Mutant(
        name="outbox-without-fsync",
        promises="C9",
        what="a result is sent before it is on the node's disk",
        file="schedule_zero/node/outbox.py",
        old="                os.fdatasync(self._fd)\n",
        new="                pass\n",
        tests=("tests/unit/test_outbox_writer.py",),
    ),
    Mutant(
        name="outbox-dropped-before-the-ack",
        promises="C9",
        what="results are dropped from the outbox when they are sent, not when they are acknowledged",
        file="schedule_zero/node/work.py",
        old="            link.send(EncodedResult(s=link.session, items=items))\n        self._offer_credit()\n",
        new="            link.send(EncodedResult(s=link.session, items=items))\n"
        "            self.outbox.ack(list(self.delivery))\n        self._offer_credit()\n",
        tests=("tests/unit/test_node_work.py", "tests/unit/test_node_delivery.py", "tests/system/test_kills.py"),
    ),
    Mutant(
        name="duplicate-dispatch-runs-twice",
        promises="C6 C7",
        what="a DISPATCH that comes again is run again",
        file="schedule_zero/node/work.py",
        old="            elif token in fresh or token in self._recent or token in self._older:\n",
        new="            elif token in fresh:\n",
        tests=("tests/unit/test_node_work.py::test_a_duplicate_dispatch_runs_once_whenever_it_comes",),
    ),
    Mutant(
        name="node-believes-for-ever",
        promises="C6",
        what="a node whose lease is over goes on as if it held it",
        file="schedule_zero/node/lease.py",
        old="        return now_s < self.until_s\n",
        new="        return self.until_s > 0 or now_s < self.until_s\n",
        tests=("tests/unit/test_node_lease.py", "tests/unit/test_node_work.py"),
    ),
    Mutant(
        name="lease-from-the-answer",
        promises="C6",
        what="a node counts its lease from the answer, not from when it asked",
        file="schedule_zero/node/link.py",
        old="                self._lease.extend(sent_s, self._lease_s)\n",
        new="                self._lease.extend(now_s, self._lease_s)\n",
        tests=("tests/integration/test_node_link.py::test_c6_a_lease_counts_from_when_the_heartbeat_was_sent",),
    ),
    Mutant(
        name="torn-tail-kept",
        promises="C14",
        what="a torn record at the outbox's end is left where the next one is appended",
        file="schedule_zero/node/outbox.py",
        old="            os.ftruncate(fd, end)\n            os.fsync(fd)\n",
        new="            os.fsync(fd)\n",
        tests=("tests/unit/test_outbox_recovery.py",),
    ),
    Mutant(
        name="checksum-not-checked",
        promises="C14",
        what="an outbox record is believed without its checksum",
        file="schedule_zero/node/outbox.py",
        old="        if whole and zlib.crc32(data[start:stop], zlib.crc32(_LENGTH.pack(length))) == checksum:\n",
        new="        if whole and checksum >= 0:\n",
        tests=("tests/unit/test_outbox_recovery.py",),
    ),
    # --- time --------------------------------------------------------------------------------------
    Mutant(
        name="catch-up-without-bound",
        promises="C3",
        what="all fires of an outage are caught up, however many",
        file="schedule_zero/rules/catchup.py",
        old="        return _Group(1 if catch_up is CatchUp.LATEST else 0, CAUGHT_UP, rest, upto_us)\n",
        new="        return _Group(10**9 if catch_up is CatchUp.LATEST else 0, CAUGHT_UP, rest, upto_us)\n",
        tests=("tests/unit/test_catchup.py",),
    ),
    Mutant(
        name="wall-clock-for-durations",
        promises="C12",
        what="the monotonic clock is the wall clock",
        file="schedule_zero/clock.py",
        old="        return time.clock_gettime(time.CLOCK_BOOTTIME)\n",
        new="        return time.time()\n",
        tests=("tests/system/test_clock_steps.py::test_c12_the_clock_of_durations_does_not_follow_the_wall_clock",),
    ),
    Mutant(
        name="missed-fires-without-a-row",
        promises="C2",
        what="fires that are not run are not written down",
        file="schedule_zero/store/schedule_release.py",
        old="            else:\n                decided.append(_decided(f))\n",
        new="",
        tests=("tests/store/test_store_schedules.py",),
    ),
    Mutant(
        name="fire-due-again",
        promises="C1",
        what="the next time is looked for from before the fire, which so is due again",
        file="schedule_zero/rules/catchup.py",
        old="        next_us = times.next_after(due_us)\n        if next_us is None or next_us > now_us:\n",
        new="        next_us = times.next_after(due_us - 1)\n        if next_us is None or next_us > now_us or True:\n",
        tests=("tests/unit/test_catchup.py",),
    ),
)
