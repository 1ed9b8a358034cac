"""CURVE: who may connect, what a key may say, and that nothing opens by accident (notes E14–E17)."""

from __future__ import annotations

import stat
from contextlib import suppress

import pytest
import zmq
from zmq.utils import z85

from schedule_zero.config import ZmqConfig
from schedule_zero.dispatch import curve as curve_module
from schedule_zero.dispatch.curve import CurveKeys, is_loopback, wanted
from schedule_zero.errors import ConfigError
from schedule_zero.model import NodeState
from schedule_zero.wire import codec
from schedule_zero.wire import messages as m
from tests.integration.dispatch_bed import NOOP, Peer, running_bed, with_zmq
from tests.support import eventually

pytestmark = pytest.mark.anyio

CURVE = with_zmq(curve="on")


@pytest.fixture
async def bed(tmp_path):
    async with running_bed(tmp_path / "server", CURVE) as bed:
        yield bed


def local_secret(bed):
    return (bed.state_dir / "curve" / "local-node.secret").read_bytes().strip()


async def denied_at_the_door(bed, peer) -> bool:
    """The peer says HELLO; the server refuses its handshake and hears nothing."""
    before, heard = bed.curve.denied, bed.dispatcher.stats.messages_in
    peer.say_hello()
    await eventually(lambda: bed.curve.denied > before)
    return bed.dispatcher.stats.messages_in == heard and peer.take(m.Welcome) is None


# --- when it is on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.5", False),
        ("*", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_what_is_reached_only_from_this_machine(host, loopback):
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("host", "curve", "on"),
    [("127.0.0.1", "auto", False), ("127.0.0.1", "on", True), ("0.0.0.0", "auto", True), ("0.0.0.0", "on", True)],
)
def test_curve_is_on_wherever_others_can_connect(host, curve, on):
    assert wanted(ZmqConfig(host=host, curve=curve)) is on


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "example.com", "*"])
def test_curve_off_beyond_this_machine_is_refused(host):
    with pytest.raises(ConfigError, match="other machines") as caught:
        wanted(ZmqConfig(host=host, curve="off"))
    assert caught.value.pointer == "/zmq/curve"


# --- keys on disk --------------------------------------------------------------------------------------------


async def test_keys_are_made_at_the_first_start_private_and_kept(tmp_path):
    async with running_bed(tmp_path / "server", CURVE) as bed:
        directory = bed.state_dir / "curve"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for name in ("server.secret", "local-node.secret"):
            assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
        assert (directory / "server.public").read_text().strip() == bed.curve.server_public
        public, secret = bed.curve.server_public, local_secret(bed)
    async with running_bed(tmp_path / "server", CURVE) as bed:
        assert (bed.curve.server_public, local_secret(bed)) == (public, secret)
        with Peer(bed, secret=secret) as node:
            await node.ready()


async def test_a_damaged_key_file_is_a_clear_error(tmp_path):
    directory = tmp_path / "server" / "curve"
    directory.mkdir(parents=True, mode=0o700)
    (directory / "server.secret").write_text("not a key")
    with pytest.raises(ConfigError, match=r"server\.secret: expected one line of 40 characters"):
        async with running_bed(tmp_path / "server", CURVE):
            pass


async def test_a_key_file_that_others_can_read_is_refused(tmp_path):
    async with running_bed(tmp_path / "server", CURVE) as bed:
        secret = bed.state_dir / "curve" / "server.secret"
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read"):
        async with running_bed(tmp_path / "server", CURVE):
            pass


# --- the door ------------------------------------------------------------------------------------------------


async def test_a_local_node_gets_in_and_works(bed):
    with Peer(bed, secret=local_secret(bed)) as node:
        await node.ready()
        [execution_id] = await bed.submit()
        [item] = await node.work()
        node.report(item)
        await bed.becomes(execution_id, "completed")


async def test_an_unknown_key_is_refused_and_not_heard(bed):
    _, stranger = zmq.curve_keypair()
    with Peer(bed, secret=stranger) as node:
        assert await denied_at_the_door(bed, node)


async def test_a_node_without_a_key_is_refused_and_not_heard(bed):
    with Peer(bed) as plain, Peer(bed, "n2", secret=local_secret(bed)) as well:
        # libzmq closes the connection at the greeting, so there may be nothing to send on.
        with suppress(zmq.Again):
            plain.say_hello()
        await well.ready()
        assert plain.take(m.Welcome) is None
        assert [view.node_id for view in bed.dispatcher.nodes()] == ["n2"]


async def test_an_exception_in_the_authenticator_denies_and_is_survived(bed, monkeypatch):
    real = z85.encode

    def broken(_):
        raise RuntimeError("a bug in the authenticator")

    monkeypatch.setattr(curve_module.z85, "encode", broken)
    with Peer(bed, secret=local_secret(bed)) as node:
        node.say_hello()
        await eventually(lambda: bed.dispatcher._router.refused_handshakes)
        assert node.take(m.Welcome) is None
    monkeypatch.setattr(curve_module.z85, "encode", real)
    with Peer(bed, secret=local_secret(bed)) as node:
        await node.hello()


