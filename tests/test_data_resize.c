/* Resampling against Pillow: tests/golden/pillow.txt, made by tests/pillow_reference.py. */
#include "resize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t mix(uint32_t v)
{
    v *= 2654435761u;
    v ^= v >> 15;
    v *= 2246822519u;
    return v ^ v >> 13;
}

/* picture() of the script. */
static sid2_image picture(int32_t width, int32_t height, int32_t channels)
{
    sid2_image image;
    assert_true(sid2_image_alloc(&image, width, height, channels, NULL));
    for (int32_t y = 0, i = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++)
            for (int32_t c = 0; c < channels; c++, i++) {
                uint32_t fine = mix((uint32_t)i) & 255;
                uint32_t coarse = mix((uint32_t)(y / 7 * 1009 + x / 5 + c * 77)) & 255;
                image.pixels[i] = (uint8_t)(coarse > 200 ? 255 : coarse < 50 ? 0 : (fine + coarse) / 2);
            }
    return image;
}

static uint64_t fnv(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) value = (value ^ bytes[i]) * 0x100000001b3u;
    return value;
}

static void test_equals_pillow(void **state)
{
    (void)state;
    FILE *golden = fopen(SID2_SOURCE_DIR "/tests/golden/pillow.txt", "r");
    assert_non_null(golden);
    char line[256], kind[16];
    int checked = 0, wrong = 0;
    while (fgets(line, sizeof line, golden)) {
        int channels, width, height, to_width, to_height;
        unsigned long long expected;
        if (line[0] == '#') continue;
        assert_int_equal(sscanf(line, "%15s %d %d %d %d %d %llx", kind, &channels, &width, &height, &to_width,
                                &to_height, &expected),
                         7);
        sid2_image in = picture(width, height, channels), out = {0};
        bool ok;
        if (!strcmp(kind, "crop")) {
            ok = sid2_image_alloc(&out, to_width, to_height, channels, NULL) &&
                 sid2_image_center_crop(out.pixels, &in, to_height, to_width, NULL);
        } else if (!strcmp(kind, "grey")) {
            ok = sid2_image_convert(&in, 1, NULL);
            out = in;
            in = (sid2_image){0};
        } else {
            ok = sid2_image_resize(&out, &in, to_width, to_height,
                                   !strcmp(kind, "box") ? SID2_FILTER_BOX : SID2_FILTER_BICUBIC, NULL);
        }
        assert_true(ok);
        size_t size = (size_t)out.width * (size_t)out.height * (size_t)out.channels;
        if (fnv(out.pixels, size) != expected) {
            print_error("differs from Pillow: %s", line);
            wrong++;
        }
        checked++;
        sid2_image_free(&in);
        sid2_image_free(&out);
    }
    fclose(golden);
    assert_int_equal(wrong, 0);
    assert_int_equal(checked, 195);
}

static void test_refuses_impossible_shapes(void **state)
{
    (void)state;
    sid2_error err;
    sid2_image in = picture(60000, 1, 3), out;
    uint8_t *pixels = malloc(64 * 64 * 3);
    assert_false(sid2_image_resize(&out, &in, 0, 10, SID2_FILTER_BOX, &err));
    assert_int_equal(err.code, SID2_ERR_UNSUPPORTED);
    assert_false(sid2_image_resize(&out, &in, 60000, 60000, SID2_FILTER_BOX, &err));
    assert_false(sid2_image_center_crop(pixels, &in, 64, 64, &err)); /* would pass through 3840000 x 64 */
    assert_int_equal(err.code, SID2_ERR_UNSUPPORTED);
    free(pixels);
    sid2_image_free(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_pillow),
        cmocka_unit_test(test_refuses_impossible_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
