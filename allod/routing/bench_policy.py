"""The policy an outside scorer plays: learned from outcomes, driven by the product's own cascade.

``policy()`` returns an object with ``fit`` and ``run``. Fitting learns judges (``allod.routing.stopping``)
and a course for each task (``allod.routing.courses``); running walks a ``Cascade`` with
``allod.routing.cascade.step``, asking through the caller, and never sees a quality. While it runs, it watches
who stands alone against a majority and who always says the same as another: a model that turned bad, or
answers with another's words, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Invalid
from allod.routing.cascade import Answered, Cascade, Check, Judgement, Step, step

if TYPE_CHECKING:
    from allod.routing.courses import Course
    from allod.routing.stopping import Fitted

FLOOR: Final = 0.003
TASK_FLOOR: Final = -0.007
"""Least mean change of quality out of fold, of all prompts and of each task, to choose a course by: stricter
than what is promised (-0.005 and -0.01), by what the choice itself flatters."""
_ALARM: Final = 1e-4
_NEED: Final = 2
_ONE_SIDED: Final = 1.645
"""Standard errors below the mean that a normal variable is in one case of twenty."""
_LEAST_PROMPTS: Final = 60


class Promised(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for a task when it was fitted: the order, the threshold, and the expected change.

    ``change`` is out of fold, ``error`` its standard error; ``low``: its one-sided 95 % bound (normal
    approximation, not anytime-valid).
    """

    task: str
    order: tuple[str, ...]
    threshold: float
    saved: float
    change: float
    error: float
    low: float
    n: int


class Policy:
    """Base, check, escalate; see the module. One object serves one caller."""

    def __init__(self, *, floor: float = FLOOR, task_floor: float = TASK_FLOOR, seed: int = 0) -> None:
        self._floor, self._task_floor, self._seed = floor, task_floor, seed
        self._models: tuple[str, ...] = ()
        self._reference = ""
        self._cascades: dict[str, Cascade] = {}
        self._courses: dict[str, Course] = {}
        self._fitted: Fitted | None = None
        self._watch = Watch({}, {})
        self.promised: tuple[Promised, ...] = ()

    def fit(
        self,
        prompts: Sequence[Mapping[str, str]],
        models: Sequence[str],
        quality: Any,
        cost: Any,
        keys: Any,
        reference: str,
    ) -> None:
        """Learn from outcomes: arrays of prompts x models, NaN for missing, keys empty for no answer.

        Qualities beyond 0..1 count as the nearest, impossible costs as missing.

        Raises:
            Invalid: the reference is not among the models, or the arrays have another shape.

        """
        import numpy as np  # noqa: PLC0415 (heavy)

        from allod.routing import agreement, courses, stopping  # noqa: PLC0415 (numpy)

        quality = np.asarray(quality, dtype=float)
        quality = np.clip(np.where(np.isfinite(quality), quality, np.nan), 0.0, 1.0)
        cost = np.asarray(cost, dtype=float)
        cost = np.where(np.isfinite(cost) & (cost >= 0), cost, np.nan)
        answers = np.asarray(keys)
        expected = (len(prompts), len(models))
        if reference not in models or not quality.shape == cost.shape == answers.shape == expected:
            raise Invalid(
                "these outcomes cannot be learned from",
                f"reference {reference} in {len(models)} models, shapes {quality.shape}, {cost.shape}, "
                f"{answers.shape} for {expected}",
                "give arrays of prompts x models, the reference among the models",
            )
        self._models, self._reference = tuple(models), reference
        self._cascades, self._courses, self._fitted = {}, {}, None
        self._watch, self.promised = Watch({}, {}), ()
        at = self._models.index(reference)
        known = np.isfinite(quality[:, at]) if len(prompts) else np.zeros(0, dtype=bool)
        rows = [int(row) for row in np.flatnonzero(known)]
        texts = [_read(prompts[row]) for row in rows]
        line = [[_key(key) for key in answers[row]] for row in rows]
        if len(rows) < _LEAST_PROMPTS or len(models) < _NEED:
            return
        unit = _unit(cost[rows, at])
        of = agreement.outcomes(texts, quality[rows], cost[rows] / unit, line, at)
        pool = [
            model for model in range(len(models)) if model != at and np.isfinite(quality[rows, model]).any()
        ]
        if not pool or not of.tasks:
            return
        self._fitted = stopping.fit(of, pool, self._seed)
        chosen = courses.courses(self._fitted, pool, self._floor, self._task_floor)
        self._plan(of.tasks, chosen)
        self._watch = watch(self._fitted, chosen, self._models)

    def _plan(self, tasks: Sequence[str], chosen: Sequence[Course | None]) -> None:
        assert self._fitted is not None
        promised = []
        for number, (task, course) in enumerate(zip(tasks, chosen, strict=True)):
            if course is None:
                continue
            worth = (Check(kind="worth", at_least=course.threshold),)
            steps = tuple(Step(deployment=self._models[one], checks=worth) for one in course.order)
            steps = (_checked(steps[0]), *steps[1:])
            self._courses[task] = course
            self._cascades[task] = Cascade(task=task, steps=steps, escalate=self._reference)
            promised.append(
                Promised(
                    task=task, order=tuple(one.deployment for one in steps), threshold=course.threshold,
                    saved=course.saved, change=course.change, error=course.error,
                    low=course.change - _ONE_SIDED * course.error,
                    n=int((self._fitted.of.task == number).sum()),
                )
            )  # fmt: skip
        self.promised = tuple(promised)

    def stated(self, served: int) -> float:
        """Say what the mean change of quality of so many further prompts stays above, in 95 % of cases.

        It holds the doubt of the prompts fitted and that of those served (normal approximation), for prompts
        of the same kind; it is 0 where every prompt goes to the reference.
        """
        if self._fitted is None or served < 1:
            return 0.0
        n = self._fitted.of.size
        mean = sum(one.change * one.n for one in self.promised) / n
        variance = sum((one.error * one.n) ** 2 for one in self.promised) / n**2
        return float(mean - _ONE_SIDED * math.sqrt(variance * (1 + n / served)))

    def run(self, row: Mapping[str, str], ask: Callable[[str], str]) -> str:
        """Serve one prompt: ask, judge, deliver. Returns the model whose answer is delivered."""
        task, text = _read(row)
        cascade = self._cascades.get(task)
        if cascade is None or self._fitted is None:
            return self._reference
        out = self._watch.out(cascade.task)
        steps = tuple(one for one in cascade.steps if one.deployment not in out)
        if len(steps) < _NEED:
            return self._reference
        cascade = msgspec.structs.replace(cascade, steps=(_checked(steps[0]), *steps[1:]))
        judge = _Judge(self._fitted, self._models, cascade, text, self._courses[task])
        answers: tuple[Answered, ...] = ()
        while True:
            said = step(cascade, answers, judge)
            if said.deliver is not None or not said.ask:
                self._watch.note(cascade.task, answers)
                return said.deliver or self._reference
            for model in said.ask:
                answers += (Answered(deployment=model, key=_key(ask(model))),)


