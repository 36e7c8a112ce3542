/* y4m: known colours, chroma where its siting says that it lies, round trips to the byte, and bytes that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "y4m.h"

static sid2_error err;

static void must(bool ok)
{
    if (!ok) fail_msg("%s", err.message);
}

static sid2_y4m head_of(const char *parameters)
{
    char line[256];
    sid2_y4m y;
    int length = snprintf(line, sizeof line, "YUV4MPEG2 %s\n", parameters);
    must(sid2_y4m_head(&y, line, (size_t)length, "x", &err));
    return y;
}

static void heads_are_read(void **state)
{
    (void)state;
    sid2_y4m y = head_of("W176 H144 F30000:1001 Ip A128:117 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED");
    assert_int_equal(y.width, 176);
    assert_int_equal(y.height, 144);
    assert_int_equal(y.rate[0], 30000);
    assert_int_equal(y.rate[1], 1001);
    assert_false(y.interlaced || y.full);
    assert_int_equal(y.frame_bytes, 176 * 144 * 3 / 2);
    assert_int_equal(head_of("W5 H3 F25:1").frame_bytes,
                     15 + 2 * 3 * 2); /* odd sides; 420 where none is told */
    assert_int_equal(head_of("W5 H3 F0:0 C422").frame_bytes, 15 + 2 * 3 * 3);
    assert_int_equal(head_of("W5 H3 F0:1 C444").frame_bytes, 45);
    assert_int_equal(head_of("H3  W5 F0:1 C444").rate[1], 0);
    y = head_of("W5 H3 It Cmono XCOLORRANGE=FULL");
    assert_int_equal(y.frame_bytes, 15);
    assert_true(y.interlaced && y.full);
}

static void heads_are_refused(void **state)
{
    static const struct {
        const char *line, *says;
    } bad[] = {{"", "does not begin"},
               {"YUV4MPEG2", "no width"},
               {"YUV4MPEG W5 H3", "does not begin"},
               {"YUV4MPEG2W5 H3", "does not begin"},
               {"YUV4MPEG2 W5", "no height"},
               {"YUV4MPEG2 W0 H3", "no width"},
               {"YUV4MPEG2 W-5 H3", "a width of '-5'"},
               {"YUV4MPEG2 W5x H3", "a width of '5x'"},
               {"YUV4MPEG2 W99999999999 H3", "a width of"},
               {"YUV4MPEG2 W65000 H65000", "too large"},
               {"YUV4MPEG2 W2147483647 H1", "too large"},
               {"YUV4MPEG2 W5 H3 F30", "a frame rate of '30'"},
               {"YUV4MPEG2 W5 H3 Iz", "an interlacing of 'z'"},
               {"YUV4MPEG2 W5 H3 C420p10", "C420p10 are not read"},
               {"YUV4MPEG2 W5 H3 C444alpha", "C444alpha are not read"},
               {"YUV4MPEG2 W5 H3 C411", "C411 are not read"}};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sid2_y4m y;
        assert_false(sid2_y4m_head(&y, bad[i].line, strlen(bad[i].line), "x.y4m", &err));
        if (!strstr(err.message, bad[i].says) || !strstr(err.message, "x.y4m")) fail_msg("%s", err.message);
    }
}

/* The colour of a frame of one colour. */
static void expect_colour(const char *kind, sid2_matrix matrix, const uint8_t yuv[3], const uint8_t rgb[3])
{
    char parameters[128];
    snprintf(parameters, sizeof parameters, "W5 H3 %s", kind);
    sid2_y4m y = head_of(parameters);
    uint8_t *planes = malloc(y.frame_bytes);
    size_t luma = 15, chroma = (y.frame_bytes - luma) / 2;
    memset(planes, yuv[0], luma);
    memset(planes + luma, yuv[1], chroma);
    memset(planes + luma + chroma, yuv[2], chroma);
    sid2_image image;
    must(sid2_y4m_to_image(&y, matrix, planes, &image, &err));
    for (size_t i = 0; i < luma * (size_t)image.channels; i++)
        assert_int_equal(image.pixels[i], rgb[i % (size_t)image.channels]);
    sid2_image_free(&image);
    free(planes);
}

