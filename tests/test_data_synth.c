/* The generated data set and the npz writer: determinism, what comes back when read, what fails and how. */
#include "dataset.h"
#include "npz.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static int next;
    char *slot = path[next++ % 4];
    snprintf(slot, sizeof path[0], "%s/%s", folder, name);
    return slot;
}

static int files_in_folder(void)
{
    char command[128], count[16] = "";
    snprintf(command, sizeof command, "ls -A %s | wc -l", folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(fgets(count, sizeof count, pipe));
    pclose(pipe);
    return atoi(count);
}

static uint64_t fnv(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) value = (value ^ bytes[i]) * 0x100000001b3u;
    return value;
}

/* The bytes of one picture of each class, so that no change of compiler or machine goes unnoticed. */
static void test_pictures_are_fixed(void **state)
{
    (void)state;
    static const uint64_t expected[SID2_SYNTH_CLASSES] = {
        0x29f9f702bd092ec8, 0x9ae44e8c7ea3e293, 0x49b43a86cb1e5690, 0x8f78c0eedf6a3c71, 0x522b7c2cfdce0253,
        0x4b0efab651d550e7, 0x9141b40351f57f19, 0xfcfd06b8ae216e55, 0xf7c9cff2c0280ae9, 0x1b4a4d5931e6ed63};
    uint8_t pixels[32 * 32 * 3], again[32 * 32 * 3];
    for (int i = 0; i < SID2_SYNTH_CLASSES; i++) {
        assert_true(sid2_synth_render(1, (uint64_t)i, 32, pixels, NULL));
        assert_true(fnv(pixels, sizeof pixels) == expected[i]);
        assert_true(sid2_synth_render(1, (uint64_t)i + 10, 32, again, NULL));
        assert_memory_not_equal(pixels, again, sizeof pixels);
        assert_true(sid2_synth_render(2, (uint64_t)i, 32, again, NULL));
        assert_memory_not_equal(pixels, again, sizeof pixels);
    }
    assert_false(sid2_synth_render(1, 0, 0, pixels, NULL));
}

static void check_written(const char *path)
{
    sid2_error err = {0};
    assert_true(sid2_synth_write(path, 40, 32, 1, NULL, &err));
    sid2_dataset *dataset = sid2_dataset_open(path, &sid2_with(sid2_dataset_options, .size = 32), &err);
    if (!dataset) print_error("%s\n", err.message);
    assert_non_null(dataset);
    assert_int_equal(sid2_dataset_count(dataset), 40);
    assert_int_equal(sid2_dataset_classes(dataset), SID2_SYNTH_CLASSES);
    uint8_t pixels[32 * 32 * 3], original[32 * 32 * 3];
    for (int64_t i = 0; i < 40; i++) {
        char *name = sid2_dataset_name(dataset, i);
        const char *digits = strstr(name, "img") ? strstr(name, "img") + 3 : strchr(name, '/') + 1;
        uint64_t index = (uint64_t)atoll(digits);
        int32_t label;
        assert_true(sid2_dataset_get(dataset, i, false, pixels, &label, &err));
        assert_true(sid2_synth_render(1, index, 32, original, &err));
        assert_memory_equal(pixels, original, sizeof pixels);
        assert_string_equal(sid2_dataset_class_name(dataset, label),
                            sid2_synth_class_name(sid2_synth_label(index)));
        free(name);
    }
    sid2_dataset_close(dataset);
}

static void test_folder(void **state)
{
    (void)state;
    check_written(in_folder("tree/"));
    sid2_error err;
    assert_false(sid2_synth_write(in_folder("tree"), 4, 32, 1, NULL, &err));
    assert_non_null(strstr(err.message, "name a new one"));
    assert_false(sid2_synth_write("/proc/no-folder/place", 4, 32, 1, NULL, &err));
    assert_int_equal(err.code, SID2_ERR_IO);
    assert_false(sid2_synth_write(in_folder("x"), 0, 32, 1, NULL, &err));
    assert_int_equal(files_in_folder(), 1);
}

static int asked;

static bool at_the_third(void) { return ++asked == 3; }

static void test_zip(void **state)
{
    (void)state;
    check_written(in_folder("set.zip"));
    sid2_error err;
    assert_false(sid2_synth_write(in_folder("set.zip"), 4, 32, 1, NULL, &err));
    assert_non_null(strstr(err.message, "name a new one"));
}

static void test_stopping(void **state)
{
    (void)state;
    static const char *const names[] = {"stopped.zip", "stopped"};
    int before = files_in_folder();
    for (int i = 0; i < 2; i++) {
        sid2_error err = {0};
        asked = 0;
        assert_false(sid2_synth_write(in_folder(names[i]), 40, 32, 1, at_the_third, &err));
        assert_int_equal(err.code, SID2_ERR_CANCELLED);
        assert_int_equal(asked, 3);
    }
    assert_int_equal(files_in_folder(), before);
}

