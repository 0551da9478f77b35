"""Helpers that any package may use; they do not depend on networks or studies."""
