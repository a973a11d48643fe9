"""TLS: replies of many records, client certificates, and what is said of a certificate."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from triggers_core import payloads
from triggers_core.engine.records import Event
from triggers_core.exceptions import StorageError
from triggers_core.testing import SessionDriver, VirtualClock, check_store
from triggers_core.testing.server_process import free_ports
from triggers_redis import RedisStore, connection
from triggers_redis.testing import RedisServer, find_server

Make = Callable[..., RedisStore]

CONFIGURATION: Final[dict[str, dict[str, Any]]] = {
    "t_ship": {"after": ["paid"]},
    "t_mail": {"andEvery": "t_ship"},
}


# -- certificates, and a server that has them -----------------------------------------------------


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def make_authority(directory: Path, name: str) -> None:
    """`name`.crt and `name`.key of an authority that signs itself."""
    (directory / f"{name}.cnf").write_text(
        "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n"
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
        "subjectKeyIdentifier=hash\n"
    )
    openssl(directory, "ecparam", "-name", "prime256v1", "-genkey", "-out", f"{name}.key")
    subject = ("-subj", f"/CN={name}", "-days", "2", "-config", f"{name}.cnf")
    openssl(
        directory, "req", "-x509", "-new", "-key", f"{name}.key", *subject, "-out", f"{name}.crt"
    )


def make_certificate(directory: Path, name: str, authority: str, alternatives: str) -> None:
    """`name`.crt and `name`.key, signed by an authority."""
    (directory / f"{name}.ext").write_text(
        f"subjectAltName={alternatives}\nbasicConstraints=CA:FALSE\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    openssl(directory, "ecparam", "-name", "prime256v1", "-genkey", "-out", f"{name}.key")
    request = ("-key", f"{name}.key", "-subj", f"/CN={name}", "-config", f"{authority}.cnf")
    openssl(directory, "req", "-new", *request, "-out", f"{name}.csr")
    signer = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial")
    signed = ("-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt")
    openssl(directory, "x509", "-req", "-in", f"{name}.csr", *signer, *signed)


def server_with_tls() -> str | None:
    """A server that was built with it: the first on PATH often is a wheel's, which was not."""
    names = [os.path.join(folder, "redis-server") for folder in os.get_exec_path()]
    programs = [name for name in names if os.access(name, os.X_OK)]
    return next((each for each in programs or [find_server()] if not lacks_tls(each)), None)


def lacks_tls(program: str) -> bool:
    """Whether a server was built without it, going by what it says when it may not start."""
    command = [program, "--port", "0", "--tls-port", "1"]  # and no certificate
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # Redis; Valkey.
    return "Bad directive" in said.stderr or "Failed finding TLS support" in said.stdout


