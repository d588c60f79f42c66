"""Measure a draft: two children of our own, one plain and one with the draft, asked the same by turns.

They are started as the gateway starts them, each in its sandbox, beside whatever runs; nothing they are asked
comes from anybody's requests. Two deployments of others are compared by asking them through the gateway, so
that law, log and meter hold as for every request.
"""

from __future__ import annotations

import time
import tomllib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.chat import ChatCall, Whole
from allod.domain.errors import Invalid, Refused, Unavailable
from allod.domain.fleet import App
from allod.domain.money import rfc3339
from allod.engines.contract import EngineFault
from allod.engines.llamacpp.driver import LlamaCpp
from allod.gateway import compose, speculating
from allod.gateway.speculating import Line, Measured
from allod.gateway.toml import Table
from allod.planner.speculation import LEAST_PROMPTS, Found, Pair, Timed, evaluate
from allod.policy.policy import Policy, PolicyQuestion
from allod.receipts.canonical import canonical
from allod.receipts.commitment import digest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from allod.domain.drafting import DraftSetup
    from allod.domain.fleet import Deployment
    from allod.gateway.compose import Setting
    from allod.gateway.speculating import Three
    from allod.planner.speculation import Ratio, Row

    Ask = Callable[[bool, str, int], Awaitable[Timed]]

PROBE: Final = "allod-plan-speculate"
CLASS: Final = "public"
PASSES: Final = 2
"""Of a round: which child is started first, and which asked, is not the same in both. A child started after
another is faster or slower for that alone (1.3 times here), as plain against plain shows; so it cancels."""
MAX_PROMPTS: Final = 256
MAX_FILE_BYTES: Final = 1 << 20
_MEMINFO: Final = Path("/proc/meminfo")


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt and the kind of work it stands for."""

    kind: str
    text: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: every prompt twice in each round, answers at most so long."""

    prompts: tuple[Prompt, ...]
    rounds: int
    max_tokens: int

    @property
    def steps(self) -> int:
        """How many pairs there will be."""
        return PASSES * self.rounds * len(self.prompts)

    @property
    def digest(self) -> str:
        """What names these prompts."""
        return digest(canonical([msgspec.to_builtins(one) for one in self.prompts]))


def read_prompts(file: Path | None) -> tuple[Prompt, ...]:
    """Read prompts: the shipped ones, a TOML of ``[[prompt]]`` with kind and text, or a text, one a line.

    Raises:
        Invalid: the file is too large, not UTF-8 or not of this form, or holds too few or too many prompts.

    """
    if file is None:
        raw, toml = resources.files("allod.planner.data").joinpath("speculation.toml").read_bytes(), True
    else:
        with file.open("rb") as opened:
            raw, toml = opened.read(MAX_FILE_BYTES + 1), file.suffix == ".toml"
    name = "the shipped file" if file is None else file.name
    try:
        if len(raw) > MAX_FILE_BYTES:
            raise Invalid(f"{name} is too large", f"at most {MAX_FILE_BYTES} bytes", param="prompts")
        text = raw.decode()
        found = _tables(text) if toml else _lines(text)
    except (ValueError, RecursionError) as fault:
        raise Invalid(
            f"{name} cannot be read", str(fault)[:200], "save it as UTF-8", param="prompts"
        ) from None
    if not LEAST_PROMPTS <= len(found) <= MAX_PROMPTS:
        raise Invalid(
            f"{name} holds {len(found)} prompts",
            f"expected {LEAST_PROMPTS} to {MAX_PROMPTS}: of fewer nothing follows for the next one",
            "give more, of the kinds this deployment is asked",
            param="prompts",
        )
    return found


def _tables(text: str) -> tuple[Prompt, ...]:
    root = Table(tomllib.loads(text), "")
    found = []
    for table in root.list_of("prompt", "prompt"):
        found.append(Prompt(kind=table.text("kind") or "own", text=table.required("text")))
        table.done()
    root.done()
    return tuple(found)


