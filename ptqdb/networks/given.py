"""Checks that a given module is a float network in Python."""

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ptqdb.errors import DataError

_QUANTIZED_CLASSES = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "bitsandbytes")
"""Modules that define quantized layers."""


def float_network(module: nn.Module) -> nn.Module:
    """Return the Python network behind a module, with compiled parts unwrapped.

    Parameters
    ----------
    module
        Compiled parts are unwrapped in place: pass a copy.

    Raises
    ------
    DataError
        It is a TorchScript module, or already quantized; the message says where.
    """
    module = _uncompiled(module)
    for name, part in list(module.named_modules(remove_duplicate=False)):
        plain = _uncompiled(part)
        if plain is not part:
            module.set_submodule(name, plain)
    if isinstance(module, torch.jit.ScriptModule):
        raise DataError(
            "expected a network in Python, found a TorchScript module, whose layers are compiled "
            "code; give the network that was scripted or traced"
        )
    found = next(filter(None, (_quantized(*named) for named in module.named_modules())), None)
    if found is not None:
        raise DataError(
            f"expected a float network, found one that is already quantized: {found}; give the "
            "network before quantization"
        )
    return module


def _uncompiled(module: nn.Module) -> nn.Module:
    """Unwrap ``torch.compile``."""
    while type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules:
        inner = module._modules["_orig_mod"]
        assert inner is not None
        module = inner
    return module


def _quantized(name: str, part: nn.Module) -> str | None:
    """Describe where a module is quantized or simulates quantization; None if it does not."""
    kind = type(part)
    where = f"{name or 'the network'} is a {kind.__name__}"
    if kind.__module__.startswith(_QUANTIZED_CLASSES):
        return f"{where} of {kind.__module__.partition('.modules')[0]}"
    if any(base.__name__ == "FakeQuantizeBase" for base in kind.__mro__):
        return f"{where}, which simulates it"
    is_layer = isinstance(part, _ConvNd | nn.Linear)
    for own, tensor in (*part._parameters.items(), *part._buffers.items()):
        if tensor is None:
            continue
        place = f"{name}.{own}" if name else own
        if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:  # not plain numbers
            return f"{place} is a {type(tensor).__name__}"
        if tensor.is_quantized or (is_layer and own == "weight" and _is_integer(tensor)):
            return f"{place} is of {str(tensor.dtype).removeprefix('torch.')}"
    return None


def _is_integer(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex()
