"""Networks of every style: found, loaded, described, trained."""
