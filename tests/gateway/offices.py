"""An office for tests of signatures and changes: a home with signers, whose keys lie in it, and own packs."""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from world import config, deployment

from allod.domain.errors import Integrity
from allod.gateway import changes, compose, ownpacks, signers, standing
from allod.policy.signing import PACK, statement
from allod.receipts.ids import new_id
from allod.receipts.leaves import NoticeFacts
from allod.store.home import Home, make_home
from allod.store.store import Store

NOW_MS = time.time_ns() // 1_000_000
DAY = datetime.now(UTC).date()
STRICT = 'context.classes.contains("personal")'
LOOSE = 'context.classes.contains("phi")'


def rules(condition: str) -> str:
    return (
        '@id("house.dpa") @law("House rule 1") @text("A data processing agreement.") @remedy("Sign one.")\n'
        'forbid (principal is Allod::App, action == Allod::Action::"dispatch", '
        "resource is Allod::Deployment)\n"
        f'when {{ {condition} }} unless {{ resource.agreements.declared.contains("dpa") }};\n'
    )


def _toml(value: Any) -> str:
    return str(value) if isinstance(value, date) else json.dumps(value)


class Office:
    """A home with signers, whose keys lie in it, and packs of its own."""

    def __init__(self, root: Path, *, four_eyes: bool = False) -> None:
        self.root = root
        self.home: Home = make_home(root)
        self.four_eyes = four_eyes
        self.signers: dict[str, dict[str, Any]] = {}
        self.packs: list[str] = []
        self.apps: list[dict[str, Any]] = [
            {"id": "ward", "classes": ["phi"]},
            {"id": "press", "classes": ["public"]},
        ]
        self.deployments = [deployment("here", "answer"), deployment("there", "answer", lawful=False)]
        for name, role in (("alice", "author"), ("bob", "compliance"), ("carol", "author")):
            self.add(name, role)
        self.write()

    def copied(self, root: Path) -> Office:
        """Return the same office in another place."""
        shutil.copytree(self.root, root, symlinks=True)
        office = Office.__new__(Office)
        office.__dict__.update(copy.deepcopy(self.__dict__))
        office.root, office.home = root, Home(root)
        return office

    def add(self, name: str, role: str, **more: Any) -> None:
        key = signers.make_key(signers.key_path(self.home, name), name)
        self.signers[name] = {"id": name, "role": role, "key": key.key.vkey(), **more}

    def text(self, **tenant: Any) -> str:
        parts = [
            config(
                self.deployments,
                apps=self.apps,
                tenant={"packs": ["base", *self.packs], "four_eyes": self.four_eyes, **tenant},
            )
        ]
        for row in self.signers.values():
            parts.append("[[signer]]")
            parts += [f"{key} = {_toml(value)}" for key, value in row.items()]
        return "\n".join(parts) + "\n"

    def write(self, **tenant: Any) -> None:
        self.home.config.write_text(self.text(**tenant))

    def pack(self, condition: str = STRICT, *, version: str = "1.0.0", folder: Path | None = None) -> Path:
        """Write the pack ``house``, by default where the home has its own."""
        folder = folder or self.root / "packs" / "house"
        (folder / "cases").mkdir(parents=True, exist_ok=True)
        (folder / "pack.toml").write_text(f'id = "house"\nversion = "{version}"\nstatus = "in-force"\n')
        (folder / "policies.cedar").write_text(rules(condition))
        (folder / "theorems.toml").write_text("")
        (folder / "obligations.toml").write_text("")
        return folder

    def sign(self, *names: str, folder: Path | None = None, text: str | None = None) -> None:
        folder = folder or self.root / "packs" / "house"
        target = ownpacks.signature_file(folder)
        if text is None:
            schema = compose.find().load("base").schema
            pack = ownpacks.load_pack_at(folder, schema)
            text = statement(PACK, ownpacks.statement_of(pack))
        for name in names:
            key = signers.load_key(signers.key_path(self.home, name))
            old = target.read_bytes() if target.exists() else None
            target.write_bytes(signers.add_signature(old, text, key))

    def own(self, condition: str = STRICT, *names: str, version: str = "1.0.0") -> None:
        """Put the pack in force, signed by these."""
        self.pack(condition, version=version)
        ownpacks.signature_file(self.root / "packs" / "house").unlink(missing_ok=True)
        self.sign(*(names or ("alice",)))
        self.packs = ["house"]
        self.write()

    # --- what happens with it

    def setting(self, path: Path | None = None) -> Any:
        os.environ["ALLOD_HOME"] = str(self.root)
        try:
            return compose.setting(path)
        finally:
            del os.environ["ALLOD_HOME"]

    def begin(self, path: Path | None = None) -> standing.Standing:
        """Do what a start does before it serves."""
        setting = self.setting(path)
        policy = compose.decider(setting.fleet, setting.packs).policy
        approved = changes.enforce(setting, policy, DAY)
        store = Store.open(self.home)
        try:
            found = standing.begin(store, setting, policy.packs, approved, "tenant", NOW_MS)

            store.append_notice(
                NoticeFacts(
                    id=new_id(store.keys.origin, NOW_MS, os.urandom(10)),
                    at_ms=NOW_MS,
                    tenant="tenant",
                    subject="start",
                    facts=found.facts(),
                )
            )
            return found
        finally:
            store.close()

    def notices(self, subject: str) -> list[dict[str, Any]]:
        store = Store.open(self.home)
        try:
            leaves = [json.loads(store.reader.leaf(n)) for n in range(store.reader.size())]
        finally:
            store.close()
        return [leaf for leaf in leaves if leaf["kind"] == "notice" and leaf["subject"] == subject]

    def propose(self, by: str = "alice", *, reason: str = "because", **more: Any) -> changes.Change:
        return changes.propose(self.home, by=by, reason=reason, now_ms=NOW_MS, **more)

    def approve(self, change: changes.Change | str, by: str = "bob", **more: Any) -> changes.Change:
        name = change if isinstance(change, str) else change.id
        return changes.approve(self.home, name, by=by, now_ms=NOW_MS, **more)

    def change(self, by: str = "alice", second: str = "bob", **more: Any) -> changes.Change:
        return self.approve(self.propose(by, **more), second)


def refuses(office: Office, *words: str, path: Path | None = None) -> None:
    with pytest.raises(Integrity) as caught:
        office.begin(path)
    for word in words:
        assert word in caught.value.explain()
