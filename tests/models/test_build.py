"""Building model folders."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from dlmodels.engines.base import Engine
from dlmodels.engines.safetensors_file import read_tensor_file
from dlmodels.errors import BuildError, ModelError, UnknownArchitectureError
from dlmodels.repository import read_labels, read_model, scan, verify_files
from dlmodels.zoo import pretrained
from dlmodels.zoo.build import build
from dlmodels.zoo.catalog import CLASSES, find
from dlmodels.zoo.pretrained import Checkpoint, pretrained_weights
from dlmodels.zoo.skeleton import skeleton

NAME = "shufflenet_v2_x0_5"


def test_a_built_folder_holds_what_model_toml_says(repository: Path) -> None:
    spec = read_model(repository / NAME)
    verify_files(spec)
    assert (spec.name, spec.engine, spec.architecture, spec.classes) == (NAME, "torch", NAME, CLASSES)
    assert spec.input == find(NAME).input
    assert sorted(spec.files) == ["corresp.txt", "weights.safetensors"]
    assert all(re.fullmatch("[0-9a-f]{64}", facts.sha256) for facts in spec.files.values())
    assert 0 <= spec.weights_bytes - find(NAME).bytes < 100_000
    labels = read_labels(repository / NAME / spec.labels, spec.classes)
    assert (labels[0], labels[999], "" in labels) == ("tench", "toilet tissue", False)


def test_built_folders_are_all_that_a_repository_holds(repository: Path) -> None:
    assert [spec.name for spec in scan(repository)] == [NAME, "squeezenet1_1"]
    assert sorted(path.name for path in repository.iterdir()) == [NAME, "squeezenet1_1"]


def test_equal_seeds_make_equal_files_and_others_do_not(repository: Path, tmp_path: Path) -> None:
    hashes = [
        build(NAME, tmp_path / str(place), seed=seed).files["weights.safetensors"].sha256
        for place, seed in enumerate((0, 9))
    ]
    assert hashes[0] == read_model(repository / NAME).files["weights.safetensors"].sha256
    assert hashes[0] != hashes[1]


def test_an_existing_folder_is_kept_unless_forced(tmp_path: Path) -> None:
    first = build(NAME, tmp_path)
    with pytest.raises(BuildError, match="exists already: keep it, or give --force"):
        build(NAME, tmp_path, seed=1)
    assert read_model(tmp_path / NAME) == first
    (tmp_path / NAME / "stray.txt").write_text("")
    assert build(NAME, tmp_path, seed=1, force=True).files != first.files
    assert sorted(path.name for path in (tmp_path / NAME).iterdir()) == [
        "corresp.txt",
        "model.toml",
        "weights.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_build_that_fails_leaves_nothing_behind_and_what_was_there_alone(tmp_path: Path) -> None:
    first = build(NAME, tmp_path)

    def stop(line: str) -> None:
        if "writing" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(NAME, tmp_path, seed=1, force=True, progress=stop)
    assert read_model(tmp_path / NAME) == first
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_progress_is_told_step_by_step(tmp_path: Path) -> None:
    lines: list[str] = []
    build(NAME, tmp_path, seed=3, progress=lines.append)
    assert lines == [f"{NAME}: drawing 1.4 million random weights, seed 3", f"{NAME}: writing 5 MB"]


def test_a_repository_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="choose another --repository"):
        build(NAME, tmp_path / "file")


def test_an_unknown_network_builds_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnknownArchitectureError):
        build("resnet19", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_network_without_trained_weights_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for name in ("nin", "gluon-squeezenet1.1"):
        with pytest.raises(BuildError, match="there are no trained weights of"):
            build(name, tmp_path / "new", pretrained=True)
    assert not (tmp_path / "new").exists()


def test_a_network_that_is_written_here_is_built_like_any_other(tmp_path: Path, engine: Engine) -> None:
    spec = build("shufflenet_v1", tmp_path)
    assert (spec.engine, spec.architecture, spec.input) == ("torch", "shufflenet_v1", find("shufflenet_v1").input)
    assert 0 <= spec.weights_bytes - find("shufflenet_v1").bytes < 100_000
    model = engine.prepare(spec)
    model.load()
    answers = model.run(np.zeros((2, *spec.input.shape), np.float32))
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-4)


class TestPretrained:
    """torchvision's weights, without a network."""

    @staticmethod
    def no_network(url: str, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(f"no route to {url}")

    @staticmethod
    def checkpoint(folder: Path, state: object) -> Checkpoint:
        path = folder / "weights.pth"
        torch.save(state, path)
        return Checkpoint("", path, hashlib.sha256(path.read_bytes()).hexdigest()[:8])

    @staticmethod
    def state(architecture: str) -> dict[str, torch.Tensor]:
        shapes = skeleton(architecture, CLASSES).state_dict().items()
        return {name: torch.full(tensor.shape, float(i)) for i, (name, tensor) in enumerate(shapes)}

    def test_without_a_network_the_error_says_where_to_put_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
        with pytest.raises(BuildError) as error:
            build("resnet18", tmp_path / "repository", pretrained=True, fetch=self.no_network)
        expected = tmp_path / "cache/hub/checkpoints/resnet18-f37072fd.pth"
        assert f"put it at {expected}" in str(error.value)
        assert "no route" in str(error.value)
        assert list(expected.parent.iterdir()) == []
        assert list((tmp_path / "repository").iterdir()) == []

    def test_a_fetched_file_is_checked_and_becomes_a_model(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state = self.state(NAME)
        made = self.checkpoint(tmp_path, state)
        cached = Checkpoint("somewhere", tmp_path / "cache/w.pth", made.sha256_prefix)
        monkeypatch.setattr(pretrained, "checkpoint", lambda _: cached)

        def fetch(url: str, path: Path) -> None:
            assert url == "somewhere"
            path.write_bytes(made.path.read_bytes())

        spec = build(NAME, tmp_path / "repository", pretrained=True, fetch=fetch)
        assert cached.path.exists()
        file = read_tensor_file(Path(spec.folder) / spec.weights)
        assert {place.name for place in file.tensors} == state.keys()

    @pytest.mark.parametrize("architecture", ["resnet18", "inception_v3", "densenet121"])
    def test_the_cached_file_of_every_network_is_looked_for_by_torchvisions_name(self, architecture: str) -> None:
        found = pretrained.checkpoint(architecture)
        assert found.path.name.startswith(architecture)
        assert re.fullmatch("[0-9a-f]{8}", found.sha256_prefix)
        assert found.path.parent == Path(torch.hub.get_dir()) / "checkpoints"

    def test_old_names_of_densenet_and_missing_counters_are_understood(self, tmp_path: Path) -> None:
        state = self.state("densenet121")
        old = {
            re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): tensor
            for name, tensor in state.items()
            if not name.endswith("num_batches_tracked")
        }
        assert "features.denseblock1.denselayer1.norm.1.weight" in old
        found = pretrained_weights("densenet121", self.checkpoint(tmp_path, old))
        assert found.keys() == state.keys()
        assert found["features.norm0.num_batches_tracked"] == 0
        name = "features.denseblock1.denselayer1.conv1.weight"
        assert np.array_equal(found[name], state[name].numpy())

    def test_auxiliary_classifiers_are_left_out(self, tmp_path: Path) -> None:
        state = self.state("googlenet")
        extra = state | {"aux1.conv.weight": torch.zeros(1)}
        assert pretrained_weights("googlenet", self.checkpoint(tmp_path, extra)).keys() == state.keys()

    def test_a_damaged_file_is_told_from_a_whole_one(self, tmp_path: Path) -> None:
        where = self.checkpoint(tmp_path, self.state(NAME))
        where.path.write_bytes(where.path.read_bytes()[:-1])
        with pytest.raises(BuildError, match="is damaged: its sha256 is"):
            pretrained_weights(NAME, where)

    @pytest.mark.parametrize("state", [{"a": torch.zeros(1)}, [1, 2]])
    def test_another_networks_checkpoint_is_refused(self, tmp_path: Path, state: object) -> None:
        with pytest.raises(BuildError, match=f"is no checkpoint of {NAME}"):
            pretrained_weights(NAME, self.checkpoint(tmp_path, state))

    def test_objects_in_a_checkpoint_are_never_made(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        with pytest.raises(ModelError, match="no checkpoint that torch can read safely"):
            pretrained_weights(NAME, self.checkpoint(tmp_path, {"a": Trap()}))
        assert not (tmp_path / "sprung").exists()
