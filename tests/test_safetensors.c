/* The safetensors reader against the official package's file, against every rule of the format, and against
 * thousands of damaged files; the writer against the official bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "safetensors.h"

#define OFFICIAL SID2_SOURCE_DIR "/tests/fixtures/official.safetensors"

static char scratch[64];

static const char *temporary(void)
{
    snprintf(scratch, sizeof scratch, "/tmp/sid2-test-%ld.safetensors", (long)getpid());
    return scratch;
}

/* An entry's bytes, to be freed. */
static void *bytes_of(const sid2_safetensors *file, const sid2_safetensors_entry *e)
{
    sid2_error err = {0};
    void *bytes = malloc(e->bytes + 1);
    if (!sid2_safetensors_read(file, e, bytes, &err)) fail_msg("%s", err.message);
    return bytes;
}

static void reads_the_official_file(void **state)
{
    (void)state;
    sid2_error err = {0};
    sid2_safetensors *file = sid2_safetensors_open(OFFICIAL, &err);
    if (!file) fail_msg("%s", err.message);
    assert_int_equal(sid2_safetensors_count(file), 7);
    assert_string_equal(sid2_safetensors_metadata(file, "made_by"), "the official package");
    assert_null(sid2_safetensors_metadata(file, "absent"));
    const sid2_safetensors_entry *a = sid2_safetensors_find(file, "a");
    assert_int_equal(a->dtype, SID2_F64);
    assert_true(sid2_shape_equal(a->shape, sid2_shape_of(7)));
    double *doubles = bytes_of(file, a);
    for (int i = 0; i < 7; i++) assert_true(doubles[i] == i);
    free(doubles);
    const sid2_safetensors_entry *half = sid2_safetensors_find(file, "h");
    uint16_t *halves = bytes_of(file, half);
    for (int i = 0; i < 6; i++) assert_true(sid2_f16_to_f32(halves[i]) == (float)i);
    free(halves);
    assert_int_equal(sid2_safetensors_find(file, "scalar")->shape.rank, 0);
    assert_int_equal(sid2_safetensors_find(file, "empty")->bytes, 0);
    assert_null(sid2_safetensors_find(file, "nothing"));
    sid2_safetensors_close(file);
}

/* Everything in the official file, written by us in another order, is the official file. */
static void writes_the_official_bytes(void **state)
{
    (void)state;
    sid2_error err = {0};
    sid2_safetensors *file = sid2_safetensors_open(OFFICIAL, &err);
    assert_non_null(file);
    sid2_safetensors_item items[7];
    for (int i = 0; i < 7; i++) {
        const sid2_safetensors_entry *e = sid2_safetensors_at(file, (i * 3 + 2) % 7);
        items[i] = (sid2_safetensors_item){e->name, e->dtype, e->shape, bytes_of(file, e)};
    }
    const char *metadata[] = {"made_by", "the official package", NULL};
    if (!sid2_safetensors_write(temporary(), items, 7, metadata, false, &err)) fail_msg("%s", err.message);
    size_t size[2];
    uint8_t *ours = sid2_file_read(scratch, 1 << 20, &size[0], &err);
    uint8_t *theirs = sid2_file_read(OFFICIAL, 1 << 20, &size[1], &err);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(ours, theirs, size[0]);

    char digest[2][33];
    sid2_safetensors *copy = sid2_safetensors_open(scratch, &err);
    assert_true(sid2_safetensors_check(file, digest[0], &err));
    assert_true(sid2_safetensors_check(copy, digest[1], &err));
    assert_string_equal(digest[0], digest[1]);
    assert_int_equal(strlen(digest[0]), 32);
    sid2_safetensors_close(copy);

    for (int i = 0; i < 7; i++)
        if (!strcmp(items[i].name, "scalar")) *(float *)(void *)items[i].data = 2.25f;
    assert_true(sid2_safetensors_write(scratch, items, 7, metadata, false, &err));
    copy = sid2_safetensors_open(scratch, &err);
    assert_true(sid2_safetensors_check(copy, digest[1], &err));
    assert_string_not_equal(digest[0], digest[1]);
    sid2_safetensors_close(copy);
    sid2_safetensors_close(file);
    free(ours);
    free(theirs);
    for (int i = 0; i < 7; i++) free((void *)items[i].data);
    unlink(scratch);
}