async def test_a_server_whose_authenticator_is_missing_lets_nobody_in(bed):
    bed.curve.close()
    with Peer(bed, secret=local_secret(bed)) as node:
        node.say_hello()
        with pytest.raises(AssertionError):
            await node.wait(m.Welcome, within_s=0.5)


# --- the self-test --------------------------------------------------------------------------------------------


async def test_the_self_test_refuses_to_start_a_server_that_lets_strangers_in(tmp_path, monkeypatch):
    monkeypatch.setattr(CurveKeys, "_user_of", lambda *_: b"anybody")
    with pytest.raises(ConfigError, match="unknown key was not refused"):
        async with running_bed(tmp_path / "server", CURVE):
            pass


async def test_the_self_test_refuses_to_start_a_server_without_security(tmp_path, monkeypatch):
    monkeypatch.setattr(CurveKeys, "secure", lambda *_: None)
    monkeypatch.setattr(curve_module, "SELF_TEST_S", 0.3)
    with pytest.raises(ConfigError, match="unknown key was not refused"):
        async with running_bed(tmp_path / "server", CURVE):
            pass


async def test_the_self_test_refuses_to_start_a_server_that_denies_everybody(tmp_path, monkeypatch):
    monkeypatch.setattr(CurveKeys, "_user_of", lambda *_: b"")
    with pytest.raises(ConfigError, match="own key was refused"):
        async with running_bed(tmp_path / "server", CURVE):
            pass


async def test_the_self_test_works_on_all_interfaces(tmp_path):
    async with running_bed(tmp_path / "server", with_zmq(host="0.0.0.0", curve="auto")) as bed:
        assert bed.curve.enabled


# --- what a key may say -----------------------------------------------------------------------------------------


async def test_a_key_is_bound_to_its_node_id(bed):
    _, secret = await bed.curve.create("n1", ["*"])
    with Peer(bed, "n2", secret=secret.encode()) as node:
        node.say_hello()
        denial = await node.wait(m.Deny)
        assert (denial.code, denial.retry) == ("key_node_id", False)
    with Peer(bed, "n1", secret=secret.encode()) as node:
        await node.ready()


async def test_a_key_is_bound_to_its_handlers(bed):
    _, secret = await bed.curve.create("n1", ["other"])
    with Peer(bed, secret=secret.encode()) as node:
        node.say_hello()
        assert (await node.wait(m.Deny)).code == "key_handler"
        node.say_hello(handlers=[m.HandlerDeclaration(handler_id="other", methods=[NOOP])])
        await node.wait(m.Welcome)


async def test_a_message_with_another_valid_key_is_refused_in_somebody_elses_session(bed):
    """A second valid key may claim a routing id that is free; the session stays bound to the first key."""
    _, first = await bed.curve.create("n1", ["*"])
    with Peer(bed, secret=first.encode()) as node:
        await node.ready()
        peer, session = next(iter(bed.dispatcher._core.sessions.items()))
        _, second = await bed.curve.create("n2", ["*"])
        thief = zmq.curve_public(second.encode()).decode()
        bed.dispatcher._inbound.message(peer, thief, codec.encode(m.Heartbeat(s=session.s, seq=1)))
        assert bed.dispatcher.stats.wrong_keys == 1
        assert bed.dispatcher._core.sessions == {}


async def test_a_revoked_key_loses_its_live_session_and_everything_further_is_refused(bed):
    key, secret = await bed.curve.create("n1", ["*"])
    with Peer(bed, secret=secret.encode()) as node, Peer(bed, "n2", secret=local_secret(bed)) as other:
        await node.ready()
        await other.ready()
        assert await bed.curve.revoke(key.id)
        assert not await bed.curve.revoke(key.id)
        assert (await node.wait(m.Goaway)).reason
        assert (await node.wait(m.ErrorMessage)).code == "revoked"
        assert bed.view("n1").state is NodeState.LOST
        node.say_hello()
        await eventually(lambda: bed.dispatcher.stats.wrong_keys)
        assert node.take(m.Welcome) is None
        node.reconnect()
        assert await denied_at_the_door(bed, node)
        other.beat()
        await other.wait(m.HbAck)


async def test_a_revoked_key_stays_revoked_over_a_restart(tmp_path):
    async with running_bed(tmp_path / "server", CURVE) as bed:
        key, secret = await bed.curve.create("n1", ["*"])
        kept, kept_secret = await bed.curve.create("n2", ["*"])
        await bed.curve.revoke(key.id)
    async with running_bed(tmp_path / "server", CURVE) as bed:
        with Peer(bed, secret=secret.encode()) as node:
            assert await denied_at_the_door(bed, node)
        with Peer(bed, kept.node_id, secret=kept_secret.encode()) as node:
            await node.ready()


async def test_a_revoked_local_key_stays_revoked_and_the_server_starts(tmp_path):
    async with running_bed(tmp_path / "server", CURVE) as bed:
        local = zmq.curve_public(local_secret(bed)).decode()
        await bed.curve.revoke(bed.curve._active[local].id)
    async with running_bed(tmp_path / "server", CURVE) as bed:
        with Peer(bed, secret=local_secret(bed)) as node:
            assert await denied_at_the_door(bed, node)


async def test_without_curve_no_key_is_asked_for(tmp_path):
    async with running_bed(tmp_path / "server", with_zmq(curve="off")) as bed:
        with Peer(bed) as node:
            await node.ready()
