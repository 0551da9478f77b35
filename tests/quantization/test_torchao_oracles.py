"""The deployed formats, to the bit, against `torchao`; its import takes seconds, so in one file."""

import warnings

import numpy as np
import torch
from oracles import round_to_codes

from ptqdb.quantization.number_formats import number_format

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of optional parts that are missing, and of old interfaces
    from torchao.quantization.quantize_.workflows.nf4 import nf4_tensor

NF_4 = number_format("NF_4")


def test_normal_float_rounds_like_torchao() -> None:
    """Whose search for the nearest of any table takes the smaller of two equally near."""
    codes = torch.from_numpy(NF_4.codes()).float()
    middle = (codes[:-1] + codes[1:]) / 2
    generator = torch.Generator().manual_seed(0)
    parts = [codes, middle, torch.rand(5000, generator=generator) * 2 - 1]
    parts += [middle.nextafter(torch.tensor(side)) for side in (-1.0, 1.0)]
    parts += [torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1.2e-38])]
    values = torch.cat(parts)
    expected = codes[nf4_tensor.NF4Tensor.quantize_tensor_nearest(values, codes)]
    assert torch.equal(round_to_codes(values, NF_4), expected)


def test_table_of_torchao_is_ours_to_four_digits() -> None:
    """It is written with four: a dequantized value differs in the fifth."""
    theirs = nf4_tensor.to_nf4(torch.linspace(-1, 1, 64 * 256)).nf4
    np.testing.assert_array_equal(theirs.numpy(), NF_4.codes().round(4).astype(np.float32))
    assert not torch.equal(theirs, torch.tensor(NF_4.codes()).float())
