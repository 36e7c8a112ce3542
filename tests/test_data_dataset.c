/* Data sets of every kind made on the spot, good and broken, and the loader's stream. */
#include "dataset.h"
#include "loader.h"
#include "source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>
#include <zlib.h>

#include <cmocka.h>

static char folder[64];

static char *in_folder(const char *name)
{
    static char path[8][192];
    static int next;
    char *slot = path[next++ % 8];
    snprintf(slot, sizeof path[0], "%s/%s", folder, name);
    return slot;
}

/* A small picture whose pixels all have the value `tone`. */
static uint8_t *png_of(int width, int height, uint8_t tone, size_t *size)
{
    sid2_image image;
    uint8_t *bytes;
    assert_true(sid2_image_alloc(&image, width, height, 3, NULL));
    memset(image.pixels, tone, (size_t)(width * height * 3));
    assert_true(sid2_png_encode(&image, NULL, 0, &bytes, size, NULL));
    sid2_image_free(&image);
    return bytes;
}

static void write_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    fclose(stream);
}

static void write_png(const char *path, uint8_t tone)
{
    size_t size;
    uint8_t *bytes = png_of(9, 7, tone, &size);
    write_bytes(path, bytes, size);
    free(bytes);
}

static void make_folder(const char *name) { assert_int_equal(mkdir(in_folder(name), 0777), 0); }

static sid2_dataset *open_with(const char *path, sid2_dataset_options options)
{
    sid2_error err = {0};
    options.size = options.size ? options.size : 8;
    options.struct_size = sizeof options;
    sid2_dataset *dataset = sid2_dataset_open(path, &options, &err);
    if (!dataset) print_error("%s\n", err.message);
    assert_non_null(dataset);
    return dataset;
}

static void expect_failure(const char *path, sid2_dataset_options options, const char *part)
{
    sid2_error err = {0};
    options.struct_size = sizeof options;
    assert_null(sid2_dataset_open(path, &options, &err));
    if (!strstr(err.message, part) || strchr(err.message, '\n')) print_error("got: %s\n", err.message);
    assert_non_null(strstr(err.message, part));
    assert_null(strchr(err.message, '\n'));
}

static int tone_of(sid2_dataset *dataset, int64_t index, int32_t *label)
{
    uint8_t pixels[32 * 32 * 3];
    sid2_error err;
    assert_true(sid2_dataset_get(dataset, index, false, pixels, label, &err));
    return pixels[0];
}

/* ---- Folders ---- */

typedef struct skips {
    int count;
    char last[256];
} skips;

static void on_skip(void *user, const char *name, const char *reason)
{
    skips *s = user;
    s->count++;
    snprintf(s->last, sizeof s->last, "%s|%s", name, reason);
}

/* Every line about what is left out, in order. */
static void expect_losses(sid2_dataset *dataset, const char *const *lines)
{
    for (int i = 0;; i++) {
        char *line = sid2_dataset_loss(dataset, i);
        if (!lines[i]) assert_null(line);
        if (!lines[i]) break;
        assert_non_null(line);
        assert_string_equal(line, lines[i]);
        free(line);
    }
}

static void test_folder(void **state)
{
    (void)state;
    make_folder("tree");
    make_folder("tree/b");
    make_folder("tree/b/deep");
    make_folder("tree/a");
    make_folder("tree/a-1");
    make_folder("tree/.hidden");
    make_folder("tree/empty");
    write_png(in_folder("tree/b/2.png"), 4);
    write_png(in_folder("tree/b/deep/1.PNG"), 5);
    write_png(in_folder("tree/a/2.png"), 2);
    write_png(in_folder("tree/a/10.png"), 1);
    write_png(in_folder("tree/a-1/x.png"), 3);
    write_png(in_folder("tree/.hidden/x.png"), 9);
    write_png(in_folder("tree/stray.png"), 9);
    write_bytes(in_folder("tree/a/notes.txt"), "x", 1);
    assert_int_equal(symlink("..", in_folder("tree/b/loop")), 0); /* must not be followed for ever */
    skips s = {0};
    sid2_dataset *d = open_with(in_folder("tree"), (sid2_dataset_options){.on_skip = on_skip, .user = &s});
    assert_int_equal(sid2_dataset_count(d), 5);
    assert_int_equal(sid2_dataset_classes(d), 4);
    assert_string_equal(sid2_dataset_class_name(d, 0), "a");
    assert_string_equal(sid2_dataset_class_name(d, 1), "a-1");
    assert_string_equal(sid2_dataset_class_name(d, 2), "b");
    assert_string_equal(sid2_dataset_class_name(d, 3), "empty");
    static const int labels[] = {0, 0, 1, 2, 2};
    for (int i = 0; i < 5; i++) {
        int32_t label;
        assert_int_equal(tone_of(d, i, &label), i + 1);
        assert_int_equal(label, labels[i]);
        assert_int_equal(sid2_dataset_label(d, i), labels[i]);
    }
    char *name = sid2_dataset_name(d, 4);
    assert_string_equal(name, "b/deep/1.PNG");
    free(name);
    assert_int_equal(s.count, 0);
    expect_losses(d, (const char *const[]){"1 file of another kind: .txt 1",
                                           "1 hidden file, or in a helper folder: .png 1 (.hidden/x.png)",
                                           "1 picture outside every class folder: .png 1 (stray.png)",
                                           "1 link that leads in a circle: no ending 1 (b/loop)", NULL});
    char *empty = sid2_dataset_empty_classes(d);
    assert_string_equal(empty, "1 of 4 classes have no picture and keep their number: empty");
    free(empty);
    assert_int_equal(sid2_dataset_broken(d), 0);
    sid2_dataset_close(d);

    d = open_with(in_folder("tree/a"), (sid2_dataset_options){.channels = 1});
    assert_int_equal(sid2_dataset_classes(d), 1);
    assert_int_equal(sid2_dataset_count(d), 2);
    sid2_dataset_close(d);
}

