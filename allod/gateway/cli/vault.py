"""``allod vault``: weights by digest; what entered, what was found in it, who signed it, what may not run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allod.domain.errors import Integrity, Invalid
from allod.gateway.cli import out, say
from allod.gateway.cli.options import json_option
from allod.gateway.cli.vault_trust import keyless_in, pem, trust_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from allod.vault.intake import Extras
    from allod.vault.vault import Entry, Vault

MB = 1_000_000
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("vault")
def command() -> None:
    """Weights by digest: nothing runs that was not looked at, byte by byte."""


def open_vault() -> Vault:
    """Open the vault of this home."""
    from allod.gateway import compose  # noqa: PLC0415 (only when it runs)
    from allod.store.home import make_home  # noqa: PLC0415
    from allod.vault.vault import Vault  # noqa: PLC0415

    return Vault(make_home(compose.home_root()).vault)


def sealed(what: str) -> None:
    """Refuse what an air-gapped home takes by bundle only (raises ``Refused``)."""
    from allod.gateway import compose, supply  # noqa: PLC0415 (only when it runs)
    from allod.store.home import Home  # noqa: PLC0415

    supply.sealed(Home(compose.home_root()), what)


def as_json(entry: Entry) -> dict[str, Any]:
    """Describe an entry for a program to read."""
    m = entry.manifest
    return {
        "name": m.name,
        "kind": m.kind,
        "digest": m.digest,
        "size_bytes": m.size_bytes,
        "architecture": m.architecture,
        "quantisation": m.quantisation,
        "parameters": m.parameters,
        "context_tokens": m.context_tokens,
        "base": m.base,
        "template": m.template,
        "template_flags": list(m.template_flags),
        "template_family": m.template_family,
        "template_replaced": m.template_replaced,
        "licence": m.licence,
        "maker": m.maker,
        "maker_jurisdiction": m.maker_jurisdiction,
        "shipped": entry.shipped,
        "files": [{"name": f.name, "digest": f.digest, "size_bytes": f.size_bytes} for f in m.files],
        "lineage": [
            {"relation": p.relation, "name": p.name, "digest": p.digest, "evidence": p.evidence}
            for p in m.lineage
        ],
        "signatures": [{"digest": s.digest, "signer": s.signer, "subject": s.subject} for s in m.signatures],
        "references": [
            {"kind": r.kind, "title": r.title, "digest": r.digest, "bound": r.bound} for r in m.references
        ],
    }


def show_progress(
    total_bytes: int, doing: str, *, quiet: bool
) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Return what is told bytes and draws a bar, and what ends it; nothing is drawn where nobody looks."""
    if quiet or total_bytes < MB or not sys.stderr.isatty():
        return (lambda _n: None), (lambda: None)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    bar = Progress(console=Console(stderr=True))
    task = bar.add_task(doing, total=total_bytes)
    bar.start()
    return (lambda n: bar.advance(task, n)), bar.stop


def size_of(path: Path) -> int:
    """Return the bytes of a file or of the files of a folder."""
    if path.is_dir():
        return sum(p.lstat().st_size for p in path.iterdir())
    return path.stat().st_size if path.is_file() else 0


def added(entry: Entry, *, quiet: bool) -> None:
    """Print what was added."""
    if quiet:
        out(as_json(entry))
        return
    m = entry.manifest
    say(f"{m.name}\n  {m.digest}")
    for flag in m.template_flags:
        say(f"  chat template: {flag}")
    for made in m.signatures:
        say(
            f"  signed by {made.subject or made.signer}"
            if made.signer
            else "  a signature, kept but not verified"
        )
    if m.loadable and m.kind == "model":
        say('name it as the `model` of a deployment with engine = "llamacpp"')


def print_list(*, quiet: bool) -> None:
    """Print what the vault holds."""
    entries = open_vault().list()
    if quiet:
        out({"models": [as_json(e) for e in entries]})
        return
    for entry in entries:
        m = entry.manifest
        place = "shipped" if entry.shipped else "added"
        say(f"{m.name:24} {m.kind:8} {m.size_bytes / MB:10.2f} MB  {place:8} {m.digest}")


