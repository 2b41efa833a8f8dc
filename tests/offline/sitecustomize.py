"""Cut this Python process off from the network: only this computer itself may be reached.

`conftest.py` puts this folder on `PYTHONPATH`, so every Python process that the tests start (test workers, notebook
kernels, scripts) loads this file first and the tests prove that the course works offline. It is an audit hook
because that sees every connection made through `socket`, whichever library makes it, and cannot be undone.
"""

import ipaddress
import sys


def is_this_computer(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host))
    except ValueError:
        return False  # a name that would have to be looked up
    return address.is_loopback or address.is_unspecified


def stay_offline(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path: a socket on this computer
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if not is_this_computer(host):
        raise ConnectionRefusedError(f"the tests run offline, but something asked for {host!r} ({event})")


sys.addaudithook(stay_offline)
