"""``allod eval``: an organisation's own examples asked of its deployments, checked, scored with intervals."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from allod.assurance.cases import CHECKERS, CheckerName, read_suite
from allod.assurance.evaluation import (
    FORMAT,
    Evaluated,
    Evaluation,
    difference,
    judge_errors,
    judged_rate,
    score_of,
    total_cost,
)
from allod.assurance.run import Order, Reply, left, run
from allod.domain.errors import Invalid, Unavailable
from allod.domain.fleet import EFFORTS
from allod.domain.money import plain, rfc3339
from allod.gateway import evaluations
from allod.gateway.cli import estimate_lines, eval_prior, eval_promise, eval_use, out, say
from allod.gateway.cli.lines import say_columns
from allod.gateway.cli.options import app_named, config_option, json_option, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allod.assurance.cases import Case, Message
    from allod.assurance.evaluation import Item
    from allod.assurance.scores import Interval, Score
    from allod.domain.fleet import App
    from allod.gateway.cli.client import Answered, Client
    from allod.gateway.compose import Setting
    from allod.gateway.evaluations import Kept

OK, REFUSED_BY_LAW, NOBODY = 200, 403, 401
LEFT: Final = 2
"""Columns of words."""
COMMIT_S: Final = 5.0
CLIENT_S: Final = 200.0
"""A command's key lives longer than this."""


@click.group("eval")
def command() -> None:
    """Which deployment is good enough for which task, on your own examples."""


command.add_command(eval_use.use_command)
command.add_command(eval_use.drop_command)
command.add_command(eval_use.status_command)
command.add_command(eval_prior.command)
command.add_command(eval_promise.command)


class Link:
    """A client for a long run: its key is made anew before it ends. Used by several threads."""

    def __init__(self, setting: Setting, app: str) -> None:
        self._setting, self._app = setting, app
        self._lock, self._until = threading.Lock(), 0.0
        self._stack = contextlib.ExitStack()
        self._client: Client | None = None

    def ask(self, body: bytes, headers: dict[str, str]) -> Answered:
        """Send one chat request."""
        from allod.gateway.cli.client import Client  # noqa: PLC0415

        with self._lock:
            if self._client is None or time.monotonic() > self._until:
                # the one before is closed at the end: others may still be asking with it
                self._client = self._stack.enter_context(Client(self._setting, self._app))
                self._until = time.monotonic() + CLIENT_S
            client = self._client
        return client.ask("POST", "/v1/chat/completions", body, headers)

    def close(self) -> None:
        """Revoke what was made."""
        self._stack.close()


class Asking:
    """Asks the running gateway a case of a deployment by pinning it: the law decides as for everybody."""

    def __init__(self, link: Link, *, effort: str | None, max_tokens: int | None) -> None:
        self._link, self._effort, self._max_tokens = link, effort, max_tokens

    def __call__(self, deployment: str, case: Case, conversation: tuple[Message, ...], /) -> Reply:
        """Ask, and read the answer."""
        body: dict[str, Any] = {
            "model": deployment,
            "messages": [{"role": m.role, "content": m.content} for m in conversation],
            "temperature": 0,
        }
        limit = case.max_tokens or self._max_tokens
        if limit is not None:
            body["max_completion_tokens"] = limit
        headers = {"allod-effort": self._effort} if self._effort else {}
        started = time.monotonic()
        answered = self._link.ask(json.dumps(body).encode(), headers)
        took = round(1000 * (time.monotonic() - started))
        return _reply(answered, took)


