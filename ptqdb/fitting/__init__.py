"""Curves over views: fits, cross-validation, prediction intervals and predictions."""
