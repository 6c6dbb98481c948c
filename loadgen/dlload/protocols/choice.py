"""The protocol that a run speaks, made from its options and what its server told."""

from dlload.errors import OptionError
from dlload.options import StreamOptions
from dlload.protocols.base import Protocol
from dlload.protocols.deepdetect import DeepDetect
from dlload.protocols.kserve import KServe
from dlload.protocols.raw import Raw, RawTemplate
from dlload.protocols.template import Template
from dlload.protocols.torchserve import TorchServe
from dlload.target import Target, protocol_name


def create_protocol(options: StreamOptions, target: Target) -> Protocol:
    """Raises OptionError where the options do not fit the server."""
    protocol = _create(protocol_name(options, target), options, target)
    if protocol.one_image and options.batch_size != 1:
        raise OptionError(f"--batch-size {options.batch_size}: these requests carry one image; leave it out")
    return protocol


def _create(name: str, options: StreamOptions, target: Target) -> Protocol:
    asking = options.asking
    if name == "raw" and asking.url_template is not None:
        return RawTemplate(options.url, options.api_key, asking.url_template, asking.answer_path)
    if name == "raw":
        return Raw(options.url, options.api_key)
    if name == "torchserve":
        return TorchServe(options.url, options.api_key, asking.answer_path)
    if name == "json":
        assert asking.url_template is not None
        assert asking.body_template is not None
        return Template(options.url, options.api_key, asking.url_template, asking.body_template, asking.answer_path)
    return _kserve(options, target) if name == "kserve" else DeepDetect(options.url, options.api_key)


def _kserve(options: StreamOptions, target: Target) -> KServe:
    asking = options.asking
    for service, model in target.models.items():
        model.input.check(options.batch_size)
        if model.input.datatype == "FP32":
            asking.normalization.check(model.input.size[2], f"model {service}")
        elif asking.normalization.changes_values:
            raise OptionError(
                f"--scale, --mean, --std: model {service} takes {model.input.datatype}, which is not normalised; "
                "leave them out"
            )
    binary = target.takes_binary if asking.tensors == "auto" else asking.tensors == "binary"
    return KServe(options.url, options.api_key, target.models, binary=binary, normalization=asking.normalization)