/* An archive of pictures of 4 x 5 x 3. */
static sid2_npz *open_npz(const char *path, int64_t count, bool labelled, sid2_error *err)
{
    sid2_atomic_file file;
    return sid2_atomic_open(&file, path, err)
               ? sid2_npz_open(&file, count, sid2_shape_of(4, 5, 3), labelled, err)
               : NULL;
}

static void write_npz(const char *path, int64_t count, bool labelled)
{
    sid2_error err = {0};
    sid2_npz *npz = open_npz(path, count, labelled, &err);
    assert_non_null(npz);
    for (int64_t i = 0; i < count; i++) {
        uint8_t pixels[60];
        memset(pixels, (int)i, sizeof pixels);
        int32_t label = (int32_t)i * 1000 - 1;
        assert_true(sid2_npz_append(npz, pixels, labelled ? &label : NULL, 1, &err));
    }
    assert_true(sid2_npz_commit(npz, &err));
}

/* The bytes of the members, which lie stored in the file. */
static void test_npz(void **state)
{
    (void)state;
    const char *path = in_folder("samples.npz");
    write_npz(path, 300, true);
    FILE *stream = fopen(path, "rb");
    static uint8_t bytes[40000];
    size_t size = fread(bytes, 1, sizeof bytes, stream);
    fclose(stream);
    static const char first[] = "{'descr': '|u1', 'fortran_order': False, 'shape': (300, 4, 5, 3), }";
    static const char second[] = "{'descr': '<i8', 'fortran_order': False, 'shape': (300,), }";
    uint8_t *images = memmem(bytes, size, first, strlen(first)),
            *labels = memmem(bytes, size, second, strlen(second));
    assert_non_null(images);
    assert_non_null(labels);
    assert_non_null(memmem(bytes, size, "arr_0.npy", 9));
    assert_non_null(memmem(bytes, size, "arr_1.npy", 9));
    assert_memory_equal(images - 10, "\x93NUMPY\x01\x00\x76\x00", 10);
    assert_int_equal(images[117], '\n');
    for (int i = 0; i < 300; i++) {
        assert_int_equal(images[118 + 60 * i], i & 255);
        assert_int_equal(images[118 + 60 * i + 59], i & 255);
        int64_t label;
        memcpy(&label, labels + 118 + 8 * i, 8);
        assert_int_equal(label, i * 1000 - 1);
    }
    write_npz(path, 2, false); /* replaces the file */
    stream = fopen(path, "rb");
    size = fread(bytes, 1, sizeof bytes, stream);
    fclose(stream);
    assert_null(memmem(bytes, size, "arr_1.npy", 9));
    int before = files_in_folder();
    sid2_npz *npz = open_npz(in_folder("other.npz"), 3, false, NULL);
    uint8_t one[60] = {0};
    sid2_error err;
    assert_true(sid2_npz_append(npz, one, NULL, 1, &err));
    sid2_npz_discard(npz);
    npz = open_npz(in_folder("other.npz"), 2, false, NULL);
    assert_true(sid2_npz_append(npz, one, NULL, 1, &err));
    assert_false(sid2_npz_append(npz, one, NULL, 2, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    assert_false(sid2_npz_commit(npz, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    assert_int_equal(files_in_folder(), before);
    assert_null(open_npz(in_folder("samples.npz/x.npz"), 1, false, &err));
    assert_int_equal(err.code, SID2_ERR_IO);
}

/* A full disk, played by a limit on the size of files. */
static void test_full_disk(void **state)
{
    (void)state;
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 20000;
    signal(SIGXFSZ, SIG_IGN);
    int before = files_in_folder();
    sid2_error zip = {0}, tree = {0}, npz = {0};
    static uint8_t pixels[64 * 64 * 3 * 16];
    setrlimit(RLIMIT_FSIZE, &small);
    bool wrote_zip = sid2_synth_write(in_folder("full.zip"), 100, 32, 1, NULL, &zip);
    bool wrote_tree = sid2_synth_write(in_folder("full"), 3, 256, 1, NULL, &tree);
    sid2_atomic_file file;
    assert_true(sid2_atomic_open(&file, in_folder("full.npz"), NULL));
    sid2_npz *archive = sid2_npz_open(&file, 16, sid2_shape_of(64, 64, 3), false, NULL);
    bool wrote_npz = sid2_npz_append(archive, pixels, NULL, 16, &npz);
    if (wrote_npz)
        wrote_npz = sid2_npz_commit(archive, &npz);
    else
        sid2_npz_discard(archive);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_false(wrote_zip || wrote_tree || wrote_npz);
    assert_int_equal(zip.code, SID2_ERR_IO);
    assert_int_equal(tree.code, SID2_ERR_IO);
    assert_int_equal(npz.code, SID2_ERR_IO);
    assert_non_null(strstr(zip.message, "full.zip"));
    assert_non_null(strstr(npz.message, "full.npz"));
    assert_int_equal(files_in_folder(), before);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sid2-synth-XXXXXX");
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
        cmocka_unit_test(test_pictures_are_fixed),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_zip),
        cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_npz),
        cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
