"""Logits of tests/test_i3d.c's narrow network, by PyTorch in f64: prints golden/i3d.inc.

    SID2_WRITE=/tmp/narrow.safetensors SID2_WIDTH=16 build/tests/test_i3d
    python3 tests/golden/i3d.py /tmp/narrow.safetensors >tests/golden/i3d.inc
"""
import sys

import numpy as np
import torch
from torch.nn import functional as F

from inception import load

FRAMES, SIDE, SMALL = 9, 224, 24
MIXED = {"3": "bc", "4": "bcdef", "5": "bc"}


def same(x, window, stride, value):
    """TensorFlow's padding: as many steps as fit, the odd one at the end."""
    pads = []
    for size, k, s in list(zip(x.shape[2:], window, stride))[::-1]:
        whole = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [whole // 2, whole - whole // 2]
    return F.pad(x, pads, value=value)


class Network:
    def __init__(self, tensors):
        self.tensors = {name: t.permute(0, 4, 1, 2, 3) if t.ndim == 5 else t for name, t in tensors.items()}

    def conv(self, name, x, stride=(1, 1, 1), rectify=True):
        w = self.tensors[name + ".weight"]
        y = F.conv3d(same(x, w.shape[2:], stride, 0.0), w, self.tensors[name + ".bias"], stride)
        return F.relu(y) if rectify else y

    def pool(self, x, window, stride):
        return F.max_pool3d(same(x, window, stride, -np.inf), window, stride)

    def mixed(self, name, x):
        def conv(part, y):
            return self.conv(name + "." + part, y)

        return torch.cat([
            conv("Branch_0/Conv3d_0a_1x1", x),
            conv("Branch_1/Conv3d_0b_3x3", conv("Branch_1/Conv3d_0a_1x1", x)),
            conv("Branch_2/Conv3d_0b_3x3", conv("Branch_2/Conv3d_0a_1x1", x)),
            conv("Branch_3/Conv3d_0b_1x1", self.pool(x, (3, 3, 3), (1, 1, 1))),
        ], 1)

    def logits(self, x):
        x = self.pool(self.conv("Conv3d_1a_7x7", x, (2, 2, 2)), (1, 3, 3), (1, 2, 2))
        x = self.conv("Conv3d_2c_3x3", self.conv("Conv3d_2b_1x1", x))
        x = self.pool(x, (1, 3, 3), (1, 2, 2))
        for level, letters in MIXED.items():
            if level != "3":
                side = 7 - int(level)  # 3, then 2
                x = self.pool(x, (side,) * 3, (2, 2, 2))
            for letter in letters:
                x = self.mixed("Mixed_" + level + letter, x)
        x = F.avg_pool3d(x, (2, 7, 7), 1)
        return self.conv("Logits/Conv3d_0c_1x1", x, rectify=False).mean((2, 3, 4))


def clip():
    at = np.arange(SIDE) * SMALL / SIDE
    low = np.floor(at).astype(int)
    high, part = np.minimum(low + 1, SMALL - 1), at - low
    frames = []
    for f in range(FRAMES):
        pixels = (np.arange(SMALL * SMALL * 3) + 5 * f) * (37 + f) % 251
        pixels = pixels.astype(np.float64).reshape(SMALL, SMALL, 3)
        rows = pixels[low] + (pixels[high] - pixels[low]) * part[:, None, None]
        both = rows[:, low] + (rows[:, high] - rows[:, low]) * part[None, :, None]
        frames.append(2 * both / 255 - 1)
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)[None]


if __name__ == "__main__":
    values = Network(load(sys.argv[1])).logits(clip())[0].tolist()
    for i in range(0, len(values), 8):
        print(" ".join("%.9g," % v for v in values[i : i + 8]))