class TlsServer:
    """A server that speaks TLS on one port, and plain text on another for the tests' own use."""

    def __init__(self, server: RedisServer, port: int, directory: Path) -> None:
        self.plain, self.directory = server, directory
        self.url = f"rediss://127.0.0.1:{port}/0"
        self.port = port

    def file(self, name: str) -> str:
        return str(self.directory / name)

    @property
    def trusted(self) -> dict[str, str]:
        return {"url": self.url, "ssl_ca_certs": self.file("authority.crt")}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH to make certificates with")
    program = server_with_tls()
    if program is None:
        pytest.skip("no redis-server on PATH was built with TLS")
    directory = tmp_path_factory.mktemp("tls")
    for authority in ("authority", "stranger"):
        make_authority(directory, authority)
    make_certificate(directory, "server", "authority", "IP:127.0.0.1")
    make_certificate(directory, "client", "authority", "DNS:worker")
    (port,) = free_ports()
    options = (
        *("--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(directory / "server.crt")),
        *("--tls-key-file", str(directory / "server.key")),
        *("--tls-ca-cert-file", str(directory / "authority.crt")),
    )
    with RedisServer(directory, options=options, program=program) as server:
        yield TlsServer(server, port, directory)


@pytest.fixture(scope="module")
def redis_url(tls: TlsServer) -> str:
    """The plain port, for the fixtures of all files."""
    return tls.plain.url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RESEND_TIMEOUT", 0.1)


def text_of(event: Event) -> str:
    text: str = payloads.decode(bytes(event.payload))["text"]
    return text


# -- work -----------------------------------------------------------------------------------------


def test_a_life(make_redis_store: Make, tls: TlsServer) -> None:
    clock = VirtualClock()
    store = make_redis_store(clock, **tls.trusted)
    session = SessionDriver(store)
    session.configure(CONFIGURATION)
    assert session.fire("paid", {"amount": "9.90"}).scheduled == ["t_ship#0"]
    claimed = session.claim("t_ship#0")
    assert claimed.kwargs() == {"paid": {"amount": "9.90"}}
    session.heartbeat(claimed)
    assert session.finish(claimed, {"parcel": 7}).scheduled == ["t_mail#0"]
    assert [each.uid for each in store.sessions()] == [session.uid]
    check_store(store)
    plainly = make_redis_store(clock, namespace=store.namespace)
    assert SessionDriver(plainly).image() == session.image()


def test_options_in_the_url(make_redis_store: Make, tls: TlsServer) -> None:
    url = f"{tls.url}?ssl_ca_certs={tls.file('authority.crt')}"
    assert SessionDriver(make_redis_store(url=url)).fire("go").status == "recorded"


def test_texts_of_any_number_of_records(make_redis_store: Make, tls: TlsServer) -> None:
    """A record of TLS holds up to 16,384 bytes, and one read returns at most one record."""
    session = SessionDriver(make_redis_store(**tls.trusted))
    around = [record * 16_384 + more for record in (1, 2, 3) for more in range(-260, 20, 20)]
    sizes = [1, 2, 1_000, *around, 65_000]
    for size in sizes:
        session.fire("go", {"text": "x" * size})
    events = session.events()
    assert [len(text_of(each)) for each in events] == sizes


def test_a_reply_of_many_records(make_redis_store: Make, tls: TlsServer) -> None:
    """Two megabytes at once, then many replies to one request."""
    store = make_redis_store(**tls.trusted)
    session = SessionDriver(store)
    session.configure(t_all={"andEvery": "go"})
    texts = [f"{number}" * 20_000 for number in range(10, 60)]
    for text in texts:
        session.fire("go", {"text": text})
    assert [text_of(each) for each in session.events()] == texts
    claimed = session.claim("t_all#7")
    assert claimed.kwargs() == {"go": {"text": texts[7]}}
    for number in range(600):
        SessionDriver(store, f"order:{number:03}").fire("go")
    assert len(store.sessions()) == 601
    assert len(store.due(limit=100)) == 0


def test_many_threads(make_redis_store: Make, tls: TlsServer) -> None:
    store = make_redis_store(**tls.trusted)
    session = SessionDriver(store)
    text = "x" * 20_000

    def work() -> None:
        for _ in range(25):
            session.fire("go", {"text": text})

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert session.fired() == ["go"] * 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_leaves_the_parents_connection_alone(
    make_redis_store: Make, tls: TlsServer, client: redis.Redis
) -> None:
    """What a child wrote, or said on closing, would break the parent's stream of records."""
    store = make_redis_store(client_name="tls-fork", **tls.trusted)
    session = SessionDriver(store)
    session.fire("go")

    def connected() -> set[str]:
        return {each["addr"] for each in client.client_list() if each["name"] == "tls-fork"}

    before = connected()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            for _ in range(20):
                session.fire("go")
            store.close()
        os._exit(0)
    for _ in range(20):
        session.fire("go")
    os.waitpid(child, 0)
    session.fire("go")
    assert session.fired() == ["go"] * 42
    assert before <= connected()


def test_a_connection_that_the_server_closes(
    make_redis_store: Make, tls: TlsServer, client: redis.Redis
) -> None:
    session = SessionDriver(make_redis_store(client_name="killed", **tls.trusted))
    for number in range(3):
        session.fire("go", event_id=str(number))
        for each in client.client_list():
            if each["name"] == "killed":
                client.client_kill_filter(_id=each["id"])
    assert session.fired() == ["go"] * 3


def test_a_server_that_does_not_answer_in_time(
    make_redis_store: Make, tls: TlsServer, client: redis.Redis, impatient: None
) -> None:
    store = make_redis_store(**tls.trusted)
    session = SessionDriver(store)
    session.fire("go", event_id="1")
    timeouts = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2}
    hasty = make_redis_store(namespace=store.namespace, **tls.trusted, **timeouts)
    client.client_pause(60_000, all=False)  # scripts wait; UNPAUSE does not
    try:
        # Of a busy machine the handshake alone may take longer; redis-py calls that otherwise.
        with pytest.raises(StorageError, match=r"rediss://127.*did not answer .*(?i:timed? ?out)"):
            SessionDriver(hasty).fire("go", event_id="2")
    finally:
        client.client_unpause()
    session.fire("go", event_id="2")
    assert [each.id for each in session.events()] == ["1", "2"]


