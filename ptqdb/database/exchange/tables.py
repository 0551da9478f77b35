"""The tables of an exported study: what refers to what, and what has to agree in a merge."""

from dataclasses import dataclass

OF_WEIGHTS = 1e-6
"""Float sums of a weight follow from the checkpoint: so much of their size may differ. Between two
machines it was 3e-14."""
OF_RUNS = 1e-3
"""What a network computes: kernels add in an order of their own, which flips single codes. Between
two machines it was 1e-4 for the squared errors of biases, and 7e-6 for everything else."""


@dataclass(frozen=True)
class Reference:
    """Columns whose values are those of a table's columns.

    Attributes
    ----------
    is_optional
        Whether they may be NULL.
    """

    columns: tuple[str, ...]
    table: str
    targets: tuple[str, ...]
    is_optional: bool = False


@dataclass(frozen=True)
class Measured:
    """A float that may differ a little between two machines, by no more than a part of a size.

    Attributes
    ----------
    size
        SQL over the columns of the row (``f``: the file's) and of its float tensor (``x``).
        What cancels in a sum makes the sum smaller, and not its rounding.
    """

    column: str
    size: str


@dataclass(frozen=True)
class Table:
    """A base table as a merge sees it.

    Attributes
    ----------
    key
        What tells its rows apart, ids of other tables translated.
    row_id
        Column of the ids that a database gives; None for tables without.
    agreeing
        Columns in which a row that is there already has to be the same.
    agreeing_if_known
        The same, but where one side does not know (NULL) nothing contradicts.
    measured
        Columns in which it has to be nearly the same.
    owner
        Table whose new rows these rows come with, all or none.
    is_large
        Whether it has a row for each bin, code or channel: too many to hold twice.
    free_texts
        Columns that hold more than names, such as the words of an error.
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

    @property
    def unique(self) -> tuple[tuple[str, ...], ...]:
        """What no two rows of a file have in common."""
        return (self.key,) if self.row_id is None else ((self.row_id,), self.key)

    @property
    def required(self) -> tuple[Reference, ...]:
        """The references to look up: those that are part of another hold where that one does."""
        return tuple(
            one
            for one in self.references
            if not any(set(one.columns) < set(other.columns) for other in self.references)
        )


def _by_id(column: str, table: str, target: str | None = None, optional: bool = False) -> Reference:
    return Reference((column,), table, (target or column,), optional)


CELL = ("tensor_id", "number_format_id", "scheme_id")
_EVALUATION = ("network_id", "number_format_id", "scheme_id", "scope")
_LAYER_CELL = ("layer_id", "number_format_id", "scheme_id")
_NETWORK = _by_id("network_id", "network")
_LAYER = _by_id("layer_id", "layer")
_TENSOR = _by_id("tensor_id", "tensor")
_FORMAT = _by_id("number_format_id", "number_format")
_SCHEME = _by_id("scheme_id", "scheme")
_QUANTIZED = (Reference(CELL, "quantized_tensor", CELL), _TENSOR, _FORMAT, _SCHEME)
_RUN_COLUMNS = (
    *("version", "arguments", "device", "seed", "started_at", "ended_at"),
    *("cells", "outcome", "failures"),
)
# Not correct_top5: of equal outputs, machines take either for the likelier.
_AGREEING_COUNTS = (
    *("image_count", "correct_top1", "correct_both", "same_prediction"),
    *("non_finite_count", "cross_entropy_count", "kl_count"),
)
_MEASURED_SUMS = (
    Measured("cross_entropy_sum", "f.cross_entropy_sum"),
    Measured("kl_sum", "greatest(f.kl_sum, 1e-3 * f.image_count)"),
)
_LARGEST = "greatest(abs(f.min_value), abs(f.max_value))"

# In this order each table comes after those that it refers to.
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
        agreeing=("granularity", "symmetry", "range_rule", "quantized", "calibration"),
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
    # Which parts are counted, and what they are called, differs between versions of ptqdb.
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
        owner="network",
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
            # The squares of what rounding leaves of floats: no machine agrees on those.
            Measured("squared_error_sum", "greatest(f.squared_error_sum, 1e-7 * x.sum_x2)"),
            Measured("softmax_js_fakefreeze", "f.softmax_group_count"),
            Measured("softmax_js_l2", "f.softmax_group_count"),
        ),
    ),
    Table(
        "code_histogram",
        (*CELL, "code"),
        # The reference to the cell comes first: it needs the ids as they are in the file.
        _QUANTIZED,
        owner="quantized_tensor",
        is_large=True,
    ),
    Table(
        "quantized_tensor_channel",
        (*CELL, "channel"),
        _QUANTIZED,
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
    ),
    Table(
        "failed_layer_cell",
        _LAYER_CELL,
        (_LAYER, _FORMAT, _SCHEME),
        free_texts=("reason",),
    ),
    Table(
        "collection_run",
        _RUN_COLUMNS,
        row_id="run_id",
        free_texts=("arguments", "failures"),
    ),
)
TABLE_NAMES = tuple(table.name for table in TABLES)
