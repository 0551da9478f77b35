"""Quantizes networks in every format and writes what was measured, uninterpreted, to a database."""
