#!/usr/bin/env python3
"""The Residual U-ViT in PyTorch, written from the paper's recipe and independent of sid2's own code.

    uvit.py write [FOLDER]    checks, then the golden fixtures (default: beside this script)
    uvit.py check             the checks alone

The fixtures are what sid2's C implementation is held against: forward pass, loss and every gradient, computed here
in float64. tests/bench_pytorch.py uses the same model as the speed comparator. Needs PyTorch, numpy, safetensors.

A fixture FOLDER/NAME.safetensors holds (images NHWC, linear weights [out,in], convolutions [out,kh,kw,in])

    metadata  config       the configuration, a JSON object of "section.key": value
              config.ini   the same as an ini file
    param.*   F32          every parameter, by sid2's names; none is zero
    in.x in.eps            F32 [N,H,W,c]  clean images in [-1,1], Gaussian noise
    in.t                   F64 [N]        times, each exact in float32
    in.label               I64 [N]        labels; the number of classes stands for "no label"
    out.lambda out.dlambda F64 [N]        logSNR at t and its derivative
    out.u                  F64 [N]        what the sinusoid is taken of: 1000 (lambda - lambda(1)) / (lambda(0) - lambda(1))
    out.emb                F64 [N,emb]    the conditioning vector
    out.z out.v            F64 [N,H,W,c]  noisy images; the network's output
    out.loss               F64 [N]        loss of each sample
    grad.*    F32          gradient of the mean of out.loss by every parameter
"""

import contextlib
import json
import math
import pathlib
import sys

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-6

# The keys of sid2's configuration that the network, the schedule and the loss read, with sid2's defaults.
DEFAULTS = {
    "model.image_size": 32, "model.image_channels": 3, "model.frames": 1, "model.patch": 1, "model.channels": [64, 128, 256],
    "model.blocks": ["res", "res", "transformer"], "model.depth": [3], "model.mid_depth": 16, "model.mlp_ratio": 4,
    "model.emb": 1024, "model.dropout": [0.0], "model.head_dim": 64, "model.groups": 32, "model.classes": 10,
    "model.parallel": "no", "model.rope_theta": 100.0, "model.qk_norm": "layer", "schedule.kind": "interpolated",
    "schedule.low": 32, "schedule.high": "auto", "schedule.reference": 64, "schedule.logsnr_min": -10.0,
    "schedule.logsnr_max": 10.0, "loss.weighting": "sigmoid", "loss.bias": "auto",
}
# Keys of which this model knows one value only.
FIXED = {"model.qk_norm": "layer", "model.norm_eps": EPS, "model.updown_kernel": 1, "model.skip": "level",
         "model.activation": "silu", "loss.weighting": "sigmoid"}


