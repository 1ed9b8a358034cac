"""Gates: what must be open for an execution to start now, beside a node with room. Pure, a part of the core.

An execution without options passes none but its handler's. The others, by what its options say:

* *job*, *schedule*, *key*: so many at once, of its method, its schedule, its concurrency key. What runs is counted once
  for all, and each execution is held to its own number: limits may change while jobs run.
* *handler*: an operator's rule, so many at once and so many in a time; changed by ``Placing.set_rules``.
* *job_rate*, *rate_key*, *handler_rate*: token buckets (``rules.limits``).

**The states of what waits**

    in its lane ──its turn, gate shut──► parked at that gate ──the gate opens──► front of its lane ──► started
         │                                    └─ too many: left to the store, and read again (``parking``)
         └─ gate of the whole lane (job, handler): the lane waits, in its order, until that gate opens

**When something runs, for a gate:** from the moment it is chosen (its start may still fail to be committed), until its
node's report, or until the server decides what became of it. So an attempt that was lost counts for as long as its
lease is not over (C6); one that waits for an operator then counts no more. Counts are what is in memory: after a
restart they come from the rows that run. A job gate that nobody needed is made, with its count, when somebody does.

**What can go wrong**

* A start is not committed, or refused: its count and its token go back.
* An attempt is handed back unstarted: its token goes back only if nobody has taken one since. Otherwise a token that
  the full bucket could not hold would be given twice; it is lost instead: slower by one, never faster.
* The end of an attempt can't be committed: it is over for its node all the same. What starts instead is committed
  after it, or with it.
* The server restarts: the buckets that take long to fill are on record (``store.rate_buckets``), the
  others begin empty.
* A gate opens for an execution whose nodes are all busy: that one waits in its lane, and the gate opens for the first
  of every lane, so that others with its key may go first.
* The first of a lane wants the job to run alone while it runs ten times: the lane waits until it may. To let others
  by would be to starve it.
* What a gate let go is cancelled before it starts, or finds another gate shut: others that are parked have their chance
  then, at the latest at the next tick.
* A timer is late or lost: the tick looks too.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

from schedule_zero.dispatch.effects import Collector, Now, WakeAt
from schedule_zero.dispatch.parking import Shelf
from schedule_zero.dispatch.sessions import COUNTED, LiveAttempt, LiveNode
from schedule_zero.model import Execution, LaneKey
from schedule_zero.rules.limits import Limits, Rate, limits_of, next_ns, taken_ns
from schedule_zero.store.rate_buckets import BucketRow

if TYPE_CHECKING:
    from schedule_zero.dispatch.lanes import Lane, Limit

# A bucket that takes longer to be full is kept on record; a faster one begins empty after a restart.
SLOW_NS = 5 * 10**9
# Gates and buckets that nobody waits at are looked through for what can go when there are more.
SWEEP_ABOVE = 10_000


class Gate(Struct, eq=False):
    """So many at once. ``kind``: job, schedule, key."""

    kind: str
    key: str
    running: int = 0
    # Lanes that wait as a whole, and what is parked of others.
    waiting: dict[Lane, None] = field(default_factory=dict)
    shelves: dict[Lane, Shelf] = field(default_factory=dict)

    @property
    def holds_lane(self) -> bool:
        return self.kind == "job"


class Bucket(Gate, eq=False):
    """So many in a time. ``kind``: handler_rate, job_rate, rate_key."""

    # When it is full (``rules.limits``).
    full_ns: int = 0
    # When it is looked at again.
    wake_ns: int | None = None
    # The last start (wall time) that was on record when the server started.
    restored_us: int = 0

    @property
    def holds_lane(self) -> bool:
        return self.kind != "rate_key"


class Gates:
    """All gates of one core."""

    def __init__(self, nodes: Mapping[str, LiveNode], out: Collector) -> None:
        self._nodes = nodes
        self._out = out
        # Filled by ``LaneBook``.
        self.lanes: dict[LaneKey, Lane] = {}
        self.jobs: dict[str, Gate] = {}
        self.schedules: dict[str, Gate] = {}
        self.keys: dict[str, Gate] = {}
        self.rate_keys: dict[str, Bucket] = {}
        # Those of jobs and handlers, by kind and name: few, and known to their lanes.
        self.buckets: dict[tuple[str, str], Bucket] = {}
        # What has room again; whoever ends attempts looks here afterwards (``Placing.settle``).
        self.freed: dict[Gate | Limit, None] = {}
        # The buckets begin empty then. None: they begin full.
        self._began_ns: int | None = None
        self._wakes: list[tuple[int, int, Bucket]] = []
        self._numbers = itertools.count()
        self._sweep_at = SWEEP_ABOVE

    # --- may it start? ----------------------------------------------------------------------------

    def shut(self, row: Execution, lane: Lane, now_ns: int) -> Gate | None:
        """The first of its own gates that is shut; its handler's is ``handler_shut``."""
        limits = limits_of(row.options)
        if limits is None:
            return None
        if limits.per_job is not None:
            job = lane.job or self._job(lane)
            if job.running >= limits.per_job:
                return job
        if limits.per_schedule is not None and row.schedule_id is not None:
            gate = self.schedules.get(row.schedule_id)
            if gate is not None and gate.running >= limits.per_schedule:
                return gate
        if limits.per_key is not None and row.concurrency_key is not None:
            gate = self.keys.get(row.concurrency_key)
            if gate is not None and gate.running >= limits.per_key:
                return gate
        if limits.rate is not None:
            bucket = self._bucket_of(row, lane, limits.rate)
            if next_ns(bucket.full_ns, limits.rate) > now_ns:
                return bucket
        return None

    def handler_shut(self, lane: Lane, now_ns: int) -> bool:
        """Whether an operator's rule keeps the whole handler waiting."""
        limit = lane.limit
        if limit is None:
            return False
        if limit.running >= limit.max_running:
            # ``settle`` comes to all lanes of a limit.
            return True
        bucket = limit.bucket
        if bucket is None or limit.rate is None:
            return False
        at_ns = next_ns(bucket.full_ns, limit.rate)
        if at_ns <= now_ns:
            return False
        bucket.waiting[lane] = None
        self._wake(bucket, at_ns)
        return True

    def hold(self, row: Execution, lane: Lane, gate: Gate) -> bool:
        """``row``, which was taken from ``lane``, waits for ``gate``. True: and the whole lane with it."""
        if isinstance(gate, Bucket):
            limits = limits_of(row.options)
            if limits is not None and limits.rate is not None:
                self._wake(gate, next_ns(gate.full_ns, limits.rate))
        if gate.holds_lane:
            gate.waiting[lane] = None
            lane.put_back(row)
            return True
        lane.park(row, gate)
        # It may have been let go by another gate, which has room for the next one then.
        for other in (
            self.schedules.get(row.schedule_id or ""),
            self.keys.get(row.concurrency_key or ""),
            self.rate_keys.get(row.rate_key or ""),
        ):
            if other is not None and other is not gate and other.shelves:
                self.freed[other] = None
        return False

    # --- it starts, it ends -----------------------------------------------------------------------

    def enter(self, att: LiveAttempt, limits: Limits | None, now: Now | None = None) -> None:
        """``att`` is about to start. Without a moment: it started earlier, and is here again."""
        row, lane = att.row, att.lane
        held: tuple[Gate, ...] = ()
        if row.concurrency_key is not None:
            held = (self.keys.get(row.concurrency_key) or _made(self.keys, "key", row.concurrency_key),)
        if row.schedule_id is not None:
            held += (self.schedules.get(row.schedule_id) or _made(self.schedules, "schedule", row.schedule_id),)
        if lane.job is not None:
            held += (lane.job,)
        for gate in held:
            gate.running += 1
        att.gates = held
        if now is not None and (limits is not None or lane.limit is not None):
            for bucket, rate in self._buckets_of(att, limits):
                att.spent += (self._spend(bucket, rate, now),)

    def _buckets_of(self, att: LiveAttempt, limits: Limits | None) -> tuple[tuple[Bucket, Rate], ...]:
        limit, rate = att.lane.limit, None if limits is None else limits.rate
        found = () if rate is None else ((self._bucket_of(att.row, att.lane, rate), rate),)
        if limit is None or limit.bucket is None or limit.rate is None:
            return found
        return (*found, (limit.bucket, limit.rate))

    def _spend(self, bucket: Bucket, rate: Rate, now: Now) -> tuple[Bucket, int, int]:
        before = bucket.full_ns
        bucket.full_ns = taken_ns(before, rate, now.ns)
        if rate.fill_ns > SLOW_NS:
            self._keep(bucket, rate, now)
        return bucket, before, bucket.full_ns

    def _keep(self, bucket: Bucket, rate: Rate, now: Now) -> None:
        full_us = now.wall_us + (bucket.full_ns - now.ns) // 1_000
        row = BucketRow(bucket.kind, bucket.key, full_us, now.wall_us, rate.fill_ns // 1_000)
        self._out.buckets[bucket.kind, bucket.key] = row

    def leave(self, att: LiveAttempt) -> None:
        """It runs no more."""
        for gate in att.gates:
            gate.running -= 1
            if gate.waiting or gate.shelves:
                self.freed[gate] = None
            elif not gate.running:
                self._drop(gate)
        att.gates = ()

    def refund(self, att: LiveAttempt) -> None:
        """It has not started, and never will: its tokens go back, where that is certain to be right."""
        for bucket, before, after in att.spent:
            if bucket.full_ns == after:
                bucket.full_ns = before
                if bucket.waiting or bucket.shelves:
                    self.freed[bucket] = None
        att.spent = ()

    # --- a gate opens -----------------------------------------------------------------------------

    def opened(self, gate: Gate, now_ns: int) -> Iterable[Lane]:
        """Bring back what may start now; the lanes in which there may be something."""
        lanes, gate.waiting = gate.waiting, {}
        next_wake_ns: int | None = None
        for lane, shelf in list(gate.shelves.items()):
            back, at_ns = self._unshelve(gate, lane, shelf, now_ns)
            lane.parking.tidy(shelf)
            for row in reversed(back):
                lane.bring_back(row)
            lanes[lane] = None
            if at_ns is not None and (next_wake_ns is None or at_ns < next_wake_ns):
                next_wake_ns = at_ns
        if next_wake_ns is not None and isinstance(gate, Bucket):
            self._wake(gate, next_wake_ns)
        if not gate.running and not gate.shelves:
            self._drop(gate)
        return lanes

    def _unshelve(self, gate: Gate, lane: Lane, shelf: Shelf, now_ns: int) -> tuple[list[Execution], int | None]:
        """As many as find room, and when the next one does if only time is missing."""
        back: list[Execution] = []
        running = gate.running
        full_ns = gate.full_ns if isinstance(gate, Bucket) else 0
        while shelf.heap:
            if isinstance(gate, Bucket):
                limits = limits_of(shelf.heap[0][2].options)
                if limits is not None and limits.rate is not None:
                    at_ns = next_ns(full_ns, limits.rate)
                    if at_ns > now_ns:
                        return back, at_ns
                    full_ns = taken_ns(full_ns, limits.rate, now_ns)
            else:
                most = _most(gate, shelf.heap[0][2])
                if most is not None and running >= most:
                    break
                running += 1
            back.append(lane.parking.take(shelf))
        return back, None

    def due(self, now_ns: int) -> None:
        """Buckets whose moment has come are looked at again."""
        wakes = self._wakes
        while wakes and wakes[0][0] <= now_ns:
            at_ns, _, bucket = heapq.heappop(wakes)
            if bucket.wake_ns == at_ns:
                bucket.wake_ns = None
                self.freed[bucket] = None
        if wakes:
            self._out.other.append(WakeAt(wakes[0][0] / 1e9))

    def _wake(self, bucket: Bucket, at_ns: int) -> None:
        if bucket.wake_ns is None or at_ns < bucket.wake_ns:
            bucket.wake_ns = at_ns
            heapq.heappush(self._wakes, (at_ns, next(self._numbers), bucket))
            if self._wakes[0][0] == at_ns:
                self._out.other.append(WakeAt(at_ns / 1e9))

    # --- the gates themselves ---------------------------------------------------------------------

    def restore(self, rows: Iterable[BucketRow], now: Now) -> None:
        """The server starts. What is on record is as it was; what fills fast begins empty (``bucket``)."""
        self._began_ns = now.ns
        for row in rows:
            # The wall clock may have been set back since: no bucket is emptier than empty.
            fills_us = min(row.full_us - now.wall_us, row.fill_us)
            bucket = Bucket(row.kind, row.name, full_ns=now.ns + fills_us * 1_000)
            if row.kind == "rate_key":
                self.rate_keys[row.name] = bucket
            else:
                self.buckets[row.kind, row.name] = bucket
            bucket.restored_us = row.taken_us

    def replay(self, att: LiveAttempt, now: Now) -> None:
        """An attempt that was running when the server started: its start may be newer than what is on record."""
        started_us = att.row.dispatched_us
        if started_us is None:
            return
        for bucket, rate in self._buckets_of(att, limits_of(att.row.options)):
            if rate.fill_ns > SLOW_NS and started_us > bucket.restored_us:
                at_ns = now.ns - max(now.wall_us - started_us, 0) * 1_000
                bucket.full_ns = taken_ns(bucket.full_ns, rate, at_ns)
                self._keep(bucket, rate, now)

    def adopt(self, lane: Lane) -> None:
        """A lane begins."""
        lane.job = self.jobs.get(_job_of(lane))

    def _job(self, lane: Lane) -> Gate:
        """The first limit that anybody sets to this job: count what runs already."""
        name = _job_of(lane)
        job = _made(self.jobs, "job", name)
        for node in self._nodes.values():
            for att in node.attempts.values():
                if att.phase in COUNTED and _job_of(att.lane) == name:
                    job.running += 1
                    att.gates = (*att.gates, job)
        for other in self.lanes.values():
            if _job_of(other) == name:
                other.job = job
        return job

    def _bucket_of(self, row: Execution, lane: Lane, rate: Rate) -> Bucket:
        if row.rate_key is not None:
            bucket = self.rate_keys.get(row.rate_key)
            if bucket is None:
                bucket = self.rate_keys[row.rate_key] = self._new_bucket("rate_key", row.rate_key, rate)
            return bucket
        if lane.bucket is None:
            lane.bucket = self.bucket("job_rate", _job_of(lane), rate)
        return lane.bucket

    def bucket(self, kind: str, key: str, rate: Rate) -> Bucket:
        """The one of that name. ``rate`` is what it is asked for now."""
        bucket = self.buckets.get((kind, key))
        if bucket is None:
            bucket = self.buckets[kind, key] = self._new_bucket(kind, key, rate)
        return bucket

    def _new_bucket(self, kind: str, key: str, rate: Rate) -> Bucket:
        bucket = Bucket(kind, key)
        if self._began_ns is not None and rate.fill_ns <= SLOW_NS:
            # Nobody knows what the server before has just started.
            bucket.full_ns = self._began_ns + rate.fill_ns
        return bucket

    def _drop(self, gate: Gate) -> None:
        """Nothing is known by it that is not known without it. (Job gates are few, and known to their lanes.)"""
        if gate.kind == "key":
            self.keys.pop(gate.key, None)
        elif gate.kind == "schedule":
            self.schedules.pop(gate.key, None)

    def tick(self, now_ns: int) -> None:
        """Look whether something parked was let go for nothing; forget buckets that are full."""
        self.due(now_ns)
        for lane in self.lanes.values():
            for gate, shelf in lane.parking.shelves.items():
                if isinstance(gate, Bucket) or not shelf.heap:
                    continue
                most = _most(gate, shelf.heap[0][2])
                if most is None or gate.running < most:
                    self.freed[gate] = None
        if len(self.rate_keys) > self._sweep_at:
            for name, bucket in list(self.rate_keys.items()):
                if bucket.full_ns <= now_ns and not bucket.shelves:
                    del self.rate_keys[name]
            self._sweep_at = max(SWEEP_ABOVE, 2 * len(self.rate_keys))

    def parked(self, lanes: Iterable[Lane]) -> Counter[str]:
        """How many are parked, by the kind of gate."""
        counts: Counter[str] = Counter()
        for lane in lanes:
            for shelf in lane.parking.shelves.values():
                counts[shelf.gate.kind] += len(shelf.heap)
        return counts


def _most(gate: Gate, row: Execution) -> int | None:
    """How many ``row`` allows to run at once, of a schedule or with a key."""
    limits = limits_of(row.options)
    if limits is None:
        return None
    return limits.per_schedule if gate.kind == "schedule" else limits.per_key


def _made(gates: dict[str, Gate], kind: str, key: str) -> Gate:
    gate = gates[key] = Gate(kind, key)
    return gate


def _job_of(lane: Lane) -> str:
    return f"{lane.handler_id}.{lane.job_method}"
