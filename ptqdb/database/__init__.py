"""Opens the database, writes facts and reads views."""

from ptqdb.database.file_errors import file_errors
from ptqdb.database.files import IN_MEMORY
from ptqdb.database.frames import Form
from ptqdb.database.opening import confine, connect, connect_reader
from ptqdb.database.reading import (
    list_views,
    measures_sensitivity,
    query,
    read_every_block,
    read_rows,
    read_view,
    variant_names,
    view_names,
)
from ptqdb.database.snapshots import Snapshot, SnapshotPublisher
from ptqdb.database.variants import (
    layer_call,
    looks_at_losses,
    needs_evaluations,
    uses_probe,
    uses_weights_alone,
    with_scheme,
    with_scope,
)
from ptqdb.database.writing import (
    checkpoint,
    forget_fits,
    insert,
    interruptible,
    materialize,
    next_id,
    transaction,
)

__all__ = [
    "IN_MEMORY",
    "Form",
    "Snapshot",
    "SnapshotPublisher",
    "checkpoint",
    "confine",
    "connect",
    "connect_reader",
    "file_errors",
    "forget_fits",
    "insert",
    "interruptible",
    "layer_call",
    "list_views",
    "looks_at_losses",
    "materialize",
    "measures_sensitivity",
    "needs_evaluations",
    "next_id",
    "query",
    "read_every_block",
    "read_rows",
    "read_view",
    "transaction",
    "uses_probe",
    "uses_weights_alone",
    "variant_names",
    "view_names",
    "with_scheme",
    "with_scope",
]
