"""The format int8, to the bit, against onnxruntime's QDQ and integers and against `torch.ao`."""

import warnings
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from oracles import quantize_rows
from torch import Tensor, nn

from ptqdb.quantization.coding import code_layer
from ptqdb.quantization.formats import find_format
from ptqdb.quantization.input_codes import InputRange
from ptqdb.quantization.layers import QuantizedLayer

Array = NDArray[Any]

INT8 = find_format("int8")


def layers() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    made = {
        "convolution": nn.Conv2d(6, 10, 3, stride=2, padding=1, groups=2),
        "depthwise convolution": nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        "linear": nn.Linear(70, 9),
    }
    for layer in made.values():
        weight = cast(Tensor, layer.weight)
        scales = torch.logspace(-2, 1, len(weight)).reshape(-1, *[1] * (weight.ndim - 1))
        weight.data.mul_(scales)
        weight.data[0] = 0  # a channel without range
    return made


def inputs_of(layer: nn.Module, kind: str) -> Tensor:
    shape = (4, 70) if isinstance(layer, nn.Linear) else (2, cast(int, layer.in_channels), 9, 9)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if kind == "after ReLU":
        return values.relu()
    if kind == "negative":
        return -values.abs() - 0.5
    return values + 0.3


each_kind = pytest.mark.parametrize("kind", ["after ReLU", "negative", "of both signs"])
each_layer = pytest.mark.parametrize("name", layers())


def run_graph(nodes: list[Any], given: dict[str, Array], outputs: dict[str, Any]) -> dict[str, Any]:
    """The outputs, by name and type, of a graph of ONNX operators, each run as it is written."""
    x = given["x"]
    graph = helper.make_graph(
        nodes,
        "graph",
        [described("x", x.dtype, x.shape)],
        [described(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in given.items() if name != "x"],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    return dict(zip(outputs, session.run(list(outputs), {"x": x}), strict=True))


def described(name: str, kind: Any, shape: Any) -> Any:
    number_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    return helper.make_tensor_value_info(name, number_type, shape)


def range_of(inputs: Tensor) -> InputRange:
    return InputRange(*torch.aminmax(inputs))


def product(layer: nn.Module, inputs: str, weight: str, bias: str, output: str) -> list[Any]:
    """The operators of a layer in floats."""
    names = [inputs, weight] + [bias] * (layer.bias is not None)
    if isinstance(layer, nn.Linear):
        return [helper.make_node("Gemm", names, [output], transB=1)]
    return [helper.make_node("Conv", names, [output], **geometry(layer))]


def geometry(layer: nn.Module) -> dict[str, Any]:
    assert isinstance(layer, nn.Conv2d)
    return {
        "strides": list(layer.stride),
        "pads": list(cast(tuple[int, int], layer.padding)) * 2,
        "group": layer.groups,
    }


@each_kind
@each_layer
def test_int8_is_that_of_qdq(name: str, kind: str) -> None:
    """Each operand quantized and dequantized by ONNX's operators, then the product in floats."""
    layer = layers()[name]
    inputs = inputs_of(layer, kind)
    quantized = QuantizedLayer(layer, name)
    coded = code_layer(quantized, range_of(inputs), INT8)
    assert coded.inputs is not None
    largest = cast(Tensor, layer.weight).detach().flatten(1).abs().amax(1)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    given = {
        "x": inputs.numpy(),
        "w": cast(Tensor, layer.weight).detach().numpy(),
        "w_scale": scales,
        "w_zero": np.zeros(len(scales), np.int8),
    }
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["x_codes", "x_scale", "x_zero"]),
        helper.make_node("DequantizeLinear", ["x_codes", "x_scale", "x_zero"], ["x_values"]),
        helper.make_node("QuantizeLinear", ["w", "w_scale", "w_zero"], ["w_codes"], axis=0),
        helper.make_node(
            "DequantizeLinear", ["w_codes", "w_scale", "w_zero"], ["w_values"], axis=0
        ),
    ]
    bias = layer.bias
    if coded.bias is not None and isinstance(bias, Tensor):
        given["b_codes"] = coded.bias.codes.numpy().astype(np.int32)
        given["b_scale"] = coded.bias.scale.numpy().astype(np.float32)
        given["b_zero"] = np.zeros(len(scales), np.int32)
        nodes += [
            helper.make_node(
                "DequantizeLinear", ["b_codes", "b_scale", "b_zero"], ["b_values"], axis=0
            )
        ]
        np.testing.assert_array_equal(given["b_codes"], coded.bias.codes.numpy())
        assert torch.equal(coded.bias.codes, (bias.double() / coded.bias.scale).round())
    nodes += product(layer, "x_values", "w_values", "b_values", "y")
    wanted: dict[str, Any] = dict.fromkeys(["x_scale", "x_values", "w_values", "y"], np.float32)
    wanted |= {"x_codes": np.uint8, "x_zero": np.uint8, "w_codes": np.int8}
    found = run_graph(nodes, given, wanted)

    assert coded.inputs.scale.item() == found["x_scale"]
    assert coded.inputs.zero_byte == found["x_zero"]
    codes = coded.inputs.codes_of(inputs) + coded.inputs.zero_byte
    np.testing.assert_array_equal(codes.numpy(), found["x_codes"])
    np.testing.assert_array_equal(coded.inputs.dequantized(inputs)[0].numpy(), found["x_values"])
    np.testing.assert_array_equal(coded.weight.codes.numpy(), found["w_codes"])
    np.testing.assert_array_equal(coded.weight.dequantized(layer).numpy(), found["w_values"])

    quantized.attach()
    quantized.use_codes(coded)
    outputs = layer(inputs).detach().numpy()
    # Theirs sums rounded products of float32 values.
    np.testing.assert_allclose(outputs, found["y"], rtol=0, atol=2e-6 * abs(found["y"]).max())


