"""Forwards that begin while weights are still on their way, on a fake GPU whose late weights are NaN."""

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from dlmodels.engines.base import Engine
from dlmodels.engines.torch_arrival import Arrival
from dlmodels.engines.torch_order import Plan, plan_groups
from dlmodels.engines.torch_zoo import ZooModel
from dlmodels.errors import LoadError
from dlmodels.repository import ModelSpec, read_model

from .fake_gpu import FAILURE, PAGE, FakeGpu, LateCopier
from .networks import NETWORKS, by_torchvision, pictures

WITHOUT_GRAPHS: dict[str, object] = {"cuda_graphs": False}


class Backwards(torch.nn.Module):
    """Uses its modules in another order than it registers them, one of them twice, its own parameter in between."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(4, 5)
        self.never = torch.nn.Linear(4, 4)
        self.scale = torch.nn.Parameter(torch.ones(4))
        self.shared = torch.nn.Linear(4, 4)
        self.first = torch.nn.Linear(3, 4)
        self.attention = torch.nn.MultiheadAttention(4, 1, batch_first=True)  # uses out_proj without calling it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        x = self.shared(self.shared(self.first(x)))
        x = self.attention(x, x, x, need_weights=False)[0] * self.scale
        scores: torch.Tensor = self.last(x)
        return scores


class Turning(torch.nn.Module):
    """Goes another way on the meta device than elsewhere, as a fast path of torch's own might."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Linear(3, 3)
        self.two = torch.nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        x = self.one(x)
        if x.is_meta:
            scores: torch.Tensor = self.two(x)
            return scores
        return torch.nn.functional.linear(x, self.two.weight, self.two.bias)


def planned(make: Callable[[], torch.nn.Module], shape: tuple[int, ...], most: int = 8) -> tuple[torch.nn.Module, Plan]:
    """The network on the meta device, and in which groups its weights go."""
    with torch.device("meta"):
        module = make().eval()
        return module, plan_groups(module, torch.empty(shape), most)


def arriving(
    make: Callable[[], torch.nn.Module], shape: tuple[int, ...]
) -> tuple[torch.nn.Module, Arrival, LateCopier]:
    """A network whose weights are on their way, in as many groups as can be."""
    meta, plan = planned(make, shape, most=99)
    module = make().eval().requires_grad_(requires_grad=False)
    twins = dict(zip(meta.modules(), module.modules(), strict=True))
    copier = LateCopier()
    state, marks = module.state_dict(), []
    for group in plan.groups:
        for name in group:
            copier.copy(state[name], state[name].clone())
        marks.append(copier.mark())
    arrival = Arrival(copier, [twins[gate] for gate in plan.gates])
    arrival.expect(marks)
    return module, arrival, copier


def test_weights_are_grouped_in_the_order_in_which_they_are_first_used() -> None:
    module, plan = planned(Backwards, (1, 2, 3), most=99)
    assert [group[0].partition(".")[0] for group in plan.groups] == ["first", "shared", "attention", "scale", "last"]
    assert dict(module.named_parameters()).keys() == {name for group in plan.groups for name in group}
    assert {"attention.in_proj_weight", "attention.out_proj.weight"} <= set(plan.groups[2])
    assert set(plan.groups[-1]) == {"last.weight", "last.bias", "never.weight", "never.bias"}
    assert isinstance(module, Backwards)
    assert plan.gates == (module.shared, module.attention, module, module.last)


def test_groups_are_about_equal_and_not_more_than_asked_for() -> None:
    module, plan = planned(lambda: torch.nn.Sequential(*[torch.nn.Linear(9, 9) for _ in range(12)]), (1, 9), most=4)
    assert isinstance(module, torch.nn.Sequential)
    assert [len(group) for group in plan.groups] == [6, 6, 6, 6]  # weights and biases of three
    assert plan.gates == (module[3], module[6], module[9])


def test_a_network_without_weights_has_one_group() -> None:
    assert planned(torch.nn.ReLU, (1, 3))[1] == Plan(((),), ())