def _lines(text: str) -> tuple[Prompt, ...]:
    return tuple(Prompt(kind="own", text=line.strip()) for line in text.splitlines() if line.strip())


def lawful(setting: Setting, names: tuple[str, ...]) -> None:
    """Ask the law whether a probe, of public data, may be sent to these deployments.

    Raises:
        Refused: one may not see it, with the rules that say so.

    """
    apps = {**setting.fleet.apps, PROBE: App(id=PROBE, classes=(CLASS,))}
    fleet = msgspec.structs.replace(setting.fleet, apps=apps)
    policy = Policy(setting.packs.some(fleet.tenant.packs), fleet)
    question = PolicyQuestion(app=PROBE, classes=(CLASS,), day=datetime.now(UTC).date())
    excluded = tuple(one for one in policy.eligible(question).excluded if one.deployment in names)
    if excluded:
        rules = sorted({rule.id for one in excluded for rule in one.rules})
        raise Refused(
            f"the probe may not be sent to {', '.join(one.deployment for one in excluded)}",
            f"its data are {CLASS}; decided by {', '.join(rules)}",
            "see `allod explain`",
            excluded=excluded,
        )


async def one_pass(ask: Ask, order: Order, turn: int, step: Callable[[], None]) -> list[Pair]:
    """Ask everything both ways; who is first changes from prompt to prompt and from pass to pass.

    One prompt goes before, to warm caches and clocks, and is not counted.
    """
    found, turns = [], turn // PASSES
    for drafting in (False, True):
        await ask(drafting, order.prompts[turns % len(order.prompts)].text, order.max_tokens)
    for number, prompt in enumerate(order.prompts):
        first = (turn + number) % 2 == 1
        one = await ask(first, prompt.text, order.max_tokens)
        other = await ask(not first, prompt.text, order.max_tokens)
        plain, draft = (other, one) if first else (one, other)
        found.append(Pair(prompt=number, kind=prompt.kind, round=turns, plain=plain, draft=draft))
        step()
    return found


def timed(body: dict[str, Any], seconds: float) -> Timed:
    """Read what an answer in chat-completions form says of itself; timings are llama-server's.

    Raises:
        Unavailable: it does not say how many tokens it has.

    """
    usage, told = body.get("usage") or {}, body.get("timings") or {}
    tokens = usage.get("completion_tokens")
    if not isinstance(tokens, int):
        raise Unavailable("an answer does not say how many tokens it has", "no usage.completion_tokens")
    message = (body.get("choices") or [{}])[0].get("message") or {}
    keys = ("content", "reasoning_content", "tool_calls")
    speed = told.get("predicted_per_second")
    return Timed(
        text=msgspec.json.encode([message.get(key) for key in keys]).decode(),
        seconds=seconds,
        tokens=tokens,
        engine_tok_s=speed if isinstance(speed, float) and speed > 0 else None,
        drafted=int(told.get("draft_n") or 0),
        accepted=int(told.get("draft_n_accepted") or 0),
    )


async def measure(
    setting: Setting, deployment: Deployment, order: Order, step: Callable[[], None], *, accept: bool = False
) -> tuple[Measured, Found]:
    """Measure a deployment's draft on the spot; the caller keeps what is found.

    Args:
        setting: of the home. deployment: embedded, with a draft; need not be as configured.
        order: what is asked; step: called after each pair.
        accept: whether answers may differ.

    Raises:
        Unavailable: a child could not be started, broke, or there is too little memory for two.
        Integrity, Invalid: weights or draft cannot be had; or too little was measured.

    """
    _room(setting, deployment)
    pairs: list[Pair] = []
    runs: list[_Run] = []
    try:
        for turn in range(PASSES * order.rounds):
            found, run = await _pass(setting, deployment, order, turn, step)
            pairs += found
            runs.append(run)
    except EngineFault as fault:
        speculating.forget(setting.home, deployment.id)
        raise Unavailable(
            "the measurement broke off, so the draft is not loaded",
            f"{fault.kind}: {fault.detail}",
            "see `allod doctor`, and measure again",
        ) from fault
    _alike(runs)
    evaluated = evaluate(pairs)
    return _written(deployment, order, evaluated, runs, accept=accept), evaluated


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """What two children were, and their memory at its peak, in bytes."""

    plain: DraftSetup
    draft: DraftSetup
    sandbox: str
    memory_bytes: tuple[int, int]


