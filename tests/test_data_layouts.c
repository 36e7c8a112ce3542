/* Data sets as people have them: every way to hold pictures and labels, with all that lies among them. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <zip.h>

#include "dataset.h"
#include "file.h"
#include "image.h"
#include "model_support.h"

static char folder[64] = "/tmp/sid2-layouts-XXXXXX";

static const char *at(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *at(const char *format, ...)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    int used = snprintf(path, sizeof *paths, "%s/", folder);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path + used, sizeof *paths - (size_t)used, format, arguments);
    va_end(arguments);
    return path;
}

static void put(const char *path, const void *bytes, size_t size)
{
    must(sid2_make_parents(path, &err));
    FILE *file = fopen(path, "wb"); /* thousands: not each of them flushed to the disk */
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* A picture of one tone. */
static uint8_t *picture(sid2_image_format format, int tone, size_t *size)
{
    sid2_image image;
    uint8_t *bytes;
    must(sid2_image_alloc(&image, 8, 8, 3, &err));
    memset(image.pixels, tone, 8 * 8 * 3);
    must(sid2_image_encode(&image, 1, &sid2_with(sid2_encode_options, .format = format), &bytes, size, &err));
    sid2_image_free(&image);
    return bytes;
}

static void put_picture(const char *path, int tone)
{
    sid2_image_format format;
    size_t size;
    assert_true(sid2_image_format_of(path, &format));
    uint8_t *bytes = picture(format, tone, &size);
    put(path, bytes, size);
    free(bytes);
}

static sid2_dataset *open_at(const char *path)
{
    sid2_dataset *d = sid2_dataset_open(path, &sid2_with(sid2_dataset_options, .size = 8), &err);
    if (!d) fail_msg("%s", err.message);
    return d;
}

/* So many pictures, of classes of these names. */
static void expect(const char *path, const char *kind, int64_t count, const char *names)
{
    char all[512] = "";
    sid2_dataset *d = open_at(path);
    assert_string_equal(sid2_dataset_kind(d), kind);
    for (int k = 0; k < sid2_dataset_classes(d); k++)
        strcat(strcat(all, k ? "," : ""), sid2_dataset_class_name(d, k));
    assert_string_equal(all, names);
    assert_int_equal(sid2_dataset_count(d), count);
    uint8_t pixels[8 * 8 * 3];
    int32_t label;
    for (int64_t i = 0; i < count; i++) must(sid2_dataset_get(d, i, false, pixels, &label, &err));
    assert_int_equal(sid2_dataset_broken(d), 0);
    sid2_dataset_close(d);
}

static void expect_refusal(const char *path, const char *part)
{
    assert_null(sid2_dataset_open(path, &sid2_with(sid2_dataset_options, .size = 8), &err));
    if (!strstr(err.message, part)) fail_msg("%s", err.message);
}

/* ---- Archives made here ---- */

typedef struct member {
    const char *name, *text; /* NULL: a picture */
} member;

static void make_zip(const char *path, const member *members, int count)
{
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    assert_non_null(zip);
    for (int i = 0; i < count; i++) {
        size_t size = members[i].text ? strlen(members[i].text) : 0;
        uint8_t *bytes =
            members[i].text ? (uint8_t *)strdup(members[i].text) : picture(SID2_IMAGE_PNG, i, &size);
        zip_source_t *source = zip_source_buffer(zip, bytes, size, 1);
        assert_true(zip_file_add(zip, members[i].name, source, ZIP_FL_ENC_UTF_8) >= 0);
    }
    assert_int_equal(zip_close(zip), 0);
}