def print_entry(name: str, *, quiet: bool) -> None:
    """Print all that is known of one model."""
    entry = as_json(open_vault().find(name))
    if quiet:
        out(entry)
        return
    for key, value in entry.items():
        for item in value if isinstance(value, list) and value else [value]:
            text = (
                "  ".join(str(v) for v in item.values() if v is not None) if isinstance(item, dict) else item
            )
            say(f"{key:20} {text if text not in (None, [], '') else '-'}")


def verify_all(name: str | None, *, quiet: bool) -> None:
    """Read one model or everything again and print what was verified."""
    vault = open_vault()
    names = [name] if name else [e.manifest.name for e in vault.list()]
    for one in names:
        told, end = show_progress(vault.find(one).manifest.size_bytes, f"reading {one}", quiet=quiet)
        try:
            entry = vault.verify(one, told)
        finally:
            end()
        if not quiet:
            say(f"{one}: is what was verified ({entry.digest})")
    if quiet:
        out({"verified": names})


def add_path(
    path: Path, name: str | None, *, quiet: bool, extras: Extras | None = None, **known: str | None
) -> None:
    """Add a file or folder with a progress bar and print it; refused in an air-gapped home."""
    sealed("adding a model")
    told, end = show_progress(size_of(path), f"copying {path.name}", quiet=quiet)
    try:
        entry = open_vault().add(
            path,
            name,
            base=known.get("base"),
            licence=known.get("licence"),
            maker=known.get("maker"),
            maker_jurisdiction=known.get("maker_jurisdiction"),
            digest=known.get("digest"),
            progress=told,
            extras=extras,
        )
    finally:
        end()
    added(entry, quiet=quiet)


def _parents(vault: Vault, given: tuple[str, ...]) -> tuple[Any, ...]:
    """Read ``RELATION:NAME`` of what a model was made from; a name of the vault brings its digest."""
    import msgspec  # noqa: PLC0415

    from allod.vault.manifest import Parent, Relation  # noqa: PLC0415

    parents = []
    for item in given:
        relation, _, name = item.partition(":")
        try:
            kind = msgspec.convert(relation, Relation)
        except msgspec.ValidationError as error:
            known = "adapter, fine-tune, quantisation, merge, conversion"
            raise Invalid(f"{relation!r} is no relation", f"known are {known}", param="parent") from error
        try:
            digest = vault.find(name).digest
        except Invalid:
            digest = None
        parents.append(Parent(relation=kind, name=name, digest=digest))
    return tuple(parents)


@command.command("add")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="vault name (default: the file's)")
@click.option("--base", help="for an adapter: the weights it belongs to")
@click.option("--licence")
@click.option("--maker")
@click.option("--maker-jurisdiction", help="ISO 3166-1 code of the maker's country")
@click.option("--digest", help="what the model must have")
@click.option(
    "--key", "keys", type=_FILE, multiple=True, help="public key of a publisher; a signature is then required"
)
@click.option("--ca", "roots", type=_FILE, multiple=True, help="root certificates of publishers; likewise")
@click.option("--trusted-root", type=_FILE, help="trusted_root.json of a Sigstore, for keyless signatures")
@click.option("--identity", help="who must have signed keyless: an e-mail address or URI")
@click.option("--issuer", help="who must vouch for that identity: a URL")
@click.option("--signature", type=_FILE, help="the bundle (default: *.sig in the folder)")
@click.option("--git-paths", is_flag=True, help="accept a bundle that leaves out git's paths and itself")
@click.option("--template", type=_FILE, help="chat template to serve instead of the model's own")
@click.option("--accept-template", multiple=True, help="digest of a template that you have read")
@click.option("--parent", "parents", multiple=True, help="RELATION:NAME, such as quantisation:my-model")
@click.option("--evaluation", "evaluations", type=_FILE, multiple=True, help="report to keep with it")
@click.option("--audit", "audits", type=_FILE, multiple=True, help="report to keep with it")
@json_option
def add(path: Path, name: str | None, as_json: bool, **given: Any) -> None:
    """Check a GGUF or safetensors file, or a model's folder, byte by byte, and take a copy by digest."""
    from allod.vault import carry, formats  # noqa: PLC0415
    from allod.vault.intake import Extras  # noqa: PLC0415

    text = None if given["template"] is None else formats.text(pem(given["template"]), "template.jinja")
    papers = [("evaluation", p) for p in given["evaluations"]] + [("audit", p) for p in given["audits"]]
    extras = Extras(
        template=text,
        accept_templates=tuple(given["accept_template"]),
        parents=_parents(open_vault(), given["parents"]),
        signature=None if given["signature"] is None else pem(given["signature"]),
        trust=trust_in(
            given["keys"],
            given["roots"],
            keyless=keyless_in(given["trusted_root"], given["identity"], given["issuer"]),
            git_paths=given["git_paths"],
        ),
        references=carry.references(tuple(papers)),
    )
    add_path(path, name, quiet=as_json, extras=extras, **{
        key: given[key] for key in ("base", "licence", "maker", "maker_jurisdiction", "digest")
    })  # fmt: skip


