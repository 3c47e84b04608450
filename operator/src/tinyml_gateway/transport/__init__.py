"""How bytes reach a device: one module per kind of address, chosen by `open_transport`.

`serial:///dev/ttyACM0` (also a pty), `udp://host:port`, `tcp://host:port` (a serial line behind a
socket, as QEMU and ser2net give). IPv6 hosts are written in brackets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from smpclient.transport import SMPTransport

from tinyml_gateway.errors import AddressError

Scheme = Literal["serial", "udp", "tcp"]

_EXAMPLES = "serial:///dev/ttyACM0, udp://host:1337 or tcp://host:3000"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. `target` is a path for serial, `host:port` for the others."""

    scheme: Scheme
    target: str


def parse_address(text: str) -> Address:
    """Return the parts of `text`, or raise `AddressError` saying what an address looks like."""
    problem = f"address {text!r} cannot be used: give {_EXAMPLES}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressError(f"{problem} ({error})") from error
    if parts.query or parts.fragment or parts.username is not None:
        raise AddressError(problem)
    if parts.scheme == "serial":
        if parts.netloc or not parts.path.startswith("/") or parts.path.endswith("/"):
            raise AddressError(problem)
        return Address("serial", parts.path)
    if parts.scheme == "udp" or parts.scheme == "tcp":
        if not host or not port or parts.path not in ("", "/"):
            raise AddressError(problem)
        return Address("udp" if parts.scheme == "udp" else "tcp", join_host_port(host, port))
    raise AddressError(problem)


def open_transport(address: Address) -> SMPTransport:
    """Return an unconnected transport for `address`; each kind is imported when first needed."""
    if address.scheme == "serial":
        from tinyml_gateway.transport.serial import SerialTransport

        return SerialTransport()
    if address.scheme == "udp":
        from tinyml_gateway.transport.udp import UdpTransport

        return UdpTransport()
    from tinyml_gateway.transport.stream import StreamTransport

    return StreamTransport()


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(target: str) -> tuple[str, int]:
    """Return host and port of `join_host_port`'s form."""
    host, _, port = target.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)
