/* Every reader of foreign bytes, fed with any bytes. One program: SID2_FUZZ names the reader.
 *
 * Compiled by clang with -DSID2_SANITIZE=fuzzer it is a libFuzzer program (tests/fuzz/run). Otherwise replay.c gives it a
 * main that reads the files of the corpus, which is how the tests use it. Bytes may be refused; anything else
 * that happens (a crash, a sanitizer's report, a hang) is a bug. What is no reader's own business is done once, before the
 * first bytes come: an execution should cost microseconds. */
#include <sid2/sid2.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ablate_plan.h"
#include "arrays.h"
#include "classes.h"
#include "digest.h"
#include "file.h"
#include "folder.h"
#include "image_read.h"
#include "image_write.h"
#include "pickle.h"
#include "safetensors.h"
#include "text.h"
#include "weights.h"
#include "y4m.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char work[4096]; /* a folder of our own, of files made from the bytes */

/* Files stay open: to make one anew costs more than most readers do. */
static const char *put(const char *name, const void *bytes, size_t size)
{
    static struct file {
        char name[64], path[4096];
        int descriptor;
    } files[8];
    struct file *f = files;
    while (f->name[0] && strcmp(f->name, name) != 0) f++;
    if (!f->name[0]) {
        snprintf(f->name, sizeof f->name, "%s", name);
        if (!sid2_path(f->path, NULL, "%s/%s", work, name)) abort();
        f->descriptor = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    if (pwrite(f->descriptor, bytes, size, 0) != (ssize_t)size || ftruncate(f->descriptor, (off_t)size))
        abort();
    return f->path;
}

static char *text_of(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1);
    if (!text) abort();
    if (size) memcpy(text, bytes, size);
    text[size] = 0;
    return text;
}

/* ---- Readers ---- */
static void read_safetensors(const uint8_t *bytes, size_t size)
{
    sid2_safetensors *file = sid2_safetensors_open(put("x.safetensors", bytes, size), NULL);
    if (!file) return;
    char digest[33];
    for (int i = 0; i < sid2_safetensors_count(file); i++) {
        const sid2_safetensors_entry *entry = sid2_safetensors_at(file, i);
        if (sid2_safetensors_find(file, entry->name) != entry) abort();
    }
    sid2_safetensors_metadata(file, "config.ini");
    sid2_safetensors_check(file, digest, NULL);
    sid2_safetensors_close(file);
}

static void read_weights(const uint8_t *bytes, size_t size)
{
    sid2_weights *weights = sid2_weights_open(put("x.pth", bytes, size), NULL);
    for (int64_t i = 0; weights && i < sid2_weights_count(weights) && i < 64; i++) {
        const sid2_weight *weight = sid2_weights_at(weights, i);
        if (!sid2_weights_find(weights, weight->name)) abort();
        if (sid2_shape_count(weight->shape) < 1 << 16) free(sid2_weights_read(weights, weight, NULL));
    }
    sid2_weights_close(weights);
}

/* A PNG may announce up to 256 MiB of pixels, whose memory alone costs a hundred executions: one in 64 of such is read. */
static bool is_large_png(const uint8_t *bytes, size_t size)
{
    if (size < 24 || bytes[0] != 0x89) return false;
    uint64_t side[2] = {0};
    for (int i = 0; i < 8; i++) side[i / 4] = side[i / 4] << 8 | bytes[16 + i];
    uint64_t pixels = side[0] * side[1];
    return pixels > 1 << 18 && pixels <= SID2_IMAGE_MAX_PIXELS && pixels % 64;
}

static void read_picture(const uint8_t *bytes, size_t size)
{
    if (is_large_png(bytes, size)) return;
    sid2_image image = {0};
    if (sid2_image_decode(&image, bytes, size, "x", NULL)) sid2_image_convert(&image, 1, NULL);
    sid2_image_free(&image);
    sid2_png_text *text = NULL;
    size_t count = 0;
    if (sid2_image_read_text(put("x.png", bytes, size), &text, &count, NULL)) sid2_png_text_free(text, count);
}

static void read_dataset(const char *path)
{
    sid2_dataset *dataset =
        sid2_dataset_open(path, &sid2_with(sid2_dataset_options, .size = 8, .cache_bytes = 1), NULL);
    if (!dataset) return;
    uint8_t pixels[8 * 8 * 3];
    for (int64_t i = 0; i < sid2_dataset_count(dataset) && i < 8; i++) {
        int32_t label;
        sid2_dataset_get(dataset, i, false, pixels, &label, NULL);
        free(sid2_dataset_name(dataset, i));
        if (label >= sid2_dataset_classes(dataset)) abort();
    }
    sid2_dataset_close(dataset);
}