@command.command("list")
@json_option
def listing(as_json: bool) -> None:
    """List the vault."""
    print_list(quiet=as_json)


@command.command("show")
@click.argument("name")
@click.option("--bom", is_flag=True, help="the bill of materials (CycloneDX 1.6)")
@json_option
def show(name: str, bom: bool, as_json: bool) -> None:
    """Show all that is known of one model."""
    if not bom:
        print_entry(name, quiet=as_json)
        return
    from allod import __version__  # noqa: PLC0415
    from allod.vault import bom as bills  # noqa: PLC0415

    sys.stdout.write(bills.encode(open_vault().find(name).manifest, version=__version__).decode())


@command.command("verify")
@click.argument("name", required=False)
@json_option
def verify(name: str | None, as_json: bool) -> None:
    """Read NAME, or everything, again and compare with its manifest."""
    verify_all(name, quiet=as_json)


@command.command("scan")
@click.argument("target")
@click.option("--parent", help="weights it is said to come from: a name of the vault")
@click.option("--bits", is_flag=True, help="search lowest bits for hidden content")
@click.option("--strict", is_flag=True, help="exit with 3 where there is something to look at")
@json_option
def scan(target: str, parent: str | None, bits: bool, strict: bool, as_json: bool) -> None:
    """Look at TARGET, a name of the vault or a path, without adding it."""
    from allod.gateway.cli import vault_scan  # noqa: PLC0415

    found = vault_scan.run(open_vault(), target, parent, bits=bits)
    if as_json:
        out(found)
    else:
        vault_scan.tell(found)
    if strict and found.flags:
        raise Integrity(f"{target} was scanned", f"{len(found.flags)} things to look at", "read them above")


@command.command("sign")
@click.argument("name")
@click.option("--key", type=_FILE, required=True, help="private EC key in PEM")
@click.option("--certificate", "chain", type=_FILE, multiple=True, help="certificates, the signer's first")
@click.option("--out", "to", type=click.Path(path_type=Path), required=True, help="the bundle to write")
@json_option
def sign(name: str, key: Path, chain: tuple[Path, ...], to: Path, as_json: bool) -> None:
    """Read NAME again and sign its files (OpenSSF model signing)."""
    from allod.vault import carry, signature  # noqa: PLC0415

    held = tuple(c for path in chain for c in signature.certificates(pem(path)))
    secret = signature.private_key(pem(key))
    entry = open_vault().verify(name)
    with to.open("xb") as file:
        file.write(carry.sign(entry, secret, held))
    if as_json:
        out({"signed": name, "bundle": str(to)})
    else:
        say(f"{to}: a signature over {len(entry.manifest.files)} files of {name}")


@command.command("export")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--key", type=_FILE, required=True, help="private EC key in PEM")
@click.option("--certificate", "chain", type=_FILE, multiple=True, help="certificates, the signer's first")
@json_option
def export(name: str, folder: Path, key: Path, chain: tuple[Path, ...], as_json: bool) -> None:
    """Write NAME into a new FOLDER, with manifest, bill of materials and signatures."""
    from allod.vault import carry, signature  # noqa: PLC0415

    vault = open_vault()
    held = tuple(c for path in chain for c in signature.certificates(pem(path)))
    secret = signature.private_key(pem(key))
    told, end = show_progress(vault.find(name).manifest.size_bytes, f"copying {name}", quiet=as_json)
    try:
        entry = carry.export(vault, name, folder, secret, held, told)
    finally:
        end()
    if as_json:
        out({"exported": name, "digest": entry.digest, "folder": str(folder)})
    else:
        say(f"{folder}: {name}, {entry.digest}")