/* Class names come in one form of Unicode, and the digest tells one set of pictures from another. */
static void test_names_and_digest(void **state)
{
    (void)state;
    static const char composed[] = "K\xc3\xa4tzchen Mia", decomposed[] = "Ka\xcc\x88tzchen Mia";
    char digest[4][33];
    for (int i = 0; i < 4; i++) {
        char path[96], name[32];
        snprintf(name, sizeof name, "names%d", i);
        make_folder(name);
        snprintf(path, sizeof path, "%s/%s", name, i == 1 ? composed : decomposed);
        make_folder(path);
        strcat(path, i == 2 ? "/2.png" : "/1.png");
        write_png(in_folder(path), 1);
        if (i == 3) {
            strcat(name, "/\xe9");
            make_folder(name);
            write_png(in_folder(strcat(name, "/1.png")), 1);
        }
        snprintf(name, sizeof name, "names%d", i);
        sid2_dataset *d = open_with(in_folder(name), (sid2_dataset_options){0});
        assert_string_equal(sid2_dataset_class_name(d, 0), composed);
        if (i == 3) assert_string_equal(sid2_dataset_class_name(d, 1), "\xe9");
        assert_true(sid2_dataset_digest(d, digest[i], NULL));
        sid2_dataset_close(d);
        assert_int_equal(strlen(digest[i]), 32);
        for (int k = 1; k < i; k++) assert_string_not_equal(digest[k], digest[i]);
    }
}

static void test_broken_pictures(void **state)
{
    (void)state;
    make_folder("broken");
    size_t size;
    uint8_t *bytes = png_of(9, 7, 50, &size);
    write_bytes(in_folder("broken/0.png"), "not a picture", 13);
    write_png(in_folder("broken/1.png"), 1);
    write_bytes(in_folder("broken/2.png"), bytes, size / 2);
    write_bytes(in_folder("broken/3.png"), "<html>", 6);
    write_png(in_folder("broken/4.png"), 4);
    write_bytes(in_folder("broken/5.jpg"), bytes, size - 1);
    for (int cached = 0; cached < 2; cached++) {
        skips s = {0};
        sid2_dataset *d =
            open_with(in_folder("broken"),
                      (sid2_dataset_options){.on_skip = on_skip, .user = &s, .cache_bytes = cached ? 0 : 1});
        static const int stands_in[] = {1, 1, 4, 4, 4, 1};
        for (int round = 0; round < 3; round++)
            for (int i = 0; i < 6; i++) assert_int_equal(tone_of(d, i, NULL), stands_in[i]);
        assert_int_equal(s.count, 4);
        assert_int_equal(sid2_dataset_broken(d), 4);
        assert_non_null(strstr(s.last, "5.jpg|"));
        for (int i = 0; i < 6; i++) { /* nothing stands in where one looks */
            uint8_t pixels[8 * 8 * 3];
            sid2_finding found;
            assert_true(sid2_dataset_inspect(d, i, pixels, &found, NULL));
            assert_int_equal(found.is_readable, i == 1 || i == 4);
            if (found.is_readable) assert_int_equal(pixels[0], i);
        }
        assert_int_equal(sid2_dataset_broken(d), 4);
        sid2_dataset_close(d);
    }
    skips s = {0};
    make_folder("odd");
    write_png(in_folder("odd/1.png"), 1);
    write_bytes(in_folder("odd/\033[2J\n.png"), bytes, 40);
    sid2_dataset *d = open_with(in_folder("odd"), (sid2_dataset_options){.on_skip = on_skip, .user = &s});
    assert_int_equal(s.count, 1); /* it sorts first */
    assert_memory_equal(s.last, "?[2J?.png|", 10);
    assert_null(strchr(s.last + 10, '['));
    sid2_dataset_close(d);
    make_folder("ruins");
    write_bytes(in_folder("ruins/a.png"), bytes, size / 2);
    write_bytes(in_folder("ruins/b.png"), bytes, size / 3);
    expect_failure(in_folder("ruins"), (sid2_dataset_options){0}, "none of the 2 pictures can be read");
    free(bytes);
}

