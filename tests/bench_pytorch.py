#!/usr/bin/env python3
"""The other side of `sid2 bench --against pytorch`: the same work in PyTorch, driven line by line over stdin.

    first line   {"config": {"model.image_size": 32, ...}, "mode": "train" | "sample" | "distill" | "op" | "unet" | "judge",
                  "dtype": "f32" | "bf16", "batch": 64, "threads": 2,
                  "compile": false, "malloc": "stock" | "keep",
                  "device": "cuda:0", else the CPU; "tf32": false}
                 mode "op" has, instead of config and batch, one of
                    "op": "conv2d",     "shape": [N,H,W,C], "out": O, "kernel": 3
                    "op": "linear",     "shape": [rows,K],  "out": N
                    "op": "attention",  "shape": [N,T,C],   "heads": h
                    "op": "group_norm", "shape": [N,H,W,C], "groups": g        with SiLU
                    "op": "row_norm",   "shape": [rows,C]                      RMSNorm
                 answered, after a step or two to warm up, by    ready VERSION PARAMETERS
                 mode "unet" has batch: the small network of cli/unet.h
                 mode "judge" has the networks of FID and FVD, of a file of weights; f32
                    "network": "inception" | "i3d", "weights": PATH, "frames": 16
    run K        K steps; answered by the seconds they took
    mem          answered by two figures in MiB: the process's peak resident memory, and what it was after the imports;
                 on a GPU: the most that tensors took there, and 0
    quit         ends; so does the end of the input

Any failure is answered by one line, `error WHY`, and ends the program. Missing config keys get the defaults of
golden/uvit.py.

A training step is forward, loss, backward, clip, Adam and EMA; a sampling step one evaluation of the network and one
ancestral update; a step of a distillation that of the auxiliary network or of the student, in turn (docs/distill.md, without guidance and
dropout); an operator's step its forward and backward pass. What a careful user of PyTorch does is done:
channels-last memory, fused attention, fused Adam and grouped EMA, gradients set to None, bf16 by autocast except where
PyTorch is faster in f32. Two more are asked for: "compile": true is torch.compile, which needs a C++ compiler and takes
a minute or two; "malloc": "keep" tells the C library to keep freed memory, since by default each large tensor is mapped
and zeroed anew, which costs a quarter of a small model's step. Needs PyTorch and nothing else.
"""

import contextlib
import copy
import ctypes
import json
import math
import os
import pathlib
import resource
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError as cause:
    print(f"error {sys.executable} has no PyTorch ({cause}): name a Python that has it with --python", flush=True)
    sys.exit(1)

sys.path.insert(0, str(pathlib.Path(__file__).parent / "golden"))
import uvit  # noqa: E402


