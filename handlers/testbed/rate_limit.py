"""One quota for all nodes: the first one takes all that it gives, then the others want their share."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from schedule_zero.testbed.job_ledger import entered
from schedule_zero.testbed.scenario import Ground, Scenario, ScenarioParams, Seen

# A server that is out of breath may give less than the quota allows, but not much.
USED_SHARE = 0.8
# Until a job that was given to a node is entered there; and what a clock is read too early or late.
UNDERWAY_S, CLOCK_S = 0.5, 0.002
BEGUN_WITHIN_S = 30.0


class RateLimit(Scenario):
    """Is a quota that nodes share never exceeded, over any window, and always used?"""

    handler_id = "rate_limit"

    class Params(ScenarioParams, frozen=True):
        per_s: int = 50
        burst: int = 10
        # Of the first node, which comes before the others; and of each of these.
        first_jobs: int = 500
        other_jobs: int = 150

    quick = {"per_s": 40, "burst": 5, "first_jobs": 60, "other_jobs": 20}
    holds = {
        "within_quota": "in no time T more than burst + rate x T were given to nodes",
        "nodes_within_quota": "nor did more begin there, but for half a second that it takes to get there",
        "quota_used": "while jobs waited, four fifths of the quota were given at least",
        "others_back_off": "jobs of the other nodes, which had nothing to do, waited for the quota",
        "each_once": "each job ran once, and completed",
        "on_their_node": "each job ran on the node that it was for",
    }
    measures = {
        "rate_per_s": "jobs per second, from the first to the last",
        "highest_per_s": "jobs in the fullest second",
        "fairness": "Jain's index of the nodes' shares while all wanted some: 1 is equal, 1/n: one got all",
        "others_waited_s": "seconds; how long the first job of a node waited, at most",
    }
    worse = {"less": ("rate_per_s", "fairness"), "more": ("others_waited_s",)}

    def spend(self) -> None:
        """Be counted."""
        with entered("rate_limit.spend"):
            pass

    @classmethod
    async def drive(cls, ground: Ground) -> None:
        params, nodes, jobs = ground.params, list(ground.nodes), {}
        key = f"rate_limit.{ground.now_us()}"
        why: dict[str, Any] = {}

        def wanted(node: str, count: int) -> list[dict[str, Any]]:
            options = {"rate_limit": f"{params.per_s}/s", "rate_burst": params.burst, "rate_key": key}
            options["require"] = [f"node == {node}"]
            return [{"handler_id": cls.handler_id, "job_method": "spend", "options": options}] * count

        jobs[nodes[0]] = await ground.client.submit_many(wanted(nodes[0], params.first_jobs))
        await ground.until(lambda: len(ground.runs()) > params.burst, BEGUN_WITHIN_S)
        for node in nodes[1:]:
            jobs[node] = await ground.client.submit_many(wanted(node, params.other_jobs))
            # The last one of them can't have begun yet.
            why[node] = (await ground.client.execution(jobs[node][-1])).waiting_for
        ground.keep("jobs", jobs)
        ground.keep("why", why)
        total = sum(map(len, jobs.values()))
        within_s = BEGUN_WITHIN_S + 2 * total / params.per_s
        await ground.until(lambda: len(ground.runs()) >= total, within_s)

    @classmethod
    def judge(cls, ground: Ground, seen: Seen) -> None:
        params, jobs = ground.params, seen.kept["jobs"]
        node_of = {id_: node for node, ids in jobs.items() for id_ in ids}
        given = sorted(
            (one.dispatched_at.timestamp(), id_)
            for id_, one in seen.executions.items()
            if one.dispatched_at is not None
        )
        times = [at_s for at_s, _ in given]
        begun = [run.start_us / 1e6 for run in sorted(seen.runs, key=lambda run: run.start_us)]
        seen.hold_each("within_quota", beyond(times, params.per_s, params.burst, CLOCK_S), of=len(times))
        seen.hold_each("nodes_within_quota", beyond(begun, params.per_s, params.burst, UNDERWAY_S), of=len(begun))
        if times:
            least_s = (len(times) - params.burst) / params.per_s
            took_s = times[-1] - times[0]
            said = f"{len(times)} jobs took {took_s:.2f} s; the quota gives them in {least_s:.2f} s"
            seen.hold("quota_used", took_s <= least_s / USED_SHARE + UNDERWAY_S, said)
        for node, why in seen.kept["why"].items():
            reason = (why or {}).get("reason")
            seen.hold("others_back_off", reason == "rate", f"node {node}: its last job waited for {reason}")
        times_run = seen.by_execution()
        for id_ in node_of:
            status = seen.executions[id_].status if id_ in seen.executions else "nowhere"
            said = f"execution {id_}: ran {times_run[id_]} times, is {status}"
            seen.hold("each_once", times_run[id_] == 1 and status == "completed", said)
        strange = [
            f"{run.execution_id}: on {run.node_id}" for run in seen.runs if node_of.get(run.execution_id) != run.node_id
        ]
        seen.hold_each("on_their_node", strange, of=len(seen.runs))
        if len(times) > 1:
            _measure(seen, jobs, given)


def beyond(times: list[float], per_s: float, burst: int, slack_s: float) -> list[str]:
    """Each moment up to which more came, since some earlier one, than a quota allows.

    From i to j came j - i + 1, and ``burst + per_s * (t_j - t_i)`` are right; the worst i is the one with the least
    ``i - per_s * t_i``.
    """
    found: list[str] = []
    least, since_s = float("inf"), 0.0
    for number, at_s in enumerate(times):
        if number - per_s * (at_s - times[0]) < least:
            least, since_s = number - per_s * (at_s - times[0]), at_s
        over = number + 1 - per_s * (at_s - times[0]) - least - burst - per_s * slack_s
        if over > 0:
            found.append(f"{over:.1f} too many in the {at_s - since_s:.3f} s to {at_s - times[0]:.3f} s")
    return found


def jain(shares: list[int]) -> float:
    """R. Jain's index: 1 where all are equal, 1/n where one has it all."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares)) if any(shares) else 1.0


def _measure(seen: Seen, jobs: dict[str, list[str]], given: list[tuple[float, str]]) -> None:
    times, of = [at_s for at_s, _ in given], {id_: at_s for at_s, id_ in given}
    seen.measure("rate_per_s", len(times) / (times[-1] - times[0]))
    seen.measure("highest_per_s", max(bisect_right(times, at_s + 1) - number for number, at_s in enumerate(times)))
    got = {node: sorted(of[id_] for id_ in ids if id_ in of) for node, ids in jobs.items()}
    got = {node: mine for node, mine in got.items() if mine}
    asked = {node: seen.executions[next(id_ for id_ in jobs[node] if id_ in of)].created_at.timestamp() for node in got}
    from_s, to_s = max(asked.values()), min(mine[-1] for mine in got.values())
    seen.measure("fairness", jain([sum(from_s <= at_s <= to_s for at_s in mine) for mine in got.values()]))
    seen.measure("others_waited_s", max(got[node][0] - asked[node] for node in got))
    for node, mine in got.items():
        seen.draw(
            f"given to {node}",
            ((seen.at_s(round(at_s * 1e6)), number + 1) for number, at_s in enumerate(mine)),
            y="jobs",
        )
