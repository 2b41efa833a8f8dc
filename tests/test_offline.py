"""The tests run without a network, so whatever passes here works on a train."""  # fault 9, fault 10

import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

ELSEWHERE = "192.0.2.1"  # an address kept for documentation (RFC 5737): it belongs to nobody


def connect(connection):
    with connection:
        connection.settimeout(1)
        connection.connect((ELSEWHERE, 80))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: connect(socket.socket()),
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.gethostbyname("example.org"),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"?", (ELSEWHERE, 53)),
        lambda: urllib.request.urlopen("https://example.org", timeout=1),
    ],
    ids=["connect", "look up", "look up, old", "datagram", "urlopen"],
)
def test_other_computers_cannot_be_reached(attempt):
    with pytest.raises(OSError, match="the tests run offline"):
        attempt()


def test_a_process_started_by_a_test_is_cut_off_too():
    code = f"import socket; socket.create_connection(({ELSEWHERE!r}, 80), timeout=1)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode != 0 and "the tests run offline" in run.stderr


def test_this_computer_can_be_reached():
    """A notebook's kernel and a browser test talk to this computer; that must go on working."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for name in ("127.0.0.1", "localhost"):
            socket.create_connection((name, server.getsockname()[1]), timeout=5).close()
