#!/usr/bin/env python3
"""A classifier of Fashion-MNIST or CIFAR-10 that judges samples: does a guided sample show the class asked for?

    classifier.py train --data PATH --weights W [--epochs N] [--threads N]
    classifier.py judge --weights W samples.npz [--data PATH]
    classifier.py features --weights W samples.npz... [--data PATH --real real.npz]

PATH is the folder with Fashion-MNIST's two idx.gz files, padded to 32x32 like the data that sid2 trains on, or CIFAR-10
as a zip with dataset.json (EDM). `train` fits a small convolutional network on all images but the last 10,000, which it
never sees, and measures it on these. `judge` reads an ADM archive (arr_0: uint8 [N,32,32,1 or 3], arr_1: labels) and
prints the share of images given the label asked for, overall and by class, beside the same figure for the held-out real
images. `features` leaves x.features.npz beside each x.npz, with the last layer but one and the logits, which
`sid2 ablate` reads; `--real` does so for the held-out real images.

Needs PyTorch and numpy, for CIFAR-10 Pillow too. Not part of the product: the figures in the documentation come from here.
"""

import argparse
import gzip
import io
import json
import math
import pathlib
import sys
import time
import zipfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FASHION = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
HELD_OUT = 10000


def read_idx(path, magic, dims):
    raw = gzip.open(path).read()
    head = np.frombuffer(raw, ">u4", 1 + dims)
    if head[0] != magic:
        sys.exit(f"{path}: idx magic {head[0]:#x}, expected {magic:#x}")
    return np.frombuffer(raw, np.uint8, offset=4 * (1 + dims)).reshape([int(n) for n in head[1:]])


def read_edm(path):
    """uint8 [N,3,32,32] and labels, in the order of dataset.json."""
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        pairs = json.loads(archive.read("dataset.json"))["labels"]
        images = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name, _ in pairs]
    return np.stack(images).transpose(0, 3, 1, 2), np.array([label for _, label in pairs])


def load_real(path):
    """Images uint8 [N,C,32,32], grey with 2 px of zeros around each; labels int64 [N]."""
    path = pathlib.Path(path)
    if path.is_dir():
        images = read_idx(path / "fashion-mnist-images-idx3-ubyte.gz", 0x803, 3)
        labels = read_idx(path / "fashion-mnist-labels-idx1-ubyte.gz", 0x801, 1)
        images = np.pad(images, ((0, 0), (2, 2), (2, 2)))[:, None]
    else:
        images, labels = read_edm(path)
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64))