def _reply(answered: Answered, total_ms: int) -> Reply:
    receipt = answered.headers.get("allod-receipt")
    if answered.status == OK:
        body = answered.json()
        usage = body.get("usage") or {}
        message = (body.get("choices") or [{}])[0].get("message") or {}
        return Reply(
            text=message.get("content") or "",
            receipt=receipt,
            cost_usd=answered.headers.get("allod-cost", "0"),
            input_tokens=usage.get("prompt_tokens", 0),
            output_tokens=usage.get("completion_tokens", 0),
            reasoning_tokens=int(answered.headers.get("allod-thinking-tokens", "0")),
            total_ms=total_ms,
            simulated=answered.headers.get("allod-simulated") == "true",
        )
    error = answered.json().get("error") or {}
    why = str(error.get("message", f"status {answered.status}"))
    if answered.status == REFUSED_BY_LAW:
        return Reply(refused=why, receipt=receipt)
    if receipt is None:
        raise Unavailable("the gateway did not take the question", f"{answered.status}: {why}", kind="failed")
    return Reply(failed=f"{answered.status}: {why}", receipt=receipt, total_ms=total_ms)


@command.command("run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--on", "deployments", multiple=True, required=True, help="a deployment; may be repeated")
@click.option("--app", "app_id", help="the app that asks; its classes and purposes hold")
@click.option("--task", help="the task of cases that name none")
@click.option("--checker", type=click.Choice(CHECKERS), help="the checker of cases that name none")
@click.option("--judge", help="the deployment that judges cases with checker judge")
@click.option(
    "--repeat", type=click.IntRange(1, 100), default=1, show_default=True, help="ask each case so often"
)
@click.option("--at-once", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1), help="limit of an answer, where a case has none")
@click.option("--effort", type=click.Choice(["none", "low", "medium", "high", "xhigh", "max"]))
@config_option
@json_option
def run_command(
    file: Path,
    deployments: tuple[str, ...],
    app_id: str | None,
    task: str | None,
    checker: CheckerName | None,
    judge: str | None,
    repeat: int,
    at_once: int,
    max_tokens: int | None,
    effort: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Ask the cases of FILE (JSON Lines, or CSV by its name) of deployments, through the running gateway.

    Every question is a request of the app: decided by the law, charged, receipted. Interrupted, the same
    command goes on where it was.
    """
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)

    setting = compose.setting(config_path)
    app = app_named(setting.fleet, app_id)
    _check_depth(app, effort)
    for name in (*deployments, *((judge,) if judge else ())):
        if name not in setting.fleet.deployments:
            known = ", ".join(setting.fleet.deployments)
            raise Invalid(
                f"there is no deployment {name!r}", f"known: {known}", "say --on DEPLOYMENT", param="on"
            )
    suite = read_suite(file.read_bytes(), csv_file=file.suffix == ".csv", checker=checker, task=task)
    if judge is None and any(case.checker == "judge" for case in suite.cases):
        raise Invalid(
            "nobody is to judge", "some cases have checker judge", "say --judge DEPLOYMENT", param="judge"
        )
    order = Order(suite=suite, deployments=deployments, judge=judge, repeats=repeat, at_once=at_once)
    kept = _run(setting, order, app.id, effort, max_tokens, quiet=as_json)
    print_evaluation(kept, as_json=as_json)


def _check_depth(app: App, effort: str | None) -> None:
    """Refuse a depth the app may not ask for: answers would come from less, under a name they do not have."""
    if effort is not None and app.effort is not None and EFFORTS.index(app.effort) < EFFORTS.index(effort):
        raise Invalid(
            f"app {app.id} may not ask at effort {effort}",
            f"its own is at most {app.effort}",
            "say --app of one that may, or raise `effort` of the app",
            param="effort",
        )


def _run(
    setting: Setting, order: Order, app: str, effort: str | None, max_tokens: int | None, *, quiet: bool
) -> Kept:
    from allod.receipts.canonical import canonical  # noqa: PLC0415
    from allod.receipts.commitment import digest  # noqa: PLC0415

    told = [app, list(order.deployments), order.judge or "", effort or "", max_tokens or 0, order.repeats]
    part = evaluations.part(setting.home, order.suite.digest, digest(canonical(told)))
    items = evaluations.begun(part)
    notebook, link = evaluations.Notebook(part), Link(setting, app)
    ask = Asking(link, effort=effort, max_tokens=max_tokens)
    try:
        with _progress(len(left(order, items)), len(items), quiet=quiet) as step:

            def keep(item: Item) -> None:
                notebook.keep(item)
                step()

            found = run(order, ask, items, keep)
    finally:
        notebook.close()
        link.close()
    kept = evaluations.keep(
        setting.home,
        Evaluation(
            format=FORMAT,
            at=rfc3339(now_ms()),
            suite=order.suite.digest,
            app=app,
            home=setting.home.root.name,
            judge=order.judge,
            items=tuple(item for item in found if item.label is None),
            evaluated=_evaluated(setting, found),
            effort=effort,
            labels=tuple(item for item in found if item.label is not None),
        ),
    )
    estimate_lines.keep_words(setting, kept, order.suite.cases)
    part.unlink(missing_ok=True)
    return kept


def _evaluated(setting: Setting, items: tuple[Item, ...]) -> dict[str, Evaluated]:
    """Say what each deployment was, by the first and the last question it was asked."""
    from allod.gateway.capabilities import evaluated_by  # noqa: PLC0415
    from allod.gateway.cli.client import database  # noqa: PLC0415

    until = time.monotonic() + COMMIT_S

    def wait() -> bool:
        time.sleep(0.05)
        return time.monotonic() < until

    receipts: dict[str, list[str]] = {}
    for item in items:
        if item.label is None and item.receipt is not None:
            receipts.setdefault(item.deployment, []).append(item.receipt)
    with database(setting) as tables:
        known = {
            name: evaluated_by(tables, name, (min(some), max(some)), wait) for name, some in receipts.items()
        }
    return {name: one for name, one in known.items() if one is not None}


@contextlib.contextmanager
def _progress(todo: int, done: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    if quiet:
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task("asking", total=todo + done, completed=done)
        yield lambda: bar.advance(row)


@command.command("list")
@config_option
@json_option
def list_command(config_path: Path | None, as_json: bool) -> None:
    """List the evaluations of this home, oldest first."""
    from allod.gateway import compose  # noqa: PLC0415

    found = list(evaluations.every(compose.setting(config_path).home))
    if as_json:
        out([_summary(one) for one in found])
        return
    for one in found:
        e = one.evaluation
        say(f"{one.short}  {e.at}  {len({i.case for i in e.items})} cases on {', '.join(e.deployments)}")
    if not found:
        say("no evaluation yet: `allod eval run FILE --on DEPLOYMENT`")


@command.command("show")
@click.argument("name")
@click.option("--reference", help="the deployment others are compared with (default: the first)")
@click.option("--wrong", is_flag=True, help="list the cases that were wrong or failed, with receipts")
@config_option
@json_option
def show_command(
    name: str, reference: str | None, wrong: bool, config_path: Path | None, as_json: bool
) -> None:
    """Show an evaluation by the first digits of its digest."""
    from allod.gateway import compose  # noqa: PLC0415

    kept = evaluations.one(compose.setting(config_path).home, name)
    print_evaluation(kept, reference=reference, as_json=as_json)
    if wrong and not as_json:
        for item in kept.evaluation.items:
            if item.status in {"wrong", "failed"}:
                say(f"  {item.case}  {item.deployment}  {item.status}: {item.why}  {item.receipt or ''}")


def _summary(kept: Kept, reference: str | None = None) -> dict[str, Any]:
    """Return all that is claimed, for a program to read."""
    found = kept.evaluation
    first = reference or found.deployments[0]
    rows = [
        {
            "task": task,
            "deployment": name,
            **_numbers(score_of(found, name, task)),
            "corrected": _bounds(judged_rate(found, name, task)),
            "against": first,
            "difference": _bounds(difference(found, name, first, task)) if name != first else None,
        }
        for task in found.tasks
        for name in found.deployments
    ]
    return {
        "evaluation": kept.digest,
        "at": found.at,
        "suite": found.suite,
        "cases": len({item.case for item in found.items}),
        "judge": found.judge,
        "judge_errors": {task: _errors(found, task) for task in found.tasks} if found.judge else {},
        "effort": found.effort,
        "cost_usd": total_cost(found.items),
        "simulated": any(item.simulated for item in found.items),
        "scores": rows,
    }


def _bounds(interval: Interval | None) -> list[float] | None:
    if interval is None:
        return None
    return [round(x, 4) for x in (interval.value, interval.low, interval.high)]


def _numbers(score: Score) -> dict[str, Any]:
    each, high = score.cost_per_success_usd, score.cost_per_success_high_usd
    return {
        "n": score.n,
        "success": _bounds(score.success) if score.n else None,
        "refused": score.refused,
        "failed": score.failed,
        "cost_per_success_usd": None if each is None else plain(each),
        "cost_per_success_high_usd": None if high is None else plain(high),
    }


def print_evaluation(kept: Kept, *, reference: str | None = None, as_json: bool) -> None:
    """Print scores as a table, or as JSON."""
    whole = _summary(kept, reference)
    if as_json:
        out(whole)
        return
    heads = ("task", "deployment", "n", "right", "95 %", "USD per success", "against the first")
    say_columns([heads, *(_cells(row) for row in whole["scores"])], LEFT)
    say()
    say(f"  evaluation  {kept.digest}")
    say(f"  cost        {whole['cost_usd']} USD for {whole['cases']} cases")
    if whole["judge"]:
        _say_judge(whole)
    if whole["simulated"]:
        say("  simulated   answers of a scripted deployment are in these figures")


def _errors(found: Evaluation, task: str) -> dict[str, Any] | None:
    """Return how far the judge of a task may be believed; None where nobody measured that."""
    known = judge_errors(found, task)
    if known is None:
        return None
    return {
        "labelled": known.labelled,
        "right_called_right": _bounds(known.sensitivity),
        "wrong_called_wrong": _bounds(known.specificity),
    }


def _say_judge(whole: dict[str, Any]) -> None:
    say(f"  judge       {whole['judge']}")
    judged: dict[str, list[dict[str, Any]]] = {}
    for row in whole["scores"]:
        if row["corrected"] is not None:
            judged.setdefault(row["task"], []).append(row)
    for task, rows in judged.items():
        known = whole["judge_errors"][task]
        if known is None:
            say(f"    {task}: its errors were not measured: these rates are its opinion, and never count")
            continue
        right, wrong = known["right_called_right"], known["wrong_called_wrong"]
        say(
            f"    {task}: of answers a person called right it called {100 * right[0]:.0f} % right, "
            f"of wrong ones {100 * wrong[0]:.0f} % wrong ({known['labelled']} labelled)"
        )
        for row in rows:
            value, low, high = row["corrected"]
            bounds = f"{100 * low:.1f} to {100 * high:.1f}"
            say(f"      {row['deployment']}: judged cases corrected to {100 * value:.1f} % ({bounds})")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    success, gap = row["success"], row["difference"]
    right = "all refused" if success is None else f"{100 * success[0]:.1f} %"
    bounds = "" if success is None else f"{100 * success[1]:.1f} to {100 * success[2]:.1f}"
    cost = row["cost_per_success_usd"]
    high = row["cost_per_success_high_usd"]
    money = "-" if cost is None else f"{float(cost):.3g}" + (f" (at most {float(high):.3g})" if high else "")
    against = "" if gap is None else f"{100 * gap[0]:+.1f} ({100 * gap[1]:+.1f} to {100 * gap[2]:+.1f})"
    n = f"{row['n']}" + (f" + {row['refused']} refused" if row["refused"] else "")
    return row["task"], row["deployment"], n, right, bounds, money, against
