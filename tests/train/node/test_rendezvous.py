"""Two nodes of a job in one process: what they report, collect, announce and hear."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from train.node.rendezvous import Rendezvous, RendezvousError
from train.node.store import RemoteStore, StoreError


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Rendezvous, Rendezvous]:
    monkeypatch.setattr("train.node.rendezvous.socket.gethostname", lambda: "127.0.0.1")
    return Rendezvous(tmp_path, 0, 2), Rendezvous(tmp_path, 1, 2)


def test_node_0_collects_what_all_reported_in_order(nodes: tuple[Rendezvous, Rendezvous]):
    first, second = nodes
    second.report("health", {"failed": True, "by": 1})
    first.report("health", {"failed": False, "by": 0})
    assert first.collect("health", 5.0) == [{"failed": False, "by": 0}, {"failed": True, "by": 1}]


def test_a_node_that_does_not_report_in_time_is_none(nodes: tuple[Rendezvous, Rendezvous]):
    first, second = nodes
    first.report("health", {"failed": False})
    second.report("build", {"failed": False})
    begun = time.monotonic()
    assert first.collect("health", 0.2) == [{"failed": False}, None]
    assert time.monotonic() - begun < 2.0


def test_a_report_is_seen_elsewhere_before_it_is_collected(nodes: tuple[Rendezvous, Rendezvous]):
    first, second = nodes
    assert not first.reported_elsewhere("start_0", "failed")
    first.report("start_0", {"failed": True})
    assert not first.reported_elsewhere("start_0", "failed")
    assert second.reported_elsewhere("start_0", "failed")
    second.report("start_0", {"failed": False})
    assert not first.reported_elsewhere("start_0", "failed")
    assert not second.reported_elsewhere("start_1", "failed")


def test_all_hear_what_node_0_announced(nodes: tuple[Rendezvous, Rendezvous]):
    first, second = nodes
    first.announce("health", {"then": None, "code": 0})
    assert second.hear("health", 5.0) == {"then": None, "code": 0}
    with pytest.raises(RendezvousError, match="build"):
        second.hear("build", 0.0)


def test_each_start_has_an_address_where_node_0_listens(nodes: tuple[Rendezvous, Rendezvous]):
    first, second = nodes
    opened = [first.open_endpoint(f"start_{number}") for number in range(2)]
    endpoints = [endpoint for endpoint, _ in opened]
    assert [second.open_endpoint(f"start_{number}") for number in range(2)] == [(e, None) for e in endpoints]
    assert len(set(endpoints)) == 2
    for endpoint, listener in opened:
        assert listener
        host, _, port = endpoint.rpartition(":")
        with listener, socket.create_connection((host, int(port)), 5.0):
            pass


def test_node_0_that_chooses_no_address_is_not_waited_for_without_end(
    nodes: tuple[Rendezvous, Rendezvous], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("train.node.rendezvous._FIND_WITHIN_S", 0.0)
    with pytest.raises(RendezvousError):
        nodes[1].open_endpoint("start_0")


def test_requests_without_the_token_are_refused(nodes: tuple[Rendezvous, Rendezvous], tmp_path: Path):
    nodes[0].report("health", {"failed": False})
    address = json.loads((tmp_path / "rendezvous.json").read_text())
    stranger = RemoteStore(address["host"], address["port"], "guessed")
    with pytest.raises(StoreError, match="404"):
        stranger.get("health/0")


def test_node_0_that_ended_is_named(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (tmp_path / "rendezvous.json").write_text(json.dumps({"host": "127.0.0.1", "port": port, "token": "t"}))
    with pytest.raises(RendezvousError, match=rf"node 0 \(127.0.0.1:{port}\) does not answer: .*refused"):
        Rendezvous(tmp_path, 1, 2).report("health", {"failed": False})


def test_a_node_whose_node_0_did_not_come_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("train.node.rendezvous._FIND_WITHIN_S", 0.0)
    with pytest.raises(RendezvousError):
        Rendezvous(tmp_path, 1, 2)


def test_one_node_talks_to_itself(tmp_path: Path):
    alone = Rendezvous(tmp_path, 0, 1)
    endpoint, listener = alone.open_endpoint("start_0")
    assert listener
    with listener:
        assert listener.getsockname() == ("127.0.0.1", int(endpoint.removeprefix("127.0.0.1:")))
    assert not list(tmp_path.iterdir())
    alone.report("health", {"failed": True})
    assert not alone.reported_elsewhere("health", "failed")
    assert alone.collect("health", 5.0) == [{"failed": True}]


def test_node_0_leaves_when_its_last_word_was_heard(nodes: tuple[Rendezvous, Rendezvous]):
    first, second = nodes
    first.announce("health", {"code": 0})
    second.hear("health", 5.0)
    first.announce("start_0", {"code": 4})
    with ThreadPoolExecutor(1) as pool:
        leaving = pool.submit(first.leave)
        time.sleep(0.05)
        assert not leaving.done()
        second.hear("start_0", 5.0)
        leaving.result(5.0)
    second.leave()


def test_node_0_does_not_wait_long_for_a_node_that_is_gone(
    nodes: tuple[Rendezvous, Rendezvous], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("train.node.rendezvous._LEAVE_WITHIN_S", 0.1)
    nodes[0].leave()
    nodes[0].announce("health", {"code": 4})
    begun = time.monotonic()
    nodes[0].leave()
    assert 0.1 <= time.monotonic() - begun < 2.0
