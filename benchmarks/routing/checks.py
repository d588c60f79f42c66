"""What checks of answers cost in time, and what a token margin is worth on the model that ships.

Each check reads an ordinary answer (and a long one) as a gateway does, one after another, on the loop the
server uses: median and 95th percentile of wall time, and the longest time the loop did not turn meanwhile.
With ``--margin N`` the reference model is asked N fresh prompts of each of its tasks without thinking, and
the share of right answers is told by margin.

    .venv/bin/python benchmarks/routing/checks.py [-n 100] [--margin 100]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from allod.assurance.margins import margin
from allod.assurance.scores import binomial
from allod.domain.chat import ChatCall, Chunk, Finished, Whole
from allod.domain.errors import Invalid
from allod.domain.fleet import App, CascadeTask, CheckFile, Deployment, Fleet, Task, Tenant
from allod.engines.contract import EngineContext
from allod.engines.llamacpp.driver import LlamaCpp
from allod.gateway.checks.checking import Checking
from allod.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "reference_model"))
import evaluate  # noqa: E402
import grammar  # noqa: E402

CODE = "def total(rows):\n    out = 0\n    for name, beds in rows:\n        out += beds\n    return out\n"
PYTHON = f"This adds them up:\n```python\n{CODE}```\nIt goes through all rows once.\n"
TESTS = "assert total([]) == 0\nassert total([('a', 2), ('b', 3)]) == 5\n"
ROWS = ", ".join(f"({n}, 'ward {n}', {n % 40})" for n in range(500))
TABLE = "CREATE TABLE wards (id INTEGER PRIMARY KEY, name TEXT, beds INTEGER);"
SCHEMA = f"{TABLE}\nINSERT INTO wards VALUES {ROWS};\n"
SQL = "```sql\nSELECT name, sum(beds) FROM wards WHERE beds > 10 GROUP BY name ORDER BY 2 DESC LIMIT 5\n```"
STEPS = "First 12 x 7 = 84 beds. Then 84 - 15 = 69, and 69 / 3 = 23 each, which is 23/84 = 27.4%.\n"
SOURCE = "[{n}] Ward {n} has twenty-four beds and is closed on Sundays and holidays.\n"
QUOTES = "“Ward 3 has twenty-four beds” [3], and it is “closed on Sundays and holidays” [3][4].\n"
DOCUMENTS = "".join(SOURCE.format(n=n) for n in range(1, 60))
BODY = {"messages": [{"role": "user", "content": DOCUMENTS}]}
CASES: tuple[tuple[str, str, str], ...] = (
    ("numeric", "answer of 90 characters", STEPS),
    ("json", "1 KiB", '{"beds": [' + ", ".join(map(str, range(200))) + "]}"),
    ("arithmetic", "4 statements", STEPS),
    ("arithmetic", "200 KiB, 1,900 statements", "1 + 1 = 2, so\n" * 1_900 + "words and words\n" * 11_000),
    ("citation", "3 citations, 4 KiB of sources", QUOTES),
    ("citation", "300 citations, 4 KiB of sources", QUOTES * 100),
    ("compile:python", "5 lines", PYTHON),
    ("compile:sql", "1 query", SQL),
    ("sql", "1 query over 500 rows", SQL),
    ("tests", "5 lines, 2 tests", PYTHON),
)


def events(text: str) -> tuple[Any, ...]:
    """Return an answer as an execution hands it on."""
    return Chunk(text=text), Chunk(finish="stop"), Finished()


async def timed(rounds: int) -> None:
    """Print what each check takes."""
    tests, schema = CheckFile("t", "t"), CheckFile("s", "s")
    tasks = {
        f"{n}": Task(name=f"{n}", cascade=CascadeTask(check=(check,), tests=tests, schema=schema))
        for n, (check, _, _) in enumerate(CASES)
    }
    tenant = Tenant(id="bench", home="DE", bloc=("EEA",))
    fleet = Fleet(tenant=tenant, apps={"a": App(id="a")}, operators={}, deployments={}, tasks=tasks)
    checking = Checking(fleet, {"t": TESTS, "s": SCHEMA})
    await checking.begin()
    print(f"{'check':<16} {'answer':<34} {'median ms':>10} {'95 % ms':>9} {'loop stood ms':>14}")
    for (check, what, text), task in zip(CASES, tasks.values(), strict=True):
        assert task.cascade is not None
        took, stood = [], Standstill()
        async with stood:
            for _ in range(rounds):
                started = time.perf_counter()
                read = await checking.read(task.cascade, BODY, events(text))
                took.append(1000 * (time.perf_counter() - started))
                assert all(read.passed.values()), (check, read.verdicts)
                await asyncio.sleep(0.15 if check[0] in "cst" and check != "citation" else 0)  # a spare is up
        took.sort()
        median, late = took[len(took) // 2], took[int(0.95 * len(took))]
        print(f"{check:<16} {what:<34} {median:>10.2f} {late:>9.2f} {stood.longest_ms:>14.1f}")
    started = time.perf_counter()
    own = tasks[f"{len(CASES) - 1}"].cascade
    assert own is not None
    await asyncio.gather(*(checking.read(own, BODY, events(PYTHON)) for _ in range(40)))
    print(f"40 answers under `tests` at once: {1000 * (time.perf_counter() - started) / 40:.0f} ms each")
    await checking.close()


class Standstill:
    """Measures the longest time a loop did not turn."""

    longest_ms = 0.0

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.002)
            self.longest_ms = max(self.longest_ms, 1000 * (time.perf_counter() - started) - 2)

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()


async def margins(prompts: int) -> None:
    """Print how often the reference model is right, by its margin."""
    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(
            id="d",
            engine="llamacpp",
            model="reference",
            operator="self",
            takes=frozenset({"text", "logprobs"}),
        )
        context = EngineContext(
            environ={}, allow_address=lambda _h, _p: False, state_dir="", vault=Vault(Path(folder) / "vault"),
            air_gapped=False, weights={},
        )  # fmt: skip
        driver = LlamaCpp(deployment, context)
        try:
            every = []
            for name in grammar.MANDATORY:
                rows = [await one(driver, *pair) for pair in evaluate.unseen(name, prompts)]
                report(name, rows)
                every += rows
            report("all tasks", every)
        finally:
            await driver.close()


async def one(driver: LlamaCpp, prompt: str, right: str) -> tuple[bool, float | None, float | None]:
    """Ask one prompt; returns whether it is right, and its margins (nats)."""
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "temperature": 0}
    body |= {"logprobs": True, "top_logprobs": 2}
    call = ChatCall(body=body, stream=False, max_output_tokens=96, effort="none")
    whole = [event.raw or b"" async for event in driver.chat(call) if isinstance(event, Whole)]
    choice = msgspec.json.decode(whole[0])["choices"][0]
    text, told = choice["message"]["content"], choice["logprobs"]["content"]
    least, mean = margin(text, told), margin(text, told, "mean")
    return text == right, None if least is None else float(least), None if mean is None else float(mean)


def report(name: str, rows: Sequence[tuple[bool, float | None, float | None]]) -> None:
    """Print how right the answers of a task are by margin."""
    said = f"{name:<13} right {sum(ok for ok, _, _ in rows)}/{len(rows)}"
    for at, by in ((1, "least"), (2, "mean")):
        known = [(value, row[0]) for row in rows if isinstance(value := row[at], float)]
        good, bad = [v for v, ok in known if ok], [v for v, ok in known if not ok]
        wins = sum((a > b) + (a == b) / 2 for a in good for b in bad)
        area = f"{wins / (len(good) * len(bad)):.2f}" if good and bad else "-"
        said += f" | {by}: area {area}"
        for least in (4, 2, 1):
            kept = [ok for value, ok in known if value >= least]
            low = binomial(sum(kept), len(kept)).low if kept else 0.0
            said += f", {least}: {sum(kept)}/{len(kept)} ({low:.2f})"
    print(said)


def main() -> None:
    """Run it."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("-n", type=int, default=100, help="rounds of each check")
    arguments.add_argument("--margin", type=int, default=0, help="prompts of each task")
    given = arguments.parse_args()
    if given.n < 1:
        raise Invalid("-n is less than 1", "", "")
    uvloop.run(timed(given.n))
    if given.margin:
        uvloop.run(margins(given.margin))


if __name__ == "__main__":
    main()