static void make_tar(const char *path, int (*compress)(struct archive *), const member *members, int count)
{
    struct archive *tar = archive_write_new();
    assert_true(!archive_write_set_format_gnutar(tar) && !compress(tar) &&
                !archive_write_open_filename(tar, path));
    for (int i = 0; i < count; i++) {
        size_t size = members[i].text ? strlen(members[i].text) : 0;
        uint8_t *bytes =
            members[i].text ? (uint8_t *)strdup(members[i].text) : picture(SID2_IMAGE_WEBP, i, &size);
        struct archive_entry *entry = archive_entry_new();
        bool is_link = members[i].text && !strncmp(members[i].text, "->", 2);
        archive_entry_copy_pathname(entry, members[i].name);
        archive_entry_set_filetype(entry, is_link ? AE_IFLNK : AE_IFREG);
        if (is_link) archive_entry_copy_symlink(entry, members[i].text + 2);
        archive_entry_set_size(entry, is_link ? 0 : (int64_t)size);
        archive_entry_set_perm(entry, 0644);
        assert_int_equal(archive_write_header(tar, entry), 0);
        if (!is_link) assert_int_equal(archive_write_data(tar, bytes, size), size);
        archive_entry_free(entry);
        free(bytes);
    }
    assert_int_equal(archive_write_free(tar), 0);
}

#define COUNT(list) ((int)(sizeof(list) / sizeof *(list)))
static const member by_class[] = {{"photos/dog/1.png", NULL},
                                  {"photos/cat/1.png", NULL},
                                  {"photos/cat/deep/2.png", NULL},
                                  {"__MACOSX/photos/cat/._1.png", "x"},
                                  {"photos/.DS_Store", "x"}};
#define TWO "[\"00000/b.png\", 2], [\"00000\\\\a.png\", 0]"
static const member edm[] = {
    {"set/00000/a.png", NULL},
    {"set/00000/b.png", NULL},
    {"set/dataset.json", "\xef\xbb\xbf{\"labels\": [" TWO "], \"names\": [\"x\", \"y\", \"z\"]}"}};

static void zips_and_tars(void **state)
{
    (void)state;
    static int (*const filters[])(struct archive *) = {
        archive_write_add_filter_none, archive_write_add_filter_gzip, archive_write_add_filter_xz,
        archive_write_add_filter_zstd};
    make_zip(at("c.zip"), by_class, COUNT(by_class));
    expect(at("c.zip"), "zip", 3, "cat,dog");
    make_zip(at("e.zip"), edm, COUNT(edm));
    expect(at("e.zip"), "zip", 2, "x,y,z");
    static const member windows[] = {{"p\\cat\\1.png", NULL}, {"p\\K\xc3\xa4tzchen\\1.png", NULL}};
    make_zip(at("w.zip"), windows, 2);
    expect(at("w.zip"), "zip", 2, "K\xc3\xa4tzchen,cat");
    for (int i = 0; i < COUNT(filters); i++) {
        make_tar(at("c%d.tar", i), filters[i], by_class, COUNT(by_class));
        expect(at("c%d.tar", i), "tar", 3, "cat,dog");
        make_tar(at("e%d.tar", i), filters[i], edm, COUNT(edm));
        expect(at("e%d.tar", i), "tar", 2, "x,y,z");
    }
    static const member hostile[] = {
        {"/etc/a.png", NULL}, {"../../b/c.png", NULL}, {"d/e.png", "->/etc/passwd"}, {"d/f.png", NULL}};
    make_tar(at("h.tar"), filters[0], hostile, COUNT(hostile));
    expect(at("h.tar"), "tar", 2, "d,etc"); /* what begins with a point is hidden, links are left out */
    make_tar(at("cut.tar.gz"), filters[1], by_class, COUNT(by_class));
    struct stat status;
    assert_int_equal(stat(at("cut.tar.gz"), &status), 0);
    assert_int_equal(truncate(at("cut.tar.gz"), status.st_size - 30), 0);
    expect_refusal(at("cut.tar.gz"), "cut.tar.gz: cut short or damaged");
}