@command.command("import")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--key", "keys", type=_FILE, multiple=True, help="public key of whoever exported it")
@click.option("--ca", "roots", type=_FILE, multiple=True, help="root certificates of whoever exported it")
@click.option("--name", help="another vault name")
@json_option
def bring_in(
    folder: Path, keys: tuple[Path, ...], roots: tuple[Path, ...], name: str | None, as_json: bool
) -> None:
    """Verify a FOLDER that `export` wrote, and add its model."""
    from allod.vault import carry  # noqa: PLC0415

    sealed("importing a model's folder")
    trust = trust_in(keys, roots)
    if trust is None:
        raise Invalid("nobody is trusted", "an import needs a signer", "give --key or --ca", param="key")
    told, end = show_progress(size_of(folder / carry.FILES), f"copying {folder.name}", quiet=as_json)
    try:
        entry = carry.bring_in(open_vault(), folder, trust, name=name, progress=told)
    finally:
        end()
    added(entry, quiet=as_json)


@command.command("revoke")
@click.argument("digest")
@click.option("--reason", required=True)
@json_option
def revoke(digest: str, reason: str, as_json: bool) -> None:
    """Forbid a DIGEST (weights, adapter, template, signer) or a name's weights, from the next load on."""
    from allod.vault.manifest import is_digest  # noqa: PLC0415

    vault = open_vault()
    item = vault.revoke(digest if is_digest(digest) else vault.find(digest).digest, reason)
    if as_json:
        out(item)
    else:
        say(
            f"{item.digest}\n  revoked {item.at}: {item.reason}\n  an engine that serves it now must be ended"
        )


@command.command("gc")
@click.option("--dry-run", is_flag=True, help="only say what would go")
@json_option
def gc(dry_run: bool, as_json: bool) -> None:
    """Remove blobs that no manifest names and nobody has open."""
    from allod.gateway import compose, supply  # noqa: PLC0415
    from allod.store.home import Home  # noqa: PLC0415
    from allod.vault.collect import collect  # noqa: PLC0415

    vault = open_vault()
    supply.settle(Home(compose.home_root()), vault)  # an import that died may not have named its files yet
    done = collect(vault, pretend=dry_run)
    if as_json:
        out(done)
        return
    for digest in done.in_use:
        say(f"stays, it is in use: {digest}")
    say(f"{len(done.removed)} blobs, {done.freed_bytes / MB:.2f} MB {'would go' if dry_run else 'removed'}")


@command.command("remove")
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Take NAME out of the vault; its blobs go with the next `gc`."""
    gone = open_vault().remove(name)
    if as_json:
        out({"removed": gone.name, "digest": gone.digest})
    else:
        say(f"{gone.name} is out ({gone.digest}); `allod vault gc` frees its space")


@command.command("seal")
@click.option("--again", is_flag=True, help="also where the register does not hold: after a restored backup")
@json_option
def seal(again: bool, as_json: bool) -> None:
    """Sign what an older version left unsigned: every file is read again, and listed.

    Read the list. A model or a missing revocation that is not your doing becomes yours by this signature.
    """
    from allod.vault.sealing import seal as sign_all  # noqa: PLC0415

    vault = open_vault()
    told, end = show_progress(size_of(vault.blobs.folder), "reading the vault", quiet=as_json)
    try:
        done = sign_all(vault, again=again, progress=told)
    finally:
        end()
    if as_json:
        out(done)
    else:
        for model, digest in done.models.items():
            say(f"{model:24} {digest}")
        for model, why in done.left.items():
            say(f"left out: {model:14} {why}")
        state = "was signed already" if done.unchanged else "is signed"
        say(f"version {done.version} {state}: {len(done.models)} models, {done.revoked} revocations")
    if done.left:
        raise Integrity(
            "not everything was signed", f"{len(done.left)} models were left out", "add them again"
        )