@pytest.mark.parametrize(
    ("make", "shape"),
    [(Backwards, (2, 2, 3)), (Turning, (2, 3)), (lambda: torch.nn.Sequential(torch.nn.Linear(3, 3)), (2, 3))],
)
def test_no_module_runs_ahead_of_its_weights(make: Callable[[], torch.nn.Module], shape: tuple[int, ...]) -> None:
    module, arrival, copier = arriving(make, shape)
    reference = make().eval()
    reference.load_state_dict(copier.promised(module))
    images = torch.rand(shape)
    with torch.inference_mode():
        assert arrival.under_way
        found = arrival.through(lambda: module(images))
        assert torch.isfinite(found).all()
        assert torch.allclose(found, reference(images), atol=1e-6)
        assert not arrival.under_way
        assert copier.done == copier.asked
        held = len(copier.log)
        assert torch.equal(arrival.through(lambda: module(images)), found)
    assert len(copier.log) == held
    assert not any(inner._forward_pre_hooks for inner in module.modules())


def test_early_modules_run_before_the_last_weights_are_there() -> None:
    module, arrival, copier = arriving(lambda: torch.nn.Sequential(*[torch.nn.Linear(3, 3) for _ in range(5)]), (1, 3))
    done = []
    for inner in module.children():
        inner.register_forward_hook(lambda *_: done.append(copier.done))
    arrival.through(lambda: module(torch.rand(1, 3)))
    assert done == [2, 4, 6, 8, 10]


def test_after_a_forward_that_failed_the_next_one_waits_as_well() -> None:
    module, arrival, copier = arriving(lambda: torch.nn.Sequential(*[torch.nn.Linear(3, 3) for _ in range(5)]), (1, 3))

    def fail() -> torch.Tensor:
        assert isinstance(module, torch.nn.Sequential)
        module[0](torch.rand(1, 3))
        raise ValueError(FAILURE)

    with pytest.raises(ValueError, match=FAILURE):
        arrival.through(fail)
    assert arrival.under_way
    assert torch.isfinite(arrival.through(lambda: module(torch.rand(1, 3)))).all()
    assert copier.done == copier.asked


def test_finishing_waits_for_every_copy_and_takes_the_hooks_away() -> None:
    module, arrival, copier = arriving(Backwards, (1, 2, 3))
    arrival.finish()
    assert copier.done == copier.asked
    assert not arrival.under_way
    assert not any(inner._forward_pre_hooks for inner in module.modules())


