"""The tables of an exported study: their references, and what must agree in a merge."""

from dataclasses import dataclass

OF_WEIGHTS = 1e-6
"""Relative tolerance for float sums of weights, which the checkpoint determines. Between two
machines they differed by 3e-14."""
OF_RUNS = 1e-3
"""Relative tolerance for computed values: the summation order of kernels flips single codes.
Between two machines, squared errors of biases differed by 1e-4, everything else by 7e-6."""


@dataclass(frozen=True)
class Reference:
    """Columns that refer to columns of another table.

    Attributes
    ----------
    is_optional
        Whether they may be NULL.
    other_table
        A table that they may refer to instead, in columns of the same names.
    """

    columns: tuple[str, ...]
    table: str
    targets: tuple[str, ...]
    is_optional: bool = False
    other_table: str | None = None


@dataclass(frozen=True)
class Measured:
    """A float that may differ between two machines, by at most a fraction of a size.

    Attributes
    ----------
    size
        SQL on the columns of the row (``f``, from the file) and of its float tensor (``x``).
        Cancellation reduces a sum, but not its rounding error.
    """

    column: str
    size: str


@dataclass(frozen=True)
class Table:
    """A base table and how to merge it.

    Attributes
    ----------
    key
        Columns that identify its rows, with translated ids.
    row_id
        Column of the ids assigned by the database; None for tables without ids.
    agreeing
        Columns that must be equal in an existing row.
    agreeing_if_known
        The same, but NULL (unknown) agrees with any value.
    measured
        Columns that must be nearly equal.
    owner
        Table whose new rows decide whether these rows are inserted.
    is_large
        Whether it has one row per bin, code or channel: too many to hold twice.
    free_texts
        Columns with free text, such as error messages.
    bits
        Columns with one bit per evaluated image. Rows with such columns may have fewer images than
        the same row elsewhere, the first ones: then their first bits must agree, and the row with
        more images is kept.
    is_optional
        Whether an export may lack the file, as one of an older version does: then there are no
        rows.
    optional_columns
        Columns that an export may lack, as one of an older version does: then they are NULL.
    omits_empty
        Whether an export leaves out an optional file without rows, and optional columns without
        values: those that only schemes other than the study's fill.
    """

    name: str
    key: tuple[str, ...]
    references: tuple[Reference, ...] = ()
    row_id: str | None = None
    agreeing: tuple[str, ...] = ()
    agreeing_if_known: tuple[str, ...] = ()
    measured: tuple[Measured, ...] = ()
    owner: str | None = None
    is_large: bool = False
    free_texts: tuple[str, ...] = ()
    bits: tuple[str, ...] = ()
    is_optional: bool = False
    optional_columns: tuple[str, ...] = ()
    omits_empty: bool = False

    @property
    def unique(self) -> tuple[tuple[str, ...], ...]:
        """The keys that are unique within a file."""
        return (self.key,) if self.row_id is None else ((self.row_id,), self.key)

    @property
    def required(self) -> tuple[Reference, ...]:
        """The references to check, without those implied by another."""
        return tuple(
            one
            for one in self.references
            if not any(set(one.columns) < set(other.columns) for other in self.references)
        )


def _by_id(column: str, table: str, target: str | None = None, optional: bool = False) -> Reference:
    return Reference((column,), table, (target or column,), optional)


CELL = ("tensor_id", "number_format_id", "scheme_id")
CELL_TABLES = ("quantized_tensor", "dequantized_tensor")
"""One row per quantized tensor: under the study's scheme, and under the others."""
_EVALUATION = ("network_id", "number_format_id", "scheme_id", "scope")
_LAYER_CELL = ("layer_id", "number_format_id", "scheme_id")
_NETWORK = _by_id("network_id", "network")
_LAYER = _by_id("layer_id", "layer")
_TENSOR = _by_id("tensor_id", "tensor")
_FORMAT = _by_id("number_format_id", "number_format")
_SCHEME = _by_id("scheme_id", "scheme")
# The reference to the cell comes first: it needs the ids of the file.
_CODES = (Reference(CELL, "quantized_tensor", CELL), _TENSOR, _FORMAT, _SCHEME)
_VALUES = (Reference(CELL, "dequantized_tensor", CELL), _TENSOR, _FORMAT, _SCHEME)
_EITHER = (
    Reference(CELL, "quantized_tensor", CELL, other_table="dequantized_tensor"),
    *(_TENSOR, _FORMAT, _SCHEME),
)
_RUN_COLUMNS = (
    *("version", "arguments", "device", "seed", "started_at", "ended_at"),
    *("cells", "outcome", "failures"),
)
# Not correct_top5: machines rank equal outputs differently.
_AGREEING_COUNTS = (
    *("correct_top1", "correct_both", "same_prediction"),
    *("non_finite_count", "cross_entropy_count", "kl_count"),
)
_MEASURED_SUMS = (
    Measured("cross_entropy_sum", "f.cross_entropy_sum"),
    Measured("kl_sum", "greatest(f.kl_sum, 1e-3 * f.image_count)"),
)
_BITS = ("correct_images", "same_images")
# NULL in the study's scheme.
_SCHEME_DETAILS = (
    *("input_granularity", "input_symmetry", "block_size", "block_order"),
    *("scale_format", "bias", "source_sha256"),
)
_LARGEST = "greatest(abs(f.min_value), abs(f.max_value))"