static void shards(void **state)
{
    (void)state;
    static const member first[] = {{"000.webp", NULL},
                                   {"000.cls", "1\n"},
                                   {"001.webp", NULL},
                                   {"001.cls", "0"},
                                   {"001.txt", "a caption"}},
                        second[] = {{"000.webp", NULL}, {"000.cls", "3"}, {"002.webp", NULL}},
                        named[] = {{"a.webp", NULL},
                                   {"a.json", "{\"label\": \"dog\"}"},
                                   {"b.webp", NULL},
                                   {"b.json", "{\"label\": \"cat\"}"}};
    must(sid2_make_directories(at("shards"), &err));
    make_tar(at("shards/s-008.tar"), archive_write_add_filter_none, first, COUNT(first));
    make_tar(at("shards/s-009.tar"), archive_write_add_filter_gzip, second, COUNT(second));
    static const char *const paths[] = {"shards", "shards/s-{008..009}.tar"};
    for (int i = 0; i < 2; i++) {
        expect(at("%s", paths[i]), "WebDataset", 3, "0,1,2,3");
        sid2_dataset *d = open_at(at("%s", paths[i]));
        static const int labels[] = {1, 3, 0};
        for (int k = 0; k < 3; k++) assert_int_equal(sid2_dataset_label(d, k), labels[k]);
        char *kinds = sid2_dataset_loss(d, 0), *unlabelled = sid2_dataset_loss(d, 1);
        assert_string_equal(kinds, "1 file of another kind: .txt 1");
        assert_string_equal(unlabelled, "1 picture without a label: .webp 1 (002.webp)");
        free(kinds);
        free(unlabelled);
        sid2_dataset_close(d);
    }
    expect_refusal(at("shards/s-{008..010}.tar"), "s-010.tar: No such file");
    make_tar(at("named.tar"), archive_write_add_filter_none, named, COUNT(named));
    expect(at("named.tar"), "WebDataset", 2, "cat,dog");
}

static void splits(void **state)
{
    (void)state;
    static const char *const names[] = {"train/a/1", "train/b/1", "val/a/1", "test/b/1"};
    for (int i = 0; i < COUNT(names); i++) put_picture(at("splits/%s.png", names[i]), i);
    expect(at("splits"), "folder", 2, "a,b");
}

/* ---- CIFAR and numpy ---- */

static void cifar(void **state)
{
    (void)state;
    static uint8_t records[100 * 3074];
    for (int i = 0; i < 100; i++) records[3074 * i] = (uint8_t)(i / 5), records[3074 * i + 1] = (uint8_t)i;
    must(sid2_make_directories(at("c100/cifar-100-binary"), &err));
    put(at("c100/cifar-100-binary/train.bin"), records, sizeof records);
    put(at("c100/cifar-100-binary/test.bin"), records, 3074);
    put(at("c100/cifar-100-binary/fine_label_names.txt"), "apple\nbear\n", 11);
    sid2_dataset *d = open_at(at("c100"));
    assert_int_equal(sid2_dataset_count(d), 100);
    assert_int_equal(sid2_dataset_label(d, 77), 77);
    assert_string_equal(sid2_dataset_class_name(d, 1), "bear");
    char *line = sid2_dataset_loss(d, 0);
    assert_string_equal(line, "1 file of a test set: .bin 1 (cifar-100-binary/test.bin)");
    free(line);
    sid2_dataset_close(d);
    put(at("py/data_batch_1"), "x", 1);
    put(at("py/batches.meta"), "x", 1);
    expect_refusal(at("py"), "take the binary version");
}