@each_kind
@each_layer
def test_sums_of_int8_are_those_of_integers(name: str, kind: str) -> None:
    """ONNX's integer products, whose padding is the zero point, give the same sums."""
    layer = layers()[name]
    inputs = inputs_of(layer, kind)
    quantized = QuantizedLayer(layer, name)
    coded = code_layer(quantized, range_of(inputs), INT8)
    assert coded.inputs is not None
    codes = (coded.inputs.codes_of(inputs) + coded.inputs.zero_byte).numpy().astype(np.uint8)
    # Bytes without sign about 128: of bytes with a sign, onnxruntime saturates sums of two products
    # at 16 bits on processors without instructions for such products.
    weight = (coded.weight.codes.numpy() + 128).astype(np.uint8)
    given = {
        "x": codes,
        "x_zero": np.array(coded.inputs.zero_byte, np.uint8),
        "w": weight,
        "w_zero": np.array(128, np.uint8),
    }
    names, is_linear = ["x", "w", "x_zero", "w_zero"], isinstance(layer, nn.Linear)
    if is_linear:
        given["w"] = np.ascontiguousarray(weight.T)
        node = helper.make_node("MatMulInteger", names, ["y"])
    else:
        node = helper.make_node("ConvInteger", names, ["y"], **geometry(layer))
    sums = torch.from_numpy(run_graph([node], given, {"y": np.int32})["y"]).double()
    quantized.attach()
    quantized.use_codes(coded)
    outputs = layer(inputs).detach().double()
    shape = (-1,) if is_linear else (-1, 1, 1)
    scales = coded.inputs.scale.double() * coded.weight.scale.double()
    if coded.bias is not None:
        sums += coded.bias.codes.reshape(shape)
    assert torch.equal((outputs / scales.reshape(shape)).round(), sums)


@pytest.mark.parametrize("seed", range(6))
def test_scale_and_zero_point_are_those_of_onnx(seed: int) -> None:
    """Of ranges that widen to include 0, at most magnitudes."""
    draw = torch.Generator().manual_seed(seed)
    center = torch.randn((), generator=draw) * 3
    values = (torch.randn(500, generator=draw) + center) * 10.0 ** (seed * 4 - 12)
    wanted = {"codes": np.uint8, "scale": np.float32, "zero": np.uint8}
    node = helper.make_node("DynamicQuantizeLinear", ["x"], list(wanted))
    found = run_graph([node], {"x": values.numpy()}, wanted)
    quantized = QuantizedLayer(nn.Linear(500, 1), "linear")
    inputs = code_layer(quantized, range_of(values), INT8).inputs
    assert inputs is not None
    assert (inputs.scale.item(), inputs.zero_byte) == (found["scale"], found["zero"])
    codes = inputs.codes_of(values[None])[0] + inputs.zero_byte
    np.testing.assert_array_equal(codes.numpy(), found["codes"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("seed", range(6))
def test_channels_are_those_of_torch_ao(seed: int) -> None:
    from torch.ao.quantization import PerChannelMinMaxObserver

    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(64, 300, generator=draw) * torch.logspace(-3, 3, 64)[:, None]
    weight *= 10.0 ** (3 - seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        observer = PerChannelMinMaxObserver(
            ch_axis=0,
            dtype=torch.qint8,
            qscheme=torch.per_channel_symmetric,
            quant_min=-127,
            quant_max=127,
            eps=0.0,
        )
    observer(weight)
    scales, zero_points = observer.calculate_qparams()
    assert not zero_points.any()
    values, found = quantize_rows("int8", weight)
    assert torch.equal(found, scales)
    expected = torch.fake_quantize_per_channel_affine(
        weight, scales, zero_points.int(), 0, -127, 127
    )
    # It multiplies by the reciprocal of a scale, which rounds once more: beside a tie, the code
    # may be the one before or after.
    quotients = weight.double() / scales.double()[:, None]
    is_at_tie = (quotients - quotients.floor() - 0.5).abs() < 2.0**-20 * quotients.abs()
    assert torch.equal(values[~is_at_tie], expected[~is_at_tie])
    assert int(is_at_tie.sum()) < 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_torch_ao_may_divide_by_half_the_number_of_codes() -> None:
    """Its default, -128 to 127, gives amax / 127.5; ours never uses -128."""
    from torch.ao.quantization import PerChannelMinMaxObserver

    weight = torch.tensor([[1.0, -1.0], [0.5, 0.25]])
    observer = PerChannelMinMaxObserver(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
    observer(weight)
    assert torch.equal(observer.calculate_qparams()[0], torch.tensor([1.0, 0.5]) / 127.5)
    assert torch.equal(quantize_rows("int8", weight)[1], torch.tensor([1.0, 0.5]) / 127)
