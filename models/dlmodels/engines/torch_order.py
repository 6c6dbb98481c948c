"""In which order a network uses its weights: recorded from one forward on the meta device, where it costs no computing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from dlmodels.engines.blob import MOST_GROUPS, split


@dataclass(frozen=True, slots=True)
class Plan:
    """Tensors in groups, in the order of the forward."""

    groups: tuple[tuple[str, ...], ...]
    """Names of parameters and buffers, each in exactly one."""
    gates: tuple[torch.nn.Module, ...]
    """Of all groups but the first: the module whose forward is the first to use any of it."""


def one_group(names: Sequence[str]) -> Plan:
    """For a network into which nothing can be hooked."""
    return Plan((tuple(names),), ())


def plan_groups(module: torch.nn.Module, images: torch.Tensor, most: int = MOST_GROUPS) -> Plan:
    """At most `most` groups of about equal size. Module and images are on the meta device.

    A group never divides what one module is the first to use: with its forward all of that must be there.
    """
    tensors = module.state_dict(keep_vars=True)
    first = _first_users(module, images, tensors)
    used = dict.fromkeys(first.values())
    by_user: dict[torch.nn.Module, list[str]] = {user: [] for user in used}
    for name, user in first.items():
        by_user[user].append(name)
    unused = [name for name in tensors if name not in first]
    users = list(by_user)
    sizes = [sum(tensors[name].numel() * tensors[name].element_size() for name in by_user[user]) for user in users]
    ranges = split(sizes, most)
    groups = [tuple(name for index in members for name in by_user[users[index]]) for members in ranges]
    gates = tuple(users[members.start] for members in ranges[1:])
    if not groups:
        return one_group(unused)
    groups[-1] += tuple(unused)  # counters of batch normalization, say
    return Plan(tuple(groups), gates)


def _first_users(
    module: torch.nn.Module, images: torch.Tensor, tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.nn.Module]:
    """Tensor -> the innermost module that was running when an operation first took it, in the order of the forward."""
    running: list[torch.nn.Module] = []
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    first: dict[str, torch.nn.Module] = {}

    class Recorder(TorchFunctionMode):
        def __torch_function__(
            self,
            func: Callable[..., Any],
            types: object,
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
        ) -> object:
            for leaf in tree_leaves((args, kwargs or {})):
                for name in names.get(id(leaf), ()):
                    first.setdefault(name, running[-1])
            return func(*args, **(kwargs or {}))

    handles = []
    for inner in module.modules():
        handles.append(inner.register_forward_pre_hook(lambda inner, *_: running.append(inner)))
        handles.append(inner.register_forward_hook(lambda *_: _pop(running)))
    try:
        with torch.inference_mode(), Recorder():
            module(images)
    finally:
        for handle in handles:
            handle.remove()
    return first


def _pop(running: list[torch.nn.Module]) -> None:
    """A hook's result would replace the module's."""
    running.pop()