def _read(row: Mapping[str, str]) -> tuple[str, str]:
    return str(row.get("task") or ""), str(row.get("prompt") or "")


def _key(said: object) -> str:
    """Read a key; whatever is no text is no answer."""
    return str(said) if isinstance(said, str) else ""


def _unit(cost: Any) -> float:
    import numpy as np  # noqa: PLC0415 (heavy)

    known = cost[np.isfinite(cost)]
    mean = float(known.mean()) if len(known) else 0.0
    return mean if mean > 0 else 1.0


def _checked(first: Step) -> Step:
    """Let the first answer wait for another."""
    worth = tuple(one for one in first.checks if one.kind == "worth")
    return msgspec.structs.replace(first, checks=(*worth, Check(kind="agreement", at_least=_NEED)))


class _Judge:
    """Judges the answers to one prompt."""

    def __init__(
        self, fitted: Fitted, models: tuple[str, ...], cascade: Cascade, prompt: str, course: Course
    ) -> None:
        import numpy as np  # noqa: PLC0415 (heavy)

        from allod.routing.agreement import Outcomes, read_prompt  # noqa: PLC0415 (numpy)

        self._np, self._judge, self._models, self._course = np, fitted.judge, models, course
        self._known: dict[int, Judgement] = {}
        self._at = {name: number for number, name in enumerate(models)}
        self._number = fitted.of.tasks.index(cascade.task)
        words, shape = read_prompt(cascade.task, prompt)
        of = Outcomes(
            task=np.asarray([self._number]), tasks=fitted.of.tasks, quality=np.full((1, len(models)), np.nan),
            cost=np.ones((1, len(models))), has=np.zeros((1, len(models)), dtype=bool),
            same=np.zeros((1, len(models), len(models)), dtype=bool), words=words[None, :],
            shape=shape[None, :], reference=fitted.of.reference,
        )  # fmt: skip
        self._of, self._told = of, fitted.judge.teller.tell(of)

    def __call__(self, answers: tuple[Answered, ...]) -> Judgement:
        found = self._known.get(len(answers))
        if found is None:
            found = self._known[len(answers)] = self._judged(answers)
        return found

    def _judged(self, answers: tuple[Answered, ...]) -> Judgement:
        from allod.routing.courses import first  # noqa: PLC0415 (numpy)

        columns = [self._at[one.deployment] for one in answers]
        if not columns:
            hopeless = self._hopeless(columns, first(self._told))
            return Judgement(deployment=None, chance=0.0, gain=1.0, cost=1.0, hopeless=hopeless)
        for column, one in zip(columns, answers, strict=True):
            self._of.has[0, column] = bool(one.key) and not one.failed
            for other, two in zip(columns, answers, strict=True):
                same = bool(one.key) and one.key == two.key and not one.failed and not two.failed
                self._of.same[0, column, other] = same
        reference = self._of.reference
        if reference in columns:
            before = [column for column in columns if column != reference]
            column = int(self._judge.after(self._of, self._told, before)[0])
            return Judgement(deployment=self._models[column], chance=1.0, gain=0.0, cost=0.0)
        state = self._judge.state(self._of, self._told, columns)
        gain, cost = self._judge.worth(self._of, state)
        best = int(state.best[0])
        return Judgement(
            deployment=None if best < 0 else self._models[best],
            chance=float(state.chance[0]),
            gain=float(gain[0]),
            cost=float(cost[0]),
            hopeless=self._hopeless(columns, state.ahead(gain, self._told)),
        )

    def _hopeless(self, columns: list[int], ahead: Any) -> bool:
        """Ask the gate, which knows the beginnings of its own order only."""
        at = len(columns)
        if at >= len(self._course.order) or tuple(columns) != self._course.order[:at]:
            return False
        return bool(self._course.hopeless(at, ahead)[0])


