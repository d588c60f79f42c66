"""The statements of every start and every batch, as text: no query builder is loaded for them.

The tables themselves are defined in ``tables`` (SQLAlchemy Core, loaded to make or to report); a test holds
what is written here equal to what is compiled from there.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 4

APP_KEY: Final = ("digest", "app", "created_at_ms", "expires_at_ms", "revoked_at_ms")
REQUEST: Final = (
    "receipt", "origin", "app", "at_ms", "status", "intent_index", "terminal_index", "request_salt",
    "response_salt", "decision", "attempts", "subject",
)  # fmt: skip
LEDGER: Final = (
    "receipt", "attempt", "app", "task", "deployment", "started_at_ms", "status", "basis", "input_tokens",
    "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens",
    "cost_usd", "price_digest", "first_token_ms", "total_ms", "detail",
)  # fmt: skip
DECISION_RECORD: Final = ("digest", "body")
APPLIED: Final = ("origin", "next_seq")
CONFIGURATION: Final = ("digest", "body")
DEFERRED: Final = (
    "id", "origin", "app", "status", "created_at_ms", "deadline_at_ms", "start_at_ms", "latest_at_ms",
    "ended_at_ms", "receipt", "tries", "size_bytes", "subject", "deferral", "known", "request", "shown",
    "head",
)  # fmt: skip
SUBJECT: Final = ("lookup", "salt", "created_at_ms")
ERASED: Final = ("name", "at_ms")

REPLACED: Final = ("status", "terminal_index", "attempts")
"""What the end of a request changes in a row that was kept ``open``; its salts may have been erased since."""


def upsert(
    table: str, columns: tuple[str, ...], keys: tuple[str, ...], mark: str, replace: tuple[str, ...] = ()
) -> str:
    """Write an insert of whole rows in column order; a row that is there is kept, or ``replace``d in part."""
    marks = ", ".join([mark] * len(columns))
    changes = ", ".join(f"{name} = excluded.{name}" for name in replace)
    then = f"DO UPDATE SET {changes}" if replace else "DO NOTHING"
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) "  # noqa: S608 -- names of ours alone
        f"ON CONFLICT ({', '.join(keys)}) {then}"
    )


class Statements:
    """All of them for a driver whose parameters are marked so (``?`` or ``%s``)."""

    def __init__(self, mark: str) -> None:
        requests = f"SELECT {', '.join(REQUEST)} FROM request"  # noqa: S608
        self.put_request = upsert("request", REQUEST, ("receipt",), mark, REPLACED)
        self.put_ledger = upsert("ledger", LEDGER, ("receipt", "attempt"), mark)
        self.put_record = upsert("decision_record", DECISION_RECORD, ("digest",), mark)
        self.put_applied = upsert("applied", APPLIED, ("origin",), mark, ("next_seq",))
        self.put_subject = (
            f"INSERT INTO subject ({', '.join(SUBJECT)}) SELECT {mark}, {mark}, {mark} "  # noqa: S608
            f"WHERE NOT EXISTS (SELECT 1 FROM erased WHERE name = {mark}) "
            "ON CONFLICT (lookup) DO NOTHING"
        )
        self.scrub = (
            "UPDATE request SET request_salt = NULL, response_salt = NULL, subject = NULL "  # noqa: S608
            f"WHERE receipt = {mark} AND EXISTS (SELECT 1 FROM erased WHERE name = {mark})"
        )
        self.put_erased = upsert("erased", ERASED, ("name",), mark)
        self.erased = "SELECT name, at_ms FROM erased"
        self.scrub_erased = (
            "UPDATE request SET request_salt = NULL, response_salt = NULL "
            "WHERE receipt IN (SELECT name FROM erased)"
        )
        self.put_deferred = upsert("deferred", DEFERRED, ("id",), mark)
        self.erase_deferred = (
            "UPDATE deferred SET status = 'erased', deferral = NULL, request = NULL, "  # noqa: S608
            f"shown = NULL, head = NULL, subject = NULL WHERE subject = {mark} OR receipt = {mark}"
        )
        self.subject = f"SELECT salt FROM subject WHERE lookup = {mark}"  # noqa: S608
        self.version = "SELECT max(version) FROM migration"
        self.applied = f"SELECT next_seq FROM applied WHERE origin = {mark}"  # noqa: S608
        self.request = f"{requests} WHERE receipt = {mark}"
        self.open_requests = f"{requests} WHERE origin = {mark} AND status = 'open'"
        self.keys = f"SELECT {', '.join(APP_KEY)} FROM app_key ORDER BY created_at_ms, digest"  # noqa: S608
        self.record = f"SELECT body FROM decision_record WHERE digest = {mark}"  # noqa: S608
        self.put_configuration = upsert("configuration", CONFIGURATION, ("digest",), mark)
        self.configuration = f"SELECT body FROM configuration WHERE digest = {mark}"  # noqa: S608
        self.configurations = "SELECT digest, body FROM configuration ORDER BY digest"
