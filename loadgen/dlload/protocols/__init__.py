"""How servers are asked: one module per protocol, all behind `base.Protocol`."""

from collections.abc import Mapping

from dlload.protocols.base import Protocol
from dlload.protocols.deepdetect import DeepDetect
from dlload.protocols.raw import Raw

PROTOCOLS: Mapping[str, type[Protocol]] = {kind.name: kind for kind in (DeepDetect, Raw)}


def make_protocol(name: str, url: str, api_key: str | None) -> Protocol:
    """The protocol of that name."""
    return PROTOCOLS[name](url, api_key)
