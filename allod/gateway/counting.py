"""Counters of a running gateway, and how they are told: the Prometheus text format 0.0.4.

Counted at the end of each request, never before and never twice; what is labelled is configured, so that the
number of series is bounded by the configuration: app, task, deployment, status. Names are those of
OpenTelemetry's semantic conventions for generative AI where there are such (``gen_ai.client.token.usage``,
``gen_ai.client.operation.duration``, written with underscores as its Prometheus compatibility says), with
their bucket bounds; the rest begins with ``allod_``. Money is USD and times are seconds, as floats: what is
owed stands in the ledger, exactly.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, TypeVar

from allod import __version__
from allod.domain.money import ZERO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from allod.domain.fleet import Fleet
    from allod.domain.usage import LedgerRow
    from allod.gateway.gateway import Gateway

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
"""Bounds of durations, as the conventions advise."""
TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_MS: Final = tuple(round(1000 * bound) for bound in SECONDS)
_NONE: Final = ""
REQUEST_LABELS: Final = ("app", "task", "deployment", "status")
STEP_LABELS: Final = ("task", "role", "deployment", "status")
ATTEMPT_LABELS: Final = (*REQUEST_LABELS, "operation")
_Count = TypeVar("_Count")


class _Histogram:
    """Counts per bucket, the last of them without a bound, and the sum."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(SECONDS) + 1)
        self.sum = 0.0


class _Requests(_Histogram):
    """Requests of one app, task, deployment and status, by their time from reception to the last byte."""

    __slots__ = ()


class _Attempts:
    """Attempts of one app, task and deployment with one status: times, tokens and money."""

    __slots__ = (
        "cached",
        "cost",
        "count",
        "input",
        "output",
        "reasoning",
        "times",
        "tokens_in",
        "tokens_out",
    )

    def __init__(self) -> None:
        self.count = self.input = self.cached = self.output = self.reasoning = 0
        self.cost = ZERO
        self.times, self.tokens_in, self.tokens_out = _Histogram(), _Histogram(), _Histogram()