static void test_folder_errors(void **state)
{
    (void)state;
    expect_failure(in_folder("missing"), (sid2_dataset_options){0}, "missing: No such file or directory");
    make_folder("void");
    expect_failure(in_folder("void"), (sid2_dataset_options){0}, "no PNG, JPEG or WebP pictures");
    write_bytes(in_folder("void/readme.txt"), "hello", 5);
    expect_failure(in_folder("void"), (sid2_dataset_options){0}, "no PNG, JPEG or WebP pictures");
    expect_failure(in_folder("void/readme.txt"), (sid2_dataset_options){0},
                   "not a data set: give an npz of pictures");
    write_bytes(in_folder("nothing"), "", 0);
    expect_failure(in_folder("nothing"), (sid2_dataset_options){0}, "empty");
    expect_failure(in_folder("void"), (sid2_dataset_options){.size = -1}, "-1x-1");
    expect_failure(in_folder("void"), (sid2_dataset_options){.channels = 2}, "2 channels");
    expect_failure(in_folder("void"), (sid2_dataset_options){.holdout = -1}, "holdout");
}

/* ---- Zips ---- */

/* Pictures under the names given, toned 1, 2, ...; dataset.json and names.json where not NULL. */
static void write_zip(const char *path, const char *const *names, int count, const char *dataset,
                      const char *classes)
{
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    assert_non_null(zip);
    for (int i = 0; i < count; i++) {
        size_t size;
        uint8_t *bytes = png_of(9, 7, (uint8_t)(i + 1), &size);
        zip_file_add(zip, names[i], zip_source_buffer(zip, bytes, size, 1), 0);
    }
    if (dataset) zip_file_add(zip, "dataset.json", zip_source_buffer(zip, dataset, strlen(dataset), 0), 0);
    if (classes) zip_file_add(zip, "names.json", zip_source_buffer(zip, classes, strlen(classes), 0), 0);
    assert_int_equal(zip_close(zip), 0);
}

static const char *const pair[] = {"00000/b.png", "00000/a.png"};

static void test_encrypted_zip(void **state)
{
    (void)state;
    zip_t *zip = zip_open(in_folder("secret.zip"), ZIP_CREATE | ZIP_TRUNCATE, NULL);
    assert_non_null(zip);
    zip_int64_t entry =
        zip_file_add(zip, "dataset.json", zip_source_buffer(zip, "{\"labels\": null}", 16, 0), 0);
    size_t size;
    uint8_t *bytes = png_of(9, 7, 1, &size);
    zip_file_add(zip, "a.png", zip_source_buffer(zip, bytes, size, 1), 0);
    bool able = !zip_file_set_encryption(zip, (zip_uint64_t)entry, ZIP_EM_AES_128, "word");
    assert_int_equal(zip_close(zip), 0);
    if (able) expect_failure(in_folder("secret.zip"), (sid2_dataset_options){0}, "dataset.json: encrypted");
}

static void test_zip(void **state)
{
    (void)state;
    char *path = in_folder("set.zip");
    write_zip(path, pair, 2, "{\"labels\": [[\"00000/b.png\", 0], [\"00000/a.png\", 2]]}",
              "{\"classes\": [\"x\", \"y\", \"z\"]}");
    int32_t label;
    sid2_dataset *d = open_with(path, (sid2_dataset_options){0});
    assert_int_equal(sid2_dataset_classes(d), 3);
    assert_string_equal(sid2_dataset_class_name(d, 2), "z");
    assert_int_equal(tone_of(d, 0, &label), 2);
    assert_int_equal(label, 2);
    assert_int_equal(tone_of(d, 1, &label), 1);
    assert_int_equal(label, 0);
    sid2_dataset_close(d);

    write_zip(path, pair, 2, "{\"labels\": null}", NULL);
    d = open_with(path, (sid2_dataset_options){0});
    assert_int_equal(sid2_dataset_classes(d), 1);
    sid2_dataset_close(d);

    static const char *const photos[] = {"photos/dog/1.png", "photos/cat/1.png", "__MACOSX/photos/cat/1.png"};
    write_zip(path, photos, 3, NULL, NULL);
    d = open_with(path, (sid2_dataset_options){0});
    assert_int_equal(sid2_dataset_count(d), 2);
    assert_int_equal(sid2_dataset_classes(d), 2);
    assert_string_equal(sid2_dataset_class_name(d, 0), "cat");
    assert_int_equal(tone_of(d, 0, &label), 2);
    sid2_dataset_close(d);
}