# In this order, each table follows the tables that it refers to.
TABLES = (
    Table(
        "dataset",
        ("content_sha256",),
        row_id="dataset_id",
        agreeing=("name", "split", "class_count", "image_count"),
    ),
    Table(
        "number_format",
        ("name",),
        row_id="number_format_id",
        agreeing=("family", "bits", "ebits", "mbits", "max_code", "code_count", "in_study_grid"),
    ),
    Table("number_format_code", ("number_format_id", "code_index"), (_FORMAT,), agreeing=("code",)),
    Table(
        "scheme",
        ("name",),
        row_id="scheme_id",
        agreeing=(
            *("granularity", "symmetry", "range_rule", "quantized", "calibration"),
            *_SCHEME_DETAILS,
        ),
        optional_columns=_SCHEME_DETAILS,
        omits_empty=True,
    ),
    Table(
        "network",
        ("name",),
        (
            _by_id("dataset_id", "dataset"),
            _by_id("calibration_dataset_id", "dataset", "dataset_id", optional=True),
        ),
        row_id="network_id",
        agreeing=(
            "architecture",
            "checkpoint_sha256",
            "dataset_id",
            "calibration_dataset_id",
            "quantized_layer_count",
            "params",
            "macs",
            "unfolded_batch_norm_count",
        ),
        agreeing_if_known=("preprocessing",),
    ),
    # The counted parts and their names differ between versions of ptqdb.
    Table(
        "unquantized_part",
        ("network_id", "name"),
        (_NETWORK,),
        owner="network",
    ),
    Table(
        "layer",
        ("network_id", "position"),
        (_NETWORK,),
        row_id="layer_id",
        agreeing=("name", "kind", "params", "macs"),
        agreeing_if_known=("is_folded",),
        owner="network",
        optional_columns=("is_folded",),
    ),
    Table(
        "tensor",
        ("layer_id", "role"),
        (_LAYER,),
        row_id="tensor_id",
        agreeing=("element_count",),
        measured=(
            Measured("min_value", _LARGEST),
            Measured("max_value", _LARGEST),
            Measured("sum_x", "f.sum_abs"),
            Measured("sum_abs", "f.sum_abs"),
            Measured("sum_x2", "f.sum_x2"),
            Measured("sum_x3", f"{_LARGEST} * f.sum_x2"),
            Measured("sum_x4", "f.sum_x4"),
        ),
        owner="layer",
    ),
    Table(
        "quantized_checkpoint",
        ("network_id", "scheme_id"),
        (_NETWORK, _SCHEME),
        agreeing=("checkpoint_sha256",),
        is_optional=True,
        omits_empty=True,
    ),
    Table(
        "tensor_channel",
        ("tensor_id", "channel"),
        (_TENSOR,),
        measured=(
            Measured("min_value", _LARGEST),
            Measured("max_value", _LARGEST),
            Measured("sum_x2", "f.sum_x2"),
        ),
        owner="tensor",
        is_large=True,
    ),
    Table("tensor_histogram", ("tensor_id", "bin"), (_TENSOR,), owner="tensor", is_large=True),
    Table(
        "quantized_tensor",
        CELL,
        (_TENSOR, _FORMAT, _SCHEME),
        measured=(
            Measured("scale", "f.scale"),
            Measured("clipped_count", "x.element_count"),
            Measured("sum_codes", "sqrt(x.element_count * f.sum_codes2)"),
            Measured("sum_codes2", "f.sum_codes2"),
            Measured("sum_code_x", "sqrt(f.sum_codes2 * x.sum_x2)"),
            # Squares of rounding residuals differ between machines.
            Measured("squared_error_sum", "greatest(f.squared_error_sum, 1e-7 * x.sum_x2)"),
            Measured("softmax_js_fakefreeze", "f.softmax_group_count"),
            Measured("softmax_js_l2", "f.softmax_group_count"),
        ),
    ),
    Table(
        "code_histogram",
        (*CELL, "code"),
        _CODES,
        owner="quantized_tensor",
        is_large=True,
    ),
    Table(
        "dequantized_tensor",
        CELL,
        (_TENSOR, _FORMAT, _SCHEME),
        agreeing=("scale_count", "storage_bits"),
        measured=(
            Measured("min_scale", "f.max_scale"),
            Measured("max_scale", "f.max_scale"),
            Measured("clipped_count", "x.element_count"),
            Measured("sum_y", "sqrt(x.element_count * f.sum_y2)"),
            Measured("sum_y2", "f.sum_y2"),
            Measured("sum_xy", "sqrt(f.sum_y2 * x.sum_x2)"),
            # Squares of rounding residuals differ between machines.
            Measured("squared_error_sum", "greatest(f.squared_error_sum, 1e-7 * x.sum_x2)"),
            Measured("softmax_js_fakefreeze", "f.softmax_group_count"),
            Measured("softmax_js_l2", "f.softmax_group_count"),
        ),
        is_optional=True,
        omits_empty=True,
    ),
    Table(
        "dequantized_histogram",
        (*CELL, "bin"),
        _VALUES,
        owner="dequantized_tensor",
        is_large=True,
        is_optional=True,
        omits_empty=True,
    ),
    Table(
        "quantized_tensor_channel",
        (*CELL, "channel"),
        _EITHER,
        measured=(Measured("squared_error_sum", "greatest(f.squared_error_sum, 1e-7 * x.sum_x2)"),),
        is_large=True,
    ),
    Table(
        "evaluation",
        _EVALUATION,
        (
            _NETWORK,
            _by_id("number_format_id", "number_format", optional=True),
            _by_id("scheme_id", "scheme", optional=True),
        ),
        agreeing=_AGREEING_COUNTS,
        measured=_MEASURED_SUMS,
        bits=_BITS,
    ),
    Table(
        "failed_cell",
        _EVALUATION,
        (_NETWORK, _FORMAT, _SCHEME),
        free_texts=("reason",),
    ),
    Table(
        "layer_evaluation",
        _LAYER_CELL,
        (_LAYER, _FORMAT, _SCHEME),
        agreeing=_AGREEING_COUNTS,
        measured=_MEASURED_SUMS,
        bits=_BITS,
    ),
    Table(
        "failed_layer_cell",
        _LAYER_CELL,
        (_LAYER, _FORMAT, _SCHEME),
        free_texts=("reason",),
    ),
    Table(
        "layer_sensitivity",
        ("layer_id",),
        (_LAYER,),
        agreeing=("image_count", "element_count"),
        measured=(
            Measured("margin_square_sum", "f.margin_square_sum"),
            Measured("gradient_square_sum", "f.gradient_square_sum"),
            Measured("output_square_sum", "f.output_square_sum"),
        ),
        is_optional=True,
    ),
    Table(
        "probe",
        ("network_id", "number_format_id", "scheme_id"),
        (_NETWORK, _FORMAT, _SCHEME),
        agreeing=("same_prediction", "non_finite_count", "kl_count", "logit_count"),
        measured=(
            Measured("float_probability_sum", "f.float_probability_sum"),
            Measured("chosen_probability_sum", "f.float_probability_sum"),
            Measured("kl_sum", "greatest(f.kl_sum, 1e-3 * f.image_count)"),
            # Squares of rounding residuals differ between machines.
            Measured(
                "logit_squared_error_sum",
                "greatest(f.logit_squared_error_sum, 1e-7 * f.float_logit_variance_sum)",
            ),
            Measured("float_logit_variance_sum", "f.float_logit_variance_sum"),
        ),
        bits=("same_images",),
        is_optional=True,
    ),
    Table(
        "collection_run",
        _RUN_COLUMNS,
        row_id="run_id",
        free_texts=("arguments", "failures"),
    ),
)
TABLE_NAMES = tuple(table.name for table in TABLES)