static void refuses_names_it_cannot_write(void **state)
{
    (void)state;
    static const struct {
        const char *name, *cause;
    } bad[] = {{"a", "twice"}, {"__metadata__", "reserved"}, {"\xff", "UTF-8"}};
    float value = 1;
    for (int i = 0; i < 3; i++) { /* of another type, so that equal names are not neighbours */
        sid2_safetensors_item items[] = {{"a", SID2_F32, sid2_shape_of(1), &value},
                                         {"b", SID2_F32, sid2_shape_of(1), &value},
                                         {bad[i].name, SID2_I32, sid2_shape_of(1), &value}};
        sid2_error err = {0};
        assert_false(sid2_safetensors_write(temporary(), items, 3, NULL, false, &err));
        if (!strstr(err.message, bad[i].cause)) fail_msg("'%s' does not say '%s'", err.message, bad[i].cause);
        assert_int_not_equal(access(scratch, F_OK), 0);
    }
}

/* Files are read, not mapped: one that somebody cuts short meanwhile is an error with its name, no SIGBUS. */
static void says_when_a_file_is_cut_while_open(void **state)
{
    (void)state;
    static float value[1 << 16];
    const sid2_safetensors_item item = {"a", SID2_F32, sid2_shape_of(1 << 16), value};
    sid2_error err = {0};
    assert_true(sid2_safetensors_write(temporary(), &item, 1, NULL, false, &err));
    sid2_safetensors *file = sid2_safetensors_open(scratch, &err);
    assert_non_null(file);
    assert_int_equal(truncate(scratch, 4096), 0);
    assert_false(sid2_safetensors_read(file, sid2_safetensors_at(file, 0), value, &err));
    assert_int_equal(err.code, SID2_ERR_FORMAT);
    assert_non_null(strstr(err.message, scratch));
    char digest[33];
    assert_false(sid2_safetensors_check(file, digest, &err));
    sid2_safetensors_close(file);
    unlink(scratch);
}

