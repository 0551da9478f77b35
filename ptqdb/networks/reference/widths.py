"""How a width factor scales a channel count."""


def scale_width(channel_count: int, width: float) -> int:
    """The channel count times the width, rounded, at least 1.

    >>> scale_width(256, 0.1875), scale_width(16, 0.01)
    (48, 1)
    """
    return max(1, round(channel_count * width))
