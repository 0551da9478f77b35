"""``ptqdb formats``: list number formats, and schemes for them."""

from typing import TYPE_CHECKING, Annotated

import typer

from ptqdb.cli import completion
from ptqdb.cli.options import Format as OutputOption
from ptqdb.cli.output import OutputFormat, print_rows, say

if TYPE_CHECKING:
    from ptqdb.quantization.formats import Format

TABLE_COLUMNS = (
    *("format", "bits_per_weight", "number_format", "codes", "largest_code"),
    *("weights", "inputs", "scale", "computes_in"),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: `ptqdb formats 'mx*,nvfp4'`; `ptqdb formats INT_6@channel,range=mse`; "
        "`ptqdb formats deployed --format json`"
    )(formats)


def formats(
    patterns: Annotated[
        str,
        typer.Argument(
            help="As for --number-formats.",
            show_default="study,deployed",
            autocompletion=completion.number_formats,
        ),
    ] = "study,deployed",
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the formats that --number-formats takes.

    A format is a number format (its codes) under a scheme (which values share a scale, how it is
    found and stored). bits_per_weight counts codes, and scales that blocks of weights share.
    """
    from ptqdb.quantization.formats import match_formats

    rows = [_row(known) for known in match_formats(patterns)]
    is_wide = output not in (OutputFormat.TABLE, OutputFormat.MARKDOWN)
    print_rows(list(rows[0]) if is_wide else TABLE_COLUMNS, rows, output)
    if not is_wide:
        say(
            "any pair is a format, too: INT_6@channel, FLOAT_6_E3@block32,scale=E8M0; so is "
            "file.py:function, from a tensor to the dequantized tensor"
        )


def _row(known: "Format") -> dict[str, object]:
    codes, scheme = known.number_format, known.scheme
    is_own = known.own is not None
    return {
        "format": known.name,
        "bits_per_weight": known.bits_per_weight,
        "number_format": codes.name,
        "family": codes.family,
        "bits": codes.bits,
        "codes": None if is_own else known.code_count,
        "largest_code": None if is_own else codes.max_code,
        "scheme": scheme.name,
        "weights": _sharing(scheme.granularity, scheme.block_size, scheme.symmetry),
        "inputs": _sharing(scheme.input_granularity, scheme.block_size, scheme.input_symmetry),
        "scale": scheme.scale_format,
        "range": scheme.range_rule,
        "bias": scheme.bias,
        "computes_in": known.computes_in,
    }


def _sharing(granularity: str, block_size: int | None, symmetry: str) -> str:
    """Which values share a scale, such as ``block 32`` or ``tensor, zero point``."""
    shared = f"block {block_size}" if granularity == "block" else granularity
    return f"{shared}, zero point" if symmetry == "zero_point" else shared
