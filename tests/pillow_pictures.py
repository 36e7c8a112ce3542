"""Makes tests/golden/pictures.zip: every kind of PNG and JPEG, each with the pixels it must decode to.

Run: python3 tests/pillow_pictures.py
Member NAME is a picture; NAME.raw holds width, height, channels (little-endian int32) and the pixels. PNG files are
assembled here byte by byte and their pixels computed in integers; JPEG files are written and read by Pillow.
"""

import io
import pathlib
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
random = np.random.default_rng(7)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack_rows(samples, depth):
    """Each row: filter type 0, then its samples, most significant bit first."""
    out = b""
    for row in samples.reshape(samples.shape[0], -1):
        if depth == 16:
            out += b"\0" + row.astype(">u2").tobytes()
        else:
            bits = (row[:, None] >> np.arange(depth)[::-1]) & 1
            out += b"\0" + np.packbits(bits.astype(np.uint8).ravel()).tobytes()
    return out


def png(samples, depth, colour, interlaced, extra):
    height, width = samples.shape[:2]
    if interlaced:
        passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
        data = b"".join(pack_rows(p, depth) for p in passes if p.size)
    else:
        data = pack_rows(samples, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def to_bytes(samples, depth):
    """To 8 bits, rounded."""
    top = (1 << depth) - 1
    return (samples.astype(np.int64) * 255 * 2 + top) // (2 * top)


def on_white(colour, alpha):
    return (colour * alpha + 255 * (255 - alpha) + 127) // 255


def make_pngs():
    for colour, depths in ((GREY, (1, 2, 4, 8, 16)), (RGB, (8, 16)), (PALETTE, (1, 2, 4, 8)), (GREY_ALPHA, (8, 16)),
                           (RGB_ALPHA, (8, 16))):
        for depth in depths:
            for interlaced in (False, True):
                for keyed in (False, True) if colour in (GREY, RGB, PALETTE) else (False,):
                    samples = random.integers(0, 1 << depth, (11, 13, SAMPLES[colour]))
                    extra = b""
                    if colour == PALETTE:
                        palette = random.integers(0, 256, (1 << depth, 3))
                        alpha = random.integers(0, 256, 1 << depth) if keyed else np.full(1 << depth, 255)
                        extra = chunk(b"PLTE", palette.astype(np.uint8).tobytes())
                        if keyed:
                            extra += chunk(b"tRNS", alpha.astype(np.uint8).tobytes())
                        pixels = on_white(palette[samples[..., 0]], alpha[samples])
                    elif colour in (GREY, RGB):
                        pixels = to_bytes(samples, depth)
                        if keyed:
                            key = samples[4, 5]
                            extra = chunk(b"tRNS", key.astype(">u2").tobytes())
                            pixels = np.where((samples == key).all(-1, keepdims=True), 255, pixels)
                    else:
                        parts = to_bytes(samples, depth)
                        pixels = on_white(parts[..., :-1], parts[..., -1:])
                    name = f"png-{colour}-{depth}{'-interlaced' * interlaced}{'-keyed' * keyed}.png"
                    yield name, png(samples, depth, colour, interlaced, extra), pixels


def make_jpegs():
    y, x = np.mgrid[0:21, 0:33]
    wave = np.stack([128 + 100 * np.sin(x / 5 + c) * np.cos(y / (3 + c)) for c in range(4)], -1).astype(np.uint8)
    for name, array, mode, options in (
        ("grey", wave[..., 0], "L", {}),
        ("444", wave[..., :3], "RGB", {"subsampling": 0}),
        ("422", wave[..., :3], "RGB", {"subsampling": 1}),
        ("420", wave[..., :3], "RGB", {"subsampling": 2}),
        ("progressive", wave[..., :3], "RGB", {"progressive": True}),
        ("restart", wave[..., :3], "RGB", {"restart_marker_blocks": 1}),
        ("cmyk", wave, "CMYK", {}),
    ):
        stream = io.BytesIO()
        Image.fromarray(array, mode).save(stream, "jpeg", quality=90, **options)
        image = Image.open(io.BytesIO(stream.getvalue()))
        pixels = np.asarray(image if mode == "L" else image.convert("RGB"))
        yield f"jpeg-{name}.jpg", stream.getvalue(), pixels if pixels.ndim == 3 else pixels[..., None]


if __name__ == "__main__":
    path = pathlib.Path(__file__).parent / "golden" / "pictures.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, pixels in [*make_pngs(), *make_jpegs()]:
            height, width, channels = pixels.shape
            raw = struct.pack("<3i", width, height, channels) + pixels.astype(np.uint8).tobytes()
            for member, content in ((name, data), (name + ".raw", raw)):
                archive.writestr(zipfile.ZipInfo(member), content, zipfile.ZIP_DEFLATED)