def resident_mib():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def flatten(config):
    """{"model": {"patch": 1}} and {"model.patch": 1} are both welcome."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{name}": v for name, v in value.items()})
        else:
            flat[key] = value
    return flat


def on_gpu():
    return torch.get_default_device().type == "cuda"


def wait():
    if on_gpu():
        torch.cuda.synchronize()


def choose_device(name, tf32):
    """Tensors are made there from now on."""
    if not name.startswith("cuda"):
        return
    torch.set_default_device(name)
    torch.zeros(1)  # or the error comes later, in other words
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32


def autocast(dtype):
    device = torch.get_default_device().type
    return torch.autocast(device, torch.bfloat16) if dtype == "bf16" else contextlib.nullcontext()


def keep_freed_memory():
    trim_threshold, mmap_max = -1, -4  # <malloc.h>
    libc = ctypes.CDLL(None)
    if not (libc.mallopt(mmap_max, 0) and libc.mallopt(trim_threshold, -1)):
        raise OSError("mallopt refused")


class Update:
    """Clip, Adam and an average of the weights, from their gradients, which are gone afterwards."""
    LR, DECAY = 1e-4, 0.9999

    def __init__(self, weights, average=True):
        self.weights = weights
        self.ema = [w.detach().clone() for w in weights] if average else []
        self.adam = torch.optim.Adam(weights, self.LR, (0.9, 0.99), 1e-12, fused=True)

    def __call__(self):
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0, foreach=True)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            if self.ema:
                torch._foreach_lerp_(self.ema, self.weights, 1 - self.DECAY)


def given_frames(ask):
    """Of a clip, which is model.frames images one after the other; what is n elsewhere counts clips."""
    return int(flatten(ask["config"]).get("model.given", 0))


class Training:
    def __init__(self, ask):
        self.model = uvit.UViT(flatten(ask["config"])).to(memory_format=torch.channels_last).train()
        self.c, self.n, self.dtype = self.model.config, ask["batch"], ask["dtype"]
        self.weights = list(self.model.parameters())
        self.update = Update(self.weights)
        self.net = torch.compile(self.model) if ask.get("compile") else self.model
        self.frames, self.given = self.c["model.frames"], given_frames(ask)
        shape = self.n * self.frames, *uvit.extent(self.c), self.c["model.image_channels"]
        self.pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.labels = torch.randint(0, self.c["model.classes"], (self.n,))

    def step(self):
        n, none = self.n, self.c["model.classes"]
        x = self.pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        label = torch.where(torch.rand(n) < 0.1, none, self.labels)
        lam, slope = self.model.schedule((torch.rand(()) + torch.arange(n, dtype=torch.float64) / n) % 1)
        lam, slope, label = (e.repeat_interleave(self.frames) for e in (lam.float(), slope.float(), label))
        alpha, sigma = uvit.alpha_sigma(lam)
        weight = 1
        if self.given:  # clean, and without loss; of a tenth of the clips nothing is
            has = (torch.rand(n) >= 0.1)[:, None].expand(n, self.frames)
            clean = (has & (torch.arange(self.frames) < self.given)).flatten()
            lam, alpha = torch.where(clean, self.model.schedule.start, lam), alpha.masked_fill(clean, 1)
            sigma = sigma.masked_fill(clean, 0)
            weight = torch.where(has.flatten(), self.frames / (self.frames - self.given), 1) * ~clean
        z = uvit.per_image(alpha) * x + uvit.per_image(sigma) * torch.randn_like(x)
        with autocast(self.dtype):
            v = self.net(z, lam, label)
        loss = (weight * uvit.sigmoid_loss(v.float(), z, x, lam, slope, self.c["loss.bias"])).mean()
        loss.backward()
        self.update()
        return loss

    def parameters(self):
        return sum(w.numel() for w in self.weights)


class Distilling:
    """Three networks; the student and the auxiliary one learn in turn."""
    K = 8

    def __init__(self, ask):
        names = "student", "teacher", "auxiliary"
        first = uvit.UViT(flatten(ask["config"])).to(memory_format=torch.channels_last).train()
        models = {name: copy.deepcopy(first) for name in names}
        models["teacher"].requires_grad_(False)
        self.c, self.n, self.dtype, self.schedule, self.steps = first.config, ask["batch"], ask["dtype"], first.schedule, 0
        self.weights = list(models["student"].parameters())
        self.updates = {"student": Update(self.weights),
                        "auxiliary": Update(list(models["auxiliary"].parameters()), average=False)}
        self.net = {name: torch.compile(m) if ask.get("compile") else m for name, m in models.items()}
        shape = self.n, *uvit.extent(self.c), self.c["model.image_channels"]
        self.pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.labels = torch.randint(0, self.c["model.classes"], (self.n,))

    def v(self, name, z, lam, learns=False):
        with torch.set_grad_enabled(learns), autocast(self.dtype):
            return self.net[name](z, lam, self.labels).float()

    def step(self):
        n, of = self.n, uvit.per_image
        student, self.steps = self.steps % 2 == 1, self.steps + 1
        x = self.pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        s = (torch.rand(()) + torch.arange(n, dtype=torch.float64) / n) % 1
        t = (s + torch.rand(n, dtype=torch.float64) / self.K).clamp_(max=1)
        lam_t, (lam_s, slope) = self.schedule(t)[0], self.schedule(s)
        share = -torch.expm1(lam_t - lam_s).float()
        lam_t, lam_s, slope = lam_t.float(), lam_s.float(), slope.float()
        (alpha, sigma), (alpha_s, sigma_s) = uvit.alpha_sigma(lam_t), uvit.alpha_sigma(lam_s)
        z = of(alpha) * x + of(sigma) * torch.randn_like(x)
        v = self.v("student", z, lam_t, student)
        with torch.no_grad():
            made = of(alpha) * z - of(sigma) * v
            keep, take = alpha * sigma_s**2 / (alpha_s * sigma**2), alpha_s * share
            z_s = of(keep) * z + of(take) * made + of(sigma_s * share.sqrt()) * torch.randn_like(x)
        auxiliary, teacher = self.v("auxiliary", z_s, lam_s, not student), self.v("teacher", z_s, lam_s)
        with torch.no_grad():
            weight = 0.5 * slope.abs() * math.exp(self.c["loss.bias"]) * torch.sigmoid(lam_s - self.c["loss.bias"])
            if student:
                target = made - 0.5 * of(sigma_s) * (teacher - auxiliary)
            else:
                target = 0.5 * (made + of(alpha_s) * z_s - of(sigma_s) * teacher)
        guess = of(alpha) * z - of(sigma) * v if student else of(alpha_s) * z_s - of(sigma_s) * auxiliary
        loss = ((1 if student else 2) * weight * (guess - target).square().mean((1, 2, 3))).mean()
        loss.backward()
        self.updates["student" if student else "auxiliary"]()
        return loss

    def parameters(self):
        return sum(w.numel() for w in self.weights)


class Sampling:
    GRID, GAMMA = 512, 0.3

    def __init__(self, ask):
        self.model = uvit.UViT(flatten(ask["config"])).to(memory_format=torch.channels_last).eval()
        self.model.requires_grad_(False)
        self.c, self.n, self.dtype, self.at = self.model.config, ask["batch"], ask["dtype"], self.GRID
        self.net = torch.compile(self.model) if ask.get("compile") else self.model
        frames, given = self.c["model.frames"], given_frames(ask)
        self.labels = torch.randint(0, self.c["model.classes"], (self.n,)).repeat_interleave(frames)
        shape = self.n * frames, self.c["model.image_channels"], *uvit.extent(self.c)
        self.z = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        self.clean = (torch.arange(frames) < given).repeat(self.n)
        self.history = self.z[self.clean].clamp(-1, 1)
        self.lam = self.model.schedule(torch.linspace(0, 1, self.GRID + 1, dtype=torch.float64))[0].cpu()

    @torch.inference_mode()
    def step(self):
        here, there = self.lam[self.at], self.lam[self.at - 1]
        (alpha, sigma), (alpha_s, _) = ([float(f) for f in uvit.alpha_sigma(lam)] for lam in (here, there))
        lam = torch.full((len(self.z),), float(here))
        if len(self.history):
            self.z[self.clean], lam = self.history, torch.where(self.clean, self.model.schedule.start, lam)
        with autocast(self.dtype):
            v = self.net(self.z, lam, self.labels)
        x = (alpha * self.z - sigma * v.float()).clamp_(-1, 1)
        c = float(-torch.expm1(here - there))
        self.z = alpha_s * (self.z * ((1 - c) / alpha) + c * x)
        if self.at > 1:
            larger, smaller = float(F.logsigmoid(-here)), float(F.logsigmoid(-there))
            logvar = math.log(c) + self.GAMMA * larger + (1 - self.GAMMA) * smaller
            self.z += math.exp(logvar / 2) * torch.randn_like(self.z)
        self.at = self.at - 1 if self.at > 1 else self.GRID

    def parameters(self):
        return sum(w.numel() for w in self.model.parameters())


class Operator:
    def __init__(self, ask):
        shape, kind = ask["shape"], torch.bfloat16 if ask["dtype"] == "bf16" else torch.float32
        channels = shape[-1]

        def tensor(*dims, memory=torch.contiguous_format):
            return torch.randn(dims).to(kind).contiguous(memory_format=memory).requires_grad_()

        def image():
            n, h, w, c = shape
            return tensor(n, c, h, w, memory=torch.channels_last)

        op = ask["op"]
        if op == "conv2d":
            k = ask["kernel"]
            self.inputs = [image(), tensor(ask["out"], channels, k, k, memory=torch.channels_last), tensor(ask["out"])]
            self.forward = lambda x, w, b: F.conv2d(x, w, b, padding=(k - 1) // 2)
        elif op == "linear":
            self.inputs = [tensor(*shape), tensor(ask["out"], channels), tensor(ask["out"])]
            self.forward = F.linear
        elif op == "attention":
            n, tokens, _ = shape
            heads = ask["heads"]
            self.inputs = [tensor(n, tokens, channels) for _ in range(3)]
            self.forward = lambda *qkv: F.scaled_dot_product_attention(
                *(m.view(n, tokens, heads, -1).transpose(1, 2) for m in qkv)).transpose(1, 2).flatten(2)
        elif op == "group_norm":
            self.inputs = [image(), tensor(channels), tensor(channels)]
            self.forward = lambda x, w, b: F.silu(F.group_norm(x, ask["groups"], w, b, uvit.EPS))
        elif op == "row_norm":
            self.inputs = [tensor(*shape), tensor(channels)]
            self.forward = lambda x, w: F.rms_norm(x, (channels,), w, uvit.EPS)
        else:
            raise ValueError(f"unknown op '{op}'")
        if ask.get("compile"):
            self.forward = torch.compile(self.forward)
        self.weights = 0 if op == "attention" else sum(t.numel() for t in self.inputs[1:])
        self.dy = torch.randn_like(self.forward(*self.inputs))

    def step(self):
        torch.autograd.grad(self.forward(*self.inputs), self.inputs, self.dy)

    def parameters(self):
        return self.weights


class Block(torch.nn.Module):
    """x and, where there is one, what lies beside it; both normed apart."""

    def __init__(self, widths, out):
        super().__init__()
        self.norms = torch.nn.ModuleList([torch.nn.GroupNorm(16, width) for width in widths])
        self.first = UNet.conv(sum(widths), out)
        self.norm = torch.nn.GroupNorm(16, out)
        self.second = UNet.conv(out, out)
        self.project = UNet.conv(sum(widths), out, 1) if widths != [out] else torch.nn.Identity()

    def forward(self, *parts):
        h = self.first(torch.cat([F.silu(norm(part)) for norm, part in zip(self.norms, parts)], 1))
        return self.second(F.silu(self.norm(h))) + self.project(torch.cat(parts, 1))


class UNet(torch.nn.Module):
    WIDTHS = 64, 128, 256

    @staticmethod
    def conv(channels, out, kernel=3):
        return torch.nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)

    def __init__(self):
        super().__init__()
        first, last = self.WIDTHS[0], self.WIDTHS[-1]
        above = [first, *self.WIDTHS[:-1]]
        self.first = self.conv(4, first)
        self.down = torch.nn.ModuleList([Block([i], o) for i, o in zip(above, self.WIDTHS)])
        self.halve = torch.nn.ModuleList([self.conv(width, width) for width in self.WIDTHS[:-1]])
        self.middle = Block([last], last)
        below = [last, *self.WIDTHS[:0:-1]]
        self.up = torch.nn.ModuleList([Block([i, o], o) for i, o in zip(below, self.WIDTHS[::-1])])
        self.norm = torch.nn.GroupNorm(16, first)
        self.last = self.conv(first, 4)

    def forward(self, x):
        x, kept = self.first(x), []
        for level, block in enumerate(self.down):
            if level:
                x = self.halve[level - 1](F.avg_pool2d(x, 2))
            x = block(x)
            kept.append(x)
        x = self.middle(x)
        for level, block in enumerate(self.up):
            if level:
                x = F.interpolate(x, scale_factor=2)
            x = block(x, kept.pop())
        return self.last(F.silu(self.norm(x)))


class TrainingUNet:
    def __init__(self, ask):
        self.model = UNet().to(memory_format=torch.channels_last).train()
        self.net = torch.compile(self.model) if ask.get("compile") else self.model
        self.weights, self.dtype = list(self.model.parameters()), ask["dtype"]
        self.update = Update(self.weights, average=False)
        shape = ask["batch"], 4, 32, 32
        self.z, self.target = (torch.randn(shape).to(memory_format=torch.channels_last) for _ in range(2))

    def step(self):
        with autocast(self.dtype):
            v = self.net(self.z)
        F.mse_loss(v.float(), self.target).backward()
        self.update()

    def parameters(self):
        return sum(w.numel() for w in self.weights)


class Judging:
    """Pictures that have their size already, to features. Batch norms are in the weights, as on the other side."""

    def __init__(self, ask):
        import numpy as np

        import i3d
        import inception
        self.is_i3d = ask["network"] == "i3d"
        memory = torch.channels_last_3d if self.is_i3d else torch.channels_last
        network = (i3d if self.is_i3d else inception).Network(inception.load(ask["weights"], np.float32))
        network.tensors = {
            name: (t.contiguous(memory_format=memory) if name.endswith(".weight") else t).to(torch.get_default_device())
            for name, t in network.tensors.items()}
        self.network = network
        self.forward = network.logits if self.is_i3d else network.features
        if ask.get("compile"):
            self.forward = torch.compile(self.forward)
        side = 224 if self.is_i3d else 299
        shape = (ask["batch"], ask["frames"], side, side, 3) if self.is_i3d else (ask["batch"], side, side, 3)
        self.pixels = torch.randint(0, 256, shape, dtype=torch.uint8)

    @torch.inference_mode()
    def step(self):
        if self.is_i3d:
            return self.forward(self.pixels.permute(0, 4, 1, 2, 3).float() * (2 / 255) - 1)
        return self.forward(self.pixels.permute(0, 3, 1, 2).float() / 128 - 1)

    def parameters(self):
        return sum(t.numel() for t in self.network.tensors.values())


def serve(works):
    """works: by mode, what makes the work from a request; a work has step(), parameters(), and perhaps answer(words)."""
    first = sys.stdin.readline()
    if not first:
        return
    ask = json.loads(first)
    if ask["dtype"] not in ("f32", "bf16"):
        raise ValueError(f"unknown dtype '{ask['dtype']}'")
    torch.manual_seed(0)
    torch.set_num_threads(ask["threads"])
    torch.set_num_interop_threads(1)
    choose_device(ask.get("device", "cpu"), ask.get("tf32", False))
    baseline = resident_mib()
    if ask.get("malloc", "stock") == "keep":
        keep_freed_memory()
    work = works[ask["mode"]](ask)
    # A second, shape-independent compilation may follow the first; what a training keeps is there after its first step.
    for _ in range(2 if ask.get("compile") or ask["mode"] in ("train", "distill", "unet") else 1):
        work.step()
    wait()
    print("ready", torch.__version__, work.parameters(), flush=True)
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            return
        if words == ["mem"]:
            print(f"{torch.cuda.max_memory_allocated() / 2**20:.1f} 0" if on_gpu() else
                  f"{peak_mib():.1f} {baseline:.1f}", flush=True)
        elif len(words) == 2 and words[0] == "run":
            began = time.perf_counter()
            for _ in range(int(words[1])):
                work.step()
            wait()
            print(f"{time.perf_counter() - began:.6f}", flush=True)
        elif hasattr(work, "answer"):
            print(work.answer(words), flush=True)
        else:
            raise ValueError(f"unknown request '{line.strip()}'")


def main(works, usage):
    if len(sys.argv) > 1:
        sys.exit(usage)
    try:
        serve(works)
    except Exception as problem:  # the other side reads one line
        print("error", type(problem).__name__ + ":", " ".join(str(problem).split()), flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main({"train": Training, "sample": Sampling, "distill": Distilling, "op": Operator, "unet": TrainingUNet,
          "judge": Judging}, __doc__)