class TestZooModel:
    """Real networks by the code for GPUs."""

    @pytest.fixture
    def spec(self, repository: Path) -> ModelSpec:
        """A small network."""
        return msgspec.structs.replace(read_model(repository / "squeezenet1_1"), parameters=WITHOUT_GRAPHS)

    @pytest.mark.parametrize("host_bytes", [0, 64 << 20])
    @pytest.mark.parametrize("name", NETWORKS)
    def test_answers_from_weights_on_their_way_are_those_of_the_cpu(
        self, engine: Engine, repository: Path, name: str, host_bytes: int
    ) -> None:
        spec = read_model(repository / name)
        reference = engine.prepare(spec)
        reference.load()
        expected = reference.run(pictures(2))
        gpu = FakeGpu(host_bytes)
        model = ZooModel(msgspec.structs.replace(spec, parameters=WITHOUT_GRAPHS), gpu)
        assert model.reload_tiers == (("host", "disk") if host_bytes else ("disk",))
        for _ in range(3):
            if host_bytes:
                model.stage()
            model.load()
            model.load()
            assert gpu.late.done < gpu.late.asked
            assert np.abs(model.run(pictures(2)) - expected).max() < 1e-5
            assert gpu.late.done == gpu.late.asked
            assert np.abs(model.run(pictures(2)) - expected).max() < 1e-5
            model.unload()
            model.unload()
            assert model.staged is bool(host_bytes)
            model.unstage()
            assert not model.staged
        holds = [line for line in gpu.late.log if line.startswith("hold")]
        assert len(holds) == 3 * 8

    def test_an_unload_while_copies_are_under_way_waits_for_them(self, spec: ModelSpec) -> None:
        gpu = FakeGpu(host_bytes=64 << 20)
        model = ZooModel(spec, gpu)
        model.stage()
        model.load()
        assert gpu.late.done < gpu.late.asked
        model.unload()
        assert gpu.late.done == gpu.late.asked
        tensors = model._network.state_dict(keep_vars=True).values()
        assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) == 0
        assert not any(inner._forward_pre_hooks for inner in model._network.modules())

    def test_who_prepares_a_model_and_who_runs_another_take_turns(self, spec: ModelSpec) -> None:
        gpu = FakeGpu()
        model = ZooModel(spec, gpu)
        done = []
        for call in (model.load, lambda: model.run(pictures(1))):
            before = gpu.late.done, gpu.late.asked
            with gpu.turn:
                other = threading.Thread(target=lambda call=call: done.append(call()))
                other.start()
                other.join(0.1)
                assert other.is_alive()
                assert (gpu.late.done, gpu.late.asked) == before
            other.join()
        assert len(done) == 2

    def test_a_load_that_fails_leaves_nothing_behind(self, spec: ModelSpec) -> None:
        gpu = FakeGpu()
        model = ZooModel(spec, gpu)
        gpu.late.fails_at = 10
        with pytest.raises(RuntimeError, match=FAILURE):
            model.load()
        assert gpu.late.done == gpu.late.asked
        tensors = model._network.state_dict(keep_vars=True).values()
        assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) == 0
        gpu.late.fails_at = None
        model.load()
        assert model.run(pictures(1)).shape == (1, 1000)

    def test_what_is_staged_needs_no_file_and_what_is_not_does(self, spec: ModelSpec, tmp_path: Path) -> None:
        path = tmp_path / spec.weights
        path.write_bytes((Path(spec.folder) / spec.weights).read_bytes())
        gpu = FakeGpu(host_bytes=64 << 20)
        model = ZooModel(msgspec.structs.replace(spec, folder=str(tmp_path)), gpu)
        model.stage()
        path.unlink()
        model.load()
        first = model.run(pictures(1))
        model.unload()
        model.load()
        assert np.array_equal(model.run(pictures(1)), first)
        model.unload()
        model.unstage()
        with pytest.raises(LoadError, match="put the file back"):
            model.load()

    def test_many_models_share_the_arena_and_give_every_page_back(self, repository: Path) -> None:
        gpu = FakeGpu(host_bytes=64 << 20)
        assert gpu.host is not None
        specs = [read_model(repository / name) for name in NETWORKS] * 2
        models = [ZooModel(msgspec.structs.replace(spec, parameters=WITHOUT_GRAPHS), gpu) for spec in specs]
        for model in models:
            model.stage()
        taken = gpu.host.arena.total_bytes - gpu.host.arena.free_bytes
        assert taken == sum(model.staged_bytes for model in models)
        assert all(0 <= model.staged_bytes - model.weights_bytes < PAGE for model in models)
        for model in models:
            model.unstage()
        assert gpu.host.arena.free_bytes == gpu.host.arena.total_bytes

    @pytest.mark.usefixtures("computes_bf16")
    def test_weights_are_converted_on_their_way(self, spec: ModelSpec) -> None:
        reference = by_torchvision(Path(spec.folder).parent, spec.name).to(torch.bfloat16)
        model = ZooModel(msgspec.structs.replace(spec, parameters=WITHOUT_GRAPHS | {"datatype": "bf16"}), FakeGpu(PAGE))
        model.load()
        kinds = {tensor.dtype for tensor in model._network.state_dict().values()}
        assert kinds == {torch.bfloat16}
        assert model.weights_bytes < 0.52 * spec.weights_bytes
        assert model.staged_bytes >= spec.weights_bytes - (64 << 10)  # the file's types, without its header
        with torch.inference_mode():
            expected = reference(torch.from_numpy(pictures(2)).to(torch.bfloat16)).float().softmax(1).numpy()
        assert np.abs(model.run(pictures(2)) - expected).max() < 0.05
