"""What users do, in any order, over a simulated world: hypothesis chooses the verbs, the checker has the last word."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schedule_zero.testbed.history import Op
from tests.simulation.clients import SCHEDULE_OPS
from tests.simulation.faults import KINDS, Planned
from tests.simulation.loop import Stuck
from tests.simulation.world import QUICK, Scenario, World

# 300 at night.
EXAMPLES = int(os.environ.get("EXAMPLES", "6"))
NODES = st.sampled_from(["n1", "n2", "n3"])
SMALL = Scenario(schedules=2, clients=0, fires_s=(0.5, 3.0), storm_s=15.0, faults=0, scale=QUICK.scale, calm_s=60.0)
GENTLE = sorted(kind for kind in KINDS if not kind.endswith("_clock"))


class Users(RuleBasedStateMachine):
    """Each step is one call, or some time, or one fault."""

    @initialize(seed=st.integers(0, 1 << 16))
    def begin(self, seed: int) -> None:
        self.world = World(seed, SMALL, plan=[])
        self.stepper = self.world.steps()
        self.do(self.world.begin())

    def do(self, work: Any) -> Any:
        return self.stepper.run(work)

    @property
    def clients(self):
        return self.world.clients

    # --- verbs --------------------------------------------------------------------------------------------

    @rule(many=st.sampled_from([1, 1, 5]))
    def submit(self, many):
        self.do(self.clients.submit(1, many=many))

    @rule()
    def submit_one_that_kills_its_node(self):
        self.do(self.clients.submit(1, many=1, method="exit"))

    @precondition(lambda self: self.clients.executions)
    @rule(data=st.data())
    def cancel(self, data):
        self.do(self.clients.cancel(1, data.draw(st.sampled_from(self.clients.executions))))

    @precondition(lambda self: self.clients.executions)
    @rule(data=st.data(), wait_s=st.sampled_from([0.0, 2.0]))
    def observe(self, data, wait_s):
        self.do(self.clients.observe(1, data.draw(st.sampled_from(self.clients.executions)), wait_s))

    @rule()
    def create_schedule(self):
        id_ = f"s{len(self.clients.schedules)}"
        self.do(self.clients.create(1, self.clients.spec(id_, every=SMALL.fires_s)))

    @precondition(lambda self: self.clients.schedules)
    @rule(data=st.data(), op=st.sampled_from(SCHEDULE_OPS))
    def update_pause_resume_or_delete_schedule(self, data, op: Op):
        self.do(self.clients.on_schedule(1, op, data.draw(st.sampled_from(self.clients.schedules))))

    @precondition(lambda self: self.clients.schedules)
    @rule(data=st.data())
    def run_schedule_now(self, data):
        self.do(self.clients.run_now(1, data.draw(st.sampled_from(self.clients.schedules))))

    @rule()
    def requeue_dead_letters(self):
        self.do(self.clients.requeue(1))

    @rule(node=NODES, what=st.sampled_from(["cordon", "release", "release"]))
    def cordon_or_release(self, node, what):
        self.do(self.clients.operate(1, node, what))

    @rule(node=NODES, length_s=st.sampled_from([0.5, 3.0]))
    def drain(self, node, length_s):
        self.fault("drain", node, length_s, 0.5)

    # --- what else happens ----------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(GENTLE), node=NODES, length_s=st.sampled_from([0.3, 1.5, 4.0]), amount=st.floats(0, 1))
    def fault(self, kind, node, length_s, amount):
        planned = Planned(self.world.loop.now_s, kind, node, length_s, amount)
        self.world.plan.append(planned)
        self.do(self.world.inject(planned))

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0, 6.0]))
    def time_goes_by(self, seconds):
        self.do(asyncio.sleep(seconds))

    @invariant()
    def nothing_was_complained_of(self):
        assert not self.world.complaints, self.world.complaints

    def teardown(self) -> None:
        if not hasattr(self, "stepper"):
            return
        stuck = None
        try:
            self.do(self.world.rest())
        except Stuck as error:
            stuck = str(error)
        outcome = self.stepper.end(stuck)
        assert outcome.ok, outcome.text()


# (A failure is told by its world's seed and steps as they are: to make them fewer takes minutes.)
Users.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
TestUsers = Users.TestCase
