"""A run's images as its requests carry them: encoded once per form that its services want, before the clock starts."""

from collections.abc import Hashable, Mapping, Sequence

from dlload.errors import ImagesError
from dlload.protocols.base import Protocol


class EncodedImages:
    """By service and name. Services that want the same form share the bytes."""

    def __init__(self, by_form: Mapping[Hashable, Mapping[str, bytes]], form_of: Mapping[str, Hashable]) -> None:
        self._by_service = {service: by_form[form] for service, form in form_of.items()}

    def of(self, service: str, names: Sequence[str]) -> list[bytes]:
        """What a request to the service with these images carries."""
        images = self._by_service[service]
        return [images[name] for name in names]


def encode_images(protocol: Protocol, services: Sequence[str], contents: Mapping[str, bytes]) -> EncodedImages:
    """`contents`: name -> the file's. Raises ImagesError naming the image that a service cannot be sent."""
    form_of = {service: protocol.form(service) for service in services}
    asked = {form: service for service, form in form_of.items()}  # one service for each form
    by_form = {form: _encoded(protocol, service, contents) for form, service in asked.items()}
    return EncodedImages(by_form, form_of)


def _encoded(protocol: Protocol, service: str, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    encoded: dict[str, bytes] = {}
    for name, content in contents.items():
        try:
            encoded[name] = protocol.encode(content, service)
        except ImagesError as exc:
            raise ImagesError(f"{name}: {exc}") from exc
    return encoded