static void test_zip_errors(void **state)
{
    (void)state;
    char *path = in_folder("bad.zip");
    const sid2_dataset_options plain = {0};
    write_bytes(path, "PK\3\4 and no more", 16);
    expect_failure(path, plain, "bad.zip: cut short, damaged or no zip archive");
    write_zip(path, pair, 0, "{\"labels\": null}", NULL);
    expect_failure(path, plain, "no PNG, JPEG or WebP pictures in this archive");
    write_zip(path, pair, 2, "{\"labels\": [[\"00000/b.png\", 0]]}", NULL);
    expect_failure(path, plain, "no label for 00000/a.png");
    write_zip(path, pair, 1, "{\"labels\": [[\"00000/b.png\", 0], [\"00000/a.png\", 1]]}", NULL);
    expect_failure(path, plain, "labels 00000/a.png, which is not in the archive");
    static const char *const wrong[] = {"[[\"00000/b.png\", -1]]",    "[[\"00000/b.png\", 1.5]]",
                                        "[[\"00000/b.png\"]]",        "[[3, 1]]",
                                        "[[\"00000/b.png\", 70000]]", "[7]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char json[128];
        snprintf(json, sizeof json, "{\"labels\": %s}", wrong[i]);
        write_zip(path, pair, 1, json, NULL);
        expect_failure(path, plain, "label 0");
    }
    write_zip(path, pair, 1, "{\"labels\": 3}", NULL);
    expect_failure(path, plain, "a list or null");
    write_zip(path, pair, 1, "{\"labels\": [", NULL);
    expect_failure(path, plain, "dataset.json: line 1");
}

/* Whatever happens to the bytes: an error or a data set, never a crash. */
static void open_damaged(const char *path, const uint8_t *bytes, size_t size, int rounds)
{
    uint8_t *copy = malloc(size);
    uint32_t random = 9;
    int opened = 0;
    for (int round = 0; round < rounds; round++) {
        size_t part = size;
        memcpy(copy, bytes, size);
        random = random * 1664525u + 1013904223u;
        if (round % 3 == 0)
            part = (random >> 4) % size;
        else
            for (int flips = 0; flips < round % 3; flips++) {
                random = random * 1664525u + 1013904223u;
                copy[(random >> 3) % size] ^= (uint8_t)(1u << (random >> 29));
            }
        write_bytes(path, copy, part);
        sid2_error err = {0};
        sid2_dataset *d = sid2_dataset_open(path, &sid2_with(sid2_dataset_options, .size = 8), &err);
        if (d) {
            opened++;
            uint8_t pixels[8 * 8 * 3];
            for (int64_t i = 0; i < sid2_dataset_count(d) && i < 4; i++)
                sid2_dataset_get(d, i, true, pixels, NULL, &err);
        } else {
            assert_true(err.message[0] && !strchr(err.message, '\n'));
        }
        sid2_dataset_close(d);
    }
    assert_true(opened > 0 && opened < rounds);
    free(copy);
}

static uint8_t *read_bytes(const char *path, size_t *size)
{
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    uint8_t *bytes = malloc(1 << 20);
    *size = fread(bytes, 1, 1 << 20, stream);
    fclose(stream);
    return bytes;
}

static void test_damaged_zip(void **state)
{
    (void)state;
    char *path = in_folder("fuzz.zip");
    write_zip(path, pair, 2, "{\"labels\": [[\"00000/b.png\", 0], [\"00000/a.png\", 2]]}", NULL);
    size_t size;
    uint8_t *bytes = read_bytes(path, &size);
    open_damaged(path, bytes, size, 600);
    free(bytes);
}

/* ---- CIFAR-10 and MNIST ---- */

