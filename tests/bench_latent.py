#!/usr/bin/env python3
"""The other side of `sid2 bench --latent`: latent diffusion of the published size, in PyTorch, driven as bench_pytorch.py is.

    first line   {"mode": "evaluate" | "train" | "encode" | "decode" | "attend" | "count",
                  "size": 512,       of the pictures; latents are an eighth of it
                  "batch": 1, "dtype": "f32" | "bf16", "threads": 2,
                  "depth": 28,       blocks of the transformer: fewer to time one
                  "attention": true} of the autoencoder: false leaves its attention out
                 answered by    ready VERSION PARAMETERS
    profile K    K steps; answered as sid2 does, {"seconds": s, "nodes": [["network", 1, s, 0, 0]]}: of one step, and of its
                 forward and backward pass alone; the rest is the update
    count        of mode "count", where nothing is computed; answered by {"evaluate": {"parameters": n, "multiply_adds": a,
                 "bytes": b, "update": u, "memory": m}, "train": {...}, ...}: what is multiplied and added in matrix products,
                 convolutions and attention; bytes that its operators read and write, each input and output once, and those of
                 the update; the most bytes alive at once, weights and what belongs to them among these
    run, mem, quit   as there

    bench_latent.py check    holds parameters and multiply-adds against what was published

The transformer is DiT-XL/2 (arXiv 2212.09748: 28 blocks of 1152, 16 heads, patches of 2 x 2 latents, adaLN-Zero): a
training step is forward, loss, backward, clip, Adam and EMA of latents that are there; an evaluation is one forward pass. The
autoencoder is the one it was trained with (kl-f8 of arXiv 2112.10752, 4 channels): "encode" is its encoder, "decode" its
decoder, "attend" the one attention that each of them has, which grows with the square of the pixels. Weights are
random. Needs PyTorch and nothing else.
"""

import json
import math
import sys
import time
import weakref

import bench_pytorch  # first: it says so where PyTorch is missing
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

EPS = 1e-6


# ---- The transformer ----

def modulate(x, shift, scale):
    return torch.addcmul(shift.unsqueeze(1), x, 1 + scale.unsqueeze(1))


class Block(nn.Module):
    """Attention and MLP, each behind a norm without weights that the conditioning scales and shifts, each with a gate."""

    def __init__(self, width, heads, ratio):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)
        self.condition = nn.Linear(width, 6 * width)

    def forward(self, x, c):
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.condition(F.silu(c)).chunk(6, dim=1)
        h = modulate(F.layer_norm(x, x.shape[2:], eps=EPS), shift_a, scale_a)
        q, k, v = self.qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + gate_a.unsqueeze(1) * self.out(h)
        h = modulate(F.layer_norm(x, x.shape[2:], eps=EPS), shift_m, scale_m)
        return x + gate_m.unsqueeze(1) * self.narrow(F.gelu(self.wide(h), approximate="tanh"))


