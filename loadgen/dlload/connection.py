"""The stream's connection: that of dlclient.exchange on gevent's sockets, so that waiting lets other greenlets run."""

import gevent.socket
import gevent.ssl
from dlclient.exchange import Exchange, SocketConnection

__all__ = ["Connection", "Exchange"]


class Connection(SocketConnection):
    """To one server; used by one greenlet at a time."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(url, timeout_s, gevent.socket.create_connection, gevent.ssl.create_default_context)
