"""How services look to a client of the Open Inference Protocol: metadata, Triton's configuration and statistics. Pure."""

import msgspec

from dlserve.front.api.tensors import INPUT, OUTPUT, VERSION, pixel_shape
from dlserve.front.services import Service
from dlserve.front.statistics import Statistics

SERVER = "dlserve"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
)
"""Of the protocol, by the names of Triton's documentation."""
_ALSO = "UINT8 [-1,-1,-1,{0}] pixels of any size; FP32 [-1,{0},{1},{2}] preprocessed planes; BYTES [-1] image files"
_NS = 1e9


def server_metadata(version: str) -> dict[str, object]:
    """GET /v2."""
    return {"name": SERVER, "version": version, "extensions": EXTENSIONS}


def metadata(service: Service) -> dict[str, object]:
    """GET /v2/models/{model}: its input as pixels of the network's size, and its output.

    Pixels, because whatever a load tester makes up is an image then: perf_analyzer fills FP32 tensors with random bits, of
    which one value in 256 is NaN or infinity, and no network answers those. The other forms are named in `parameters`,
    with what a client must know to preprocess images as the server does.
    """
    spec = service.spec
    image = {key: value for key, value in msgspec.to_builtins(spec.input).items() if not isinstance(value, list)}
    numbers = {key: msgspec.json.encode(getattr(spec.input, key)).decode() for key in ("mean", "std")}
    return {
        "name": service.name,
        "versions": [VERSION],
        "platform": f"{SERVER}_{spec.engine}",
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *pixel_shape(spec.input)]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, spec.classes]}],
        "parameters": {
            "also_accepted": _ALSO.format(*spec.input.shape),
            "channel_order": "GREY" if spec.input.bw else "RGB" if spec.input.rgb else "BGR",
            **image,
            **numbers,
        },
    }


def configuration(service: Service, most_images: int) -> dict[str, object]:
    """GET /v2/models/{model}/config: what Triton's ModelConfig says, as far as it is true here.

    https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto. Dimensions are without the
    batch's, whose limit is `max_batch_size`. A batch waits for nobody: hence no queue delay.
    """
    spec = service.spec
    return {
        "name": service.name,
        "platform": f"{SERVER}_{spec.engine}",
        "backend": SERVER,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": most_images,
        "input": [
            {
                "name": INPUT,
                "data_type": "TYPE_UINT8",
                "format": "FORMAT_NHWC",
                "dims": pixel_shape(spec.input),
                "optional": False,
            }
        ],
        "output": [{"name": OUTPUT, "data_type": "TYPE_FP32", "dims": [spec.classes], "label_filename": spec.labels}],
        "dynamic_batching": {"max_queue_delay_microseconds": 0},
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
    }


def statistics(name: str, totals: Statistics) -> dict[str, object]:
    """One entry of GET /v2/models/{model}/stats, Triton's extension_statistics; times in nanoseconds, summed over calls.

    queue, compute_input (decoding, resizing, normalizing), compute_infer (the forward) and compute_output are the stages
    queue, decode, forward and post of the answered calls, as `head.timing` has them. `wire`, `demote` and `load` have no
    place in Triton's list and stand beside it: to perf_analyzer they are overhead. There is no response cache.
    """
    stages = totals.stages_s
    good = totals.success

    def taken(stage: str) -> dict[str, int]:
        return _duration(good, stages[stage])

    return {
        "name": name,
        "version": VERSION,
        "last_inference": int(totals.last_at * 1e3),
        "inference_count": totals.images,
        "execution_count": totals.executions,
        "inference_stats": {
            "success": _duration(good, totals.success_s),
            "fail": _duration(totals.failure, totals.failure_s),
            "queue": taken("queue"),
            "compute_input": taken("decode"),
            "compute_infer": taken("forward"),
            "compute_output": taken("post"),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
            "wire": taken("wire"),
            "demote": taken("demote"),
            "load": taken("load"),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _duration(batch.count, batch.decode_s),
                "compute_infer": _duration(batch.count, batch.forward_s),
                "compute_output": _duration(batch.count, batch.post_s),
            }
            for size, batch in sorted(totals.batches.items())
        ],
        "memory_usage": [],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": max(0, round(seconds * _NS))}


def index(ready: list[Service], unloaded: tuple[Service, ...], *, only_ready: bool) -> list[dict[str, str]]:
    """POST /v2/repository/index: the services, by name."""
    rows = [{"name": service.name, "version": VERSION, "state": "READY", "reason": ""} for service in ready]
    if not only_ready:
        rows += [
            {"name": service.name, "version": VERSION, "state": "UNAVAILABLE", "reason": "unloaded"}
            for service in unloaded
        ]
    return sorted(rows, key=lambda row: row["name"])