class Watch:
    """Notices, from keys alone, models that turned bad or copy another's answers.

    For each task and model two sums of log likelihood ratios run, each starting anew when it is down (CUSUM,
    Page 1954): standing alone against a majority far more often than when fitted, and agreeing with the one
    asked before it far more often. Rates of an unchanged model are those of the fitted outcomes.
    """

    def __init__(self, alone: dict[tuple[str, str], float], same: dict[tuple[str, str, str], float]) -> None:
        self._alone, self._same = alone, same
        self._sums: dict[tuple[str, ...], float] = {}
        self._out: dict[str, set[str]] = {}

    def out(self, task: str) -> set[str]:
        """Return the models left out at a task."""
        return self._out.get(task, set())

    def note(self, task: str, answers: tuple[Answered, ...]) -> None:
        """Take in the answers to one prompt."""
        for model, event in alone(answers):
            rate = self._alone.get((task, model))
            if rate is not None and self._sum(
                (task, model), event, rate, min(0.95, max(3 * rate, rate + 0.3))
            ):
                self._out.setdefault(task, set()).add(model)
        if len(answers) >= _NEED and answers[0].key and answers[1].key:
            one, two = answers[0].deployment, answers[1].deployment
            rate = self._same.get((task, one, two))
            event = answers[0].key == answers[1].key
            if rate is not None and self._sum((task, one, two), event, rate, 1 - (1 - rate) / 20):
                self._out.setdefault(task, set()).add(two)

    def _sum(self, key: tuple[str, ...], event: bool, rate: float, changed: float) -> bool:
        ratio = math.log(changed / rate) if event else math.log((1 - changed) / (1 - rate))
        self._sums[key] = max(0.0, self._sums.get(key, 0.0)) + ratio
        return self._sums[key] >= -math.log(_ALARM)


def alone(answers: tuple[Answered, ...]) -> list[tuple[str, bool]]:
    """Say, where at least two others were asked, whether a model stands alone while two others agree."""
    if len(answers) <= _NEED:
        return []
    out = []
    for one in answers:
        others = [two.key for two in answers if two is not one and two.key]
        majority = any(others.count(key) >= _NEED for key in others)
        out.append((one.deployment, majority and one.key not in others))
    return out


def watch(fitted: Fitted, chosen: Sequence[Course | None], models: tuple[str, ...]) -> Watch:
    """Play the fitted prompts once more to learn how often each model stands alone, and how pairs agree."""
    import numpy as np  # noqa: PLC0415 (heavy)

    from allod.routing.courses import Replay  # noqa: PLC0415 (numpy)

    of = fitted.of
    lone: dict[tuple[str, str], float] = {}
    same: dict[tuple[str, str, str], float] = {}
    for number, course in enumerate(chosen):
        if course is None:
            continue
        replay = Replay(fitted, number, course.order)
        walk = replay.walk(course.threshold, replay.gates(course.threshold)[1])
        task, counts = of.tasks[number], dict.fromkeys(course.order, (0, 0))
        for row, n, escalated in zip(replay.rows, walk.asked, walk.escalated, strict=True):
            asked = [*course.order[: int(n)], *([of.reference] if escalated else [])]
            for model, event in _alone_in(of.same[row][np.ix_(asked, asked)], asked):
                if model in counts:
                    counts[model] = counts[model][0] + event, counts[model][1] + 1
        for model, (events, n) in counts.items():
            lone[task, models[model]] = (events + 1) / (n + 4)
        if len(course.order) >= _NEED:
            one, two = course.order[:2]
            rows = (of.task == number) & of.has[:, one] & of.has[:, two]
            same[task, models[one], models[two]] = (of.same[rows, one, two].sum() + 2) / (rows.sum() + 4)
    return Watch(lone, same)


def _alone_in(same: Any, asked: list[int]) -> list[tuple[int, bool]]:
    if len(asked) <= _NEED:
        return []
    out = []
    for at, model in enumerate(asked):
        others = [other for other in range(len(asked)) if other != at]
        majority = any(sum(same[one, two] for two in others) >= _NEED for one in others)
        out.append((model, majority and not any(same[at, other] for other in others)))
    return out


def policy() -> Policy:
    """Return a policy that has learned nothing: until fitted it answers with the reference."""
    return Policy()