class Counters:
    """What has been counted since the start; used on the event loop alone."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str | None, str | None, str], _Requests] = {}
        self._attempts: dict[tuple[str, str | None, str, str, str], _Attempts] = {}
        self._steps: dict[tuple[str | None, str, str | None, str], int] = {}
        self.alarms: dict[tuple[str, str], int] = {}

    def request(
        self,
        app: str,
        task: str | None,
        deployment: str | None,
        status: str,
        elapsed_ms: int,
        rows: Sequence[LedgerRow],
        operation: str = "chat",
        step: str = "",
    ) -> None:
        """Count one request that ended, and its attempts; ``operation`` as the conventions name it.

        With ``step`` it was one of another request, and is counted as such: callers made one request.
        """
        for row in rows:
            self._attempt(app, task, row, operation)
        if step:
            at = (task, step, deployment, status)
            self._steps[at] = self._steps.get(at, 0) + 1
            return
        key = (app, task, deployment, status)
        one = self._requests.get(key)
        if one is None:
            one = self._requests[key] = _Requests()
        one.buckets[bisect_left(_MS, elapsed_ms)] += 1
        one.sum += elapsed_ms

    def _attempt(self, app: str, task: str | None, row: LedgerRow, operation: str) -> None:
        key = (app, task, row.deployment, row.status, operation)
        seen = self._attempts.get(key)
        if seen is None:
            seen = self._attempts[key] = _Attempts()
        usage, total_ms = row.usage, row.total_ms
        tokens_in, tokens_out = usage.total_input_tokens, usage.output_tokens + usage.reasoning_tokens
        seen.count += 1
        seen.input += tokens_in
        seen.cached += usage.cache_read_tokens
        seen.output += tokens_out
        seen.reasoning += usage.reasoning_tokens
        seen.cost += row.cost_usd
        if tokens_in:
            seen.tokens_in.buckets[bisect_left(TOKENS, tokens_in)] += 1
        if tokens_out:
            seen.tokens_out.buckets[bisect_left(TOKENS, tokens_out)] += 1
        if total_ms is not None:
            seen.times.buckets[bisect_left(_MS, total_ms)] += 1
            seen.times.sum += total_ms

    def alarm(self, deployment: str, kind: str) -> None:
        """Count one change of a tokenizer that was found."""
        key = (deployment, kind)
        self.alarms[key] = self.alarms.get(key, 0) + 1

    # --- told

    def lines(self, fleet: Fleet) -> Iterator[str]:
        """Yield what was counted."""
        yield from self._request_lines()
        attempts = _labelled(ATTEMPT_LABELS, self._attempts.items())
        yield from counter(
            "allod_attempts_total", "Attempts at deployments.", ((at, one.count) for at, one in attempts)
        )
        yield from counter(
            "allod_cost_usd_total",
            "What attempts cost, in USD.",
            ((at, float(one.cost)) for at, one in attempts),
        )
        yield from counter(
            "allod_tokens_total",
            "Tokens by kind; cached ones are input too, reasoning ones output too.",
            (
                ({**at, "kind": kind}, getattr(one, kind))
                for at, one in attempts
                for kind in ("input", "cached", "output", "reasoning")
            ),
        )
        yield from counter(
            "allod_cascade_steps_total",
            "Steps and audits of requests that are answered in steps, by what they were for.",
            (
                (dict(zip(STEP_LABELS, map(_text, key), strict=True)), n)
                for key, n in sorted(self._steps.items(), key=lambda item: tuple(map(_text, item[0])))
            ),
        )
        yield from self._conventions(fleet)
        yield from counter(
            "allod_tokenizer_alarms_total",
            "Lasting changes of tokens billed for the same text that were found since the start.",
            (({"deployment": name, "kind": kind}, n) for (name, kind), n in sorted(self.alarms.items())),
        )

    def _request_lines(self) -> Iterator[str]:
        rows = _labelled(REQUEST_LABELS, self._requests.items())
        yield from counter(
            "allod_requests_total",
            "Requests of callers that ended, by how; deployment is empty where none answered.",
            ((at, sum(one.buckets)) for at, one in rows),
        )
        yield from _histogram(
            "allod_request_duration_seconds",
            "From reception until its end was recorded.",
            SECONDS,
            ((at, one.buckets, one.sum / 1000) for at, one in rows),
        )

    def _conventions(self, fleet: Fleet) -> Iterator[str]:
        """Yield the two histograms of the conventions, by deployment and status."""
        joined: dict[tuple[str, str, str], list[_Attempts]] = {}
        for (_, _, *rest), one in self._attempts.items():
            joined.setdefault((rest[0], rest[1], rest[2]), []).append(one)
        named = [(_convention(fleet, *key), some) for key, some in sorted(joined.items())]
        yield from _histogram(
            "gen_ai_client_operation_duration_seconds",
            "Duration of attempts at deployments.",
            SECONDS,
            (
                (at, _sum(o.times.buckets for o in some), sum(o.times.sum for o in some) / 1000)
                for at, some in named
            ),
        )
        yield from _histogram(
            "gen_ai_client_token_usage",
            "Tokens per attempt.",
            TOKENS,
            (
                ({**at, "gen_ai_token_type": kind}, _sum(buckets), float(total))
                for at, some in named
                for kind, buckets, total in (
                    ("input", [o.tokens_in.buckets for o in some], sum(o.input for o in some)),
                    ("output", [o.tokens_out.buckets for o in some], sum(o.output for o in some)),
                )
            ),
        )


def _convention(fleet: Fleet, name: str, status: str, operation: str) -> dict[str, str]:
    one = fleet.deployments[name]
    said = {
        "gen_ai_operation_name": operation,
        "gen_ai_provider_name": one.engine,
        "gen_ai_request_model": one.model,
        "deployment": name,
    }
    return said if status == "answered" else {**said, "error_type": status}


def exposition(gateway: Gateway) -> bytes:
    """Write everything a gateway tells about itself."""
    out = [
        *gauge("allod_info", "This build.", [({"version": __version__}, 1)]),
        *gateway.counters.lines(gateway.fleet),
        *_of_state(gateway),
    ]
    return ("\n".join(out) + "\n").encode()


def _of_state(gateway: Gateway) -> Iterator[str]:
    """Yield what is so now: breakers, tokenizers, the log."""
    health = gateway.health()
    names = sorted(gateway.fleet.deployments)
    yield from gauge(
        "allod_breaker_open",
        "1 where the circuit breaker lets nothing through.",
        [({"deployment": name}, int(name in health.resting)) for name in names],
    )
    yield from gauge(
        "allod_deployment_ready",
        "0 where a deployment cannot serve.",
        [({"deployment": name}, int(name not in health.unready)) for name in names],
    )
    if gateway.drift is not None:
        yield from gauge(
            "allod_tokenizer_factor",
            "Tokens billed for the same text of late, over what it was when first seen.",
            [
                ({"deployment": one.deployment, "kind": one.kind}, one.since_start)
                for one in gateway.drift.kept
                if one.watch.first is not None
            ],
        )
        yield from counter(
            "allod_tokenizer_unwatched_total",
            "Requests not watched for tokenizer changes because others waited.",
            [({}, gateway.drift.dropped)],
        )
    if gateway.promises is not None:
        yield from gateway.promises.measured()
    reader = gateway.store.reader
    newest = reader.newest().size
    yield from gauge("allod_log_leaves", "Leaves the newest checkpoint covers.", [({}, newest)])
    if gateway.config.log.witnesses:
        cosigned = reader.cosigned
        behind = newest - (0 if cosigned is None else cosigned.size)
        yield from gauge("allod_log_unwitnessed_leaves", "Leaves no witness has cosigned.", [({}, behind)])
    trouble = gateway.store.healthy()
    yield from gauge("allod_log_ready", "0 where the log takes nothing new.", [({}, int(trouble is None))])


# --- the text format


def _text(value: str | None) -> str:
    return _NONE if value is None else value


def _labelled(
    names: tuple[str, ...], counts: Iterable[tuple[tuple[str | None, ...], _Count]]
) -> list[tuple[dict[str, str], _Count]]:
    """Return what was counted under its labels, in their order."""
    told = [(tuple(map(_text, key)), one) for key, one in counts]
    return [
        (dict(zip(names, labels, strict=True)), one) for labels, one in sorted(told, key=lambda row: row[0])
    ]


def _labels(at: dict[str, str]) -> str:
    if not at:
        return ""
    escaped = (
        (name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in at.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def counter(name: str, text: str, values: Iterable[tuple[dict[str, str], float]]) -> Iterator[str]:
    """Yield the lines of a counter, by labels."""
    return _plain(name, "counter", text, values)


def gauge(name: str, text: str, values: Iterable[tuple[dict[str, str], float]]) -> Iterator[str]:
    """Yield the lines of a gauge, by labels."""
    return _plain(name, "gauge", text, values)


def _plain(name: str, kind: str, text: str, values: Iterable[tuple[dict[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for at, value in values:
        yield f"{name}{_labels(at)} {value!r}"


def _histogram(
    name: str,
    text: str,
    bounds: Sequence[float],
    values: Iterable[tuple[dict[str, str], Sequence[int], float]],
) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} histogram"
    for at, buckets, total in values:
        so_far = 0
        for bound, count in zip((*map(repr, bounds), "+Inf"), buckets, strict=True):
            so_far += count
            yield f"{name}_bucket{_labels({**at, 'le': bound})} {so_far}"
        yield f"{name}_sum{_labels(at)} {total!r}"
        yield f"{name}_count{_labels(at)} {so_far}"


def _sum(buckets: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*buckets, strict=True)]
