"""What the agent knows and must not lose: one SQLite file. A power cut or `kill -9` costs the last
write at most.

Opened by `agent`. Rows are records of what was seen, never of what is to be done: a restarted agent
reads them, decides as the one before would have, and looks at the devices again. Calls take well
under a millisecond (write-ahead log, no fsync per commit), so they are made on the event loop.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tinyml_api.gatewaydeployment import DeviceState

from tinyml_gateway.errors import Reason
from tinyml_gateway.rollout import Pair, Record, Seen, Trouble

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
  device TEXT PRIMARY KEY, at REAL NOT NULL, address TEXT NOT NULL, class TEXT NOT NULL,
  code TEXT, weights TEXT, waiting_code TEXT NOT NULL, waiting_weights TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trouble (
  device TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
  target TEXT NOT NULL, attempts INTEGER NOT NULL, retry_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS wish (kind TEXT PRIMARY KEY, json TEXT NOT NULL);
"""


class Store:
    """The agent's memory in `path`. A file that is broken, or of another version, is begun anew:
    all can be seen again.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError:
            for leftover in (
                path,
                path.with_name(path.name + "-wal"),
                path.with_name(path.name + "-shm"),
            ):
                leftover.unlink(missing_ok=True)
            self._db = _open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def records(self, now: float, longest_wait_s: float) -> dict[str, Record]:
        """Return all records. Times that the clock says cannot be (it was set back) are brought
        back to now.
        """
        seen = {
            row[0]: Seen(
                at=min(row[1], now),
                address=row[2],
                device_class=row[3],
                pair=None if row[4] is None or row[5] is None else Pair(row[4], row[5]),
                waiting=Pair(row[6], row[7]),
            )
            for row in self._db.execute("SELECT * FROM seen")
        }
        trouble = {
            row[0]: Trouble(
                state=DeviceState(row[1]),
                reason=Reason(row[2]),
                message=row[3],
                target=row[4],
                attempts=row[5],
                retry_at=min(row[6], now + longest_wait_s),
            )
            for row in self._db.execute("SELECT * FROM trouble")
        }
        return {
            name: Record(seen.get(name), trouble.get(name)) for name in seen.keys() | trouble.keys()
        }

    def put(self, device: str, record: Record) -> None:
        """Replace what is known of `device`, in one transaction."""
        with self._db:
            self._db.execute("DELETE FROM seen WHERE device = ?", (device,))
            self._db.execute("DELETE FROM trouble WHERE device = ?", (device,))
            if (s := record.seen) is not None:
                pair = (None, None) if s.pair is None else (s.pair.code, s.pair.weights)
                self._db.execute(
                    "INSERT INTO seen VALUES (?,?,?,?,?,?,?,?)",
                    (
                        device,
                        s.at,
                        s.address,
                        s.device_class,
                        *pair,
                        s.waiting.code,
                        s.waiting.weights,
                    ),
                )
            if (t := record.trouble) is not None:
                self._db.execute(
                    "INSERT INTO trouble VALUES (?,?,?,?,?,?,?)",
                    (device, t.state, t.reason, t.message, t.target, t.attempts, t.retry_at),
                )

    def forget(self, device: str) -> None:
        self.put(device, Record())

    def wish(self, kind: str) -> dict[str, Any] | None:
        """Return the object of this kind as the cluster last showed it, for a start without a
        cluster.
        """
        row = self._db.execute("SELECT json FROM wish WHERE kind = ?", (kind,)).fetchone()
        if row is None:
            return None
        obj: dict[str, Any] = json.loads(row[0])
        return obj

    def put_wish(self, kind: str, obj: Mapping[str, Any] | None) -> None:
        with self._db:
            if obj is None:
                self._db.execute("DELETE FROM wish WHERE kind = ?", (kind,))
            else:
                self._db.execute(
                    "INSERT OR REPLACE INTO wish VALUES (?,?)", (kind, json.dumps(obj))
                )


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5.0)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"state file is of version {found}, not {_VERSION}")
        with db:
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA user_version={_VERSION}")
    except BaseException:
        db.close()
        raise
    return db