# -- certificates ---------------------------------------------------------------------------------


def test_a_server_that_a_stranger_vouches_for(make_redis_store: Make, tls: TlsServer) -> None:
    """At once: it does not get better by asking again."""
    store = make_redis_store(url=tls.url, ssl_ca_certs=tls.file("stranger.crt"))
    with pytest.raises(StorageError, match=r"certificate that is not trusted.*ssl_ca_certs") as e:
        SessionDriver(store).fire("go")
    assert tls.url in str(e.value)
    with pytest.raises(StorageError, match="certificate that is not trusted"):
        SessionDriver(make_redis_store(url=tls.url)).fire("go")


def test_a_server_of_another_name(make_redis_store: Make, tls: TlsServer) -> None:
    """Its certificate is for 127.0.0.1. Redis-py 5 does not look by itself."""
    options: dict[str, Any] = {**tls.trusted, "url": f"rediss://localhost:{tls.port}/0"}
    with pytest.raises(StorageError, match=r"not trusted.*not valid for 'localhost'"):
        SessionDriver(make_redis_store(**options)).fire("go")
    for lax in ({"ssl_check_hostname": False}, {"ssl_cert_reqs": "none"}):
        store = make_redis_store(**options, **lax)
        assert SessionDriver(store).fire("go").status == "recorded"
    store = make_redis_store(**{**options, "url": f"{options['url']}?ssl_check_hostname=False"})
    assert SessionDriver(store).fire("go").status == "recorded"


def test_a_client_shows_a_certificate(
    make_redis_store: Make, tls: TlsServer, client: redis.Redis, impatient: None
) -> None:
    client.config_set("tls-auth-clients", "yes")
    try:
        with pytest.raises(StorageError, match=r"rediss://127.*did not answer"):
            SessionDriver(make_redis_store(**tls.trusted)).fire("go")
        mine = {"ssl_certfile": tls.file("client.crt"), "ssl_keyfile": tls.file("client.key")}
        session = SessionDriver(make_redis_store(**tls.trusted, **mine))
        session.fire("go", {"text": "x" * 60_000})
        assert session.fired() == ["go"]
    finally:
        client.config_set("tls-auth-clients", "no")


def test_the_wrong_port(make_redis_store: Make, tls: TlsServer, impatient: None) -> None:
    plain = tls.plain.url.replace("redis://", "rediss://")
    options = {"socket_connect_timeout": 0.2, "socket_timeout": 0.2}
    with pytest.raises(StorageError, match=r"rediss://127.*did not answer"):
        SessionDriver(make_redis_store(url=plain, **options)).fire("go")
    secret = tls.url.replace("rediss://", "redis://")
    with pytest.raises(StorageError, match=r"redis://127.*did not answer"):
        SessionDriver(make_redis_store(url=secret, **options)).fire("go")
