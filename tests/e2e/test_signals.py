"""Signals: which end the server, in order, and which do not; and what SIGHUP reads again."""

from __future__ import annotations

import shutil
import signal
import ssl
from pathlib import Path

import pytest

from tests.support.certificates import certificate as make_certificate
from tests.support.running import Client, Start, until

# Signals that end a process that does not handle them, without faults of a program and KILL.
HARMLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
ORDERLY = (signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU)


def test_no_signal_ends_the_server_without_a_flush(start: Start) -> None:
    for number in ORDERLY:
        server = start(OPENRED_FLUSH_INTERVAL_S="1h", database=f"{number.name}.db")
        with Client(server.address) as client:
            assert client.register(number.name).status == 201
            for harmless in (*HARMLESS, signal.SIGPIPE, signal.SIGIO):
                server.send_signal(harmless)
            assert client.ask("GET", f"/nodes/{number.name}").status == 200
            before = client.ask("GET", f"/nodes/{number.name}").document["last_seen"]
            assert client.ask("POST", f"/heartbeat/{number.name}").status == 200
            heard = client.ask("GET", f"/nodes/{number.name}").document["last_seen"]
            assert heard >= before
        server.stop(number)
        assert "SIGHUP has no effect" in server.log
        with Client(start(database=f"{number.name}.db").address) as client:
            assert client.ask("GET", f"/nodes/{number.name}").document["last_seen"] == heard


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_late_signals_do_not_disturb_an_orderly_end(start: Start, number: signal.Signals) -> None:
    server = start()
    server.send_signal(signal.SIGTERM)
    while server.running:
        server.send_signal(number)
    assert server.wait() == 0
    assert "stopped: 0 nodes" in server.log


@pytest.mark.parametrize("number", HARMLESS)
def test_a_signal_during_the_start_does_not_end_it(start: Start, number: signal.Signals) -> None:
    """From the first moment on in which the process does not die of it: some time before it is ready."""
    server = start(ready=False)
    status = Path(f"/proc/{server.process.pid}/status")

    def harmless() -> bool:
        lines = [line.split() for line in status.read_text(encoding="ascii").splitlines()]
        masks = [int(line[1], 16) for line in lines if line[0] in ("SigIgn:", "SigCgt:")]
        return any(mask >> (number - 1) & 1 for mask in masks)

    until(harmless, f"{number.name} to be ignored or handled")
    server.send_signal(number)
    server.wait_ready().stop()


def test_sighup_reads_the_certificate_and_its_key_again(start: Start, tmp_path: Path) -> None:
    for name in ("old", "new", "used"):
        (tmp_path / name).mkdir()
    old, new = make_certificate(tmp_path / "old"), make_certificate(tmp_path / "new")
    used = [shutil.copy(path, tmp_path / "used") for path in old]
    server = start("--tls-certificate", used[0], "--tls-key", used[1])
    trusts = [ssl.create_default_context(cafile=path) for path in (old[0], new[0])]

    def speaks(trust: ssl.SSLContext) -> bool:
        try:
            with Client(server.address, trust) as client:
                return client.ask("GET", "/health/live").status == 200
        except ssl.SSLCertVerificationError:
            return False

    assert [speaks(trust) for trust in trusts] == [True, False]
    with Client(server.address, trusts[0]) as open_before:
        assert open_before.ask("GET", "/health/live").status == 200
        # A certificate beside the key of another one: all stays as it was.
        shutil.copy(new[0], used[0])
        server.send_signal(signal.SIGHUP)
        until(lambda: "the former certificate stays in use" in server.log, "the log to refuse it")
        assert [speaks(trust) for trust in trusts] == [True, False]
        shutil.copy(new[1], used[1])
        server.send_signal(signal.SIGHUP)
        until(lambda: "read the certificate and its key again" in server.log, "the log to report it")
        assert [speaks(trust) for trust in trusts] == [False, True]
        assert open_before.ask("GET", "/health/live").status == 200