async def _pass(
    setting: Setting, deployment: Deployment, order: Order, turn: int, step: Callable[[], None]
) -> tuple[list[Pair], _Run]:
    """Load both anew, this one or that one first, ask everything, end them (raises ``EngineFault``)."""
    given = msgspec.structs.replace(compose.context(setting), drafts=None)
    plain = LlamaCpp(msgspec.structs.replace(deployment, draft=None), given)
    draft = LlamaCpp(deployment, given)
    try:
        for driver in (plain, draft) if turn % PASSES else (draft, plain):
            await driver.start()
        started = _alive(plain, draft)
        found = await one_pass(_asking(plain, draft), order, turn, step)
        run = _run(plain, draft)
        _alive(plain, draft, before=started)
    finally:
        await plain.close()
        await draft.close()
    return found, run


def _run(plain: LlamaCpp, draft: LlamaCpp) -> _Run:
    (plain_pid, without), (draft_pid, beside) = _running(plain), _running(draft)
    peaks = [_kib(Path(f"/proc/{pid}/status"), "VmHWM") or 0 for pid in (plain_pid, draft_pid)]
    sandbox = draft.describe().sandbox or "none"
    return _Run(plain=without, draft=beside, sandbox=sandbox, memory_bytes=(peaks[0], peaks[1]))


def _running(driver: LlamaCpp) -> tuple[int, DraftSetup]:
    found = driver.running
    if found is None:
        raise EngineFault("unavailable", "a child did not live through it")
    return found


