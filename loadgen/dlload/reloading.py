"""Cold without help of the server's cache: a service is removed and brought back before each request to it.

DeepDetect-style: DELETE and PUT of the service. KServe: unload and load of the repository's model. TorchServe: DELETE and
POST of the model at the management API. Memory is given back meanwhile; the operating system's page cache is not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal
from urllib.parse import quote, urlencode

import gevent
import msgspec
from dlclient.request_writer import RequestWriter
from gevent.lock import BoundedSemaphore

from dlload.connection import Connection
from dlload.discovery.base import Registration, Target
from dlload.discovery.torchserve import management_url
from dlload.errors import OptionError, TargetError
from dlload.options import StreamOptions
from dlload.protocols.answer import quoted
from dlload.protocols.template import JsonTemplate

_POLL_S = 0.005
"""Between two questions whether a model is ready, or gone."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a reload."""

    what: str
    """For messages."""
    request: bytes
    good: range = range(200, 300)
    """Statuses that let the reload go on."""
    also_good: int | None = None
    repeats: bool = False
    """Ask again until the status is a good one: the server answers before it has done what it was told."""


@dataclass(frozen=True, slots=True)
class Reload:
    """What came of one. `error` "": the service is back, and cold."""

    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class Reloading:
    """How a run makes services cold, and whether that is a part of the latency (--reload-clock inside)."""

    reloader: "Reloader"
    counts: bool


class Reloader:
    """Reloads one service at a time for itself, different ones side by side; used by all senders of one process."""

    def __init__(
        self, steps: Mapping[str, Sequence[Step]], connect: Callable[[], Connection], timeout_s: float
    ) -> None:
        """`steps`: by service. `timeout_s`: for a whole reload."""
        self._steps = steps
        self._timeout_s = timeout_s
        self._locks = {service: BoundedSemaphore(1) for service in steps}
        self._connections = {service: connect() for service in steps}
        self._under_way: dict[str, gevent.Greenlet] = {}

    @contextmanager
    def exclusive(self, service: str) -> Iterator[None]:
        """Nobody else reloads or asks the service meanwhile, if they do so in here too."""
        lock = self._locks[service]
        lock.acquire()
        try:
            yield
        finally:
            under_way = self._under_way.get(service)
            if under_way is None or under_way.ready():
                lock.release()
            else:  # its user was stopped while it waited
                under_way.link(lambda _: lock.release())

    def reload(self, service: str) -> Reload:
        """Remove the service and bring it back, within `exclusive`. Never raises for the network or the server.

        A user that is stopped meanwhile does not stop the reload: the server would be left without the service.
        """
        greenlet = gevent.spawn(self._reload, service)
        self._under_way[service] = greenlet
        found: Reload = greenlet.get()
        return found

    def rehearse(self, services: Sequence[str]) -> float:
        """Reload each service once: a server that cannot be told to says so before the clock starts.

        Returns the seconds that all of it took. Raises TargetError.
        """
        seconds = 0.0
        for service in services:
            with self.exclusive(service):
                done = self.reload(service)
            if done.error:
                raise TargetError(f"{done.error}; this server cannot be made cold so: mend it, or use --phases warm")
            seconds += done.seconds
        return seconds

    def close(self) -> None:
        """Wait for reloads that are under way, then close the connections."""
        gevent.joinall(list(self._under_way.values()), timeout=self._timeout_s)
        for connection in self._connections.values():
            connection.close()

    def _reload(self, service: str) -> Reload:
        began = perf_counter()
        error = ""
        for step in self._steps[service]:
            if problem := self._take(step, self._connections[service], began + self._timeout_s):
                error = f"reloading {service}: {step.what}: {problem}"
                break
        return Reload(perf_counter() - began, error)

    def _take(self, step: Step, connection: Connection, deadline: float) -> str:
        """Returns "" or what went wrong."""
        while True:
            if problem := connection.open():
                return problem
            exchange = connection.exchange(step.request)
            if exchange.error:
                return exchange.error
            if exchange.status in step.good or exchange.status == step.also_good:
                return ""
            said = f"HTTP {exchange.status}: {quoted(exchange.body)}"
            if not step.repeats:
                return said
            if perf_counter() > deadline:
                return f"not so within {self._timeout_s:g} s ({said})"
            gevent.sleep(_POLL_S)