def value_of(value):
    """Values as sid2 writes them in its files, or as JSON has them."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and "," in value:
        return [value_of(v.strip()) for v in value.split(",")]
    for kind in (int, float):
        with contextlib.suppress(ValueError, TypeError):
            if isinstance(value, str):
                return kind(value)
    return value


def extent(c):
    """Height and width of the images: of 32 or "96x160"."""
    parts = [int(part) for part in str(c["model.image_size"]).split("x")]
    return parts[0], parts[-1]


def side(c):
    """Of a square of as many pixels."""
    return math.sqrt(math.prod(extent(c)))


def complete(config):
    """Defaults filled in, per-level lists at full length, "auto" resolved. What this model cannot do is refused."""
    for key, value in config.items():
        if key in FIXED and value_of(value) != FIXED[key]:
            raise ValueError(f"{key} = {value}: only {FIXED[key]} is known here")
    c = {key: value_of(config.get(key, default)) for key, default in DEFAULTS.items()}
    for key in ("model.channels", "model.blocks", "model.depth", "model.dropout"):
        if not isinstance(c[key], list):
            c[key] = [c[key]]
    levels = len(c["model.channels"])
    for key, length in (("model.blocks", levels), ("model.depth", levels - 1), ("model.dropout", levels)):
        if len(c[key]) == 1:
            c[key] = c[key] * length
        if len(c[key]) != length:
            raise ValueError(f"{key} has {len(c[key])} entries, the model {levels} levels")
    size = side(c)
    if c["schedule.high"] == "auto":
        c["schedule.high"] = min(size, 512)
    if c["loss.bias"] == "auto":  # linear in log2 between the known sizes
        known, place = [2.5, 2.0, 0.0, -1.0, -3.0, -4.0], min(max(math.log2(size / 32), 0), 5)
        i = min(int(place), 4)
        c["loss.bias"] = known[i] + (place - i) * (known[i + 1] - known[i])
    return c


def groups_of(c, width):
    """The largest number up to model.groups that divides the channels."""
    return next(g for g in range(min(c["model.groups"], width), 0, -1) if width % g == 0)


# ---- The process ----

class Schedule:
    """logSNR as a function of time, and its derivative. Times are float64 tensors."""

    def __init__(self, config):
        c = complete(config)
        self.kind, self.size = c["schedule.kind"], side(c)
        self.low, self.high, self.reference = (c["schedule." + key] for key in ("low", "high", "reference"))
        self.b = math.atan(math.exp(-c["schedule.logsnr_max"] / 2))
        self.a = math.atan(math.exp(-c["schedule.logsnr_min"] / 2)) - self.b
        self.start, self.end = (float(self(torch.tensor(t, dtype=torch.float64, device="cpu"))[0]) for t in (0.0, 1.0))

    def __call__(self, t):
        angle = self.a * t + self.b
        lam, slope = -2 * torch.log(torch.tan(angle)), -4 * self.a / torch.sin(2 * angle)
        if self.kind == "cosine":
            return lam, slope
        if self.kind == "shifted":
            return lam + 2 * math.log(self.reference / self.size), slope
        at_low, at_high = (2 * math.log(d / self.size) for d in (self.low, self.high))
        return lam + (1 - t) * at_high + t * at_low, slope + at_low - at_high

    def position(self, lam):
        return 1000 * (lam - self.end) / (self.start - self.end)


def alpha_sigma(lam):
    return torch.exp(0.5 * F.logsigmoid(lam)), torch.exp(0.5 * F.logsigmoid(-lam))


def per_image(s):
    return s[:, None, None, None]


def sigmoid_loss(v, z, x, lam, slope, bias):
    """[N]; the x form of the sigmoid-weighted loss with the schedule's slope."""
    alpha, sigma = alpha_sigma(lam)
    error = (per_image(alpha) * z - per_image(sigma) * v - x).square().mean((1, 2, 3))
    return 0.5 * slope.abs() * math.exp(bias) * torch.sigmoid(lam - bias) * error


# ---- The network. Inside, images are NCHW in channels-last memory, so that tokens are a view. ----

def film(h, scale_shift):
    scale, shift = scale_shift.unflatten(1, (1,) * (h.dim() - 2) + (-1,)).chunk(2, dim=-1)
    if h.dim() == 4:
        scale, shift = scale.permute(0, 3, 1, 2), shift.permute(0, 3, 1, 2)
    return torch.addcmul(shift, h, 1 + scale)


def pointwise(linear, x):
    """A linear over the channels of [N,C,H,W]."""
    return linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GroupNorm(nn.GroupNorm):
    """In float32 when the input is bf16: what bf16 training asks for, and 4 times as fast as PyTorch's bf16 kernel."""

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype) if x.dtype == torch.bfloat16 else super().forward(x)


class RMSNorm(nn.RMSNorm):
    """In the input's type: PyTorch's fused kernel takes no mixture."""

    def forward(self, x):
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def attend(q, k, v):
    """softmax(q k^T / sqrt(head_dim)) v, all [N,heads,T,head_dim]. Below about 512 tokens the CPU's bf16 kernel's backward
    pass is half as fast as the float32 one's."""
    slow = v.dtype == torch.bfloat16 and v.shape[2] < 512 and v.device.type == "cpu"
    kind = torch.float32 if slow else v.dtype
    return F.scaled_dot_product_attention(q.to(kind), k.to(kind), v.to(kind)).to(v.dtype)