static void test_cifar(void **state)
{
    (void)state;
    enum { RECORD = 3073 };
    uint8_t *records = calloc(3, RECORD);
    for (int r = 0; r < 3; r++) {
        records[r * RECORD] = (uint8_t)(9 - r);
        for (int i = 0; i < 3072; i++)
            records[r * RECORD + 1 + i] = (uint8_t)(r * 31 + i / 1024 * 100 + i % 32);
    }
    make_folder("cifar");
    write_bytes(in_folder("cifar/data_batch_2.bin"), records + RECORD, 2 * RECORD);
    write_bytes(in_folder("cifar/data_batch_1.bin"), records, RECORD);
    write_bytes(in_folder("cifar/test_batch.bin"), records, RECORD);
    sid2_dataset *d = open_with(in_folder("cifar"), (sid2_dataset_options){.size = 32});
    assert_int_equal(sid2_dataset_count(d), 3);
    assert_int_equal(sid2_dataset_classes(d), 10);
    uint8_t pixels[3072];
    for (int r = 0; r < 3; r++)
        for (int flip = 0; flip < 2; flip++) {
            int32_t label;
            assert_true(sid2_dataset_get(d, r, flip, pixels, &label, NULL));
            assert_int_equal(label, 9 - r);
            for (int c = 0; c < 3; c++)
                for (int x = 0; x < 32; x++)
                    assert_int_equal(pixels[(5 * 32 + x) * 3 + c],
                                     (uint8_t)(r * 31 + c * 100 + (flip ? 31 - x : x)));
        }
    uint8_t outside[3072];
    sid2_error err;
    assert_false(sid2_dataset_get(d, 3, false, outside, NULL, &err));
    sid2_dataset_close(d);
    d = open_with(in_folder("cifar/test_batch.bin"), (sid2_dataset_options){.size = 32});
    assert_int_equal(sid2_dataset_count(d), 1);
    sid2_dataset_close(d);

    write_bytes(in_folder("cifar/data_batch_2.bin"), records, RECORD + 5);
    expect_failure(in_folder("cifar"), (sid2_dataset_options){0},
                   "data_batch_2.bin: 3078 bytes are not whole records");
    records[0] = 10;
    write_bytes(in_folder("cifar/data_batch_2.bin"), records, RECORD);
    expect_failure(in_folder("cifar"), (sid2_dataset_options){0}, "has label 10");
    free(records);
}

static size_t make_idx(uint8_t *bytes, int rank, uint32_t count, uint32_t side)
{
    const uint32_t header[] = {0x800u + (uint32_t)rank, count, side, side};
    for (int i = 0; i <= rank; i++)
        for (int b = 0; b < 4; b++) bytes[4 * i + b] = (uint8_t)(header[i] >> (24 - 8 * b));
    size_t size = rank == 3 ? count * side * side : count;
    for (size_t i = 0; i < size; i++)
        bytes[4 + 4 * rank + (int)i] = (uint8_t)(rank == 3 ? 1 + i / (side * side) : i % 4);
    return 4 + 4 * (size_t)rank + size;
}

static void write_gz(const char *path, const uint8_t *bytes, size_t size)
{
    gzFile file = gzopen(path, "wb");
    assert_int_equal(gzwrite(file, bytes, (unsigned)size), size);
    gzclose(file);
}

static void test_idx(void **state)
{
    (void)state;
    static uint8_t images[20000], labels[100];
    const sid2_dataset_options plain = {.size = 32, .channels = 1};
    size_t images_size = make_idx(images, 3, 12, 28), labels_size = make_idx(labels, 1, 12, 0);
    make_folder("idx");
    char *gz = in_folder("idx/train-images-idx3-ubyte.gz"),
         *beside = in_folder("idx/train-labels-idx1-ubyte");
    write_gz(gz, images, images_size);
    expect_failure(gz, plain, "labels");
    write_bytes(beside, labels, labels_size); /* one compressed, one not */
    for (int whole = 0; whole < 2; whole++) {
        sid2_dataset *d = open_with(whole ? in_folder("idx") : gz, plain);
        assert_int_equal(sid2_dataset_count(d), 12);
        assert_int_equal(sid2_dataset_classes(d), 4);
        assert_string_equal(sid2_dataset_class_name(d, 3), "3");
        uint8_t pixels[32 * 32];
        int32_t label;
        assert_true(sid2_dataset_get(d, 7, false, pixels, &label, NULL));
        assert_int_equal(label, 3);
        assert_int_equal(pixels[0], 0);
        assert_int_equal(pixels[2 * 32 + 2], 8);
        assert_int_equal(pixels[29 * 32 + 29], 8);
        assert_int_equal(pixels[30 * 32 + 29], 0);
        sid2_dataset_close(d);
    }
    size_t size;
    uint8_t *bytes = read_bytes(gz, &size);
    write_bytes(gz, bytes, size - 10);
    expect_failure(gz, plain, "cut short or damaged");
    bytes[size - 6] ^= 1; /* the checksum */
    write_bytes(gz, bytes, size);
    expect_failure(gz, plain, "cut short or damaged");
    bytes[size - 6] ^= 1;
    open_damaged(gz, bytes, size, 400);
    open_damaged(gz, images, images_size, 400);
    free(bytes);

    write_bytes(gz, images, images_size - 1);
    expect_failure(gz, plain, "cut short or damaged after 9407 of 9408 bytes");
    write_bytes(gz, images, images_size);
    write_bytes(beside, labels, make_idx(labels, 1, 11, 0));
    expect_failure(gz, plain, "11 labels for the 12 pictures");
    write_bytes(beside, images, images_size);
    expect_failure(gz, plain, "magic number 0x00000803, idx labels begin with 0x00000801");
    write_bytes(gz, labels, labels_size);
    expect_failure(gz, plain, "magic number 0x00000801");
    images[4] = 0x7f; /* claims 1.6 TB */
    write_bytes(gz, images, 2000);
    expect_failure(gz, plain, "cut short or damaged");
    write_bytes(in_folder("idx/other-images-idx3-ubyte"), images, 16);
    expect_failure(in_folder("idx"), plain, "name one of the files");
}