static void read_zip(const uint8_t *bytes, size_t size) { read_dataset(put("x.zip", bytes, size)); }
static void read_tar(const uint8_t *bytes, size_t size) { read_dataset(put("x.tar", bytes, size)); }
static void read_npz(const uint8_t *bytes, size_t size)
{
    const char *path = put("x.npz", bytes, size);
    read_dataset(path);
    sid2_arrays *arrays = sid2_arrays_open(path, NULL);
    sid2_array array;
    double numbers[16];
    if (arrays && sid2_arrays_find(arrays, NULL, &array, NULL))
        sid2_arrays_read(arrays, 0, 16, numbers, NULL);
    sid2_arrays_close(arrays);
}

static void read_cifar(const uint8_t *bytes, size_t size)
{
    read_dataset(put("data_batch_1.bin", bytes, size));
}

/* The first byte says how long the file of labels is that follows. */
static void read_idx(const uint8_t *bytes, size_t size)
{
    if (!size || size - 1 < bytes[0]) return;
    size_t labels = bytes[0];
    put("x-labels-idx1-ubyte", bytes + 1, labels);
    read_dataset(put("x-images-idx3-ubyte", bytes + 1 + labels, size - 1 - labels));
}

/* As dataset.json beside two good pictures. */
static void read_labels(const uint8_t *bytes, size_t size)
{
    static char folder[4096];
    if (!folder[0]) {
        uint8_t grey[4] = {0, 80, 160, 240}, *png = NULL;
        const sid2_image picture = {.width = 2, .height = 2, .channels = 1, .pixels = grey};
        size_t png_size = 0;
        if (!sid2_path(folder, NULL, "%s/labels", work) || !sid2_make_directories(folder, NULL) ||
            !sid2_png_encode(&picture, NULL, 0, &png, &png_size, NULL))
            abort();
        put("labels/a.png", png, png_size);
        put("labels/b.png", png, png_size);
        free(png);
    }
    put("labels/dataset.json", bytes, size);
    read_dataset(folder);
}

static void read_config(const uint8_t *bytes, size_t size)
{
    sid2_config *config = sid2_config_create();
    if (sid2_config_load(config, put("x.ini", bytes, size), NULL) && sid2_config_check(config, NULL)) {
        char path[4096];
        sid2_path(path, NULL, "%s/again.ini", work);
        if (!sid2_config_save(config, path, NULL) || !sid2_config_load(config, path, NULL)) abort();
    }
    sid2_config_destroy(config);
}

/* A run's statistics and facts, whichever the bytes are. */
static void read_run(const uint8_t *bytes, size_t size)
{
    put("stats.jsonl", bytes, size);
    put("run.json", bytes, size);
    put("judgements.jsonl", bytes, size);
    sid2_run_facts facts;
    sid2_folder_load_facts(work, &facts, NULL);
    char page[4096];
    sid2_path(page, NULL, "%s/report.html", work);
    sid2_run_report(work, page, NULL);
}

/* state.json of a checkpoint that is good otherwise. */
static void read_state(const uint8_t *bytes, size_t size)
{
    static const char *const settings[] = {
        "model.image_size=8", "model.image_channels=1", "model.channels=8", "model.blocks=res",
        "model.depth=1",      "model.mid_depth=1",      "model.emb=8",      "model.groups=4",
        "model.head_dim=8",   "model.patch=1",          "model.classes=0",  "train.batch=1",
        "train.microbatch=1", "train.precision=f32"};
    static sid2_trainer *trainer;
    static char checkpoint[4096];
    sid2_error err;
    if (!trainer) {
        sid2_config *config = sid2_config_create();
        for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
            if (!sid2_config_set(config, settings[i], &err)) fprintf(stderr, "%s\n", err.message), abort();
        sid2_device *device = sid2_device_open("reference", NULL, &err);
        trainer = device ? sid2_trainer_create(device, config, 0, &err) : NULL;
        sid2_path(checkpoint, NULL, "%s/checkpoint", work);
        if (!trainer || !sid2_trainer_save(trainer, checkpoint, &err))
            fprintf(stderr, "%s\n", err.message), abort();
        sid2_config_destroy(config);
    }
    put("checkpoint/state.json", bytes, size);
    sid2_trainer_resume(trainer, checkpoint, NULL);
}

/* classes.json, and as what --class says. */
static void read_classes(const uint8_t *bytes, size_t size)
{
    sid2_classes *classes;
    if (!sid2_classes_load(&classes, put("classes.json", bytes, size), NULL)) return;
    char *text = text_of(bytes, size);
    size_t count;
    int32_t *labels = sid2_classes_parse(classes, 5, text, &count, NULL);
    for (size_t i = 0; labels && i < count; i++)
        if (labels[i] < 0 || labels[i] >= 5) abort();
    free(labels);
    for (int i = 0; i < sid2_classes_count(classes); i++)
        free(sid2_classes_parse(classes, 5, sid2_classes_name(classes, i), &count, NULL));
    sid2_classes_destroy(classes);
    free(text);
}

