"""What is put into the store is there after it is opened again."""

from __future__ import annotations

from pathlib import Path

from tinyml_api.gatewaydeployment import DeviceState
from tinyml_gateway.errors import Reason
from tinyml_gateway.rollout import Pair, Record, Seen, Trouble
from tinyml_gateway.state import Store

SEEN = Seen(100.0, "serial:///dev/a", "posix", Pair("c", "w"), Pair("", "x"))
TROUBLE = Trouble(DeviceState.FAILED, Reason.NOT_ACTIVATED, "why", "target", 3, 200.0)


def test_records_survive_a_restart(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put("a", Record(SEEN, TROUBLE))
        store.put("b", Record(SEEN, None))
        store.put("b", Record(None, TROUBLE))
        store.put("c", Record(SEEN))
        store.forget("c")
    with Store(tmp_path / "s") as store:
        assert store.records(150.0, 600.0) == {
            "a": Record(SEEN, TROUBLE),
            "b": Record(None, TROUBLE),
        }


def test_a_device_without_a_pair_is_kept_as_such(tmp_path: Path) -> None:
    factory = Seen(1.0, "serial:///dev/a", "posix", None)
    with Store(tmp_path / "s") as store:
        store.put("a", Record(factory))
        assert store.records(2.0, 1.0)["a"].seen == factory


def test_times_from_a_clock_that_was_set_back_are_brought_back(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put("a", Record(SEEN, TROUBLE))
        record = store.records(50.0, 10.0)["a"]
    assert record.seen is not None
    assert record.trouble is not None
    assert (record.seen.at, record.trouble.retry_at) == (50.0, 60.0)


def test_the_wish_survives_a_restart(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put_wish("K", {"spec": {"a": [1]}})
    with Store(tmp_path / "s") as store:
        assert store.wish("K") == {"spec": {"a": [1]}}
        store.put_wish("K", None)
        assert store.wish("K") is None


def test_a_broken_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"not a database" * 100)
    with Store(tmp_path / "s") as store:
        assert store.records(0.0, 1.0) == {}
        store.put("a", Record(SEEN))
    with Store(tmp_path / "s") as store:
        assert store.records(200.0, 1.0) == {"a": Record(SEEN)}