/* ---- Held-out pictures ---- */

static void test_holdout(void **state)
{
    (void)state;
    static uint8_t images[16 + 2000 * 4], labels[2100];
    make_folder("part");
    char *path = in_folder("part/images-idx3-ubyte");
    write_bytes(path, images, make_idx(images, 3, 2000, 2));
    write_bytes(in_folder("part/labels-idx1-ubyte"), labels, make_idx(labels, 1, 2000, 0));
    static const double holdouts[] = {0.1, 200, 1};
    for (int h = 0; h < 3; h++) {
        bool seen[2000] = {false};
        int64_t count[2];
        for (int part = 0; part < 2; part++) {
            sid2_dataset *d =
                open_with(path, (sid2_dataset_options){.size = 2,
                                                       .part = part ? SID2_PART_HELDOUT : SID2_PART_TRAIN,
                                                       .holdout = holdouts[h]});
            count[part] = sid2_dataset_count(d);
            for (int64_t i = 0; i < count[part]; i++) {
                char *name = sid2_dataset_name(d, i);
                int number = atoi(name + 1);
                assert_false(seen[number]);
                seen[number] = true;
                assert_int_equal(sid2_dataset_label(d, i), number % 4);
                free(name);
            }
            sid2_dataset_close(d);
        }
        assert_int_equal(count[0] + count[1], 2000);
        if (h == 0) assert_in_range(count[1], 160, 240);
        if (h > 0) assert_int_equal(count[1], (int)holdouts[h]);
    }
    expect_failure(path, (sid2_dataset_options){.part = SID2_PART_TRAIN, .holdout = 2000},
                   "for training: at most 1996 of its 2000");
    expect_failure(path, (sid2_dataset_options){.part = SID2_PART_HELDOUT}, "for evaluation");
}

/* ---- The loader ---- */

static void test_shuffle(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 2, 3, 7, 10, 16, 17, 1000, 5000};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            bool seen[5000] = {false};
            for (int64_t i = 0; i < counts[c]; i++) {
                int64_t at = sid2_shuffle(11, epoch, i, counts[c]);
                assert_in_range(at, 0, counts[c] - 1);
                assert_false(seen[at]);
                seen[at] = true;
            }
        }
    int hits[10][10] = {{0}}; /* every picture at every place equally often: 81 degrees of freedom */
    for (uint64_t epoch = 0; epoch < 20000; epoch++)
        for (int i = 0; i < 10; i++) hits[i][sid2_shuffle(3, epoch, i, 10)]++;
    double chi = 0;
    for (int i = 0; i < 100; i++)
        chi += (hits[i / 10][i % 10] - 2000.0) * (hits[i / 10][i % 10] - 2000.0) / 2000;
    assert_true(chi > 40 && chi < 140);
}

