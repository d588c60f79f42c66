"""The fleet of the day as a configuration: two models of our own, two hosted in the bloc, one outside."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec
from day_operators import PATTERN


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment: whose outcomes it replays, who runs it where, and USD for a million tokens."""

    model: str
    operator: str
    place: str
    quality: Decimal
    input_usd: Decimal
    output_usd: Decimal


def _role(model: str, operator: str, place: str, quality: str, input_usd: str, output_usd: str) -> Role:
    price = Decimal(input_usd), Decimal(output_usd)
    return Role(
        model=model, operator=operator, place=place, quality=Decimal(quality), input_usd=price[0],
        output_usd=price[1],
    )  # fmt: skip


ROLES: Final[dict[str, Role]] = {
    "own-llama": _role("Meta-Llama-3.1-70B-Instruct", "self", "DE", "0.70", "0.9", "0.9"),
    "own-qwen": _role("Qwen2-72B-Instruct", "self", "DE", "0.68", "0.9", "0.9"),
    "bloc-deepseek": _role("deepseek-v2.5-0908", "nordic-host", "FI", "0.72", "0.14", "0.28"),
    "bloc-mistral": _role("Mistral-Large-2", "paris-host", "FR", "0.78", "2", "6"),
    "frontier": _role("claude-3-5-sonnet-20241022", "us-cloud", "US", "0.85", "3", "15"),
}
"""Qualities are what an operator might declare, not what the outcomes say; prices are those the outcomes were
priced by (for open weights a host's list price of their size, also for those of our own)."""

SMALL: Final = "gemma-2-2b-it"
"""What a deployment that turned bad serves under the old name."""
DEARER: Final = ("bloc-deepseek", Decimal(8))
"""Whose price changes in the evening, and by what factor."""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one kind: an app's at a task.

    Attributes:
        name: how tables call it. app, task: who asks for what; prompts: the task its prompts are recorded of.
        share: of the day's requests. reference: against whom nothing is lost, as law allows this app.

    """

    name: str
    app: str
    task: str
    prompts: str
    share: float
    reference: str


STREAMS: Final = (
    Stream(name="sums, public", app="school", task="sums", prompts="gsm", share=0.32, reference="frontier"),
    Stream(
        name="sums, personal", app="clinic", task="sums", prompts="gsm", share=0.40, reference="bloc-mistral"
    ),
    Stream(name="code, public", app="school", task="code", prompts="crux", share=0.20, reference="frontier"),
    Stream(
        name="proofs, public", app="school", task="proofs", prompts="math-l5", share=0.08,
        reference="frontier",
    ),
)  # fmt: skip
"""``sums`` is one task asked by two apps: the law leaves each another fleet, and each is proven for itself.
``reference`` repeats what the gateway chooses by itself, to know what the reference would have said."""

LOSS: Final = {"sums": 0.05, "code": 0.15, "proofs": 0.05}
"""The most that may be lost on average against the reference, by task."""
AUDITS: Final = 0.05
_NAMED: Final = {"code": 'base = "bloc-deepseek", second = "own-qwen", '}
"""A task that names its base keeps it when prices change; the others take the cheapest per solved task."""

OBJECTIVES: Final = ("sovereign", "cheapest", "best")


def config(ports: Mapping[str, int], *, dearer: bool) -> str:
    """Write the configuration; ``dearer`` is the price list of the evening."""
    parts = [_HEAD]
    for name, role in ROLES.items():
        input_usd, output_usd = prices(name, dearer=dearer)
        own = role.operator == "self"
        parts.append(
            f'[[deployment]]\nid = "{name}"\nengine = "compatible"\nmodel = "{role.model}"\n'
            f'base_url = "http://127.0.0.1:{ports[name]}/v1"\noperator = "{role.operator}"\n'
            f'processing = "{role.place}"\nat_rest = ["{role.place}"]\ntransit = ["{role.place}"]\n'
            f"on_premises = {_truth(own)}\nretries = 0\nquality = {{ default = {role.quality} }}\n"
            f"records_auditable = {_AUDITED[role.operator]}\ninspectable = {_AUDITED[role.operator]}\n"
            f"price = {{ input_usd_mtok = {input_usd}, output_usd_mtok = {output_usd} }}\n"
            f"seal = {[4] * 8 if own else [2] * 8 if role.place != 'US' else [0] * 8}\n"
        )
    for task, loss in LOSS.items():
        parts.append(
            f'[[task]]\nname = "{task}"\ncascade = {{ {_NAMED.get(task, "")}max_loss = {loss}, '
            f"audit_share = {AUDITS}, check = ['regex:{PATTERN}', 'agreement'], key = 'regex:{PATTERN}' }}\n"
        )
    parts += [f'[[task]]\nname = "{one}"\nobjective = "{one}"\n' for one in OBJECTIVES]
    return "\n".join(parts)


def prices(name: str, *, dearer: bool) -> tuple[Decimal, Decimal]:
    """Return what a deployment asks for a million tokens of input and of output, in USD."""
    factor = DEARER[1] if dearer and name == DEARER[0] else Decimal(1)
    return ROLES[name].input_usd * factor, ROLES[name].output_usd * factor


def _truth(value: bool) -> str:
    return "true" if value else "false"


_SHOWN: Final = '{ value = true, grade = "attested", source = "made up for this tour" }'
_AUDITED: Final = {"self": "true", "paris-host": _SHOWN, "nordic-host": "false", "us-cloud": "false"}
"""Whose records may be looked into, which the law asks for before it hands over personal data."""
_HEAD: Final = """[tenant]
id = "day"
home = "DE"
bloc = ["EEA"]
resident_classes = ["personal"]
default_classes = ["personal"]
packs = ["base"]
objective = "cheapest"

[[app]]
id = "school"
classes = ["public"]

[[app]]
id = "clinic"
classes = ["personal"]

[[operator]]
id = "self"
own = true
seat = "DE"
controlled_from = ["DE"]
compelled_by = []

[[operator]]
id = "nordic-host"
seat = "FI"
controlled_from = ["FI"]
compelled_by = []

[[operator]]
id = "paris-host"
seat = "FR"
controlled_from = ["FR"]
compelled_by = []

[[operator]]
id = "us-cloud"
seat = "US"
controlled_from = ["US"]
compelled_by = ["US-CLOUD-ACT", "US-FISA-702"]
"""
