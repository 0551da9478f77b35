"""Lists the parts that a quantized network still computes in float, with params and MACs."""

from collections import Counter
from collections.abc import Sequence

from torch import nn

from ptqdb.measurement.facts import UnquantizedPart
from ptqdb.measurement.macs import Work, total
from ptqdb.quantization.layers import QUANTIZED_KINDS
from ptqdb.quantization.network import QuantizedNetwork

UNFOLDED = "batch norm that cannot be folded"
MOSTLY = 0.5
"""With this fraction of its params in float, a network is hardly quantized."""
ROOT = "network"
"""Name of the network itself, for multiplications outside of its modules."""


def unquantized_parts(network: QuantizedNetwork, work: Work) -> tuple[UnquantizedPart, ...]:
    """Return everything with params that is not quantized, and products outside of layers.

    A module without submodules is one part; others have one part per parameter. Products of
    activations are parts without params, as are batch norms without params.

    Parameters
    ----------
    work
        The work of the quantized network's module.
    """
    modules = dict(network.module.named_modules())
    quantized = {
        identity
        for layer in network.layers.values()
        for role, given in layer.given.items()
        for identity in (given, id(layer.layer._parameters.get(role)))
    }
    parts: dict[str, UnquantizedPart] = {}
    owned: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for name, parameter in network.module.named_parameters():
        owner = name.rpartition(".")[0]
        if id(parameter) not in quantized and owner not in network.folding.folded:
            is_whole = owner and not any(modules[owner].children()) and owner not in network.layers
            part = owner if is_whole else name
            owned.setdefault(part, []).append(name)
            sizes[part] = sizes.get(part, 0) + parameter.numel()
    for name, parameters in owned.items():
        macs = total(
            count
            for (module, parameter), count in work.macs.items()
            if parameter in parameters or (module == name and not parameter)
        )
        kind = type(modules[name]).__name__ if name in modules else "Parameter"
        reason = _reason(network, work, name, parameters, macs)
        parts[name] = UnquantizedPart(name, kind, sizes[name], macs, reason)
    for name in network.folding.unfolded:
        if name not in parts and not list(modules[name].parameters(recurse=False)):
            kind = type(modules[name]).__name__
            parts[name] = UnquantizedPart(name, kind, 0, 0, UNFOLDED)
    named = {parameter for parameters in owned.values() for parameter in parameters}
    return *parts.values(), *_products(network, modules, work, parts, named)


def _reason(
    network: QuantizedNetwork, work: Work, name: str, parameters: list[str], macs: int | None
) -> str:
    """Why a part with params stays in float."""
    modules = dict(network.module.named_modules())
    part = modules.get(name)
    if name in network.left:
        return network.left[name]
    if not work.read.intersection(parameters):
        return "never runs" if name not in work.run else "its params are never read"
    if name in network.folding.unfolded:
        return UNFOLDED
    if isinstance(part, QUANTIZED_KINDS):
        computed = "weight" not in part._parameters
        return (
            "its weight is recomputed at each pass"
            if computed
            else "its weight is read by a function"
        )
    if macs is None:
        return "not a convolution or linear layer; its multiplications are not counted"
    if macs > 0:
        return "multiplied by a function, not by a layer"
    return "not a convolution or linear layer"


def _products(
    network: QuantizedNetwork,
    modules: dict[str, nn.Module],
    work: Work,
    parts: dict[str, UnquantizedPart],
    named: set[str],
) -> list[UnquantizedPart]:
    """Products of activations with each other, and of layers' weights outside of the layers."""
    found: dict[str, list[int | None]] = {}
    lends: set[str] = set()
    for (module, parameter), macs in work.macs.items():
        is_counted = parameter in named or (module in parts and not parameter)
        if module not in network.layers and not is_counted:
            found.setdefault(module, []).append(macs)
            if parameter:
                lends.add(module)
    reasons = {True: "reads the weight of a layer in a function", False: "multiplies activations"}
    return [
        UnquantizedPart(
            name or (ROOT if ROOT not in modules else f"({ROOT})"),
            type(modules[name]).__name__,
            0,
            total(iter(counts)),
            reasons[name in lends],
        )
        for name, counts in found.items()
    ]


def unquantized_statement(
    parts: Sequence[UnquantizedPart], layer_params: int, layer_macs: int
) -> str:
    """Return one line on the fraction of params and MACs that stays in float, or an empty string.

    A warning if that is most of the params: the facts then say little about the network.

    Parameters
    ----------
    layer_params, layer_macs
        Of the quantized layers.
    """
    if not parts:
        return ""
    params, macs = sum(part.params for part in parts), total(part.macs for part in parts)
    of_macs = "MACs that are not all counted"
    if macs is not None:
        of_macs = f"{_percent(macs, layer_macs)} of the MACs"
    kinds = Counter(part.kind for part in parts).most_common()
    listed = ", ".join(kind if count == 1 else f"{kind} x{count}" for kind, count in kinds)
    stays = f"{_percent(params, layer_params)} of the params, {of_macs} ({listed})"
    if is_mostly_float(parts, layer_params):
        return f"warning: most of this network stays in float: {stays}"
    return f"not quantized: {stays}"


def is_mostly_float(parts: Sequence[UnquantizedPart], layer_params: int) -> bool:
    """Whether more params stay in float than are quantized."""
    params = sum(part.params for part in parts)
    return params > MOSTLY * (params + layer_params)


def _percent(part: int, rest: int) -> str:
    share = 100 * part / (part + rest)
    return f"{share:.2g} %" if 0 < share < 99.5 else f"{share:.0f} %"
