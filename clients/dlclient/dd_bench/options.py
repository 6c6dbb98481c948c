"""What dd_bench is asked for: DeepDetect's options with their meaning, and our own. Checked before anything is sent."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Input = Literal["base64", "path", "raw", "url"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What is asked of a service's input, at its creation and in every call."""

    width: int | None
    """None: the service's own."""
    height: int | None
    interp: str | None
    gpu_resize: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """How services are created."""

    repository: str
    """On the server: of the model, or, with several models, the folder that holds a folder for each."""
    mllib: str
    mllib_given: bool
    nclasses: int
    datatype: str
    workspace_mb: int
    bw: bool
    rgb: bool
    scale: float
    equalize: bool
    dla: bool
    recreate: bool
    """A service of its own for each batch size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the network is for; none of them: classification."""

    detection: bool = False
    segmentation: bool = False
    regression: bool = False
    search: bool = False
    search_multibox: bool = False

    @property
    def name(self) -> str:
        """Of those that are set; "" classification."""
        chosen = ("detection", "segmentation", "regression", "search", "search_multibox")
        return "+".join(name for name in chosen if getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Which images are sent, and how."""

    input: Input
    remote: str = ""
    """path, url: what is put before each name of the list."""
    names_file: Path | None = None
    """path, url: one name a line; base64, raw: the same, of files in `folder`. None: all of them."""
    folder: Path | None = None
    """base64, raw: of this machine. None: the sample photographs."""

    @property
    def source(self) -> str:
        """As a setting has it."""
        if self.remote:
            return f"{self.remote} {self.names_file}"
        return " ".join(str(part) for part in (self.folder, self.names_file) if part) or "samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run of dd_bench."""

    url: str
    api_key: str | None
    timeout_s: float
    name: str
    """Of the run: a preset, or its models."""
    models: tuple[str, ...]
    """Services, or with several models and `--create` the folders that they are created from."""
    as_table: bool
    """Whether `--models` was used: a table at the end, and one line a batch instead of one a pass."""
    serve: Path | None
    """Repository that a dlserve of one's own serves; None: a server is there."""
    creation: Creation | None
    network: Network
    gpu: bool
    gpuids: tuple[int, ...]
    """One: DeepDetect's. Several: calls go to all of them at the same time."""
    task: Task
    best: int | None
    test_batch_size: int | None
    """DeepDetect's torch runs that many images at once; 0: the whole batch. None: nothing is said, which means 1 there."""
    images: Images
    batch_sizes: tuple[int, ...]
    largest_batch: int
    """maxBatchSize of a TensorRT service."""
    passes: int
    """Timed calls, of each connection."""
    warm_up: int
    """Calls before them."""
    concurrency: int
    """Calls in flight at a time, on each GPU."""
    auto_kill: bool
    csv: Path | None
    json: Path | None
    results: Path | None
    resume: bool
    retry_failed: bool
    """Resuming, also measure again what has failed."""
    command: tuple[str, ...]
