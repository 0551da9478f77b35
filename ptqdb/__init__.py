"""ptqdb."""