def positions(rows, width):
    """Fixed, sine and cosine: half of the width for the row, half for the column."""
    freq = 10000.0 ** (-torch.arange(width // 4) / (width / 4))
    angle = torch.arange(rows)[:, None] * freq
    wave = torch.cat([angle.sin(), angle.cos()], 1)
    return torch.cat([wave.repeat_interleave(rows, 0), wave.repeat(rows, 1)], 1)


class Transformer(nn.Module):
    DEPTH, WIDTH, HEADS, RATIO, PATCH, CHANNELS, CLASSES, WAVES = 28, 1152, 16, 4, 2, 4, 1000, 256

    def __init__(self, rows, depth):
        super().__init__()
        width, pixels = self.WIDTH, self.PATCH * self.PATCH
        self.embed = nn.Linear(pixels * self.CHANNELS, width)
        self.time = nn.Sequential(nn.Linear(self.WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(self.CLASSES + 1, width)
        self.blocks = nn.ModuleList(Block(width, self.HEADS, self.RATIO) for _ in range(depth))
        self.condition = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, pixels * 2 * self.CHANNELS)  # the noise and its variance
        self.register_buffer("place", positions(rows // self.PATCH, width))

    def forward(self, z, t, label):
        """z [N,4,S,S], times [N], labels [N] -> [N,8,S,S]"""
        n, _, rows, _ = z.shape
        p, side = self.PATCH, rows // self.PATCH
        x = z.unflatten(3, (side, p)).unflatten(2, (side, p)).permute(0, 2, 4, 3, 5, 1).reshape(n, side * side, -1)
        half = self.WAVES // 2
        angle = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        c = self.time(torch.cat([angle.cos(), angle.sin()], 1)) + self.label(label)
        x = self.embed(x) + self.place
        for block in self.blocks:
            x = block(x, c)
        x = self.head(modulate(F.layer_norm(x, x.shape[2:], eps=EPS), *self.condition(F.silu(c)).chunk(2, dim=1)))
        return x.view(n, side, side, p, p, -1).permute(0, 5, 1, 3, 2, 4).reshape(n, -1, rows, rows)


# ---- The autoencoder ----

WIDTHS, BLOCKS, LATENTS, GROUPS = (128, 256, 512, 512), 2, 4, 32


def norm(width):
    return nn.GroupNorm(GROUPS, width, EPS)


class Res(nn.Module):
    def __init__(self, inner, outer):
        super().__init__()
        self.norm0, self.conv0 = norm(inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.norm1, self.conv1 = norm(outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x):
        return self.skip(x) + self.conv1(F.silu(self.norm1(self.conv0(F.silu(self.norm0(x))))))


class Attend(nn.Module):
    """One head over all positions."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.qkv, self.out = norm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x).flatten(2).transpose(1, 2)).unsqueeze(1).chunk(3, dim=3)
        h = self.out(F.scaled_dot_product_attention(q, k, v).squeeze(1))
        return x + h.transpose(1, 2).view_as(x)


def middle(width, attention):
    return [Res(width, width), *([Attend(width)] if attention else []), Res(width, width)]


class Halve(nn.Conv2d):
    def __init__(self, width):
        super().__init__(width, width, 3, stride=2)

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def encoder(attention):
    """[N,3,S,S] -> mean and log-variance [N,8,S/8,S/8]"""
    parts, inner = [nn.Conv2d(3, WIDTHS[0], 3, padding=1)], WIDTHS[0]
    for level, width in enumerate(WIDTHS):
        for _ in range(BLOCKS):
            parts.append(Res(inner, width))
            inner = width
        if level + 1 < len(WIDTHS):
            parts.append(Halve(width))
    parts += [*middle(inner, attention), norm(inner), nn.SiLU(), nn.Conv2d(inner, 2 * LATENTS, 3, padding=1)]
    return nn.Sequential(*parts, nn.Conv2d(2 * LATENTS, 2 * LATENTS, 1))


def decoder(attention):
    """[N,4,S/8,S/8] -> [N,3,S,S]"""
    inner = WIDTHS[-1]
    parts = [nn.Conv2d(LATENTS, LATENTS, 1), nn.Conv2d(LATENTS, inner, 3, padding=1), *middle(inner, attention)]
    for level, width in reversed(list(enumerate(WIDTHS))):
        for _ in range(BLOCKS + 1):
            parts.append(Res(inner, width))
            inner = width
        if level:
            parts += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(*parts, norm(inner), nn.SiLU(), nn.Conv2d(inner, 3, 3, padding=1))


# ---- Counting ----

def attention_multiply_adds(q, k, v):
    return math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def multiply_adds(op, arguments, output):
    """PyTorch's own rules know all but the CPU's attention, which computes its scores once more on the way back: not counted,
    nor does sid2's rule."""
    name = op._schema.name
    if name == "aten::_scaled_dot_product_flash_attention_for_cpu":
        return attention_multiply_adds(*arguments[:3])
    if name == "aten::_scaled_dot_product_flash_attention_for_cpu_backward":
        return 2 * attention_multiply_adds(*arguments[1:4])
    rule = flop_registry.get(op.overloadpacket)
    return rule(*arguments, out_val=output) / 2 if rule else 0


def tensors(values):
    return [t for t in tree_leaves(values) if isinstance(t, torch.Tensor)]


class Count(TorchDispatchMode):
    """Multiply-adds and bytes of every operator that runs within, and the most bytes that live at once."""

    def __init__(self):
        super().__init__()
        self.multiply_adds = self.bytes = self.alive = self.most = 0
        self.known = weakref.WeakSet()

    def forget(self, size):
        self.alive -= size

    def see(self, tensor):
        """Whether its memory was not known yet."""
        storage = tensor.untyped_storage()
        if storage in self.known:
            return False
        self.known.add(storage)
        self.alive += storage.nbytes()
        self.most = max(self.most, self.alive)
        weakref.finalize(storage, self.forget, storage.nbytes())
        return True

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = op(*args, **kwargs)
        fresh = [t for t in tensors(output) if self.see(t)]
        written = [value for rule, value in zip(op._schema.arguments, args) if rule.alias_info and rule.alias_info.is_write]
        if fresh or written:  # else a view, which moves nothing
            self.bytes += sum(t.numel() * t.element_size() for t in tensors((args, kwargs, written)) + fresh)
            self.multiply_adds += multiply_adds(op, args, output)
        return output


# ---- Work ----

MODES = "evaluate", "train", "encode", "decode", "attend"


class Work:
    def __init__(self, ask):
        self.n, self.dtype, self.mode = ask["batch"], ask["dtype"], ask["mode"]
        self.inner, self.update = 0.0, None
        rows = ask["size"] // 8
        if self.mode in ("train", "evaluate"):
            self.model = Transformer(rows, ask["depth"])
            self.inputs = [torch.randn(self.n, LATENTS, rows, rows), torch.rand(self.n) * 1000,
                           torch.randint(0, Transformer.CLASSES, (self.n,))]
        elif self.mode == "attend":
            self.model = Attend(WIDTHS[-1])
            self.inputs = [torch.randn(self.n, WIDTHS[-1], rows, rows)]
        elif self.mode == "encode":
            self.model = encoder(ask["attention"])
            self.inputs = [torch.randn(self.n, 3, ask["size"], ask["size"])]
        else:
            self.model = decoder(ask["attention"])
            self.inputs = [torch.randn(self.n, LATENTS, rows, rows)]
        if not ask.get("on paper"):
            self.model = self.model.to(memory_format=torch.channels_last)
        self.weights = list(self.model.parameters())
        if self.mode == "train":
            self.update = bench_pytorch.Update(self.weights)
        else:
            self.model.eval().requires_grad_(False)

    def network(self):
        if not self.update:
            with torch.no_grad(), bench_pytorch.autocast(self.dtype):
                return self.model(*self.inputs)
        z, t, label = self.inputs
        noise = torch.randn_like(z)
        keep = torch.cos(t * (math.pi / 2000))[:, None, None, None]
        with bench_pytorch.autocast(self.dtype):
            out = self.model(keep * z + (1 - keep * keep).sqrt() * noise, t, label)
        # The variance's part of the loss costs as little as this one.
        return (out.float() - torch.cat([noise, noise], 1)).square().mean().backward()

    def step(self):
        began = time.perf_counter()
        self.network()
        bench_pytorch.wait()
        self.inner += time.perf_counter() - began
        if self.update:
            self.update()

    def parameters(self):
        return sum(w.numel() for w in self.weights)

    def answer(self, words):
        if len(words) != 2 or words[0] != "profile":
            raise ValueError(f"unknown request '{' '.join(words)}'")
        self.inner, began, steps = 0.0, time.perf_counter(), int(words[1])
        for _ in range(steps):
            self.step()
        seconds = (time.perf_counter() - began) / steps
        return json.dumps({"seconds": seconds, "nodes": [["network", 1, self.inner / steps, 0, 0]]})


class Paper:
    """All of them counted, on tensors that have shapes and no values."""

    def __init__(self, ask):
        self.ask = ask

    def step(self):
        pass

    def parameters(self):
        return 0

    def count(self, mode):
        with FakeTensorMode(), Count() as seen:
            work = Work({**self.ask, "mode": mode, "on paper": True})
            work.step()  # makes what stays, such as Adam's moments
            seen.multiply_adds = seen.bytes = 0
            work.network()
            network = seen.bytes
            if work.update:
                work.update()
            return {"parameters": work.parameters(), "multiply_adds": seen.multiply_adds, "bytes": network,
                    "update": seen.bytes - network, "memory": seen.most}

    def answer(self, words):
        if words != ["count"]:
            raise ValueError(f"unknown request '{' '.join(words)}'")
        return json.dumps({mode: self.count(mode) for mode in MODES})


def check():
    published = {(256, "evaluate", "multiply_adds"): 118.64e9, (512, "evaluate", "multiply_adds"): 524.60e9,
                 # 675 M, of which the fixed positions of 256 tokens are no weights here.
                 (256, "train", "parameters"): 675129632 - 256 * Transformer.WIDTH,
                 (256, "encode", "parameters"): 34163664, (256, "decode", "parameters"): 49490199}
    for (size, mode, name), number in published.items():
        ask = {"size": size, "batch": 1, "dtype": "f32", "depth": Transformer.DEPTH, "attention": True}
        ours = Paper(ask).count(mode)[name]
        print(f"{mode} at {size}, {name}: {ours:.6g}, published {number:.6g}")
        if abs(ours - number) > 0.001 * number:
            sys.exit("these differ")


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        sys.exit(check())
    bench_pytorch.main({**dict.fromkeys(MODES, Work), "count": Paper}, __doc__)
