"""Trains and samples through ctypes: no other Python package is needed.

    python3 train_and_sample.py samples.png [libsid2.so.0]
"""

import ctypes as c
import locale
import sys

SIZE, BATCH, STEPS, IMAGES = 32, 8, 20, 4


class Error(c.Structure):
    _fields_ = [("code", c.c_int), ("message", c.c_char * 480)]


class TrainStats(c.Structure):
    _fields_ = [("step", c.c_uint64), ("images", c.c_uint64), ("loss", c.c_double), ("grad_norm", c.c_double),
                ("learning_rate", c.c_double), ("sample_loss", c.c_void_p), ("sample_logsnr", c.c_void_p)]


class Image(c.Structure):
    _fields_ = [("width", c.c_int32), ("height", c.c_int32), ("channels", c.c_int32), ("pixels", c.c_void_p),
                ("orientation", c.c_int32)]


def load(path):
    """The functions used below, with their types: pointers are 64 bits, which ctypes does not guess."""
    library = c.CDLL(path)
    handle, text, err = c.c_void_p, c.c_char_p, c.POINTER(Error)
    for name, result, *arguments in [
        ("version", text),
        ("config_create", handle),
        ("config_destroy", None, handle),
        ("config_preset", c.c_bool, handle, text, err),
        ("config_set", c.c_bool, handle, text, err),
        ("config_settle_train", None, handle, handle),
        ("config_settle_sample", None, handle, handle),
        ("device_open", handle, text, handle, err),
        ("device_close", None, handle),
        ("synth_label", c.c_int32, c.c_uint64),
        ("synth_render", c.c_bool, c.c_uint64, c.c_uint64, c.c_int32, handle, err),
        ("trainer_create", handle, handle, handle, c.c_size_t, err),
        ("trainer_destroy", None, handle),
        ("trainer_step", c.c_bool, handle, handle, handle, err),
        ("trainer_stats", c.POINTER(TrainStats), handle),
        ("sampler_create", handle, handle, handle, c.c_size_t, err),
        ("sampler_destroy", None, handle),
        ("sampler_load_trainer", c.c_bool, handle, handle, err),
        ("sampler_run", c.c_bool, handle, handle, handle, c.c_int, handle, handle, handle, err),
        ("image_grid", c.c_bool, c.POINTER(Image), handle, c.c_int32, c.c_int32, c.c_int32, c.c_int32, c.c_int32,
         c.c_int32, c.c_uint8, err),
        ("image_free", None, c.POINTER(Image)),
        ("png_write", c.c_bool, text, c.POINTER(Image), handle, c.c_size_t, err),
    ]:
        function = getattr(library, "sid2_" + name)
        function.restype, function.argtypes = result, arguments
    return library


def main():
    locale.setlocale(locale.LC_ALL, "")  # libsid2 reads and writes numbers as ever
    path = sys.argv[1] if len(sys.argv) > 1 else "samples.png"
    sid2 = load(sys.argv[2] if len(sys.argv) > 2 else "libsid2.so.0")
    error = Error()

    def must(result):
        if not result:
            raise SystemExit("train_and_sample.py: " + error.message.decode())
        return result

    config = must(sid2.sid2_config_create())
    must(sid2.sid2_config_preset(config, b"quickstart", error))
    for setting in (b"train.batch=8", b"train.learning_rate=1e-3", b"sample.steps=4", b"sample.batch=4"):
        must(sid2.sid2_config_set(config, setting, error))
    device = must(sid2.sid2_device_open(b"cpu", None, error))
    sid2.sid2_config_settle_train(config, device)
    sid2.sid2_config_settle_sample(config, device)

    trainer = must(sid2.sid2_trainer_create(device, config, 0, error))
    picture = SIZE * SIZE * 3
    pixels, labels = (c.c_uint8 * (BATCH * picture))(), (c.c_int32 * BATCH)()
    for step in range(STEPS):
        for i in range(BATCH):
            labels[i] = sid2.sid2_synth_label(BATCH * step + i)
            must(sid2.sid2_synth_render(1, BATCH * step + i, SIZE, c.addressof(pixels) + i * picture, error))
        must(sid2.sid2_trainer_step(trainer, pixels, labels, error))
        stats = sid2.sid2_trainer_stats(trainer).contents
        if stats.step % 5 == 0:
            print(f"step {stats.step}, loss {stats.loss:.4f}")

    sampler = must(sid2.sid2_sampler_create(device, config, 0, error))
    must(sid2.sid2_sampler_load_trainer(sampler, trainer, error))
    seeds, labels = (c.c_uint64 * IMAGES)(1, 2, 3, 4), (c.c_int32 * IMAGES)(0, 1, 2, 3)
    samples = (c.c_uint8 * (IMAGES * picture))()
    must(sid2.sid2_sampler_run(sampler, seeds, labels, IMAGES, samples, None, None, error))
    grid = Image()
    must(sid2.sid2_image_grid(grid, samples, IMAGES, SIZE, SIZE, 3, 0, 2, 255, error))
    must(sid2.sid2_png_write(path.encode(), grid, None, 0, error))
    print(f"{path}: made by libsid2 {sid2.sid2_version().decode()}")

    sid2.sid2_image_free(grid)
    sid2.sid2_sampler_destroy(sampler)
    sid2.sid2_trainer_destroy(trainer)
    sid2.sid2_device_close(device)
    sid2.sid2_config_destroy(config)


main()
