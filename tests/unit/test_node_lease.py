from __future__ import annotations

from schedule_zero.node.lease import Lease, ServerTime


def test_the_lease_counts_from_the_sending_of_what_was_acknowledged() -> None:
    lease = Lease()
    assert not lease.held(0.0)
    lease.extend(sent_s=100.0, lease_s=15.0)
    assert lease.held(114.999)
    assert not lease.held(115.0)


def test_a_late_acknowledgement_of_an_earlier_heartbeat_shortens_nothing() -> None:
    lease = Lease()
    lease.extend(104.0, 15.0)
    lease.extend(102.0, 15.0)
    assert lease.held(118.9)


def test_server_time_trusts_the_shortest_round_trip() -> None:
    time = ServerTime()
    time.sample(10.0, 10.040, 1_000_020_000)
    time.sample(12.0, 12.002, 1_002_001_000)
    time.sample(14.0, 14.050, 1_004_040_000)
    assert time.at_us(20.0) == 1_010_000_000
    assert time.rtt_s is not None
    assert round(time.rtt_s, 6) == 0.002


def test_server_time_follows_a_step_of_the_servers_clock() -> None:
    time = ServerTime()
    time.sample(10.0, 10.001, 5_000_000_500)
    time.sample(12.0, 12.010, 5_002_005_000 + 3_600_000_000)
    assert time.at_us(12.0) == 5_002_000_000 + 3_600_000_000


def test_server_time_follows_drift_when_old_samples_age() -> None:
    time = ServerTime()
    time.sample(0.0, 0.0001, 0)
    for n in range(1, 40):
        # 1 ms of drift per sample, always with a longer round trip than the first.
        time.sample(n * 1.0, n + 0.010, n * 1_000_000 + n * 1_000 + 5_000)
    assert abs(time.at_us(40.0) - 40_040_000) < 30_000