static void read_pickle(const uint8_t *bytes, size_t size)
{
    sid2_pickle pickle;
    if (!sid2_pickle_read(&pickle, bytes, size, "x", NULL)) return;
    if (pickle.used > size || pickle.root < 0 || pickle.root >= pickle.count) abort();
    for (int32_t i = 0; i < pickle.count; i++) {
        const sid2_pickle_value *value = &pickle.value[i];
        for (int32_t k = 0; k < value->count; k++)
            if (!sid2_pickle_item(&pickle, value, k)) abort();
        sid2_pickle_is(value, "torch FloatStorage");
    }
    sid2_pickle_free(&pickle);
}

/* Orientation and texts, as JPEG and WebP carry them. */
static void read_exif(const uint8_t *bytes, size_t size)
{
    int32_t orientation = sid2_exif_orientation(bytes, size);
    if (orientation < 0 || orientation > 8) abort();
    sid2_png_text *text = NULL;
    size_t count = 0;
    if (sid2_exif_to_text(bytes, size, "x", &text, &count, NULL)) sid2_png_text_free(text, count);
}

/* One setting, as --set has it. */
static void read_key(const uint8_t *bytes, size_t size)
{
    static sid2_config *config;
    char *text = text_of(bytes, size);
    if (!config && !(config = sid2_config_create())) abort();
    if (sid2_config_set(config, text, NULL)) sid2_config_check(config, NULL);
    free(text);
}

/* Names from files and archives, on their way to comparisons, messages and files. */
static void read_text(const uint8_t *bytes, size_t size)
{
    char *text = text_of(bytes, size), *nfc = sid2_text_nfc(text), *fold = sid2_text_fold(text),
         *utf8 = sid2_text_utf8(text), *again = utf8 ? sid2_text_utf8(utf8) : NULL;
    if (!nfc || !fold || !again || strcmp(utf8, again) != 0) abort(); /* what is UTF-8 stays */
    if (sid2_text_columns(text, strlen(text)) < 0) abort();
    int least = SID2_TEXT_FAR;
    sid2_text_nearer(text, "train.batch", &least);
    char *end;
    sid2_text_real(text, &end);
    sid2_digest_holds(text, strlen(text));
    free(sid2_archive_name(text));
    free(again), free(utf8), free(fold), free(nfc), free(text);
}

static void read_plan(const uint8_t *bytes, size_t size)
{
    static sid2_ablate_plan plan;
    const sid2_ablate_plan_options as_it_says = {.samples = -1};
    sid2_ablate_plan_read(&plan, put("x.ini", bytes, size), &as_it_says, NULL);
    sid2_ablate_plan_free(&plan);
}

/* As from a pipe. Frames may be large before a byte of them is there, so only small ones are read. */
static void read_y4m(const uint8_t *bytes, size_t size)
{
    sid2_y4m y4m;
    size_t length = 0;
    while (length < size && bytes[length++] != '\n') {
    }
    if (!sid2_y4m_head(&y4m, (const char *)bytes, length, "x", NULL) || y4m.frame_bytes > 1 << 20) return;
    FILE *stream = fmemopen((void *)(uintptr_t)bytes, size, "rb");
    sid2_y4m_stream *s = stream ? sid2_y4m_open(stream, "x", NULL) : NULL;
    const uint8_t *planes;
    for (int i = 0; i < 4 && s && (planes = sid2_y4m_next(s, NULL)); i++) {
        sid2_image image = {0};
        if (!sid2_y4m_to_image(sid2_y4m_about(s), SID2_MATRIX_BT709, planes, &image, NULL)) abort();
        sid2_image_free(&image);
    }
    sid2_y4m_close(s);
    if (stream) fclose(stream);
}

/* ---- One of them ---- */
static const struct {
    const char *name;
    void (*read)(const uint8_t *bytes, size_t size);
} readers[] = {
    {"safetensors", read_safetensors},
    {"weights", read_weights},
    {"picture", read_picture},
    {"zip", read_zip},
    {"labels", read_labels},
    {"idx", read_idx},
    {"cifar", read_cifar},
    {"tar", read_tar},
    {"npz", read_npz},
    {"config", read_config},
    {"run", read_run},
    {"state", read_state},
    {"classes", read_classes},
    {"pickle", read_pickle},
    {"exif", read_exif},
    {"key", read_key},
    {"text", read_text},
    {"plan", read_plan},
    {"y4m", read_y4m},
};
static size_t chosen;

static void clear(void) { sid2_remove_tree(work, NULL); }

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    const char *name = getenv("SID2_FUZZ"), *folder = getenv("TMPDIR");
    enum { COUNT = sizeof readers / sizeof *readers };
    while (name && chosen < COUNT && strcmp(readers[chosen].name, name) != 0) chosen++;
    if (!name || chosen == COUNT) {
        fprintf(stderr, "SID2_FUZZ should be one of:");
        for (size_t i = 0; i < COUNT; i++) fprintf(stderr, " %s", readers[i].name);
        fprintf(stderr, "\n");
        exit(2);
    }
    if (!sid2_path(work, NULL, "%s/sid2-fuzz-XXXXXX", folder ? folder : "/tmp") || !mkdtemp(work)) exit(2);
    atexit(clear);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    readers[chosen].read(bytes, size);
    return 0;
}