static void add_array(zip_t *zip, const char *name, const char *type, const char *shape, const void *values,
                      size_t size, bool is_packed)
{
    char *bytes = malloc(128 + size);
    int length =
        snprintf(bytes, 128, "%cNUMPY%c%c%c%c{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", 0x93,
                 1, 0, 118, 0, type, shape);
    memset(bytes + length, ' ', (size_t)(128 - length));
    bytes[127] = '\n';
    memcpy(bytes + 128, values, size);
    zip_int64_t entry = zip_file_add(zip, name, zip_source_buffer(zip, bytes, 128 + size, 1), 0);
    assert_true(entry >= 0);
    zip_set_file_compression(zip, (zip_uint64_t)entry, is_packed ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
}

static void npz(void **state)
{
    (void)state;
    static uint8_t pixels[3 * 8 * 8 * 3];
    static const int64_t labels[] = {2, 0, 1}, wrong[] = {2, -1, 1};
    for (int i = 0; i < 3; i++) memset(pixels + 192 * i, 10 + i, 192);
    for (int packed = 0; packed < 2; packed++) {
        zip_t *zip = zip_open(at("x.npz"), ZIP_CREATE | ZIP_TRUNCATE, NULL);
        add_array(zip, "arr_0.npy", "|u1", "3, 8, 8, 3", pixels, sizeof pixels, packed);
        add_array(zip, "arr_1.npy", "<i8", "3,", labels, sizeof labels, packed);
        assert_int_equal(zip_close(zip), 0);
        expect(at("x.npz"), "npz", 3, "0,1,2");
        sid2_dataset *d = open_at(at("x.npz"));
        uint8_t out[192];
        int32_t label;
        for (int i = 0; i < 3; i++) {
            must(sid2_dataset_get(d, i, false, out, &label, &err));
            assert_int_equal(label, labels[i]);
            assert_memory_equal(out, pixels + 192 * i, 192);
        }
        sid2_dataset_close(d);
    }
    zip_t *zip = zip_open(at("flipped.npz"), ZIP_CREATE | ZIP_TRUNCATE, NULL);
    add_array(zip, "arr_0.npy", "|u1", "3, 8, 8, 3", pixels, sizeof pixels, false);
    assert_int_equal(zip_close(zip), 0);
    size_t size;
    uint8_t *bytes = sid2_file_read(at("flipped.npz"), 0, &size, &err);
    bytes[size / 2] ^= 1;
    put(at("flipped.npz"), bytes, size);
    free(bytes);
    expect_refusal(at("flipped.npz"), "flipped.npz/arr_0.npy: CRC error");
    zip = zip_open(at("bad.npz"), ZIP_CREATE | ZIP_TRUNCATE, NULL);
    add_array(zip, "arr_0.npy", "|u1", "3, 8, 8, 3", pixels, sizeof pixels, false);
    add_array(zip, "arr_1.npy", "<i8", "3,", wrong, sizeof wrong, false);
    assert_int_equal(zip_close(zip), 0);
    expect_refusal(at("bad.npz"), "label 1 is not a class");
    zip = zip_open(at("short.npz"), ZIP_CREATE | ZIP_TRUNCATE, NULL);
    add_array(zip, "arr_0.npy", "|u1", "4, 8, 8, 3", pixels, sizeof pixels, false);
    assert_int_equal(zip_close(zip), 0);
    expect_refusal(at("short.npz"), "cut short");
}

/* ---- A folder as it grows over the years ---- */

static void scatter(const char *format, int count, const void *bytes, size_t size)
{
    static const char *const classes[] = {"cat", "dog", "Ka\xcc\x88tzchen Mia", "\xe7\x8c\xab"};
    for (int i = 0; i < count; i++) {
        char name[128];
        snprintf(name, sizeof name, format, classes[i % 4], i);
        if (bytes)
            put(at("grown/%s", name), bytes, size);
        else
            put_picture(at("grown/%s", name), i % 200);
    }
}

typedef struct told {
    int count;
    char lines[16][256];
} told;

static bool on_event(void *user, const sid2_run_event *event)
{
    told *t = user;
    bool is_name = event->text && strstr(event->text, "/broken") && !strstr(event->text, "broken pictures: ");
    if (event->kind == SID2_RUN_WARNING && !is_name && t->count < 16)
        snprintf(t->lines[t->count++], sizeof t->lines[0], "%s", event->text);
    return true;
}

/* 2,000 files, of which 1,600 are pictures of four classes. */
static void grown_folder(void **state)
{
    (void)state;
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    scatter("%s/%d.png", 1200, NULL, 0);
    scatter("%s/deep/%d.jpg", 200, NULL, 0);
    scatter("%s/%d.webp", 200, NULL, 0);
    scatter("%s/%d.heic", 60, "x", 1);
    scatter("%s/%d.GIF", 40, "GIF89a", 6);
    scatter("%s/@eaDir/%d.png", 50, "x", 1);
    scatter("%s/._%d.jpg", 50, "x", 1);
    scatter("%s/empty%d.png", 40, "", 0);
    scatter("%s/lfs%d.jpg", 30, pointer, sizeof pointer - 1);
    scatter("%s/broken%d.png", 76, "not a picture", 13);
    for (int i = 0; i < 20; i++) put_picture(at("grown/stray%d.png", i), 1);
    for (int i = 0; i < 30; i++) assert_int_equal(symlink("nowhere", at("grown/dog/lost%d.png", i)), 0);
    for (int i = 0; i < 4; i++) assert_int_equal(mkfifo(at("grown/cat/pipe%d.png", i), 0600), 0);
    must(sid2_make_directories(at("grown/nothing yet"), &err));
    must(sid2_make_directories(at("grown/.ipynb_checkpoints"), &err));

    sid2_config *config = TINY("train.batch=100", "train.steps=20", "train.holdout=0", "train.sample_every=0",
                               "train.checkpoint_every=0", "model.classes=5");
    sid2_device *device = open_device("cpu");
    assert_non_null(device);
    told t = {0};
    sid2_run *run = sid2_run_open(&sid2_with(sid2_run_options, .path = at("run"), .config = config,
                                             .data = at("grown"), .callback = on_event, .user = &t),
                                  &err);
    if (!run) fail_msg("%s", err.message);
    must(sid2_run_train(run, device, &err));
    sid2_run_close(run);
    sid2_device_close(device);
    sid2_config_destroy(config);
    static const char *const lines[] = {
        "left out: 100 files of other kinds: .heic 60, .gif 40",
        "left out: 100 hidden files, or in helper folders: .jpg 50, .png 50 (such as ",
        "left out: 20 pictures outside every class folder: .png 20 (such as stray",
        "left out: 40 empty files: .png 40 (such as ",
        "left out: 30 git-lfs pointers (git lfs pull fetches what they stand for): .jpg 30 (such as ",
        "left out: 30 links to nothing: .png 30 (such as dog/lost",
        "left out: 4 pipes, sockets or devices: .png 4 (such as cat/pipe",
    };
    int last = -1;
    for (int i = 0; i < COUNT(lines); i++)
        if (strncmp(t.lines[i], lines[i], strlen(lines[i])) != 0) fail_msg("%s", t.lines[i]);
    for (int i = 0; i < t.count; i++)
        if (strstr(t.lines[i], "broken pictures: ")) last = i;
    assert_true(last >= COUNT(lines)); /* once the epoch is over */
    assert_non_null(strstr(t.lines[last], "left out: 76 broken pictures: .png 76 (such as "));
    int empty = 0;
    for (int i = 0; i < t.count; i++)
        empty += !strcmp(t.lines[i], "1 of 5 classes have no picture and keep their number: nothing yet");
    assert_int_equal(empty, 1);

    /* Packed once: the same pictures and labels, all classes, and what is there is gone on with. */
    sid2_dataset *d = open_at(at("grown"));
    assert_string_equal(sid2_dataset_class_name(d, 0), "K\xc3\xa4tzchen Mia");
    must(sid2_dataset_pack(d, at("packed.zip"), NULL, &err));
    assert_false(sid2_dataset_pack(d, at("packed.zip"), NULL, &err));
    put(at("again.zip.part"), "", 0);
    must(sid2_dataset_pack(d, at("again.zip"), &sid2_with(sid2_pack_options, .threads = 3), &err));
    put(at("other.zip.part"),
        "other pictures, packed in another way, in many more words than the first line needs, "
        "which says what they are, and some more to be sure",
        136);
    assert_false(sid2_dataset_pack(d, at("other.zip"), NULL, &err));
    sid2_dataset_close(d);
    expect(at("packed.zip"), "zip", 1600, "K\xc3\xa4tzchen Mia,cat,dog,nothing yet,\xe7\x8c\xab");
    size_t size[2];
    uint8_t *one = sid2_file_read(at("packed.zip"), 0, &size[0], &err),
            *two = sid2_file_read(at("again.zip"), 0, &size[1], &err);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(one, two, size[0]);
    free(one);
    free(two);
    assert_int_equal(access(at("packed.zip.part"), F_OK), -1);
}

/* Every class keeps a picture to train on, however much is held out. */
static void holdout(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) put_picture(at("few/%c/%02d.png", 'a' + i % 6, i), i);
    sid2_dataset *d = sid2_dataset_open(
        at("few"), &sid2_with(sid2_dataset_options, .size = 8, .part = SID2_PART_TRAIN, .holdout = 0.99),
        &err);
    assert_non_null(d);
    bool seen[6] = {false};
    for (int64_t i = 0; i < sid2_dataset_count(d); i++) seen[sid2_dataset_label(d, i)] = true;
    for (int i = 0; i < 6; i++) assert_true(seen[i]);
    sid2_dataset_close(d);
}