/* Colours as the recommendations give them: ITU-R BT.601 and BT.709, their limited range, and JFIF's full one. */
static void colours_are_known(void **state)
{
    (void)state;
    static const char *const layouts[] = {"C420jpeg", "C420mpeg2", "C420paldv", "C420", "C422", "C444"};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        char full[64];
        snprintf(full, sizeof full, "%s XCOLORRANGE=FULL", layouts[i]);
        expect_colour(layouts[i], SID2_MATRIX_BT601, (uint8_t[]){16, 128, 128}, (uint8_t[]){0, 0, 0});
        expect_colour(layouts[i], SID2_MATRIX_BT601, (uint8_t[]){235, 128, 128}, (uint8_t[]){255, 255, 255});
        expect_colour(layouts[i], SID2_MATRIX_BT601, (uint8_t[]){81, 90, 240}, (uint8_t[]){254, 0, 0});
        expect_colour(layouts[i], SID2_MATRIX_BT709, (uint8_t[]){63, 102, 240}, (uint8_t[]){255, 1, 0});
        expect_colour(full, SID2_MATRIX_BT601, (uint8_t[]){76, 85, 255}, (uint8_t[]){254, 0, 0});
        expect_colour(full, SID2_MATRIX_BT601, (uint8_t[]){0, 128, 128}, (uint8_t[]){0, 0, 0});
        expect_colour(full, SID2_MATRIX_BT709, (uint8_t[]){200, 128, 128}, (uint8_t[]){200, 200, 200});
    }
    expect_colour("Cmono", SID2_MATRIX_BT601, (uint8_t[]){16, 0, 0}, (uint8_t[3]){0});
    expect_colour("Cmono XCOLORRANGE=FULL", SID2_MATRIX_BT601, (uint8_t[]){77, 0, 0}, (uint8_t[3]){77});
}

/* Chroma that rises by 16 a pixel is the same slope wherever its samples lie, away from the edges. */
static void chroma_lies_where_it_is_sited(void **state)
{
    static const struct {
        const char *layout;
        double right, below; /* of the first Cr sample, in pixels */
    } cases[] = {{"C420jpeg", 0.5, 0.5}, {"C420mpeg2", 0, 0.5}, {"C420paldv", 0, 1}, {"C422", 0, 0}};
    enum { SIDE = 9, HALF = 5 };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int vertical = 0; vertical < 2; vertical++) {
            char parameters[128];
            snprintf(parameters, sizeof parameters, "W%d H%d %s XCOLORRANGE=FULL", SIDE, SIDE,
                     cases[i].layout);
            sid2_y4m y = head_of(parameters);
            uint8_t *planes = malloc(y.frame_bytes);
            memset(planes, 128, y.frame_bytes);
            uint8_t *cr = planes + SIDE * SIDE + (y.frame_bytes - SIDE * SIDE) / 2;
            int rows = y.down == 2 ? HALF : SIDE;
            for (int r = 0; r < rows; r++)
                for (int c = 0; c < HALF; c++) {
                    double at = vertical ? y.down * r + cases[i].below : 2 * c + cases[i].right;
                    cr[r * HALF + c] = (uint8_t)(100 + 4 * at);
                }
            sid2_image image;
            must(sid2_y4m_to_image(&y, SID2_MATRIX_BT601, planes, &image, &err));
            for (int p = 2; p < SIDE - 2; p++) {
                const uint8_t *pixel = image.pixels + 3 * (vertical ? p * SIDE + 4 : 4 * SIDE + p);
                assert_int_equal(pixel[0], (int)(128 + 1.402 * (100 + 4 * p - 128) + 0.5));
            }
            sid2_image_free(&image);
            free(planes);
        }
}

