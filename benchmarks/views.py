"""Times the views and the materialization on a synthetic study of nine networks."""

import argparse
import sys
import time
from pathlib import Path

import duckdb

from ptqdb.database import connect, materialize, query, read_view, variant_names
from ptqdb.quantization.number_formats import STUDY_GRID

DEPTHS = (8, 8, 16, 19, 70, 53, 21, 54, 156)
WEIGHTS, BIASES = 1_000_000, 256


def fill(connection: duckdb.DuckDBPyConnection) -> None:
    """Write facts whose row counts are those of a study; the numbers are made up."""
    run = connection.execute
    run("insert into dataset by name select 1 as dataset_id, 'd' as name, 't' as split, "
        "10 as class_count, 1000 as image_count, 'x' as content_sha256")  # fmt: skip
    run("insert into scheme by name select 1 as scheme_id, 's' as name, 't' as granularity, "
        "'s' as symmetry, 'max' as range_rule, 'w' as quantized, 'n' as calibration")  # fmt: skip
    for place, known in enumerate(STUDY_GRID, start=1):
        run("insert into number_format values (?, ?, ?, ?, ?, ?, ?, ?, true)",
            [place, known.name, known.family, known.bits, known.ebits, known.mbits,
             known.max_code, known.code_count])  # fmt: skip
    for number, depth in enumerate(DEPTHS, start=1):
        run("insert into network by name select ? as network_id, ? as name, 'a' as architecture, "
            "'c' as checkpoint_sha256, 1 as dataset_id, ? as quantized_layer_count, "
            "? as params, ? as macs",
            [number, f"N{number}", depth, depth * (WEIGHTS + BIASES), depth * 10**7])  # fmt: skip
    run("insert into layer select row_number() over (order by network_id, i), network_id, i, "
        "'l' || i, 'Conv2d', $1, 10000000 from network, "
        "lateral (select unnest(range(quantized_layer_count)) as i)",
        [WEIGHTS + BIASES])  # fmt: skip
    run("insert into tensor select row_number() over (order by layer_id, role desc), layer_id, "
        "role, n, -1, 1, 0, n / 4, n / 10, 0, n / 40 from layer, "
        "(values ('weight', $1), ('bias', $2)) as r(role, n)", [WEIGHTS, BIASES])  # fmt: skip
    # Counts that add up: a triangle of bins, the rest at zero.
    run(
        "insert into tensor_histogram select tensor_id, b, case when b = 0 then "
        "element_count - (select count(*) from range(-1000, 1001) x(i) "
        "where i != 0 and (role = 'weight' or i % 16 = 0)) else 1 end "
        "from tensor, range(-1000, 1001) as x(b) where b = 0 or role = 'weight' or b % 16 = 0"
    )
    run(
        "insert into quantized_tensor select tensor_id, number_format_id, 1, 1 / max_code, 0, 0, "
        "element_count / 10 * max_code ** 2, element_count / 10 * max_code, "
        "element_count / 1e3 / 2 ** bits, 1, 1, 1 from tensor, number_format"
    )
    run(
        "insert into code_histogram select tensor_id, number_format_id, 1, "
        "k * max_code / half, case when k = 0 then element_count - 2 * half else 1 end "
        "from tensor, (select *, least(2047, (code_count - 1) / 2)::integer as of_format "
        "from number_format), lateral (select case when role = 'bias' then least(of_format, 120) "
        "else of_format end as half), lateral (select unnest(range(-half, half + 1)) as k) "
        "order by tensor_id, number_format_id"
    )
    run(
        "insert into evaluation select network_id, null, null, 'none', 'f', 1000, 900, 990, 900, "
        "1000, 0, 0 from network union all select network_id, number_format_id, 1, scope, 'f', "
        "1000, 880 - 1000 // bits, 990, 870 - 1000 // bits, 900, 0, 0 from network, "
        "number_format, (values ('all'), ('weight'), ('bias')) as s(scope)"
    )


def report(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fill, materialize, read every view; print the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="the database to create")
    path = parser.parse_args().path
    if path.exists():
        sys.exit(f"{path} exists: name a new file")
    started = time.perf_counter()
    connection = connect(path, read_only=False)
    report(f"create {time.perf_counter() - started:.2f}")
    connection.execute("set threads = 2")
    fill(connection)
    connection.execute("checkpoint")
    count = query(connection, "select count(*) from code_histogram").item()
    report(f"{count} rows of codes")
    started = time.perf_counter()
    rows = materialize(connection)
    report(f"materialize {time.perf_counter() - started:.2f} for {rows} rows")
    connection.execute("checkpoint")
    connection.close()
    started = time.perf_counter()
    connection = connect(path, read_only=True)
    report(f"open {time.perf_counter() - started:.3f}")
    connection.execute("set threads = 2")
    for view in ("fakefreeze_flops_log", "l2_flops", "fakefreeze_flops_depth",
                 "fakefreeze_flops_cosine", "fakefreeze_flops_sensitivity",
                 "fakefreeze_flops_log_segmented", "variant(measure := 'nsr')",
                 "variant(bins := 273)", "layer_divergence", "tensor_shape",
                 "pot_crowding", "format_frontier"):  # fmt: skip
        started = time.perf_counter()
        count = len(read_view(connection, view))
        report(f"{view} {time.perf_counter() - started:.3f} for {count} rows")
    seconds = {}
    for view in variant_names(connection):
        started = time.perf_counter()
        read_view(connection, view)
        seconds[view] = time.perf_counter() - started
    slowest = max(seconds, key=lambda view: seconds[view])
    report(f"slowest of {len(seconds)} named views: {slowest} {seconds[slowest]:.3f}")


if __name__ == "__main__":
    main()