/* More decoded pictures than memory is given for them lie in a scratch file, and are the same. */
static void cache(void **state)
{
    (void)state;
    sid2_dataset *d =
        sid2_dataset_open(at("few"), &sid2_with(sid2_dataset_options, .size = 8, .cache_bytes = 200), &err);
    assert_non_null(d);
    uint8_t pixels[2][192];
    for (int round = 0; round < 3; round++)
        for (int64_t i = 0; i < 12; i++) {
            must(sid2_dataset_get(d, i, false, pixels[0], NULL, &err));
            assert_int_equal(pixels[0][0], i / 2 + 6 * (i % 2));
        }
    must(sid2_remove_tree(at("few"), &err)); /* they are not read again */
    must(sid2_dataset_get(d, 5, false, pixels[1], NULL, &err));
    sid2_dataset_close(d);
}

/* What is packed has the data set's shape, square or not. */
static void packed_wide(void **state)
{
    (void)state;
    put_picture(at("wide/a/0.png"), 7);
    sid2_dataset *d =
        sid2_dataset_open(at("wide"), &sid2_with(sid2_dataset_options, .height = 8, .width = 24), &err);
    assert_non_null(d);
    must(sid2_dataset_pack(d, at("wide.zip"), NULL, &err));
    sid2_dataset_close(d);
    uint8_t bytes[4096];
    zip_t *zip = zip_open(at("wide.zip"), ZIP_RDONLY, NULL);
    assert_non_null(zip);
    zip_file_t *file = zip_fopen(zip, "00000/img00000000.png", 0);
    assert_non_null(file);
    zip_int64_t size = zip_fread(file, bytes, sizeof bytes);
    assert_true(size > 0);
    zip_fclose(file);
    zip_discard(zip);
    sid2_image image;
    must(sid2_image_decode(&image, bytes, (size_t)size, "packed", &err));
    assert_int_equal(image.height, 8);
    assert_int_equal(image.width, 24);
    sid2_image_free(&image);
}

static int set_up(void **state) { return (void)state, mkdtemp(folder) ? 0 : -1; }
static int tear_down(void **state) { return (void)state, sid2_remove_tree(folder, &err) ? 0 : -1; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zips_and_tars), cmocka_unit_test(shards), cmocka_unit_test(splits),
        cmocka_unit_test(cifar),         cmocka_unit_test(npz),    cmocka_unit_test(grown_folder),
        cmocka_unit_test(holdout),       cmocka_unit_test(cache),  cmocka_unit_test(packed_wide),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