/* Every colour comes back within two levels, and what came back once comes back for ever: the file is the same bytes. */
static void what_is_written_is_read(void **state)
{
    enum { SIDE = 256, STEP = 5 };
    (void)state;
    const int32_t rate[2] = {25, 1};
    sid2_y4m y = sid2_y4m_of(SIDE, SIDE, 3, rate);
    char line[SID2_Y4M_LINE];
    sid2_y4m again;
    must(sid2_y4m_head(&again, line, (size_t)sid2_y4m_line(&y, line), "x", &err));
    assert_memory_equal(&y, &again, sizeof y);
    uint8_t *planes[2] = {malloc(y.frame_bytes), malloc(y.frame_bytes)};
    sid2_image image, back;
    must(sid2_image_alloc(&image, SIDE, SIDE, 3, &err));
    for (int blue = 0; blue < 256; blue += STEP) {
        for (int i = 0; i < SIDE * SIDE; i++) {
            image.pixels[3 * i] = (uint8_t)(i % SIDE);
            image.pixels[3 * i + 1] = (uint8_t)(i / SIDE);
            image.pixels[3 * i + 2] = (uint8_t)blue;
        }
        sid2_y4m_of_image(&y, &image, planes[0]);
        must(sid2_y4m_to_image(&again, SID2_MATRIX_BT601, planes[0], &back, &err));
        for (int i = 0; i < 3 * SIDE * SIDE; i++) assert_in_range(image.pixels[i] - back.pixels[i] + 2, 0, 4);
        sid2_y4m_of_image(&y, &back, planes[1]);
        assert_memory_equal(planes[0], planes[1], y.frame_bytes);
        sid2_image_free(&back);
    }
    sid2_image_free(&image);
    sid2_y4m grey = sid2_y4m_of(SIDE, 1, 1, rate);
    must(sid2_image_alloc(&image, SIDE, 1, 1, &err));
    for (int i = 0; i < SIDE; i++) image.pixels[i] = (uint8_t)i;
    sid2_y4m_of_image(&grey, &image, planes[0]);
    must(sid2_y4m_to_image(&grey, SID2_MATRIX_BT601, planes[0], &back, &err));
    assert_memory_equal(image.pixels, back.pixels, SIDE);
    sid2_image_free(&image);
    sid2_image_free(&back);
    free(planes[0]);
    free(planes[1]);
}

/* Frames of a stream held in memory; what it says where it ends. */
static int frames_of(const void *bytes, size_t size)
{
    FILE *stream = size ? fmemopen((void *)(uintptr_t)bytes, size, "rb") : fopen("/dev/null", "rb");
    assert_non_null(stream);
    err = (sid2_error){0};
    sid2_y4m_stream *s = sid2_y4m_open(stream, "pipe", &err);
    int frames = 0;
    while (s && sid2_y4m_next(s, &err)) frames++;
    sid2_y4m_close(s);
    fclose(stream);
    return frames;
}

static void streams_are_read(void **state)
{
    static const char good[] = "YUV4MPEG2 W2 H1 Cmono\nFRAME\nabFRAME Ixyz\ncd";
    (void)state;
    assert_int_equal(frames_of(good, sizeof good - 1), 2);
    assert_int_equal(err.code, 0);
    assert_int_equal(frames_of(good, sizeof good - 2), 1);
    assert_non_null(strstr(err.message, "pipe: y4m: cut short in frame 1"));
    assert_int_equal(frames_of(good, 32), 1);
    assert_non_null(strstr(err.message, "cut short in frame 1"));
    assert_int_equal(frames_of("YUV4MPEG2 W2 H1 Cmono\nFRAMES\nab", 31), 0);
    assert_non_null(strstr(err.message, "frame 0 does not begin with FRAME"));
    assert_int_equal(frames_of("", 0), 0);
    assert_non_null(strstr(err.message, "is empty"));
    char endless[5000];
    memset(endless, 'x', sizeof endless);
    memcpy(endless, "YUV4MPEG2 ", 10);
    assert_int_equal(frames_of(endless, sizeof endless), 0);
    assert_non_null(strstr(err.message, "does not end"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_read),          cmocka_unit_test(heads_are_refused),
        cmocka_unit_test(colours_are_known),       cmocka_unit_test(chroma_lies_where_it_is_sited),
        cmocka_unit_test(what_is_written_is_read), cmocka_unit_test(streams_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
