"""Makes tests/golden/pillow.txt: centre crops by Pillow, which data/resize.c must equal bit for bit.

Run with Pillow 12 or older: python3 tests/pillow_reference.py > tests/golden/pillow.txt
Pillow 13 (its pull request 9549) resizes tall images vertically first, which changes low bits; every published
FID reference was made horizontally first, by the older ones, and so is sid2's (9.5, 11.3 and 12.2 agree).
Each line: kind, channels, input width and height, size asked for, FNV-1a 64 of the result. Inputs come from the
integer formula of picture() below, repeated in tests/test_data_resize.c, so nothing but hashes is kept.
"""

import numpy as np
import PIL
from PIL import Image


def picture(width, height, channels):
    """Noise over a coarse pattern: a 32-bit mixing of the byte's index, half of it on blocks of 5 x 7."""
    y, x, c = np.meshgrid(*(np.arange(n, dtype=np.uint64) for n in (height, width, channels)), indexing="ij")

    def mix(v):
        v = (v * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
        v ^= v >> np.uint64(15)
        v = (v * np.uint64(2246822519)) & np.uint64(0xFFFFFFFF)
        return v ^ (v >> np.uint64(13))

    fine = mix((y * np.uint64(width) + x) * np.uint64(channels) + c) & np.uint64(255)
    coarse = mix((y // np.uint64(7)) * np.uint64(1009) + x // np.uint64(5) + c * np.uint64(77)) & np.uint64(255)
    array = np.where(coarse > 200, 255, np.where(coarse < 50, 0, (fine + coarse) // np.uint64(2)))
    return Image.fromarray(array.astype(np.uint8).squeeze(-1) if channels == 1 else array.astype(np.uint8))


def center_crop(image, width, height):
    """The ADM preprocessing: BOX halvings, BICUBIC to the size, centre. Its squares are the case of width = height."""
    while image.size[0] >= 2 * width and image.size[1] >= 2 * height:
        image = image.resize((image.size[0] // 2, image.size[1] // 2), resample=Image.BOX)
    scale = max(width / image.size[0], height / image.size[1])
    image = image.resize(tuple(round(n * scale) for n in image.size), resample=Image.BICUBIC)
    left, top = (image.size[0] - width) // 2, (image.size[1] - height) // 2
    return image.crop((left, top, left + width, top + height))


def fnv(image):
    value = 0xCBF29CE484222325
    for byte in np.asarray(image).tobytes():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


CROPS = [(500, 375), (375, 500), (333, 1001), (64, 64), (65, 64), (63, 64), (127, 128), (129, 131), (28, 28), (1, 1),
         (3, 200), (17, 5), (255, 256), (1280, 853)]
RESIZES = [(100, 80, 37, 91), (31, 47, 64, 64), (200, 3, 5, 50), (57, 57, 58, 56), (7, 7, 7, 7), (301, 299, 32, 32)]

if int(PIL.__version__.split(".")[0]) >= 13:
    raise SystemExit("Pillow 12 or older is needed: newer ones resize in another order")
print(f"# Pillow {PIL.__version__}; made by tests/pillow_reference.py")
for channels in (1, 3):
    for width, height in CROPS:
        source = picture(width, height, channels)
        for to in ((32, 32), (64, 64), (48, 48), (128, 128), (160, 96), (24, 40)):
            print("crop", channels, width, height, *to, f"{fnv(center_crop(source, *to)):016x}")
    for width, height, to_width, to_height in RESIZES:
        source = picture(width, height, channels)
        for name, filter in (("box", Image.BOX), ("bicubic", Image.BICUBIC)):
            result = source.resize((to_width, to_height), resample=filter)
            print(name, channels, width, height, to_width, to_height, f"{fnv(result):016x}")
    if channels == 3:
        for width, height in CROPS[:3]:
            print("grey", 3, width, height, width, height, f"{fnv(picture(width, height, 3).convert('L')):016x}")
