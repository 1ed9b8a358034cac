"""Real processes, killed at the worst moments: nothing acknowledged is lost, nothing runs twice without cause.

Each test ends with ``bed.judge``; what it asserts besides is what it is about.
"""

from __future__ import annotations

import signal
from collections import Counter

from tests.support import eventually_sync
from tests.system.bed import CHAOS, Bed
from tests.system.processes import NodeProcess


def test_a_server_killed_during_1000_bulk_jobs_loses_none_and_runs_none_twice(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node(slots=8)

    bed.submit(1000, "ok")
    eventually_sync(lambda: len(bed.starts()) >= 100)
    bed.server.kill()
    bed.restart_server()

    eventually_sync(lambda: bed.states() == Counter(completed=1000), within_s=60)
    assert sum(bed.starts().values()) == 1000
    bed.judge()


def test_jobs_running_while_the_server_restarts_are_re_attached_not_rerun(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()

    [execution_id] = bed.submit(1, "sleep", seconds=4)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.server.kill()
    bed.restart_server()

    done = bed.execution(execution_id, wait_s=20)
    assert (done["status"], done["attempt"]) == ("completed", 1)
    bed.judge()


def test_a_result_waits_in_the_outbox_while_the_server_is_away(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()

    [execution_id] = bed.submit(1, "sleep", seconds=1)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.server.kill()
    eventually_sync(bed.ends)
    bed.restart_server()

    done = bed.execution(execution_id, wait_s=20)
    assert (done["status"], done["attempt"]) == ("completed", 1)
    bed.judge()


def test_a_result_survives_the_node_s_own_death(bed: Bed) -> None:
    bed.start_server(env={})
    node = bed.start_node()

    [execution_id] = bed.submit(1, "sleep", seconds=1)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.server.kill()
    eventually_sync(bed.ends)
    outbox = bed.folder / "nodes"
    eventually_sync(lambda: any(path.stat().st_size for path in outbox.rglob("outbox*") if path.is_file()))
    node.kill()
    bed.restart_server()
    bed.start_node()

    done = bed.execution(execution_id, wait_s=20)
    assert (done["status"], done["attempt"]) == ("completed", 1)
    bed.judge()


def test_a_killed_node_s_attempts_run_again_elsewhere_after_the_lease(bed: Bed) -> None:
    bed.start_server()
    first = bed.start_node("n1")
    [execution_id] = bed.submit(1, "sleep", seconds=3)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    bed.start_node("n2")
    first.kill()

    eventually_sync(lambda: bed.node_state("n1") == "lost", within_s=5)
    done = bed.execution(execution_id, wait_s=30)

    assert (done["status"], done["attempt"], done["node_id"]) == ("completed", 2, "n2")
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["lost", "completed"]
    # Not before the lease and its margin were over, above all.
    bed.judge()


def test_a_job_that_kills_its_node_three_times_is_dead(bed: Bed) -> None:
    bed.start_server()
    node = bed.start_node()
    [poison] = bed.submit(1, "exit")
    for _ in range(2):
        eventually_sync(lambda: not node.alive(), within_s=20)
        # It may be dead again before anybody sees it online.
        node = bed.start_node(wait=False)
    eventually_sync(lambda: not node.alive(), within_s=20)
    bed.start_node()

    assert bed.execution(poison, wait_s=20)["status"] == "dead"
    [ok] = bed.submit(1, "ok")
    assert bed.execution(ok, wait_s=20)["status"] == "completed"
    bed.judge()


def test_a_second_node_of_the_same_name_is_denied_and_the_incumbent_works_on(bed: Bed) -> None:
    bed.start_server()
    bed.start_node("n1")
    (bed.folder / "other").mkdir()
    newcomer = NodeProcess(bed.folder / "other", bed.server.addresses["zmq"], CHAOS, node_id="n1")
    bed.own(newcomer)

    assert newcomer.popen.wait(20) != 0
    assert "n1" in newcomer.output()
    [ok] = bed.submit(1, "ok")
    assert bed.execution(ok, wait_s=20)["status"] == "completed"
    bed.judge()


def test_sigterm_drains_a_node_its_running_job_finishes_and_the_waiting_ones_go_elsewhere(
    bed: Bed,
) -> None:
    bed.start_server()
    node = bed.start_node("n1", slots=1)
    ids = bed.submit(3, "sleep", seconds=1.5)
    eventually_sync(lambda: len(bed.starts()) == 1)
    bed.start_node("n2", slots=2)

    assert node.terminate() == 0

    for execution_id in ids:
        done = bed.execution(execution_id, wait_s=20)
        assert (done["status"], done["attempt"]) == ("completed", 1), done
    assert max(bed.starts().values()) == 1
    bed.judge()


def test_sigterm_stops_the_server_in_order_with_exit_code_0(bed: Bed) -> None:
    bed.start_server(env={})
    bed.start_node()
    bed.submit(200, "ok")

    assert bed.server.terminate() == 0
    assert not bed.server.server_json.exists()

    bed.restart_server()
    eventually_sync(lambda: bed.states() == Counter(completed=200), within_s=30)
    assert max(bed.starts().values()) == 1
    bed.judge()


def test_a_node_and_its_server_killed_together_lose_nothing(bed: Bed) -> None:
    bed.start_server()
    node = bed.start_node(slots=8)
    bed.submit(300, "ok")
    eventually_sync(lambda: len(bed.starts()) >= 30)
    bed.server.kill()
    node.kill()
    bed.restart_server()
    bed.start_node(slots=8)

    eventually_sync(lambda: bed.states() == Counter(completed=300), within_s=60)
    # What its node had when it died may run again (at-least-once), nothing else: each loss has to have a cause.
    bed.judge()


def test_a_stopped_node_fences_itself_and_its_late_result_is_refused(bed: Bed) -> None:
    bed.start_server()
    node = bed.start_node("n1")
    [execution_id] = bed.submit(1, "sleep", seconds=1)
    eventually_sync(lambda: bed.starts()[execution_id] == 1)
    node.signal(signal.SIGSTOP)
    bed.start_node("n2")
    done = bed.execution(execution_id, wait_s=30)
    assert (done["status"], done["node_id"], done["attempt"]) == ("completed", "n2", 2)

    node.signal(signal.SIGCONT)
    eventually_sync(lambda: bed.node_state("n1") == "online", within_s=15)

    again = bed.execution(execution_id)
    assert (again["node_id"], again["attempt"], again["result"]) == ("n2", 2, done["result"])
    bed.judge()


def test_a_write_that_was_answered_is_there_after_kill_9(bed: Bed) -> None:
    bed.start_server()
    # Its methods are known, and there is nobody to run them.
    bed.start_node().kill()
    for _ in range(50):
        bed.submit(1, "ok")
    bed.server.kill()

    assert bed.judge(settled=False).checked["C4"] >= 50


def test_a_client_that_repeats_a_write_with_its_key_creates_nothing_twice(bed: Bed) -> None:
    bed.start_server()
    bed.start_node()
    item = {"handler_id": "chaos", "job_method": "ok", "job_params": {}, "idempotency_key": "mine"}
    first = bed.ask([item], key="once")
    bed.server.kill()
    bed.restart_server()
    second = bed.ask([item], key="once")

    assert first == second
    assert bed.execution(first[0], wait_s=20)["status"] == "completed"
    bed.judge()
