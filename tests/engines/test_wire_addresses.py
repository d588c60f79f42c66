"""Where connections go: addresses asked about, unix sockets, TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from wire_peer import LOOPS, OK, Peer, allow, ask, fault_of, wire, with_peer

from allod.engines.wire import Wire


def test_I6_a_name_is_asked_about_and_so_is_each_address_it_resolves_to():
    asked = []

    def only_name(host, port):
        asked.append(host)
        return host == "localhost"

    @with_peer(OK)
    async def _(peer, _way):
        way = Wire(f"http://localhost:{peer.port}", allow_address=only_name)
        fault = await fault_of(ask(way))
        await way.close()
        assert (fault.kind, fault.sent, peer.connections) == ("connect", False, 0)

    assert asked[0] == "localhost"
    assert "127.0.0.1" in asked


def test_I6_no_name_is_resolved_that_is_not_allowed(monkeypatch):
    async def scenario():
        loop = asyncio.get_running_loop()
        resolved = []
        monkeypatch.setattr(type(loop), "getaddrinfo", lambda *a, **k: resolved.append(a), raising=False)
        way = Wire("http://leak.example.org", allow_address=lambda _h, _p: False)
        fault = await fault_of(ask(way))
        assert fault.kind == "connect"
        assert not resolved

    asyncio.run(scenario())


def test_I6_the_socket_goes_to_the_address_that_was_asked_about(monkeypatch):
    """A second resolution, which might answer otherwise, never happens."""

    async def scenario():
        async with Peer(OK) as peer:
            loop = asyncio.get_running_loop()
            lookups = []

            async def once(self, host, port, **_):
                lookups.append(host)
                assert len(lookups) == 1
                return [(2, 1, 6, "", ("127.0.0.1", port))]

            monkeypatch.setattr(type(loop), "getaddrinfo", once, raising=False)
            way = Wire(f"http://rebinding.example.org:{peer.port}", allow_address=allow)
            assert (await ask(way))[1] == b"ok"
            assert b"host: rebinding.example.org:" in peer.requests[0]
            await way.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("run", LOOPS)
def test_a_unix_socket_serves_as_well(run, tmp_path):
    async def scenario():
        path = str(tmp_path / "s")

        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await writer.drain()

        server = await asyncio.start_unix_server(serve, path)
        way = Wire("http://engine", allow_address=lambda _h, _p: False, unix_socket=path)
        assert (await ask(way))[1] == b"ok"
        await way.close()
        server.close()
        missing = Wire("http://engine", allow_address=allow, unix_socket=path + "x")
        fault = await fault_of(ask(missing))
        assert (fault.kind, fault.sent) == ("connect", False)

    run(scenario())


def certificate(tmp_path, name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(1))
        .not_valid_after(now + dt.timedelta(1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    path = tmp_path / "server.pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("run", LOOPS)
def test_tls_is_spoken_and_an_unknown_certificate_refused(run, tmp_path):
    path = certificate(tmp_path, "peer")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(path)
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.load_verify_locations(path)

    async def scenario():
        async with Peer(OK, ssl_context=server_side) as peer:
            way = Wire(f"https://127.0.0.1:{peer.port}", allow_address=allow, tls=client_side)
            for _ in range(2):
                assert (await ask(way))[1] == b"ok"
            assert peer.connections == 1
            await way.close()
            stranger = Wire(f"https://127.0.0.1:{peer.port}", allow_address=allow)
            fault = await fault_of(ask(stranger))
            assert (fault.kind, fault.sent, len(peer.requests)) == ("connect", False, 2)
            plain = wire(peer.port)
            assert (await fault_of(ask(plain))).kind in ("reset", "malformed", "truncated")

    run(scenario())


def test_tls_secrets_go_to_no_key_log(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = Wire("https://example.org", allow_address=allow)._context()
    assert context.keylog_filename is None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
