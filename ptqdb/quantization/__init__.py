"""How a tensor becomes codes and scales, and a network its quantized twin."""