def _alive(*drivers: LlamaCpp, before: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Return the process ids of the children (raises ``EngineFault``: one is gone, or is another)."""
    found = tuple(_running(driver)[0] for driver in drivers)
    if before and found != before:
        raise EngineFault("unavailable", "a child did not live through it")
    return found


def _asking(plain: LlamaCpp, draft: LlamaCpp) -> Ask:
    async def ask(drafting: bool, text: str, max_tokens: int) -> Timed:
        body = {"model": PROBE, "messages": [{"role": "user", "content": text}], "temperature": 0}
        call = ChatCall(body=body, stream=False, max_output_tokens=max_tokens)
        began = time.perf_counter()
        answer: Whole | None = None
        async for event in (draft if drafting else plain).chat(call):
            answer = event if isinstance(event, Whole) else answer
        took = time.perf_counter() - began
        assert answer is not None
        return timed(answer.body or msgspec.json.decode(answer.raw or b"{}"), took)

    return ask


def _room(setting: Setting, deployment: Deployment) -> None:
    """See that two children fit: engines may keep a copy of weights in an order of their own for each.

    Raises:
        Unavailable: less memory is available than twice the weights and once the draft.
        Integrity, Invalid: there are no such weights.

    """
    names = (deployment.model, deployment.model, *((deployment.draft,) if deployment.draft else ()))
    needed = sum(setting.vault.resolve(name).weights.manifest.size_bytes for name in names)
    there = _available()
    if there is not None and there < needed:
        raise Unavailable(
            "there is not enough memory to measure",
            f"two children need at least {needed >> 20} MiB, {there >> 20} MiB are available",
            "stop the gateway while it is measured, or what else takes memory",
            kind="busy",
        )


def _available() -> int | None:
    return _kib(_MEMINFO, "MemAvailable")


def _kib(file: Path, key: str) -> int | None:
    """Read a value of /proc that is told in KiB, as bytes; None where there is none."""
    try:
        lines = file.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    words = next((line.split() for line in lines if line.startswith(f"{key}:")), ())
    return int(words[1]) << 10 if len(words) > 1 and words[1].isdigit() else None


def _written(
    deployment: Deployment, order: Order, found: Found, runs: list[_Run], *, accept: bool
) -> Measured:
    peaks = [max(run.memory_bytes[i] for run in runs) for i in (0, 1)]
    return Measured(
        deployment=deployment.id,
        at=rfc3339(time.time_ns() // 1_000_000),
        setup=runs[-1].draft,
        prompts=order.digest,
        rounds=found.rounds,
        max_tokens=order.max_tokens,
        whole=_line(found.whole),
        kinds=tuple(map(_line, found.kinds)),
        engine_speed_up=_three(found.engine_speed_up),
        different=len(found.different),
        accept_different=accept,
        sandbox=runs[-1].sandbox,
        memory_bytes=(peaks[0], peaks[1]),
    )


def _alike(runs: list[_Run]) -> None:
    """See that the children differ by the draft and nothing else, in all rounds (raises ``Unavailable``)."""
    changed = {
        name for run in runs for name in (*run.plain.changed(run.draft), *run.draft.changed(runs[0].draft))
    }
    if changed != {"draft"} or any(run.plain.draft is not None or run.draft.draft is None for run in runs):
        raise Unavailable(
            "the children do not differ by the draft alone",
            f"other: {', '.join(sorted(changed)) or 'nothing'}",
            "measure again when nothing is being installed",
        )


def _line(row: Row) -> Line:
    return Line(
        kind=row.kind,
        prompts=row.prompts,
        plain_tok_s=_number(row.plain_tok_s),
        draft_tok_s=_number(row.draft_tok_s),
        speed_up=_three(row.speed_up),
        acceptance=_three(row.acceptance),
        drafted=row.drafted,
        accepted=row.accepted,
    )


def _three(ratio: Ratio | None) -> Three | None:
    return None if ratio is None else (_number(ratio.value), _number(ratio.low), _number(ratio.high))


def _number(value: float) -> str:
    return f"{value:.6g}"


def kept(setting: Setting, measured: Measured) -> bool:
    """Keep a measurement, and log it if the log is free; tells whether it was logged.

    Raises:
        Unavailable: it cannot be kept; the draft is not loaded then.

    """
    import os  # noqa: PLC0415

    from allod.receipts.commitment import pseudonym  # noqa: PLC0415
    from allod.receipts.ids import new_id  # noqa: PLC0415
    from allod.receipts.leaves import NoticeFacts  # noqa: PLC0415
    from allod.store.home import load_keys  # noqa: PLC0415
    from allod.store.store import Store  # noqa: PLC0415

    speculating.keep(setting.home, measured)
    at_ms, keys = time.time_ns() // 1_000_000, load_keys(setting.home)
    try:
        store = Store.open(setting.home)
    except Unavailable as busy:
        if busy.kind != "busy":
            raise
        return False
    try:
        notice = NoticeFacts(
            id=new_id(keys.origin, at_ms, os.urandom(10)),
            at_ms=at_ms,
            tenant=pseudonym(keys.secret, "tenant", setting.fleet.tenant.id),
            subject=speculating.SUBJECT,
            detail=measured.decided()[1],
            facts=_facts(measured),
        )
        store.append_notice(notice)
    finally:
        store.close()
    return True


def _facts(measured: Measured) -> dict[str, str]:
    value, low, high = measured.whole.speed_up or ("", "", "")
    return {
        "deployment": measured.deployment,
        "used": "yes" if measured.decided()[0] else "no",
        "speed_up": value,
        "speed_up_low": low,
        "speed_up_high": high,
        "accepted": f"{measured.whole.accepted} of {measured.whole.drafted}",
        "different": f"{measured.different}",
        "accept_different": "yes" if measured.accept_different else "no",
        "weights": measured.setup.weights,
        "draft": measured.setup.draft or "",
        "engine": measured.setup.engine_version,
        "prompts": measured.prompts,
        "measurement": digest(canonical(msgspec.to_builtins(measured))),
    }
