"""DeepDetect's calls as dd_bench makes them: what a creation says, and complete predict requests as bytes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from dlclient.dd_bench.options import Creation, Options
from dlclient.request_writer import RequestWriter

DESCRIPTION = "image classification service"
_THRESHOLD = 0.1
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lane:
    """Where a call goes."""

    service: str
    gpuid: int
    worker: int | None = None
    """Of a dlserve: insist on it."""


def creation_input(options: Options, creation: Creation) -> Json:
    """`parameters.input` of a creation; the connector is the client's."""
    said: Json = _sides(options) | {
        "bw": creation.bw,
        "rgb": creation.rgb,
        "histogram_equalization": creation.equalize,
        "scale": creation.scale,
    }
    if options.task.segmentation:
        said["segmentation"] = True
    if options.task.regression:
        said["regression"] = True
    return said


def creation_mllib(options: Options, creation: Creation, gpuid: int, batch_size: int) -> Json:
    """`parameters.mllib` of a creation. As there, maxBatchSize is 1 but for TensorRT, or the batch's own with --recreate.

    A TensorRT service that is made anew for each batch neither reads nor writes engine files: DeepDetect refuses an engine
    of another batch size that it finds in the folder.
    """
    is_tensorrt = creation.mllib.lower() == "tensorrt"
    keeps_engine = not (is_tensorrt and creation.recreate)
    most = max(options.largest_batch, *options.batch_sizes) if is_tensorrt else 1
    said: Json = {
        "nclasses": creation.nclasses,
        "datatype": creation.datatype,
        "readEngine": keeps_engine,
        "writeEngine": keeps_engine,
        "maxBatchSize": batch_size if creation.recreate else most,
        "maxWorkspaceSize": creation.workspace_mb,
        "gpu": options.gpu,
        "gpuid": gpuid,
    }
    return said | ({"dla": 0} if creation.dla else {})


def predict(
    options: Options, writer: RequestWriter, lane: Lane, images: Sequence[bytes], cache: str | None = None
) -> bytes:
    """A request for one batch. `cache`: of a dlserve, start from weights no warmer than that."""
    asked = {key: value for key, value in {"cache": cache, "worker": lane.worker}.items() if value is not None}
    if options.images.input == "raw":
        best = {} if options.best is None else {"best": options.best}
        query = urlencode(best | asked)
        path = f"/predict/{quote(lane.service, safe='')}{'?' if query else ''}{query}"
        return writer.write("POST", path, "application/octet-stream", images[0])
    mllib: Json = {"gpu": options.gpu, "gpuid": lane.gpuid, **asked}
    if options.test_batch_size is not None:
        mllib["net"] = {"test_batch_size": options.test_batch_size or len(images)}
    call = {
        "service": lane.service,
        "parameters": {"input": _predict_input(options), "mllib": mllib, "output": _output(options)},
    }
    opening = msgspec.json.encode(call)[:-1]
    return writer.write("POST", "/predict", "application/json", opening + b',"data":[' + b",".join(images) + b"]}")


def _sides(options: Options) -> Json:
    sides = {"width": options.network.width, "height": options.network.height}
    return {key: value for key, value in sides.items() if value is not None}


def _predict_input(options: Options) -> Json:
    said = _sides(options)
    if options.network.interp:
        said["interp"] = options.network.interp
    if options.network.gpu_resize:
        said["cuda"] = True
    if options.task.segmentation:
        said["segmentation"] = True
    return said


def _output(options: Options) -> Json:
    """By task: detection goes before segmentation, regression and search."""
    task = options.task
    said: Json = {}
    if task.detection:
        said = {"confidence_threshold": _THRESHOLD, "bbox": not task.search}
        if task.search:
            said |= {"search": True, "rois": "rois"} | ({"multibox_rois": True} if task.search_multibox else {})
    elif task.segmentation:
        pass
    elif task.regression:
        said = {"regression": True}
    elif task.search:
        said = {"search": True}
    return said if options.best is None else said | {"best": options.best}
