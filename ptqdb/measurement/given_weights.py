"""The weights of a network as somebody else's method has quantized and dequantized them."""

import torch
from torch import Tensor, nn

from ptqdb.errors import DataError
from ptqdb.quantization.codes import CodedLayer, CodedTensor
from ptqdb.quantization.formats import OWN_VALUES
from ptqdb.quantization.group_scaling import Groups
from ptqdb.quantization.network import QuantizedNetwork, prepare
from ptqdb.quantization.schemes import Scheme


def given_weights(
    network: QuantizedNetwork, module: nn.Module, images: Tensor, scheme: Scheme
) -> dict[str, CodedLayer]:
    """Return weights and biases of another checkpoint for each quantized layer of a network.

    Batch norms are folded as in the network. Everything else must be as in the network, because
    the measured network computes it.

    Parameters
    ----------
    module
        The network with the other weights.
    images
        As for ``prepare``.
    scheme
        The name of the method.

    Raises
    ------
    DataError
        Parts other than convolutions and linear layers differ; the message names the first.
    """
    other = prepare(module, images)
    try:
        _refuse_other_parts(network, other, scheme.name)
        return {
            name: CodedLayer(
                OWN_VALUES,
                scheme,
                None,
                _coded(other.layers[name].weight),
                None if (bias := other.layers[name].bias) is None else _coded(bias.double()),
            )
            for name in network.layers
        }
    finally:
        other.release()


def _coded(values: Tensor) -> CodedTensor:
    return CodedTensor(values, values.new_ones(()), Groups(torch.empty(0), None))


def _refuse_other_parts(network: QuantizedNetwork, other: QuantizedNetwork, name: str) -> None:
    missing = next((each for each in network.layers if each not in other.layers), None)
    if missing is not None:
        raise DataError(f"expected the layer {missing} in {name}, found it cannot be quantized")
    folded = set(network.folding.folded)
    differing = folded.symmetric_difference(other.folding.folded)
    if differing:
        raise DataError(
            f"expected {name} to fold the same batch norms, found another effect of "
            f"{min(differing)}"
        )
    layers = tuple(f"{each}." for each in network.layers)
    expected = network.module.state_dict()
    for key, values in other.module.state_dict().items():
        is_folded = key.rpartition(".")[0] in folded  # into the weights that are read
        if is_folded or key.startswith(layers) or key.endswith("num_batches_tracked"):
            continue
        if key not in expected or not torch.equal(values, expected[key]):
            raise DataError(
                f"expected {name} to differ in the weights and biases of convolutions and linear "
                f"layers alone, found another {key}"
            )