def cold_method(options: StreamOptions, target: Target) -> Literal["cache", "reload"]:
    """How requests of a cold phase find their model cold. Raises OptionError where it cannot be done as asked."""
    asking = options.asking
    problem = _why_not(options, target)
    if asking.cold == "cache" or (asking.cold == "auto" and (target.is_dlserve or problem)):
        return "cache"
    if problem:
        raise OptionError(f"--cold reload: {problem}")
    if "host" in options.phases:
        raise OptionError("--cold reload knows no tier between the device and the disk; leave host out of --phases")
    return "reload"


def create_reloading(options: StreamOptions, target: Target, services: Sequence[str]) -> Reloading | None:
    """What reloads these services, None where cold is another way or not asked for. Raises OptionError."""
    if set(options.phases) == {"warm"} or cold_method(options, target) == "cache":
        return None
    url = options.url
    if target.style == "torchserve":
        url = options.asking.management_url or management_url(options.url)
    writer = RequestWriter(url, options.asking.management_key or options.api_key)
    steps = {service: _steps(writer, options, target, service) for service in services}
    reloader = Reloader(steps, lambda: Connection(url, options.timeout_s), options.timeout_s)
    return Reloading(reloader, counts=options.asking.reload_clock == "inside")


def _why_not(options: StreamOptions, target: Target) -> str:
    """ "" if the services can be reloaded, else why not, and what to do."""
    asking = options.asking
    if target.style == "deepdetect" and asking.create_body is None and options.model_dir is None:
        return (
            "a service that is deleted must be created again: give the JSON for that with --create-body, or --model-dir"
        )
    if target.style == "torchserve" and not target.registrations:
        return "TorchServe's management API must be there to do it; name it with --management-url"
    if target.style == "named" or not target.can_list:
        return "this server has no repository that can be told to; use --phases warm"
    return ""


def _steps(writer: RequestWriter, options: StreamOptions, target: Target, service: str) -> tuple[Step, ...]:
    if target.style == "kserve":
        return kserve_steps(writer, service)
    if target.style == "torchserve":
        return torchserve_steps(writer, service, target.registrations[service])
    return deepdetect_steps(writer, service, creation_body(options, service))


def creation_body(options: StreamOptions, service: str) -> bytes:
    """The JSON that a DeepDetect-style service is created with. Raises OptionError."""
    asking = options.asking
    if asking.create_body is not None:
        return JsonTemplate(asking.create_body, ("service",), "--create-body").fill({"service": service})
    body = {
        "mllib": asking.mllib,
        "description": "",
        "type": "supervised",
        "model": {"repository": f"{options.model_dir}/{service}"},
        "parameters": {"input": {"connector": "image"}, "mllib": {}, "output": {}},
    }
    return msgspec.json.encode(body)


def deepdetect_steps(writer: RequestWriter, service: str, body: bytes) -> tuple[Step, ...]:
    """DELETE and PUT /services/{service}."""
    path = f"/services/{quote(service, safe='')}"
    return (
        Step("deleting it", writer.write("DELETE", path), also_good=404),
        Step("creating it again", writer.write("PUT", path, "application/json", body)),
    )


def kserve_steps(writer: RequestWriter, service: str) -> tuple[Step, ...]:
    """Unload, which Triton answers before it is done, and load."""
    name = quote(service, safe="")
    repository = f"/v2/repository/models/{name}"
    is_ready = writer.write("GET", f"/v2/models/{name}/ready")
    return (
        Step("unloading it", writer.write("POST", f"{repository}/unload", "application/json", b"{}")),
        Step("waiting until it is not ready any more", is_ready, good=range(400, 600), repeats=True),
        Step("loading it", writer.write("POST", f"{repository}/load", "application/json", b"{}")),
        Step("waiting until it is ready", is_ready, repeats=True),
    )


def torchserve_steps(writer: RequestWriter, service: str, registration: Registration) -> tuple[Step, ...]:
    """DELETE and POST of the model; the answer to POST comes when its workers are up."""
    parameters = {"url": registration.url, "model_name": service, "synchronous": "true", **registration.settings}
    return (
        Step("unregistering it", writer.write("DELETE", f"/models/{quote(service, safe='')}"), also_good=404),
        Step("registering it again", writer.write("POST", f"/models?{urlencode(parameters)}")),
    )
