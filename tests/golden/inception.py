"""Features of tests/test_inception.c's narrow network, by PyTorch: prints golden/inception.inc.

    SID2_WRITE=/tmp/narrow.safetensors build/tests/test_inception
    python3 tests/golden/inception.py /tmp/narrow.safetensors >tests/golden/inception.inc
"""
import json
import struct
import sys

import numpy as np
import torch
from torch.nn import functional as F


def load(path, dtype=np.float64):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + size])
    head.pop("__metadata__", None)
    tensors = {}
    for name, entry in head.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + begin : 8 + size + end], "<f4").reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.astype(dtype))
    return tensors


class Network:
    def __init__(self, tensors):
        self.tensors = {name: t[:, 0].permute(0, 3, 1, 2) if t.ndim == 5 else t for name, t in tensors.items()}

    def conv(self, name, x, stride=1, same=True):
        w = self.tensors[name + ".weight"]
        pad = (w.shape[2] // 2, w.shape[3] // 2) if same else 0
        return F.relu(F.conv2d(x, w, self.tensors[name + ".bias"], stride=stride, padding=pad))

    def chain(self, x, *names, **last):
        for name in names[:-1]:
            x = self.conv(name, x)
        return self.conv(names[-1], x, **last)

    def pooled(self, x):
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def a(self, p, x):
        return torch.cat([
            self.conv(p + ".conv", x),
            self.chain(x, p + ".tower.conv", p + ".tower.conv_1"),
            self.chain(x, p + ".tower_1.conv", p + ".tower_1.conv_1", p + ".tower_1.conv_2"),
            self.conv(p + ".tower_2.conv", self.pooled(x)),
        ], 1)

    def b(self, p, x):
        down = {"stride": 2, "same": False}
        return torch.cat([
            self.conv(p + ".conv", x, **down),
            self.chain(x, p + ".tower.conv", p + ".tower.conv_1", p + ".tower.conv_2", **down),
            F.max_pool2d(x, 3, 2),
        ], 1)

    def c(self, p, x):
        return torch.cat([
            self.conv(p + ".conv", x),
            self.chain(x, *(p + ".tower.conv" + n for n in ("", "_1", "_2"))),
            self.chain(x, *(p + ".tower_1.conv" + n for n in ("", "_1", "_2", "_3", "_4"))),
            self.conv(p + ".tower_2.conv", self.pooled(x)),
        ], 1)

    def d(self, p, x):
        down = {"stride": 2, "same": False}
        return torch.cat([
            self.chain(x, p + ".tower.conv", p + ".tower.conv_1", **down),
            self.chain(x, *(p + ".tower_1.conv" + n for n in ("", "_1", "_2", "_3")), **down),
            F.max_pool2d(x, 3, 2),
        ], 1)

    def e(self, p, x, pool):
        two = self.conv(p + ".tower_conv", x)
        three = self.chain(x, p + ".tower_1_conv", p + ".tower_1_conv_1")
        return torch.cat([
            self.conv(p + ".conv", x),
            self.conv(p + ".tower_mixed_conv", two),
            self.conv(p + ".tower_mixed_conv_1", two),
            self.conv(p + ".tower_1_mixed_conv", three),
            self.conv(p + ".tower_1_mixed_conv_1", three),
            self.conv(p + ".tower_2_conv", pool(x)),
        ], 1)

    def features(self, x):
        x = self.conv("conv", x, stride=2, same=False)
        x = self.conv("conv_1", x, same=False)
        x = F.max_pool2d(self.conv("conv_2", x), 3, 2)
        x = F.max_pool2d(self.conv("conv_4", self.conv("conv_3", x), same=False), 3, 2)
        for name in ("mixed", "mixed_1", "mixed_2"):
            x = self.a(name, x)
        x = self.b("mixed_3", x)
        for name in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):
            x = self.c(name, x)
        x = self.d("mixed_8", x)
        x = self.e("mixed_9", x, self.pooled)
        x = self.e("mixed_10", x, lambda t: F.max_pool2d(t, 3, 1, 1))
        return x.mean((2, 3))


def picture():
    pixels = (np.arange(32 * 32 * 3) * 37 % 251).astype(np.float64).reshape(32, 32, 3)
    at = np.arange(299) * 32 / 299
    low = np.floor(at).astype(int)
    high, part = np.minimum(low + 1, 31), at - low
    rows = pixels[low] + (pixels[high] - pixels[low]) * part[:, None, None]
    both = rows[:, low] + (rows[:, high] - rows[:, low]) * part[None, :, None]
    return torch.from_numpy((both - 128) / 128).permute(2, 0, 1)[None]


if __name__ == "__main__":
    values = Network(load(sys.argv[1])).features(picture())[0].tolist()
    for i in range(0, len(values), 8):
        print(" ".join("%.9g," % v for v in values[i : i + 8]))
