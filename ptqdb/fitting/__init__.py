"""Curves over views: fits, figures of networks left out, intervals, predictions."""
