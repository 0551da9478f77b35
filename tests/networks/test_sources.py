"""A network by its spec: found, loaded with the weights that fit, or refused in one line."""

import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import residual_networks
import torch
from oracles import output_count
from torch import Tensor, nn

from ptqdb.datasets.parquet import read_parquet
from ptqdb.datasets.preprocessing import Geometry, Preprocessing
from ptqdb.errors import DataError, UsageError
from ptqdb.measurement.batches import Batches
from ptqdb.measurement.evaluation import compute_logits
from ptqdb.networks.checkpoints import NetworkDescription, TrainedNetwork, save_checkpoint
from ptqdb.networks.embedded import embedded_folder
from ptqdb.networks.outputs import check_outputs
from ptqdb.networks.reference import reference_network
from ptqdb.networks.sources import network_source

FILE = residual_networks.__file__
SPEC = f"{FILE}:resnet20"
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
TEST_DATA = Path(os.environ.get("PTQDB_TEST_DATA", "missing"))
needs_data = pytest.mark.skipif(
    not (TEST_DATA / "pretrained").exists(), reason="PTQDB_TEST_DATA names no folder with them"
)


def weights(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(residual_networks.resnet20().state_dict())


def loaded(tmp_path: Path, content: Any, spec: str = SPEC) -> TrainedNetwork:
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    return network_source(spec, checkpoint=path, **IMAGENET).load()


def refused(tmp_path: Path, content: Any, spec: str = SPEC) -> str:
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, content, spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": tensor for key, tensor in weights().items()}


# What others trained


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(("name", "correct"), [("resnet20", 915), ("resnet32", 928)])
def test_what_others_trained_is_as_accurate_as_it_was(name: str, correct: int) -> None:
    # of the first 1,000 test images; of all 10,000 they are 9,173 and 9,263, as is published
    path = TEST_DATA / "pretrained" / f"{name}.safetensors"
    trained = network_source(f"{FILE}:{name}", checkpoint=path, **IMAGENET).load()
    images = read_parquet(TEST_DATA / "cifar10", "test").head(1000)
    mean, std = trained.preprocessing.mean, trained.preprocessing.std
    batches = Batches(images, mean, std, torch.device("cpu"))
    found = compute_logits(trained.module.to(memory_format=torch.channels_last), batches).argmax(1)
    assert int((found == images.known_labels()).sum()) == correct
    assert trained.name == trained.architecture == name
    assert trained.remarks == ()


# Keys


@pytest.mark.parametrize(
    ("prefix", "remark"),
    [
        ("module.", "keys: prefix 'module.' stripped"),
        ("backbone.net.", "keys: prefix 'backbone.net.' stripped"),
        ("_orig_mod.", "keys: prefix '_orig_mod.' stripped"),
    ],
)
def test_prefixes_are_taken_off_and_said(tmp_path: Path, prefix: str, remark: str) -> None:
    trained = loaded(tmp_path, {"state_dict": prefixed(prefix)})
    assert trained.remarks == ("weights under 'state_dict'", remark)
    expected = weights()
    assert all(torch.equal(expected[k], t) for k, t in trained.module.state_dict().items())
    assert not trained.module.training


def test_a_prefix_that_the_network_has_itself_stays(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.ModuleDict({'module': nn.Linear(2, 3), 'other': nn.Linear(2, 3)})\n"
    )
    module = nn.ModuleDict({"module": nn.Linear(2, 3), "other": nn.Linear(2, 3)})
    assert loaded(tmp_path, module.state_dict(), f"{file}:net").remarks == ()


def test_compiled_and_distributed_at_once(tmp_path: Path) -> None:
    whole = loaded(tmp_path, prefixed("module._orig_mod."))
    assert whole.remarks == ("keys: prefix 'module._orig_mod.' stripped",)
    inside = {key.replace("layer2.", "layer2._orig_mod."): t for key, t in weights().items()}
    parts = loaded(tmp_path, {f"module.{key}": tensor for key, tensor in inside.items()})
    assert parts.remarks == (
        "keys: '_orig_mod.' of a compiled network stripped",
        "keys: prefix 'module.' stripped",
    )


def test_keys_that_would_become_one_stay_apart(tmp_path: Path) -> None:
    message = refused(tmp_path, prefixed("module.") | {"linear.bias": torch.ones(10)})
    assert "missing conv1.weight; unexpected module.conv1.weight" in message


def test_faults_are_listed(tmp_path: Path) -> None:
    given = weights()
    given["linear.shift"] = given.pop("linear.bias")
    given["conv1.weight"] = torch.zeros(16, 3, 5, 5)
    message = refused(tmp_path, given)
    assert "missing linear.bias" in message
    assert "unexpected linear.shift" in message
    assert "conv1.weight of shape (16, 3, 5, 5) instead of (16, 3, 3, 3)" in message
    assert "more" not in message


def test_of_many_faults_ten_are_listed(tmp_path: Path) -> None:
    message = refused(tmp_path, {"a": torch.ones(1)})
    # 20 convolutions and the linear layer's two, 19 batch norms of four; and one unexpected
    assert (message.count("missing"), message.count("unexpected")) == (9, 1)
    assert f"and {19 + 2 + 19 * 4 + 1 - 10} more" in message


def test_counters_may_be_missing(tmp_path: Path) -> None:
    given = {k: t for k, t in weights().items() if not k.endswith("num_batches_tracked")}
    assert loaded(tmp_path, given).remarks == ()
    del given["bn1.running_mean"]
    assert "missing bn1.running_mean" in refused(tmp_path, given)


def test_another_class_count_of_a_callable_says_what_to_do(tmp_path: Path) -> None:
    message = refused(tmp_path, weights(), f"{FILE}:hundred_classes")
    assert "linear.weight of shape (10, 64) instead of (100, 64)" in message
    assert "hundred_classes build 10 classes instead of 100" in message


def test_integers_for_floats_are_refused(tmp_path: Path) -> None:
    given = weights()
    given["linear.weight"] = given["linear.weight"].to(torch.int8)
    assert "linear.weight of type int8 instead of float32" in refused(tmp_path, given)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    given = weights()
    given["layer2.0.conv1.weight"][0, 0, 0, 0] = value
    assert "NaN or infinity in layer2.0.conv1.weight" in refused(tmp_path, given)


# Reference networks


def described(path: Path, name: str = "AlexNet") -> Path:
    torch.manual_seed(0)
    description = NetworkDescription(name, 0.0625, 7, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    module = reference_network(name).build(0.0625, 7)
    save_checkpoint(path, description, dict(module.state_dict()))
    return path


def test_a_checkpoint_of_ours_describes_itself(tmp_path: Path) -> None:
    source = network_source("AlexNet_BN", checkpoint=described(tmp_path / "a", "AlexNet_BN"))
    assert source.preprocessing == Preprocessing((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert (source.name, source.architecture) == ("AlexNet_BN", "AlexNet")
    assert output_count(source.load(), (3, 32, 32)) == 7
    other = network_source(
        "AlexNet_BN", checkpoint=tmp_path / "a", name="mine", mean=(0, 0, 0), std=(1, 1, 1)
    ).load()
    assert (other.name, other.architecture) == ("mine", "AlexNet")
    assert other.preprocessing == Preprocessing((0, 0, 0), (1, 1, 1))
    with pytest.raises(DataError, match=r"of AlexNet, found one of AlexNet_BN.*network=AlexNet_"):
        network_source("AlexNet", checkpoint=tmp_path / "a")


def test_a_reference_network_trained_elsewhere(tmp_path: Path) -> None:
    module = reference_network("AlexNet").build(class_count=100)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "a.pt")
    source = network_source("AlexNet", checkpoint=tmp_path / "a.pt")
    with pytest.raises(UsageError, match=r"mean and std \(for \[0, 1\] inputs: mean=0,0,0"):
        source.load()
    trained = network_source("AlexNet", checkpoint=tmp_path / "a.pt", **IMAGENET).load()
    assert "built with 100 classes, as in the checkpoint" in trained.remarks
    assert output_count(trained, (3, 32, 32)) == 100


def test_an_unknown_name_tells_every_way() -> None:
    with pytest.raises(UsageError, match=r"'vgg16'; choose from VGG_16,.*or give torchvision:NAME"):
        network_source("vgg16")
    with pytest.raises(UsageError, match=r"AlexNet has no weights yet; give checkpoint=FILE"):
        network_source("AlexNet")
    with pytest.raises(UsageError, match="no file 'DEFAULT', and only torchvision:NAME and timm"):
        network_source("AlexNet", weights="DEFAULT")


# Random weights, and weights that a callable brings


def test_random_weights_come_again(tmp_path: Path) -> None:
    def identity(seed: int) -> str:
        return network_source(SPEC, weights="random", seed=seed).checkpoint_sha256

    state = torch.get_rng_state()
    assert identity(0) == identity(0) != identity(1)
    assert torch.equal(torch.get_rng_state(), state)
    trained = network_source(SPEC, weights="random", seed=4, **IMAGENET).load()
    assert trained.remarks == ("random weights, seed 4: expect accuracy at chance level",)
    small = network_source("AlexNet", weights="random", class_count=3, **IMAGENET)
    assert output_count(small.load(), (3, 32, 32)) == 3
    with pytest.raises(UsageError, match="class_count: only for random weights"):
        network_source(SPEC, class_count=3)


Files = Callable[[str], str]


@pytest.fixture
def file(tmp_path: Path) -> Files:
    """Write a file and give its path."""

    def write(text: str) -> str:
        path = tmp_path / "nets.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def test_weights_that_differ_each_time_are_refused(file: Files) -> None:
    path = file("""
        import torch
        from torch import nn
        def random():
            return nn.Linear(2, 2)
        def same():
            layer = nn.Linear(2, 2)
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
            return layer
        shared = nn.Linear(2, 2).half()
        """)
    with pytest.raises(DataError, match="different weights each time it is built; give checkpoint"):
        network_source(f"{path}:random", mean=(0,), std=(1,)).load()
    trained = network_source(f"{path}:same", mean=(0,), std=(1,)).load()
    assert torch.equal(trained.module.get_parameter("weight"), torch.eye(2))
    source = network_source(f"{path}:shared", mean=(0,), std=(1,))
    trained = source.load()
    assert trained.module.get_parameter("weight").dtype == torch.float32
    assert trained.remarks == ("network of torch.float16 cast to float32",)
    assert source.load().module is not trained.module


# Callables


def test_a_file_is_imported_with_its_neighbours_and_leaves_no_trace(
    tmp_path: Path, file: Files
) -> None:
    path = file("""
        import neighbour
        net = neighbour.Net
        """)
    (tmp_path / "neighbour.py").write_text("from torch import nn\nclass Net(nn.Identity): pass\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "nets.py").write_text("import neighbour\nnet = neighbour.Net\n")
    (other / "neighbour.py").write_text("from torch import nn\nclass Net(nn.Flatten): pass\n")
    search_path = list(sys.path)
    first = network_source(f"{path}:net", mean=(0,), std=(1,)).load()
    second = network_source(f"{other / 'nets.py'}:net", mean=(0,), std=(1,)).load()
    assert isinstance(first.module, nn.Identity)
    assert isinstance(second.module, nn.Flatten)
    assert sys.path == search_path
    assert "neighbour" not in sys.modules
    assert "nets" not in sys.modules


def test_a_module_is_found_from_the_working_folder(
    tmp_path: Path, file: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ptqdb_test_package"
    package.mkdir()
    (package / "nets.py").write_text("from torch import nn\ndef net(): return nn.Identity()\n")
    monkeypatch.chdir(tmp_path)
    source = network_source("ptqdb_test_package.nets:net", mean=(0,), std=(1,))
    assert isinstance(source.load().module, nn.Identity)
    assert (source.name, source.architecture) == ("net", "net")


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("{}:resnet2", r"no callable 'resnet2' in .*; it has resnet\d\d, "),
        ("{}:number", "to be callable, found a int"),
        ("{}:needy", r"to take no arguments, found \(classes, width=1\); write a function"),
        ("missing.py:net", "no file missing.py"),
        ("nowhere.nets:net", "no module named 'nowhere' for 'nowhere.nets:net'; expected a ref"),
        ("collections.nowhere:net", "no module named 'collections.nowhere'"),
        ("net.py", "add the callable, as in net.py:callable"),
        (":net", "expected a reference network's name"),
    ],
)
def test_a_wrong_spec_is_refused_in_one_line(file: Files, spec: str, named: str) -> None:
    path = file("""
        number = 1
        def needy(classes, width=1): ...
        def resnet20(): ...
        def resnet32(): ...
        """)
    with pytest.raises(UsageError, match=named) as caught:
        network_source(spec.format(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("def net(:\n    pass\n", r"SyntaxError: .*nets.py, line 1\)"),
        ("\nimport nowhere\n", r"ModuleNotFoundError: No module named 'nowhere' \(.*nets.py, li"),
        ("from . import other\n", r"ImportError: .*nets.py, line 1\)"),
        ("x = 1\ny = x / 0\n", r"ZeroDivisionError: .*nets.py, line 2\)"),
        ("raise SystemExit(3)\n", r"SystemExit: 3 \(.*nets.py, line 1\)"),
    ],
)
def test_code_that_fails_is_told_with_its_line(file: Files, text: str, named: str) -> None:
    path, before = file(text), set(sys.modules)
    with pytest.raises(DataError, match=named) as caught:
        network_source(f"{path}:net")
    assert "\n" not in str(caught.value)
    assert not [name for name in set(sys.modules) - before if "ptqdb_network" in name]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("    raise ValueError('two\\nlines')", r"ValueError: two lines \(.*nets.py, line 3\)"),
        ("    nn.Linear('a', 2)", r"failed: TypeError: .*nets.py, line 3\)"),
        ("    return 3", "to return an nn.Module, found a int"),
        ("    return nn.LazyLinear(2)", "with initialized weights, found a lazy weight"),
    ],
)
def test_a_callable_that_fails_is_told_with_its_line(file: Files, body: str, named: str) -> None:
    path = file(f"from torch import nn\ndef net():\n{body}\n")
    with pytest.raises(DataError, match=named) as caught:
        network_source(f"{path}:net", mean=(0,), std=(1,)).load()
    assert "\n" not in str(caught.value)


# How a network is fed, and what it puts out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mean": (0.5,)}, "mean and std: expected both or none"),
        ({"mean": (0.5,), "std": (0.0,)}, "std: expected numbers above 0"),
        ({"mean": (0.5,), "std": (1.0,), "crop": 0}, "crop: expected at least 1"),
        ({"name": " "}, "name: expected a name"),
        ({"checkpoint": "a.pt", "weights": "DEFAULT"}, "weights: found checkpoint, too"),
        ({"checkpoint": "a.pt", "weights": FILE}, "weights: found a file and checkpoint"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        network_source(SPEC, **options)


def test_sizes_are_kept_with_the_normalization() -> None:
    source = network_source(SPEC, resize=40, crop=32, **IMAGENET)
    assert source.preprocessing is not None
    assert source.preprocessing.geometry == Geometry(40, 32)


def test_weights_may_be_a_file(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "a.pt")
    source = network_source(SPEC, weights=str(tmp_path / "a.pt"), **IMAGENET)
    assert (source.checkpoint, source.weights) == (tmp_path / "a.pt", None)


class Output(nn.Module):
    """Puts out whatever a function makes of an image."""

    def __init__(self, function: Callable[[Tensor], Any]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: (x, x), "found a tuple of 2"),
        (lambda x: {"logits": x, "loss": 0}, "found a dict of logits, loss"),
        (lambda x: x, r"found a tensor of float32, shape \(1, 3, 4, 4\)"),
        (lambda x: x[:, 0, 0, 0], r"found a tensor of float32, shape \(1,\)"),
        (lambda x: x.flatten(1).argmax(1, keepdim=True), "found a tensor of int64"),
        (lambda x: x[0].flatten(1), r"shape \(3, 16\)"),
        (lambda x: None, "found a NoneType"),
        (lambda x: x @ torch.ones(5, 2), r"cannot take an image of 3 x 4 x 4: RuntimeError"),
    ],
)
def test_other_outputs_than_logits_are_told(function: Callable[[Tensor], Any], named: str) -> None:
    preprocessing = Preprocessing((0, 0, 0), (1, 1, 1))
    trained = TrainedNetwork("net", "net", Output(function), "", preprocessing)
    with pytest.raises(DataError, match=named) as caught:
        check_outputs(trained, torch.zeros(1, 3, 4, 4))
    assert "\n" not in str(caught.value)


def test_images_of_another_channel_count_are_refused() -> None:
    with pytest.raises(DataError, match=r"expected images of 1 channels.*found 3 in cifar10"):
        Batches(
            read_parquet(embedded_folder(), "test", name="cifar10").head(1),
            (0.5,),
            (0.5,),
            torch.device("cpu"),
        )
