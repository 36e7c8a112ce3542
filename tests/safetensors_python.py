#!/usr/bin/env python3
"""Checks sid2's safetensors files with the official Python package, and makes the fixture of test_safetensors.

    safetensors_python.py fixture OUT.safetensors      write tests/fixtures/official.safetensors
    safetensors_python.py check FILE.safetensors ...   read each with the official package, write it again with
                                                       the same metadata, and compare the bytes

Needs the packages numpy and safetensors, and torch for bf16; not part of the test command.
"""
import sys


def fixture(path):
    import numpy as np
    from safetensors.numpy import save_file

    rng = np.random.default_rng(1)
    tensors = {
        "b.weight": rng.standard_normal((3, 5)).astype(np.float32),
        "a": np.arange(7, dtype=np.float64),
        "u": np.arange(4, dtype=np.uint8),
        "h": np.arange(6, dtype=np.float16).reshape(2, 3),
        "i": np.array([[-1, 2]], dtype=np.int32),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(2.5, np.float32),
    }
    save_file(tensors, path, metadata={"made_by": "the official package"})


def check(path):
    from safetensors import safe_open
    from safetensors.torch import save

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        again = save(tensors, metadata=file.metadata())
    same = again == open(path, "rb").read()
    print(f"{path}: {len(tensors)} tensors, {'byte for byte the same' if same else 'the bytes DIFFER'}")
    return same


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("fixture", "check"):
        sys.exit(__doc__)
    if sys.argv[1] == "fixture":
        fixture(sys.argv[2])
    elif not all([check(path) for path in sys.argv[2:]]):
        sys.exit(1)