class Unit(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut; stride 2 halves the grid."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv0 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.conv1 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.norm0, self.norm1 = nn.BatchNorm2d(cout), nn.BatchNorm2d(cout)
        self.short = nn.Conv2d(cin, cout, 1, stride, bias=False) if stride > 1 or cin != cout else nn.Identity()

    def forward(self, x):
        h = self.norm1(self.conv1(F.relu(self.norm0(self.conv0(x)))))
        return F.relu(h + self.short(x))


class Classifier(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.names = FASHION if channels == 1 else CIFAR
        self.mean, self.std = (73.0, 90.0) if channels == 1 else (120.0, 64.0)
        self.stem = nn.Conv2d(channels, 32, 3, 2, 1)
        self.units = nn.Sequential(Unit(32, 32, 1), Unit(32, 64, 1), Unit(64, 128, 2), Unit(128, 128, 1),
                                   Unit(128, 192, 2))
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(192, 10)

    def forward(self, x):
        """x: uint8 or float [N,C,32,32] in 0..255 -> logits [N,10]"""
        return self.out(self.drop(self.features(x)))

    def features(self, x):
        """-> [N,192]"""
        return self.units(F.relu(self.stem((x.float() - self.mean) / self.std))).mean((2, 3))


def load_model(path):
    state = torch.load(path, weights_only=True)["model"]
    model = Classifier(state["stem.weight"].shape[1])
    model.load_state_dict(state)
    return model


def load_samples(path, channels):
    """The images of an ADM archive, float [N,channels,32,32], and the archive."""
    archive = np.load(path)
    images = archive["arr_0"]
    if images.dtype != np.uint8 or images.shape[1:3] != (32, 32) or images.shape[3] not in (1, 3):
        sys.exit(f"{path}: arr_0 is {images.dtype} {images.shape}, expected uint8 [N,32,32,1 or 3]")
    images = images.astype(np.float32)
    if channels == 1:
        images = images.mean(3, keepdims=True)
    elif images.shape[3] == 1:
        images = images.repeat(3, 3)
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), archive


@torch.no_grad()
def predict(model, images, batch=500):
    model.eval()
    images = images.contiguous(memory_format=torch.channels_last)
    return torch.cat([(model(x) + model(x.flip(3))).argmax(1) for x in images.split(batch)])


def augment(x):
    """Random shift of up to 2 px, random mirror image, random 8x8 patch set to zero."""
    n = len(x)
    dy, dx = (torch.randint(-2, 3, (n, 1)) for _ in range(2))
    rows = (torch.arange(32)[None] + dy).clamp(0, 31)
    cols = (torch.arange(32)[None] + dx).clamp(0, 31)
    cols = torch.where(torch.rand(n, 1) < 0.5, cols, 31 - cols)
    x = x[torch.arange(n)[:, None, None], :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
    y0, x0 = (torch.randint(0, 25, (n, 1)) for _ in range(2))
    span = torch.arange(32)[None]
    hole = (((span >= y0) & (span < y0 + 8))[:, :, None] & ((span >= x0) & (span < x0 + 8))[:, None, :])[:, None]
    return x.float().masked_fill(hole & (torch.rand(n, 1, 1, 1) < 0.5), 0.0)


def train(args):
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    images, labels = load_real(args.data)
    train_x, train_y = images[:-HELD_OUT], labels[:-HELD_OUT]
    test_x, test_y = images[-HELD_OUT:], labels[-HELD_OUT:]
    model = Classifier(images.shape[1]).to(memory_format=torch.channels_last)
    batch, lr = 125, 2e-3
    steps = len(train_x) // batch * args.epochs
    opt = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.02)
    plan = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda s: min((s + 1) / 400, 0.5 * (1 + math.cos(math.pi * s / steps))))
    began = time.time()
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for pick in torch.randperm(len(train_x)).split(batch):
            x = augment(train_x[pick]).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(x).float(), train_y[pick], label_smoothing=0.05)
            opt.zero_grad()
            loss.backward()
            opt.step()
            plan.step()
            total += loss.item() * len(pick)
        accuracy = (predict(model, test_x) == test_y).float().mean().item()
        print(f"epoch {epoch + 1}/{args.epochs}  loss {total / len(train_x):.4f}  held-out {100 * accuracy:.2f} %"
              f"  {time.time() - began:.0f} s", flush=True)
        torch.save({"model": model.state_dict(), "held_out": accuracy, "epoch": epoch + 1}, args.weights)


def table(title, names, right, wanted):
    print(f"{title}: {100 * right.float().mean():.2f} % of {len(right)}")
    for k, name in enumerate(names):
        own = right[wanted == k]
        if len(own):
            print(f"    {k} {name:<12} {100 * own.float().mean():6.2f} % of {len(own)}")


def judge(args):
    torch.set_num_threads(args.threads)
    model = load_model(args.weights)
    images, archive = load_samples(args.samples, model.channels)
    if "arr_1" not in archive:
        sys.exit(f"{args.samples}: no arr_1, so nobody knows which labels were asked for")
    wanted = torch.from_numpy(archive["arr_1"].astype(np.int64))
    found = predict(model, images)
    table("samples given the label asked for", model.names, found == wanted, wanted)
    result = {"samples": (found == wanted).float().mean().item(), "count": len(wanted)}
    if args.data:
        real, labels = load_real(args.data)
        real, labels = real[-HELD_OUT:], labels[-HELD_OUT:]
        right = predict(model, real) == labels
        table("held-out real images given their label", model.names, right, labels)
        result["real"] = right.float().mean().item()
    print(json.dumps(result))


@torch.no_grad()
def describe(model, images, path):
    """Features and logits of images [N,C,32,32]."""
    model.eval()
    found = torch.cat([model.features(x) for x in images.split(500)])
    np.savez(path, features=found.numpy(), logits=model.out(found).numpy())
    print(path)


def features(args):
    torch.set_num_threads(args.threads)
    model = load_model(args.weights)
    for path in args.samples:
        describe(model, load_samples(path, model.channels)[0], path.removesuffix(".npz") + ".features.npz")
    if args.real:
        describe(model, load_real(args.data)[0][-HELD_OUT:], args.real)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in (train, judge, features):
        sub = verbs.add_parser(verb.__name__)
        sub.set_defaults(run=verb)
        sub.add_argument("--weights", required=True)
        sub.add_argument("--data", required=verb is train, help="folder with Fashion-MNIST's idx.gz files, or CIFAR-10's zip")
        sub.add_argument("--threads", type=int, default=1)
        if verb is train:
            sub.add_argument("--epochs", type=int, default=15)
        else:
            sub.add_argument("samples", help="ADM npz", nargs=None if verb is judge else "*")
        if verb is features:
            sub.add_argument("--real", metavar="x.npz", help="write those of the held-out real images, of --data")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
