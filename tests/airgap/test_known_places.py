"""Every place in the package that opens a socket, looks up a name or starts a process is known, and why.

A new one fails here until somebody has thought about the air gap and written down why it holds.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "allod"
IMPORTS = set(
    "socket ssl http.client urllib.request urllib3 httpx requests aiohttp ftplib smtplib imaplib poplib "
    "telnetlib xmlrpc.client socketserver http.server psycopg huggingface_hub multiprocessing subprocess "
    "websockets grpc asyncua pymodbus webbrowser".split()
)
CALLS = set(
    "open_connection create_connection create_unix_connection create_datagram_endpoint start_server "
    "create_server create_unix_server getaddrinfo gethostbyname gethostbyaddr getfqdn urlopen sock_connect "
    "create_subprocess_exec create_subprocess_shell subprocess_exec subprocess_shell fork forkpty execv "
    "execve execvp posix_spawn os.system os.popen create_engine ProcessPoolExecutor".split()
)

KNOWN = {
    # connects: the connector, asked before every connection
    "engines/wire.py": "the connector of engines and witnesses",
    "gateway/cli/client.py": "asks gap.reachable before it connects to the gateway of this home",
    "gateway/cli/doctor.py": "asks gap.reachable before it looks whether the port answers",
    "gateway/cli/speed_probing.py": "asks gap.reachable before it connects; to private addresses only",
    "vault/hub.py": "never called in air-gap mode: vault.pull refuses before the library is imported",
    # listens, or holds what is accepted
    "gateway/server.py": "binds the address [server] host names",
    "engines/scripted/server.py": "binds the simulated model server",
    # local only
    "engines/llamacpp/child.py": "the embedded engine: shut in before a file is read",
    "engines/llamacpp/probe.py": "tries what the sandbox must refuse, inside it",
    "engines/llamacpp/process.py": "starts the embedded engine, which shuts itself in",
    "engines/llamacpp/syscalls.py": "numbers of address families for the filter",
    "vault/examine.py": "starts the child that looks at files: no network, no programs; a socket pair",
    "assurance/sandbox.py": "starts the child that runs code: no network, no programs; a pipe",
    "gateway/checks/children.py": "starts the child of assurance/sandbox.py: no network, no programs; pipes",
    "store/tables.py": "SQLite; a URL is taken from a program's caller alone, no configuration names one",
    # the walls and the proof
    "gateway/gap.py": "binds to find out whether an address is this machine's; connects to nothing",
    "gateway/gap_trial.py": "inside the watch: asks the trial's gateway on loopback",
    "gateway/gap_proof.py": "binds loopback to find a free port; the control runs inside the watch",
    "walls/attempts.py": "numbers of address families",
    "walls/hook.py": "numbers of address families",
    "walls/launcher.py": "a socket pair to the tracer; starts what is watched",
    "walls/namespace.py": "brings loopback up in a network of its own",
    "walls/network.py": "numbers of address families for the filter",
    "walls/tracer.py": "a socket pair to the launcher, which it starts",
}


def uses(path: Path) -> set[str]:
    """Return what of the above a module imports or calls."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names} & IMPORTS
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)} & IMPORTS
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            owner = getattr(getattr(node.func, "value", None), "id", "")
            found |= {name, f"{owner}.{name}"} & CALLS
    return found


def test_I6_every_place_that_opens_a_socket_or_starts_a_process_is_known() -> None:
    found = {
        str(path.relative_to(PACKAGE)): what for path in sorted(PACKAGE.rglob("*.py")) if (what := uses(path))
    }
    new = {name: sorted(what) for name, what in found.items() if name not in KNOWN}
    assert not new, f"think about the air gap, then add them with the reason why it holds: {new}"
    gone = sorted(set(KNOWN) - set(found))
    assert not gone, f"these open nothing any more: {gone}"