/* Tones identify pictures: picture i is toned i + 1. */
static void test_stream(void **state)
{
    (void)state;
    static uint8_t images[16 + 100 * 16], labels[200];
    make_folder("stream");
    char *path = in_folder("stream/images-idx3-ubyte");
    size_t size = make_idx(images, 3, 100, 4);
    for (size_t i = 16; i < size; i += 4) images[i] = 0; /* the left column, to see flips */
    write_bytes(path, images, size);
    write_bytes(in_folder("stream/labels-idx1-ubyte"), labels, make_idx(labels, 1, 100, 0));
    sid2_dataset *d = open_with(path, (sid2_dataset_options){.size = 4, .channels = 1});
    enum { SAMPLES = 1500 };
    static uint8_t reference[SAMPLES][16];
    static int32_t reference_label[SAMPLES];
    static const struct {
        int32_t batch, threads, depth;
        uint64_t first;
    } cases[] = {{50, 1, 2, 0}, {50, 1, 2, 0},   {7, 4, 3, 0},    {64, 3, 0, 0},
                 {1, 2, 8, 0},  {33, 4, 4, 777}, {128, 8, 2, 100}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        sid2_loader *l = sid2_loader_open(d,
                                          &sid2_with(sid2_loader_options, .batch = cases[c].batch, .seed = 5,
                                                     .flip = true, .threads = cases[c].threads,
                                                     .depth = cases[c].depth, .first_sample = cases[c].first),
                                          NULL);
        assert_non_null(l);
        uint64_t sample = cases[c].first;
        while (sample + (uint64_t)cases[c].batch <= SAMPLES) {
            const sid2_batch *batch = sid2_loader_next(l, NULL);
            assert_non_null(batch);
            assert_int_equal(batch->first_sample, sample);
            for (int32_t i = 0; i < cases[c].batch; i++, sample++) {
                if (c == 0) {
                    memcpy(reference[sample], batch->pixels + 16 * i, 16);
                    reference_label[sample] = batch->labels[i];
                }
                assert_memory_equal(reference[sample], batch->pixels + 16 * i, 16);
                assert_int_equal(reference_label[sample], batch->labels[i]);
            }
        }
        sid2_loader_close(l);
    }
    /* In parts: each has its own pictures of every batch and no others. */
    for (int32_t parts = 2; parts <= 8; parts *= 2)
        for (int32_t part = 0; part < parts; part++) {
            int32_t own = 48 / parts;
            sid2_loader *l =
                sid2_loader_open(d,
                                 &sid2_with(sid2_loader_options, .batch = 48, .seed = 5, .flip = true,
                                            .threads = 2, .part = part, .parts = parts, .first_sample = 30),
                                 NULL);
            assert_non_null(l);
            for (uint64_t begin = 30 + (uint64_t)(part * own); begin + (uint64_t)own <= SAMPLES;
                 begin += 48) {
                const sid2_batch *batch = sid2_loader_next(l, NULL);
                assert_non_null(batch);
                assert_int_equal(batch->first_sample, begin);
                assert_memory_equal(reference[begin], batch->pixels, 16 * (size_t)own);
                assert_memory_equal(&reference_label[begin], batch->labels, (size_t)own * sizeof(int32_t));
            }
            sid2_loader_close(l);
        }
    assert_null(sid2_loader_open(d, &sid2_with(sid2_loader_options, .batch = 6, .parts = 4), NULL));
    assert_null(
        sid2_loader_open(d, &sid2_with(sid2_loader_options, .batch = 8, .part = 4, .parts = 4), NULL));
    int flipped = 0, moved = 0;
    for (int epoch = 0; epoch < SAMPLES / 100; epoch++) {
        bool seen[100] = {false};
        for (int i = 0; i < 100; i++) {
            const uint8_t *pixels = reference[100 * epoch + i];
            int picture = pixels[1] - 1;
            assert_false(seen[picture]);
            seen[picture] = true;
            assert_int_equal(reference_label[100 * epoch + i], picture % 4);
            assert_true(!pixels[0] != !pixels[3]);
            flipped += !pixels[3];
            moved += epoch > 0 && picture != reference[i][1] - 1;
        }
    }
    assert_in_range(flipped, 650, 850);
    assert_true(moved > 1300);
    assert_null(sid2_loader_open(d, &sid2_with(sid2_loader_options, .batch = 0), NULL));
    sid2_dataset_close(d);
}

/* Pictures that vanish while training: the error comes out of the loader, and closing does not hang. */
/* Each sample is its picture, moved by so much each way as nothing but its number says, and mirrored at the edge. */
static void test_translation(void **state)
{
    (void)state;
    enum { SIZE = 4, REACH = 2, SAMPLES = 600 };
    static uint8_t images[16 + 5 * 16], labels[64];
    make_folder("moved");
    size_t size = make_idx(images, 3, 5, SIZE);
    for (size_t i = 16; i < size; i++)
        images[i] = (uint8_t)(7 * i * i + i); /* no two pixels of a picture alike */
    write_bytes(in_folder("moved/images-idx3-ubyte"), images, size);
    write_bytes(in_folder("moved/labels-idx1-ubyte"), labels, make_idx(labels, 1, 5, 0));
    sid2_dataset *d =
        open_with(in_folder("moved/images-idx3-ubyte"), (sid2_dataset_options){.size = SIZE, .channels = 1});
    static const int mirror[] = {2, 1, 0, 1, 2, 3, 2, 1}; /* places -2 .. 5 */
    static uint8_t reference[SAMPLES][16];
    int hits[2 * REACH + 1][2 * REACH + 1] = {{0}};
    for (int round = 0; round < 2; round++) {
        sid2_loader *l = sid2_loader_open(d,
                                          &sid2_with(sid2_loader_options, .batch = round ? 50 : 8, .seed = 9,
                                                     .threads = round ? 3 : 1, .translate = REACH),
                                          NULL);
        assert_non_null(l);
        for (int sample = 0; sample < SAMPLES; sample++) {
            static const sid2_batch *batch;
            int of = round ? 50 : 8;
            if (sample % of == 0) assert_non_null(batch = sid2_loader_next(l, NULL));
            const uint8_t *got = batch->pixels + 16 * (sample % of);
            if (round) {
                assert_memory_equal(got, reference[sample], 16);
                continue;
            }
            memcpy(reference[sample], got, 16);
            const uint8_t *still = images + 16 + 16 * sid2_shuffle(9, (uint64_t)(sample / 5), sample % 5, 5);
            int found = 0;
            for (int down = -REACH; down <= REACH; down++)
                for (int right = -REACH; right <= REACH; right++) {
                    bool same = true;
                    for (int i = 0; i < 16; i++)
                        same &= got[i] == still[4 * mirror[i / 4 - down + 2] + mirror[i % 4 - right + 2]];
                    found += same;
                    hits[down + REACH][right + REACH] += same;
                }
            assert_int_equal(found, 1);
        }
        sid2_loader_close(l);
    }
    for (int i = 0; i < 25; i++) assert_in_range(hits[i / 5][i % 5], 6, 48); /* 24 each */
    sid2_error err = {0};
    assert_null(sid2_loader_open(d, &sid2_with(sid2_loader_options, .batch = 1, .translate = 4), &err));
    assert_non_null(strstr(err.message, "cannot be moved by 4 pixels"));
    sid2_dataset_close(d);
}

