#!/usr/bin/env python3
"""The arithmetic of tests/on_gpu: what two devices made is compared, what was measured is put together.

    images A.npz B.npz DB            fails below DB of PSNR
    losses A.jsonl B.jsonl SHARE     fails where the losses of the same steps differ by more than SHARE on average
    summary FOLDER                   summary.txt and results.json from the stages' logs and facts there
"""

import ast
import json
import math
import pathlib
import re
import sys
import zipfile

# Dense bf16 TFLOP/s as published.
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "B200": 2250, "L40S": 362, "RTX 4090": 165}


def read_images(path):
    """Shape and bytes of the first array, as `sid2 sample` writes it."""
    with zipfile.ZipFile(path) as archive:
        data = archive.read("arr_0.npy")
    header = ast.literal_eval(data[10:10 + int.from_bytes(data[8:10], "little")].decode())
    shape, pixels = header["shape"], data[10 + int.from_bytes(data[8:10], "little"):]
    if header["descr"] != "|u1" or len(pixels) != math.prod(shape):
        sys.exit(f"{path} does not hold bytes")
    return shape, pixels


def images(a, b, least):
    (shape, x), (other, y) = read_images(a), read_images(b)
    if shape != other:
        sys.exit(f"{a} holds {shape}, {b} {other}")
    if max(x) - min(x) < 16:
        sys.exit(f"{a} is blank")
    error = sum((p - q) ** 2 for p, q in zip(x, y)) / len(x)
    psnr = 10 * math.log10(255**2 / error) if error else math.inf
    print(f"psnr {psnr:.1f} dB over {shape[0]} images, at least {least} wanted")
    sys.exit(not psnr >= float(least))


def read_losses(path):
    losses = {}
    with open(path) as f:
        for line in f:
            row = json.loads(line)
            if "loss" in row and "step" in row:
                losses[row["step"]] = row["loss"]
    return losses


def losses(a, b, share):
    x, y = read_losses(a), read_losses(b)
    steps = sorted(set(x) & set(y))
    if not steps:
        sys.exit("no step is in both")
    off = [abs(x[s] - y[s]) / abs(x[s]) for s in steps]
    mean = sum(off) / len(off)
    print(f"losses of {len(steps)} points up to step {steps[-1]}: {100 * mean:.3f} % apart on average, "
          f"{100 * max(off):.3f} % at most, {share} on average wanted; "
          f"last {x[steps[-1]]:.5g} and {y[steps[-1]]:.5g}")
    sys.exit(not mean <= float(share))


def read_text(path):
    return path.read_text(errors="replace") if path.exists() else ""


def benchmarks(folder, peak):
    """One entry a row of `sid2 bench --against pytorch`; bench-PRESET-{compiled,eager}.log."""
    found = []
    for log in sorted(folder.glob("bench-*.log")):
        preset, against = log.stem[len("bench-"):].rsplit("-", 1)
        facts = json.loads(read_text(folder / f"info-{preset}.json") or "{}")
        entry = None
        for line in read_text(log).splitlines():
            row = re.match(r"(train|sample), batch (\d+)\s+(\w+)\s+\S+\s+([\d.e+]+)\s+([\d.e+]+)\s+([\d.]+)", line)
            if row:
                mode, batch, dtype = row[1], int(row[2]), row[3]
                entry = {"preset": preset, "pytorch": against, "mode": mode, "batch": batch, "dtype": dtype,
                         "sid2_images_per_s": float(row[4]), "pytorch_images_per_s": float(row[5]),
                         "ratio": float(row[6])}
                work = 2 * facts.get("multiply_adds", 0) * (3 if mode == "train" else 1)
                if peak and work:
                    entry["sid2_share_of_peak"] = entry["sid2_images_per_s"] * work / (peak * 1e12)
                    entry["pytorch_share_of_peak"] = entry["pytorch_images_per_s"] * work / (peak * 1e12)
                found.append(entry)
            memory = re.match(r"\s+peak memory\s+\w+\s+MiB\s+([\d.e+]+)\s+([\d.e+]+)\s+([\d.]+)", line)
            if memory and entry:
                entry.update(sid2_mib=float(memory[1]), pytorch_mib=float(memory[2]), memory_ratio=float(memory[3]))
    return found


def target(entry):
    """Met or not: training 1.2 of compiled PyTorch and 40 % of peak, sampling 1.3, memory 0.7."""
    least = 1.2 if entry["mode"] == "train" else 1.3
    met = [entry["ratio"] >= least, entry.get("memory_ratio", 1) <= 0.7]
    if entry["mode"] == "train":
        met.append(entry.get("sid2_share_of_peak", 0) >= 0.4)
    return all(met)


def summary(folder):
    folder = pathlib.Path(folder)
    gpu = read_text(folder / "gpu.txt").strip()
    peak = next((value for name, value in PEAKS.items() if name in gpu), None)
    stages = [dict(zip(("name", "result", "seconds", "note"), line.split("\t")))
              for line in read_text(folder / "stages.tsv").splitlines()]
    bench = benchmarks(folder, peak)
    lines = [gpu or "no GPU", f"dense bf16 peak taken as {peak} TFLOP/s" if peak else "peak not known", ""]
    lines += [f"{s['name']:26} {s['result']:8} {s['seconds']:>4} s  {s['note']}" for s in stages]
    if bench:
        lines += ["", f"{'':34}{'sid2':>10}{'PyTorch':>10}{'ratio':>7}{'of peak':>9}{'MiB':>9}{'MiB':>9}{'ratio':>7}"]
    for e in bench:
        name = f"{e['preset']} {e['mode']} {e['batch']} ({e['pytorch']})"
        share = f"{100 * e['sid2_share_of_peak']:.1f} %" if "sid2_share_of_peak" in e else ""
        memory = f"{e['sid2_mib']:9.0f}{e['pytorch_mib']:9.0f}{e['memory_ratio']:7.2f}" if "sid2_mib" in e else ""
        lines.append(f"{name:34}{e['sid2_images_per_s']:10.1f}{e['pytorch_images_per_s']:10.1f}{e['ratio']:7.2f}"
                     f"{share:>9}{memory}  {'' if e['pytorch'] == 'eager' else 'met' if target(e) else 'not met'}")
    text = "\n".join(lines) + "\n"
    (folder / "summary.txt").write_text(text)
    (folder / "results.json").write_text(
        json.dumps({"gpu": gpu, "peak_tflops": peak, "stages": stages, "benchmarks": bench}, indent=2) + "\n")
    print(text, end="")


def main():
    commands = {"images": (images, 3), "losses": (losses, 3), "summary": (summary, 1)}
    name, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name not in commands or len(arguments) != commands[name][1]:
        sys.exit(__doc__)
    commands[name][0](*arguments)


if __name__ == "__main__":
    main()
