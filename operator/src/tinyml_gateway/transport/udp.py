"""SMP over UDP: smpclient's transport, with the port in the address and the device's buffer
respected.
"""

from __future__ import annotations

from smp.header import Header
from smpclient.transport.udp import SMPUDPTransport

from tinyml_gateway.transport import split_host_port
from tinyml_gateway.transport.framing import SEQUENCE_INDEX


class UdpTransport(SMPUDPTransport):
    """An SMP transport over UDP; `connect` takes `host:port`. One message is one datagram."""

    def __init__(self) -> None:
        super().__init__()
        self._connected = False

    async def connect(self, address: str, timeout_s: float, port: int = 0) -> None:
        """Connect; `port` is the base class's and not used. Raises OSError or TimeoutError."""
        host, port = split_host_port(address)
        await super().connect(host, timeout_s, port)
        self._connected = True

    async def disconnect(self) -> None:
        if self._connected:
            self._connected = False
            await super().disconnect()

    async def send_and_receive(self, data: bytes) -> bytes:
        """Return the answer to this very request; a late answer to one that was given up is
        dropped.
        """
        await self.send(data)
        while True:
            answer = bytes(await self.receive())
            if len(answer) >= Header.SIZE and answer[SEQUENCE_INDEX] == data[SEQUENCE_INDEX]:
                return answer

    @property
    def max_unencoded_size(self) -> int:
        link = super().max_unencoded_size
        buffer_bytes = self._smp_server_transport_buffer_size
        return link if buffer_bytes is None else min(link, buffer_bytes)