static bool opens(const uint8_t *bytes, size_t size, sid2_error *err)
{
    FILE *stream = fopen(temporary(), "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    fclose(stream);
    sid2_safetensors *file = sid2_safetensors_open(scratch, err);
    bool opened = file != NULL;
    uint64_t header = 0, total = 0; /* the tensors cover the data without a hole, to its end */
    for (int i = 7; opened && i >= 0; i--) header = header << 8 | bytes[i];
    for (int i = 0; opened && i < sid2_safetensors_count(file); i++) { /* every byte announced can be read */
        const sid2_safetensors_entry *e = sid2_safetensors_at(file, i);
        volatile uint8_t sum = 0;
        assert_int_equal(e->begin, total);
        total += e->bytes;
        uint8_t *data = bytes_of(file, e);
        for (size_t b = 0; b < e->bytes; b++) sum = (uint8_t)(sum + data[b]);
        free(data);
        if (e->dtype != SID2_DTYPE_COUNT && e->shape.rank >= 0)
            assert_int_equal(e->bytes, (size_t)sid2_shape_count(e->shape) * sid2_dtype_size(e->dtype));
    }
    if (opened) assert_int_equal(8 + header + total, size);
    sid2_safetensors_close(file);
    unlink(scratch);
    return opened;
}

/* A file of this header and so many bytes of data. */
static bool opens_header(const char *header, size_t data, sid2_error *err)
{
    uint8_t bytes[4096] = {0};
    size_t length = strlen(header);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(length >> 8 * i);
    memcpy(bytes + 8, header, length);
    return opens(bytes, 8 + length + data, err);
}

static void enforces_every_rule(void **state)
{
    (void)state;
    sid2_error err = {0};
    assert_true(opens_header("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, &err));
    assert_true(opens_header(
        "{\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[1,1,1,1,1,2,1],\"data_offsets\":[0,2]}}", 2, &err));
    assert_true(opens_header("{\"x\":{\"dtype\":\"F4\",\"shape\":[3,2],\"data_offsets\":[0,3]}}", 3, &err));
    assert_true(opens_header("{}   ", 0, &err));
    static const struct {
        const char *header;
        size_t data;
        const char *cause;
    } bad[] = {
        {"", 0, "begin with"},
        {" {}", 0, "begin with"},
        {"[]", 0, "begin with"},
        {"{\"x\":", 0, "bad header"},
        {"{\"x\":1}", 0, "no description"},
        {"{\"\xff\":{}}", 0, "bad header"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"x\":{\"dtype\":\"F32\",\"shape\":"
         "[2],"
         "\"data_offsets\":[0,8]}}",
         8, "bad header"},
        {"{\"x\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "unknown type"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "no shape"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "natural number"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "natural number"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8, "data_offsets"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "outside"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,12]}}", 8, "outside"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "fit its bytes"},
        {"{\"x\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "fit its bytes"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4611686018427387904],\"data_offsets\":[0,"
         "0]}}",
         0, "overflows"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "belong to no tensor"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "hole"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"y\":{\"dtype\":\"F32\",\"shape\":"
         "[2],"
         "\"data_offsets\":[4,12]}}",
         12, "overlap"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"z\":1}}", 8, "unknown field"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "no string"},
        {"{\"__metadata__\":[]}", 0, "no object"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err.message[0] = 0;
        if (opens_header(bad[i].header, bad[i].data, &err)) fail_msg("accepted: %s", bad[i].header);
        if (!strstr(err.message, bad[i].cause)) fail_msg("'%s' does not say '%s'", err.message, bad[i].cause);
        if (!strstr(err.message, scratch)) fail_msg("'%s' does not name the file", err.message);
    }
    assert_null(sid2_safetensors_open("/nonexistent.safetensors", &err));
    assert_int_equal(err.code, SID2_ERR_IO);
    assert_null(sid2_safetensors_open("/tmp", &err));
}

static void survives_damage(void **state)
{
    (void)state;
    sid2_error err;
    size_t size;
    uint8_t *bytes = sid2_file_read(OFFICIAL, 1 << 20, &size, &err);
    assert_non_null(bytes);
    for (size_t length = 0; length < size; length++)
        if (opens(bytes, length, &err)) fail_msg("accepted when cut to %zu of %zu bytes", length, size);
    uint8_t *copy = malloc(size);
    memcpy(copy, bytes, size);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        opens(copy, size, &err);
        copy[bit / 8] = bytes[bit / 8];
    }
    uint32_t random = 1;
    for (size_t i = 0; i < 20000; i++) {
        memcpy(copy, bytes, size);
        for (uint32_t k = 0; k <= i % 4; k++) {
            random = random * 1664525u + 1013904223u;
            copy[(random >> 8) % (i % 2 ? size : 480) /* half of them in the header */] =
                (uint8_t)(random >> 24);
        }
        opens(copy, size, &err);
    }
    free(copy);
    free(bytes);
}

/* One flipped bit anywhere in a file with digests is seen, or leaves every value as it was. */
static void every_flipped_bit_is_seen(void **state)
{
    (void)state;
    sid2_error err = {0};
    float first[6] = {1, -2, 3, 0.5f, 0, 7}, second[2] = {4, 5};
    const sid2_safetensors_item items[] = {{"a.weight", SID2_F32, sid2_shape_of(2, 3), first},
                                           {"b", SID2_F32, sid2_shape_of(2), second}};
    const char *facts[] = {"step", "12", NULL};
    assert_true(sid2_safetensors_write(temporary(), items, 2, facts, true, &err));
    size_t size;
    uint8_t *bytes = sid2_file_read(scratch, 1 << 20, &size, &err);
    assert_non_null(bytes);
    size_t passed = 0;
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        FILE *stream = fopen(scratch, "wb");
        fwrite(bytes, 1, size, stream);
        fclose(stream);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        sid2_safetensors *file = sid2_safetensors_open(scratch, &err);
        const sid2_safetensors_entry *e;
        for (int i = 0; file && i < 2; i++) {
            float got[6];
            e = sid2_safetensors_find(file,
                                      items[i].name); /* under another name the model has no use for it */
            if (!e || e->dtype != SID2_F32 || !sid2_shape_equal(e->shape, items[i].shape)) break;
            if (!sid2_safetensors_read(file, e, got, &err)) {
                assert_non_null(strstr(err.message, items[i].name));
                break;
            }
            assert_memory_equal(got, items[i].data, e->bytes);
            passed += i;
        }
        sid2_safetensors_close(file);
    }
    assert_true(passed < 8 * 160); /* the metadata's "step" and padding, no more */
    free(bytes);
    unlink(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_official_file),       cmocka_unit_test(writes_the_official_bytes),
        cmocka_unit_test(refuses_names_it_cannot_write), cmocka_unit_test(says_when_a_file_is_cut_while_open),
        cmocka_unit_test(enforces_every_rule),           cmocka_unit_test(survives_damage),
        cmocka_unit_test(every_flipped_bit_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
