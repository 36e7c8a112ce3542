/* Every reader of foreign bytes, fed with any bytes. One program: SID2_FUZZ names the reader.
 *
 * Compiled by clang with -DSID2_FUZZ=ON it is a libFuzzer program (tests/fuzz/run). Otherwise replay.c gives it a
 * main that reads the files of the corpus, which is how the tests use it. Bytes may be refused; anything else
 * that happens (a crash, a sanitizer's report, a hang) is a bug. */
#include <sid2/sid2.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arrays.h"
#include "classes.h"
#include "file.h"
#include "folder.h"
#include "safetensors.h"
#include "weights.h"
#include "zip_write.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char work[4096]; /* a folder of our own, of files made from the bytes */

static const char *put(const char *name, const void *bytes, size_t size)
{
    static char path[2][4096];
    static int turn;
    char *at = path[turn ^= 1];
    if (!sid2_path(at, NULL, "%s/%s", work, name)) abort();
    FILE *file = fopen(at, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) abort();
    return at;
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

static void read_picture(const uint8_t *bytes, size_t size)
{
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
    uint8_t grey[4] = {0, 80, 160, 240};
    const sid2_image picture = {.width = 2, .height = 2, .channels = 1, .pixels = grey};
    char path[4096];
    sid2_path(path, NULL, "%s/labels.zip", work);
    sid2_archive *archive = sid2_archive_open(path, NULL);
    if (!archive) abort();
    for (int i = 0; i < 2; i++) {
        uint8_t *png = NULL;
        size_t png_size = 0;
        if (!sid2_png_encode(&picture, NULL, 0, &png, &png_size, NULL) ||
            !sid2_archive_add_bytes(archive, i ? "b.png" : "a.png", png, png_size, NULL))
            abort();
    }
    uint8_t *copy = malloc(size + 1);
    memcpy(copy, bytes, size);
    if (!sid2_archive_add_bytes(archive, "dataset.json", copy, size, NULL) ||
        !sid2_archive_commit(archive, NULL))
        abort();
    read_dataset(path);
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
    char *text = malloc(size + 1);
    size_t count;
    memcpy(text, bytes, size);
    text[size] = 0;
    int32_t *labels = sid2_classes_parse(classes, 5, text, &count, NULL);
    for (size_t i = 0; labels && i < count; i++)
        if (labels[i] < 0 || labels[i] >= 5) abort();
    free(labels);
    for (int i = 0; i < sid2_classes_count(classes); i++)
        free(sid2_classes_parse(classes, 5, sid2_classes_name(classes, i), &count, NULL));
    sid2_classes_destroy(classes);
    free(text);
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