def clip_tables(grid, head_dim, theta, dtype, device):
    """Of clips: for the frame, the row and the column part each cos and sin of its angles [tokens, width/2], frames slowest."""
    along = 2 * (head_dim // 6)
    side_width = 2 * ((head_dim - along) // 4)
    places = torch.meshgrid(*(torch.arange(extent, dtype=torch.float64) for extent in grid), indexing="ij")
    tables = []
    for place, width in zip(places, (along, side_width, side_width)):
        freq = theta ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
        angle = place.reshape(-1, 1) * freq
        tables.append((angle.cos().to(device, dtype), angle.sin().to(device, dtype)))
    return tables


def rotate_clip(x, tables):
    """x [..,tokens,head_dim]; elements past the three parts stay."""
    turned, begin = [], 0
    for cos, sin in tables:
        a, b = x[..., begin:begin + 2 * cos.shape[1]].chunk(2, dim=-1)
        begin += 2 * cos.shape[1]
        turned += [a * cos - b * sin, a * sin + b * cos]
    return torch.cat([*turned, x[..., begin:]], -1)


def rope_table(grid, head_dim, theta, dtype, device):
    """cos and sin, each [rows*cols, head_dim/2]: the angles of the row part, then of the column part."""
    (rows, cols), quarter = grid, head_dim // 4
    freq = theta ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    row = torch.arange(rows, dtype=torch.float64)[:, None, None] * freq
    col = torch.arange(cols, dtype=torch.float64)[None, :, None] * freq
    angle = torch.cat([row.expand(rows, cols, quarter), col.expand(rows, cols, quarter)], dim=2)
    angle = angle.reshape(rows * cols, 2 * quarter)
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


def rotate(x, cos, sin):
    """x [..,T,head_dim]: in each half, element i and element i + head_dim/4 turn together."""
    a0, b0, a1, b1 = x.chunk(4, dim=-1)
    a, b = torch.cat([a0, a1], -1), torch.cat([b0, b1], -1)
    (p0, p1), (q0, q1) = (a * cos - b * sin).chunk(2, -1), (a * sin + b * cos).chunk(2, -1)
    return torch.cat([p0, q0, p1, q1], -1)


class Attention(nn.Module):
    def __init__(self, width, head_dim, theta, own_norm, frames):
        super().__init__()
        self.head_dim, self.theta, self.tables, self.frames = head_dim, theta, {}, frames
        if own_norm:
            self.norm = RMSNorm(width, EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm, self.k_norm = nn.LayerNorm(head_dim, EPS), nn.LayerNorm(head_dim, EPS)
        self.out = nn.Linear(width, width)

    def forward(self, x, grid):
        """x [N,T,C], normalised already when this attention has no norm of its own; all frames of a clip together"""
        shape, width = x.shape, x.shape[2]
        if hasattr(self, "norm"):
            x = self.norm(x)
        n, tokens = shape[0] // self.frames, shape[1] * self.frames
        q, k, v = self.qkv(x).view(n, tokens, 3, width // self.head_dim, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        key = (grid, q.dtype, q.device)
        clips = self.frames > 1
        if key not in self.tables:
            like = self.head_dim, self.theta, q.dtype, q.device
            self.tables[key] = clip_tables((self.frames, *grid), *like) if clips else rope_table(grid, *like)
        q, k = ((rotate_clip(x, self.tables[key]) if clips else rotate(x, *self.tables[key])) for x in (q, k))
        h = attend(q, k, v)
        return self.out(h.transpose(1, 2).reshape(shape))


class Mlp(nn.Module):
    def __init__(self, width, ratio, emb, rate, conditioned):
        super().__init__()
        self.rate = rate
        if conditioned:
            self.norm = RMSNorm(width, EPS)
            self.film = nn.Linear(emb, 2 * ratio * width)
        self.linear0, self.linear1 = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, x, emb=None):
        if emb is None:
            h = F.silu(self.linear0(x))
        else:
            h = film(F.silu(self.linear0(self.norm(x))), self.film(emb))
        return self.linear1(F.dropout(h, self.rate, self.training))


class Transformer(nn.Module):
    def __init__(self, c, width, rate):
        super().__init__()
        self.parallel = c["model.parallel"] in ("yes", 1)
        if self.parallel:
            self.norm = RMSNorm(width, EPS)
            self.film = nn.Linear(c["model.emb"], 2 * width)
        self.mlp = Mlp(width, c["model.mlp_ratio"], c["model.emb"], rate, not self.parallel)
        self.attn = Attention(width, c["model.head_dim"], c["model.rope_theta"], not self.parallel,
                              c["model.frames"])

    def forward(self, image, emb):
        grid = tuple(image.shape[2:])
        x = image.permute(0, 2, 3, 1).flatten(1, 2)
        if self.parallel:
            h = film(self.norm(x), self.film(emb))
            x = x + self.mlp(h) + self.attn(h, grid)
        else:
            x = x + self.mlp(x, emb)
            x = x + self.attn(x, grid)
        return x.unflatten(1, grid).permute(0, 3, 1, 2)


class Res(nn.Module):
    def __init__(self, c, width, rate):
        super().__init__()
        groups = groups_of(c, width)
        self.rate = rate
        self.norm0, self.norm1 = GroupNorm(groups, width, EPS), GroupNorm(groups, width, EPS)
        self.conv0, self.conv1 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(c["model.emb"], 2 * width)

    def forward(self, x, emb):
        h = self.conv0(F.silu(self.norm0(x)))
        h = film(self.norm1(h), self.film(emb))
        return x + self.conv1(F.dropout(F.silu(h), self.rate, self.training))


class UViT(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = self.config = complete(config)
        width, p = c["model.channels"], c["model.patch"]
        self.patch, self.levels, pixels = p, len(width), p * p * c["model.image_channels"]
        self.schedule = Schedule(c)

        def stack(level, count):
            kind = {"res": Res, "transformer": Transformer}[c["model.blocks"][level]]
            return {str(j): kind(c, width[level], c["model.dropout"][level]) for j in range(count)}

        emb = c["model.emb"]
        self.cond = nn.ModuleDict({"linear0": nn.Linear(256, emb), "linear1": nn.Linear(emb, emb),
                                   "class": nn.Embedding(c["model.classes"] + 1, emb)})
        self.embed = nn.Conv2d(pixels, width[0], 3, padding=1) if p == 1 else nn.Linear(pixels, width[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i in range(self.levels - 1):
            depth = c["model.depth"][i]
            self.down.append(nn.ModuleDict({**stack(i, depth), "proj": nn.Linear(width[i], width[i + 1])}))
            self.up.append(nn.ModuleDict({**stack(i, depth), "proj": nn.Linear(width[i + 1], width[i])}))
        self.mid = nn.ModuleDict(stack(self.levels - 1, c["model.mid_depth"]))
        self.head = nn.ModuleDict({"norm": GroupNorm(groups_of(c, width[0]), width[0], EPS),
                                   "out": nn.Linear(width[0], pixels)})
        self.zero_init()

    def zero_init(self):
        """What must start at zero: each block's last layers, the FiLM linears, the head; and all biases."""
        for name, value in self.named_parameters():
            last = name.rsplit(".", 2)[-2]
            within = name.rsplit(".", 3)[-3] if name.count(".") > 2 else ""
            if last in ("film", "conv1") or (within, last) in (("mlp", "linear1"), ("attn", "out")) \
                    or name.startswith("head.out") or (name.endswith("bias")):
                nn.init.zeros_(value)

    def condition(self, lam, label):
        u = self.schedule.position(lam)
        half = torch.arange(128, dtype=u.dtype, device=u.device)
        angle = u[:, None] * torch.exp(-math.log(10000) * half / 128)
        wave = torch.cat([angle.cos(), angle.sin()], 1).to(self.cond["linear0"].weight.dtype)
        return self.cond["linear1"](F.silu(self.cond["linear0"](wave))) + self.cond["class"](label)

    def forward(self, z, lam, label):
        """z [N,c,H,W], logSNR [N], labels [N] (the number of classes: none) -> v [N,c,H,W]"""
        emb = self.condition(lam, label)
        n, ch, height, width = z.shape
        p = self.patch
        if p == 1:
            x = self.embed(z)
        else:
            x = z.view(n, ch, height // p, p, width // p, p).permute(0, 2, 4, 3, 5, 1).flatten(3)
            x = self.embed(x).permute(0, 3, 1, 2)
        kept = []
        for level in self.down:
            for j in range(len(level) - 1):
                x = level[str(j)](x, emb)
            h = x
            x = pointwise(level["proj"], F.avg_pool2d(x, 2))
            kept.append((h, x))
        for block in self.mid.values():
            x = block(x, emb)
        for level, (h, d) in zip(reversed(self.up), reversed(kept)):
            x = h + F.interpolate(pointwise(level["proj"], x - d), scale_factor=2, mode="nearest")
            for j in range(len(level) - 1):
                x = level[str(j)](x, emb)
        x = F.silu(self.head["norm"](x))
        x = self.head["out"](x.permute(0, 2, 3, 1))
        if p == 1:
            return x.permute(0, 3, 1, 2)
        x = x.view(n, height // p, width // p, p, p, ch).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(n, ch, height, width)


# ---- Checks that need no fixture ----

def multiply_adds(config):
    """Of the blocks of one forward pass: 3x3 convolutions, linears, attention. Counted from the shapes that the
    modules really see, on PyTorch's "meta" device, which computes nothing. The FiLM linears, once per image, and
    what lies outside the blocks are not in it."""
    with torch.device("meta"):
        model = UViT(config)
    total = 0

    def matmul(module, inputs, output):
        nonlocal total
        channels = 1 if isinstance(module, nn.Conv2d) else -1
        total += output.numel() // output.shape[channels] * module.weight.numel()

    def scores(module, inputs, output):
        nonlocal total
        total += 2 * (module.frames * output.shape[1]) ** 2 * output.shape[2]

    for name, module in model.named_modules():
        parts = name.split(".")
        if parts[0] in ("down", "mid", "up") and parts[-1] not in ("film", "proj"):
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.register_forward_hook(matmul)
            elif isinstance(module, Attention):
                module.register_forward_hook(scores)
    c = model.config
    n = c["model.frames"]
    model(torch.empty(n, c["model.image_channels"], *extent(c), device="meta"), torch.empty(n, device="meta"),
          torch.zeros(n, dtype=torch.long, device="meta"))
    return total


def published(size, patch):
    return {"model.image_size": size, "model.patch": patch, "model.channels": [128, 256, 512, 1024],
            "model.blocks": ["res", "res", "transformer", "transformer"], "model.depth": [3], "model.mid_depth": 16,
            "model.emb": 1024, "model.dropout": [0, 0, 0.1, 0.1], "model.classes": 1000}


def check():
    for giga, cases in ((32.7, [(128, 2)]), (137.4, [(128, 1), (256, 2), (512, 4)]), (652.8, [(256, 1), (512, 2)])):
        for size, patch in cases:
            found = multiply_adds(published(size, patch)) / 1e9
            print(f"published model {size}/{patch}: {found:.3f} G multiply-adds")
            assert abs(found - giga) <= 0.06, f"expected {giga}"
    for giga, size, patch in ((137.4, 64, 2), (652.8, 64, 1), (652.8, 128, 2), (4260.6, 128, 1)):
        found = multiply_adds({**published(size, patch), "model.frames": 16}) / 1e9
        print(f"the same for clips of 16 x {size}/{patch}: {found:.3f} G multiply-adds")
        assert abs(found - giga) <= 0.06, f"expected {giga}"

    expected = {512: (10.00, 0.36, -2.77, -5.90, -15.55), 256: (11.39, 1.74, -1.39, -4.52, -14.16),
                128: (12.77, 3.13, 0, -3.13, -12.77)}
    times = torch.linspace(0, 1, 5, dtype=torch.float64)
    for size, values in expected.items():
        schedule = Schedule({"model.image_size": size, "schedule.low": 32, "schedule.high": 512})
        lam, slope = schedule(times)
        assert all(abs(a - b) < 0.006 for a, b in zip(lam.tolist(), values)), (size, lam)
        h, inner = 1e-6, times[1:-1]
        assert torch.allclose((schedule(inner + h)[0] - schedule(inner - h)[0]) / (2 * h), slope[1:-1], rtol=1e-6)
        assert torch.allclose(schedule.position(lam[[0, -1]]), torch.tensor([1000.0, 0.0], dtype=torch.float64))
    print("schedule: check values and derivative hold")

    for name, config in GOLDEN.items():
        model = UViT(config).double()
        c = model.config
        n = 2 * c["model.frames"]
        z = torch.randn(n, c["model.image_channels"], *extent(c)).double()
        v = model(z, torch.linspace(3, -2, n).double(), torch.tensor([0, c["model.classes"]]).repeat_interleave(n // 2))
        assert v.shape == z.shape and not v.any(), name
    print("at initialisation the output is exactly 0")

    # A rotation by position must make scores depend on the difference of positions alone.
    cos, sin = rope_table((5, 5), 16, 100.0, torch.float64, "cpu")
    q, k = torch.randn(2, 16).double()
    q, k = rotate(q.expand(25, 16), cos, sin).view(5, 5, 16), rotate(k.expand(25, 16), cos, sin).view(5, 5, 16)
    assert torch.allclose((q[1, 2] * k[3, 1]).sum(), (q[2, 3] * k[4, 2]).sum())
    assert not torch.allclose((q[1, 2] * k[3, 1]).sum(), (q[2, 3] * k[4, 3]).sum())
    print("rotary positions are relative")


# ---- Fixtures ----

GOLDEN = {
    "uvit-res": {  # a grid that is no power of two, two heads, uneven depth
        "model.image_size": 24, "model.image_channels": 3, "model.patch": 1, "model.channels": [16, 16, 32],
        "model.blocks": ["res", "res", "transformer"], "model.depth": [1, 2], "model.mid_depth": 2,
        "model.mlp_ratio": 4, "model.emb": 16, "model.head_dim": 16, "model.groups": 8, "model.classes": 3,
        "schedule.low": 16, "schedule.high": 64, "loss.bias": 2.0},
    "uvit-patch2": {  # patches, two transformer levels as published, one head as wide as its level
        "model.image_size": 16, "model.image_channels": 3, "model.patch": 2, "model.channels": [16, 32, 32],
        "model.blocks": ["res", "transformer", "transformer"], "model.depth": [1], "model.mid_depth": 2,
        "model.mlp_ratio": 2, "model.emb": 16, "model.head_dim": 32, "model.groups": 8, "model.classes": 5,
        "schedule.low": 32, "schedule.high": 64, "loss.bias": -1.0},
    "uvit-parallel": {  # grey, parallel attention and MLP, small heads, another base of the rotary frequencies
        "model.image_size": 16, "model.image_channels": 1, "model.patch": 1, "model.channels": [16, 32],
        "model.blocks": ["res", "transformer"], "model.depth": [2], "model.mid_depth": 2, "model.mlp_ratio": 4,
        "model.emb": 16, "model.head_dim": 8, "model.groups": 4, "model.classes": 2, "model.parallel": "yes",
        "model.rope_theta": 50.0, "schedule.low": 8, "schedule.high": 32, "loss.bias": 0.0},
    "uvit-oblong": {  # wider than high, so that no axis is taken for the other; noise by the root of the pixels
        "model.image_size": "8x24", "model.image_channels": 3, "model.patch": 1, "model.channels": [8, 16],
        "model.blocks": ["res", "transformer"], "model.depth": [1], "model.mid_depth": 2, "model.mlp_ratio": 2,
        "model.emb": 8, "model.head_dim": 8, "model.groups": 4, "model.classes": 3, "schedule.low": 8,
        "schedule.high": 64, "loss.bias": 1.0},
    "uvit-clips": {  # three frames, each at a noise level of its own; heads of which two elements do not turn
        "model.image_size": "8x12", "model.image_channels": 3, "model.frames": 3, "model.patch": 1,
        "model.channels": [8, 40], "model.blocks": ["res", "transformer"], "model.depth": [1], "model.mid_depth": 2,
        "model.mlp_ratio": 2, "model.emb": 8, "model.head_dim": 20, "model.groups": 4, "model.classes": 3,
        "schedule.low": 8, "schedule.high": 64, "loss.bias": 1.0},
}


def to_ini(config):
    lines, section = [], None
    for key, value in config.items():
        head, name = key.split(".")
        if head != section:
            lines += [f"[{head}]"]
            section = head
        text = ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
        lines.append(f"{name} = {text}")
    return "\n".join(lines) + "\n"


def outward(tensor):
    """From PyTorch's order to the channels-last order of the fixture."""
    return (tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor).detach().contiguous()


def fixture(config, seed):
    torch.manual_seed(seed)
    model = UViT(config).double()
    c = model.config
    with torch.no_grad():  # random everywhere, at a size that keeps activations near 1, and exact in float32
        for name, value in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                fresh = 1 + 0.3 * torch.randn_like(value)
            elif name.endswith("bias"):
                fresh = 0.2 * torch.randn_like(value)
            else:
                fan_in = value[0].numel() if name != "cond.class.weight" else 4
                fresh = torch.randn_like(value) * (0.7 / math.sqrt(fan_in))
            value.copy_(fresh.float())
    t = torch.tensor([0.15625, 0.453125, 0.8125], dtype=torch.float64)
    label = torch.tensor([1, c["model.classes"], 0])
    if c["model.frames"] > 1:
        t = torch.tensor([0.15625, 0.453125, 0.8125, 0.625, 0.0, 0.3125], dtype=torch.float64)
        label = label[:2].repeat_interleave(c["model.frames"])
    shape = len(t), c["model.image_channels"], *extent(c)
    x = (2 * torch.rand(shape) - 1).double()
    eps = torch.randn(shape).double()

    lam, slope = model.schedule(t)
    alpha, sigma = alpha_sigma(lam)
    z = per_image(alpha) * x + per_image(sigma) * eps
    v = model(z, lam, label)
    loss = sigmoid_loss(v, z, x, lam, slope, c["loss.bias"])
    loss.mean().backward()

    # The ε and v forms of the same loss, and one gradient by a finite difference, so that a slip here does not pass.
    eps_hat = per_image(sigma) * z + per_image(alpha) * v
    eps_form = 0.5 * slope.abs() * torch.sigmoid(c["loss.bias"] - lam) * (eps - eps_hat).square().mean((1, 2, 3))
    v_error = (per_image(alpha) * eps - per_image(sigma) * x - v).square().mean((1, 2, 3))
    v_form = 0.5 * slope.abs() * torch.sigmoid(c["loss.bias"] - lam) * torch.sigmoid(lam) * v_error
    assert torch.allclose(loss, eps_form, rtol=1e-9) and torch.allclose(loss, v_form, rtol=1e-9)
    with torch.no_grad():
        step = 1e-5
        way = {name: torch.randn_like(p) for name, p in model.named_parameters()}
        along = sum((way[name] * p.grad).sum() for name, p in model.named_parameters())
        ends = []
        for sign in (1, -2):
            for name, p in model.named_parameters():
                p += sign * step * way[name]
            ends.append(sigmoid_loss(model(z, lam, label), z, x, lam, slope, c["loss.bias"]).mean())
        for name, p in model.named_parameters():
            p.copy_((p + step * way[name]).float())
        assert torch.allclose((ends[0] - ends[1]) / (2 * step), along, rtol=1e-5), (ends, along)

    tensors = {"in.x": outward(x).float(), "in.eps": outward(eps).float(), "in.t": t, "in.label": label,
               "out.lambda": lam, "out.dlambda": slope, "out.u": model.schedule.position(lam),
               "out.emb": model.condition(lam, label).detach(), "out.z": outward(z), "out.v": outward(v),
               "out.loss": loss.detach()}
    for name, p in model.named_parameters():
        assert p.grad.abs().max() > 1e-6, f"{name} is not exercised"
        tensors["param." + name] = outward(p).float()
        tensors["grad." + name] = outward(p.grad).float()
    for name in [name for name in tensors if ".q_norm." in name]:  # one tensor [2,head_dim]: queries, keys
        pair = tensors.pop(name), tensors.pop(name.replace(".q_norm.", ".k_norm."))
        tensors[name.replace(".q_norm.", ".qk_norm.")] = torch.stack(pair)
    return tensors, c


def write(folder):
    from safetensors.torch import save_file
    for seed, (name, config) in enumerate(GOLDEN.items()):
        tensors, c = fixture(config, seed)
        path = pathlib.Path(folder) / f"{name}.safetensors"
        save_file(tensors, path, {"config": json.dumps(c), "config.ini": to_ini(c)})
        path.chmod(0o644)
        scale = {k: tensors["out." + k].tolist() for k in ("lambda", "loss")}
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB, {len(tensors)} tensors, "
              f"|v| rms {tensors['out.v'].square().mean().sqrt():.3f}, {scale}")


def main():
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in ("write", "check") or len(sys.argv) > 3:
        sys.exit(__doc__)
    torch.manual_seed(0)
    check()
    if verb == "write":
        write(sys.argv[2] if len(sys.argv) > 2 else pathlib.Path(__file__).parent)


if __name__ == "__main__":
    main()
