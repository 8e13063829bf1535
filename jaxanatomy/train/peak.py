"""What one device can do at most: the measure that model FLOPs utilisation (MFU) is of."""

import re

# Dense bfloat16 products, FLOP/s of one device, as the makers publish them (half of NVIDIA's
# figures "with sparsity"), by words of the device's kind. The first line that fits counts.
PEAKS: dict[tuple[str, ...], float] = {
    ("TPU", "v4", "lite"): 138e12,
    ("TPU", "v4"): 275e12,
    ("TPU", "v5", "lite"): 197e12,
    ("TPU", "v5e"): 197e12,
    ("TPU", "v5"): 459e12,
    ("TPU", "v5p"): 459e12,
    ("TPU", "v6", "lite"): 918e12,
    ("TPU", "v6e"): 918e12,
    ("A100",): 312e12,
    ("H100", "PCIe"): 756e12,
    ("H100", "NVL"): 835e12,
    ("H100",): 989e12,
    ("GH200",): 989e12,
    ("H200", "NVL"): 835e12,
    ("H200",): 989e12,
    ("B200",): 2250e12,
    ("L4",): 121e12,
    ("L40S",): 362e12,
}


def peak_flops(kind: str) -> float | None:
    """The published peak of a kind of device, FLOP/s; None where it is not known.

    Args:
      kind: `jax.Device.device_kind`, such as "NVIDIA H100 80GB HBM3" or "TPU v5 lite".
    """
    words = set(re.split(r"[\s-]+", kind))
    if "MIG" in words:  # a part of a device
        return None
    return next((peak for names, peak in PEAKS.items() if words.issuperset(names)), None)
