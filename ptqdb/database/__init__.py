"""Opens the database, writes facts into it and reads views from it."""

from ptqdb.database.frames import Form
from ptqdb.database.opening import IN_MEMORY, confine, connect
from ptqdb.database.reading import (
    list_views,
    measures_sensitivity,
    networks_without_channels,
    query,
    read_view,
    variant_names,
    view_names,
)
from ptqdb.database.variants import (
    layer_call,
    looks_at_losses,
    needs_evaluations,
    uses_weights_alone,
)
from ptqdb.database.writing import (
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
    "confine",
    "connect",
    "forget_fits",
    "insert",
    "interruptible",
    "layer_call",
    "list_views",
    "looks_at_losses",
    "materialize",
    "measures_sensitivity",
    "needs_evaluations",
    "networks_without_channels",
    "next_id",
    "query",
    "read_view",
    "transaction",
    "uses_weights_alone",
    "variant_names",
    "view_names",
]