static void test_loader_error(void **state)
{
    (void)state;
    make_folder("vanishing");
    write_png(in_folder("vanishing/1.png"), 1);
    write_png(in_folder("vanishing/2.png"), 2);
    sid2_dataset *d = open_with(in_folder("vanishing"), (sid2_dataset_options){.cache_bytes = 1});
    unlink(in_folder("vanishing/1.png"));
    unlink(in_folder("vanishing/2.png"));
    sid2_loader *l = sid2_loader_open(d, &sid2_with(sid2_loader_options, .batch = 4, .threads = 3), NULL);
    sid2_error err;
    assert_null(sid2_loader_next(l, &err));
    assert_non_null(strstr(err.message, "No such file"));
    assert_null(sid2_loader_next(l, &err));
    sid2_loader_close(l);
    sid2_dataset_close(d);
}

/* A source as a new format would make it: picture i is 4 x 6 of the value i. */
static bool load_made(sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err)
{
    (void)source;
    sid2_image image;
    if (!sid2_image_alloc(&image, 6, 4, 1, err)) return false;
    memset(image.pixels, (int)index, 24);
    *sample = sid2_sample_of_picture(&image);
    return true;
}

static sid2_source made_source(sid2_sample_type type)
{
    sid2_source source = {.kind = "made", .type = type, .count = 5, .load = load_made};
    source.labels = calloc(5, sizeof *source.labels);
    assert_non_null(source.labels);
    assert_true(sid2_source_name_classes(&source, 1, NULL, 0, NULL));
    return source;
}

/* What a data set and its loader say of their samples follows from what the source says of its own, and samples
 * that are no pictures are refused by name. */
static void test_sample_types(void **state)
{
    (void)state;
    sid2_error err = {0};
    sid2_source source = made_source(sid2_picture_type);
    sid2_dataset *d = sid2_dataset_adopt(&source, "made", (sid2_dataset_options){.size = 4}, &err);
    assert_non_null(d);
    sid2_sample_type type = sid2_dataset_type(d);
    assert_int_equal(type.dtype, SID2_U8);
    assert_true(sid2_shape_equal(type.shape, sid2_shape_of(4, 4, 3)));
    assert_int_equal(sid2_sample_bytes(type), 48);
    sid2_loader *l = sid2_loader_open(d, &sid2_with(sid2_loader_options, .batch = 3, .flip = true), NULL);
    const sid2_batch *batch = sid2_loader_next(l, &err);
    assert_non_null(batch);
    for (int i = 0; i < 3; i++)
        for (int k = 1; k < 48; k++) assert_int_equal(batch->pixels[48 * i + k], batch->pixels[48 * i]);
    sid2_loader_close(l);
    sid2_dataset_close(d);

    const sid2_sample_type foreign[] = {{SID2_U8, sid2_shape_of(16, 4, 4, 3)},
                                        {SID2_F32, sid2_shape_of(4, 4, 3)}};
    static const char *const named[] = {"u8 16x4x4x3", "f32 4x4x3"};
    for (int i = 0; i < 2; i++) {
        source = made_source(foreign[i]);
        assert_null(sid2_dataset_adopt(&source, "made", (sid2_dataset_options){0}, &err));
        assert_int_equal(err.code, SID2_ERR_UNSUPPORTED);
        if (!strstr(err.message, named[i])) fail_msg("%s", err.message);
    }
}

/* Every format in the table says what it is. */
static void test_formats(void **state)
{
    (void)state;
    char list[256];
    sid2_dataset_formats(list);
#define FORMAT(word) assert_non_null(strstr(list, sid2_format_##word.what));
#include "formats.def"
}

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sid2-dataset-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_broken_pictures),
        cmocka_unit_test(test_folder_errors),
        cmocka_unit_test(test_zip),
        cmocka_unit_test(test_encrypted_zip),
        cmocka_unit_test(test_zip_errors),
        cmocka_unit_test(test_damaged_zip),
        cmocka_unit_test(test_cifar),
        cmocka_unit_test(test_idx),
        cmocka_unit_test(test_holdout),
        cmocka_unit_test(test_shuffle),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_loader_error),
        cmocka_unit_test(test_sample_types),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_translation),
        cmocka_unit_test(test_names_and_digest),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
