/* Decoding every kind of PNG and JPEG against tests/golden/pictures.zip (made by tests/pillow_pictures.py),
 * broken files, and the PNG writer. */
#include "file.h"
#include "image.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <webp/demux.h>
#include <zip.h>
#include <zlib.h>

#include <cmocka.h>

enum { MAX_PICTURES = 64 };

static struct {
    char name[64];
    uint8_t *bytes, *expected;
    size_t size, expected_size;
} pictures[MAX_PICTURES];
static int picture_count;

static uint8_t *read_member(zip_t *zip, const char *name, size_t *size)
{
    zip_stat_t status;
    assert_int_equal(zip_stat(zip, name, 0, &status), 0);
    uint8_t *bytes = malloc(status.size);
    zip_file_t *file = zip_fopen(zip, name, 0);
    assert_int_equal(zip_fread(file, bytes, status.size), status.size);
    zip_fclose(file);
    *size = status.size;
    return bytes;
}

static int load_pictures(void **state)
{
    (void)state;
    zip_t *zip = zip_open(SID2_SOURCE_DIR "/tests/golden/pictures.zip", ZIP_RDONLY, NULL);
    if (!zip) return -1;
    for (zip_int64_t i = 0; i < zip_get_num_entries(zip, 0); i += 2, picture_count++) {
        char raw[80];
        snprintf(pictures[picture_count].name, 64, "%s", zip_get_name(zip, (zip_uint64_t)i, 0));
        snprintf(raw, sizeof raw, "%s.raw", pictures[picture_count].name);
        pictures[picture_count].bytes =
            read_member(zip, pictures[picture_count].name, &pictures[picture_count].size);
        pictures[picture_count].expected = read_member(zip, raw, &pictures[picture_count].expected_size);
    }
    zip_discard(zip);
    return 0;
}

static int free_pictures(void **state)
{
    (void)state;
    for (int i = 0; i < picture_count; i++) {
        free(pictures[i].bytes);
        free(pictures[i].expected);
    }
    return 0;
}

static void test_decodes_every_kind(void **state)
{
    (void)state;
    assert_int_equal(picture_count, 59);
    for (int i = 0; i < picture_count; i++) {
        sid2_error err;
        sid2_image image;
        int32_t shape[3];
        bool ok = sid2_image_decode(&image, pictures[i].bytes, pictures[i].size, pictures[i].name, &err);
        if (!ok) print_error("%s\n", err.message);
        assert_true(ok);
        memcpy(shape, pictures[i].expected, sizeof shape);
        assert_int_equal(image.width, shape[0]);
        assert_int_equal(image.height, shape[1]);
        assert_int_equal(image.channels, shape[2]);
        /* PNG is exact; versions of libjpeg-turbo may round a JPEG differently. */
        int allowed = strstr(pictures[i].name, ".jpg") ? 2 : 0, worst = 0;
        for (size_t k = 0; k < pictures[i].expected_size - sizeof shape; k++) {
            int difference = abs(image.pixels[k] - pictures[i].expected[sizeof shape + k]);
            if (difference > worst) worst = difference;
        }
        if (worst > allowed) print_error("%s: off by %d\n", pictures[i].name, worst);
        assert_true(worst <= allowed);
        sid2_image_free(&image);
    }
}

/* The first JPEG with an EXIF segment put behind its start, of every orientation, either byte order and cut
 * short. The pixels are the same in every case. */
static void test_tells_of_exif_rotation(void **state)
{
    (void)state;
    static const uint8_t exif[2][36] = {
        {0xff, 0xe1, 0,    34, 'E', 'x', 'i', 'f', 0, 0, 'I', 'I', '*', 0, 8, 0, 0, 0,
         1,    0,    0x12, 1,  3,   0,   1,   0,   0, 0, 0,   0,   0,   0, 0, 0, 0, 0},
        {0xff, 0xe1, 0, 34,   'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, '*', 0, 0, 0, 8,
         0,    1,    1, 0x12, 0,   3,   0,   0,   0, 1, 0,   0,   0, 0,   0, 0, 0, 0}};
    int jpeg = 0;
    while (!strstr(pictures[jpeg].name, ".jpg")) jpeg++;
    size_t size = pictures[jpeg].size;
    uint8_t *copy = malloc(size + 36);
    for (int trial = 0; trial < 2 * 10 + 36; trial++) {
        int big = trial % 2, orientation = trial < 20 ? trial / 2 : 6, room = trial < 20 ? 36 : trial - 20;
        if (room == 3) continue; /* half a length: no JPEG at all */
        memcpy(copy, pictures[jpeg].bytes, 2);
        memcpy(copy + 2, exif[big], 36);
        copy[2 + 28 + big] = (uint8_t)orientation;
        if (room >= 4) copy[5] = (uint8_t)(room - 2);
        if (room < 4) room = 0;
        memcpy(copy + 2 + room, pictures[jpeg].bytes + 2, size - 2);
        sid2_image image;
        assert_true(sid2_image_decode(&image, copy, size + (size_t)room, "turned", NULL));
        assert_int_equal(image.orientation,
                         room >= 32 && orientation >= 1 && orientation <= 8 ? orientation : 0);
        sid2_image_free(&image);
    }
    free(copy);
}

static void test_refuses_truncated_files(void **state)
{
    (void)state;
    for (int i = 0; i < picture_count; i++)
        for (size_t size = 0; size < pictures[i].size; size++) {
            uint8_t *part = malloc(size + 1); /* of its own, so that reading beyond it is seen */
            memcpy(part, pictures[i].bytes, size);
            sid2_error err = {0};
            sid2_image image;
            bool ok = sid2_image_decode(&image, part, size, "part", &err);
            if (ok)
                print_error("%s: accepted when cut to %zu of %zu\n", pictures[i].name, size,
                            pictures[i].size);
            assert_false(ok);
            assert_null(image.pixels);
            if (strncmp(err.message, "part: ", 6)) print_error("%s: %s\n", pictures[i].name, err.message);
            assert_memory_equal(err.message, "part: ", 6);
            assert_null(strchr(err.message, '\n'));
            free(part);
        }
}

/* A chunk that announces a gigabyte costs none: libpng would take and clear it first. */
static void test_chunks_cost_what_they_hold(void **state)
{
    (void)state;
    uint8_t pixels[3] = {1, 2, 3}, *png;
    size_t size;
    sid2_error err = {0};
    const sid2_image one = {.width = 1, .height = 1, .channels = 3, .pixels = pixels};
    assert_true(sid2_png_encode(&one, &(sid2_png_text){"Key", "value"}, 1, &png, &size, &err));
    const size_t chunk = 8 + 25; /* after the header */
    assert_memory_equal(png + chunk + 4, "tEXt", 4);
    png[chunk] = 0x40;
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    sid2_image image;
    assert_false(sid2_image_decode(&image, png, size, "huge", &err));
    assert_string_equal(err.message, "huge: the file is cut short");
    getrusage(RUSAGE_SELF, &after);
    assert_in_range(after.ru_maxrss - before.ru_maxrss, 0, 64 << 10);
    free(png);
}

static void test_survives_damage(void **state)
{
    (void)state;
    uint32_t random = 1;
    int accepted = 0, refused = 0;
    for (int i = 0; i < picture_count; i++)
        for (int round = 0; round < 300; round++) {
            uint8_t *copy = malloc(pictures[i].size);
            memcpy(copy, pictures[i].bytes, pictures[i].size);
            for (int flips = 1 + round % 3; flips; flips--) {
                random = random * 1664525u + 1013904223u;
                copy[(random >> 3) % pictures[i].size] ^= (uint8_t)(1u << (random >> 29));
            }
            sid2_error err = {0};
            sid2_image image;
            if (sid2_image_decode(&image, copy, pictures[i].size, "damaged", &err)) {
                accepted++;
                assert_non_null(image.pixels);
            } else {
                refused++;
                assert_non_null(strchr(err.message, ':'));
            }
            sid2_image_free(&image);
            free(copy);
        }
    assert_true(accepted > 0 && refused > accepted);
}

static void test_refuses_bombs(void **state)
{
    (void)state;
    uint8_t *copy = malloc(pictures[0].size);
    memcpy(copy, pictures[0].bytes, pictures[0].size);
    memset(copy + 16, 0x7f, 8); /* width and height; the checksum is wrong too, whichever is met first */
    sid2_error err;
    sid2_image image;
    assert_false(sid2_image_decode(&image, copy, pictures[0].size, "bomb", &err));
    free(copy);
    assert_false(sid2_image_decode(&image, "GIF89a", 6, "x.gif", &err));
    assert_string_equal(err.message, "x.gif: a GIF, neither PNG, JPEG nor WebP");
    assert_false(sid2_image_decode(&image, "", 0, "x", &err));
    assert_string_equal(err.message, "x: the file is empty");
    assert_false(sid2_image_read(&image, "/nonexistent.png", &err));
    assert_int_equal(err.code, SID2_ERR_IO);
}

/* A JPEG of few bytes that announces a huge picture, or asks for thousands of passes over one, costs nothing. */
static void test_refuses_jpegs_without_end(void **state)
{
    (void)state;
    int bombs = 0;
    for (int i = 0; i < picture_count; i++) {
        size_t size = pictures[i].size, at = 2;
        const uint8_t *bytes = pictures[i].bytes;
        if (bytes[0] != 0xff || bytes[1] != 0xd8) continue;
        while (at + 9 < size && (bytes[at + 1] < 0xc0 || bytes[at + 1] > 0xc2))
            at += 2 + ((size_t)bytes[at + 2] << 8 | bytes[at + 3]);
        if (at + 9 >= size) continue;
        enum { MORE = 60000 }; /* further scans, empty ones, of a picture of moderate size */
        uint8_t *copy = malloc(size + MORE);
        sid2_image image;
        sid2_error err = {0};
        memcpy(copy, bytes, size);
        copy[at + 5] = copy[at + 7] = 0x2c; /* 11264 lines and columns and some */
        assert_false(sid2_image_decode(&image, copy, size, "huge", &err));
        assert_int_equal(err.code, SID2_ERR_FORMAT);
        assert_non_null(strstr(err.message, "bytes are too few"));
        copy[at + 5] = copy[at + 7] = 0x10;
        for (size_t k = 0; k < MORE; k += 2) copy[size + k] = 0xff, copy[size + k + 1] = 0xda;
        assert_false(sid2_image_decode(&image, copy, size + MORE, "scans", &err));
        assert_non_null(strstr(err.message, "in so many scans"));
        free(copy);
        bombs++;
    }
    assert_true(bombs > 3);
}

static void test_writes_png_with_text(void **state)
{
    (void)state;
    char folder[] = "/tmp/sid2-image-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.png", folder);
    sid2_error err = {0};
    for (int channels = 1; channels <= 3; channels += 2) {
        sid2_image image, back;
        assert_true(sid2_image_alloc(&image, 19, 7, channels, &err));
        for (int i = 0; i < 19 * 7 * channels; i++) image.pixels[i] = (uint8_t)(i * 37);
        const sid2_png_text text[] = {
            {"sid2.seed", "42"}, {"Title", "na\xc3\xafve \xe2\x9c\x93"}, {"empty", ""}};
        assert_true(sid2_png_write(path, &image, text, 3, &err));
        assert_true(sid2_image_read(&back, path, &err));
        assert_int_equal(back.channels, channels);
        assert_memory_equal(back.pixels, image.pixels, (size_t)(19 * 7 * channels));
        sid2_png_text *found;
        size_t count;
        assert_true(sid2_image_read_text(path, &found, &count, &err));
        assert_int_equal(count, 3);
        for (size_t i = 0; i < 3; i++) {
            assert_string_equal(found[i].key, text[i].key);
            assert_string_equal(found[i].value, text[i].value);
        }
        sid2_png_text_free(found, count);
        sid2_image_free(&back);

        const sid2_png_text bad = {"", "no key"};
        assert_false(sid2_png_write(path, &image, &bad, 1, &err));
        assert_false(sid2_png_write("/proc/no-folder/a.png", &image, NULL, 0, &err));
        assert_int_equal(err.code, SID2_ERR_IO);
        assert_non_null(strstr(err.message, "/proc/no-folder"));
        sid2_image_free(&image);
    }
    unlink(path);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left */
}

static void make_frames(sid2_image *frames, int count, int channels)
{
    uint32_t random = 7;
    for (int i = 0; i < count; i++) {
        assert_true(sid2_image_alloc(&frames[i], 21, 13, channels, NULL));
        for (int k = 0; k < 21 * 13 * channels; k++)
            frames[i].pixels[k] = (uint8_t)((random = random * 1664525u + 1013904223u) >> 24);
    }
}

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Every chunk has its checksum, those of the animation count upwards, and each frame is the PNG that its rows make. */
static void check_apng(const uint8_t *bytes, size_t size, const sid2_image *frames, int count)
{
    uint32_t sequence = 0;
    int controls = 0, shown = 0;
    size_t head = 8 + 25, png_size = head;
    uint8_t *png = malloc(size + 12);
    memcpy(png, bytes, head);
    for (size_t at = 8; at < size; at += 12 + big_endian(bytes + at)) {
        uint32_t length = big_endian(bytes + at);
        const uint8_t *type = bytes + at + 4, *body = bytes + at + 8;
        assert_int_equal(big_endian(body + length), crc32(0, type, length + 4));
        bool ends_frame = !memcmp(type, "fcTL", 4) || !memcmp(type, "IEND", 4);
        if (ends_frame && controls) {
            sid2_image frame;
            memcpy(png + png_size, "\0\0\0\0IEND\xae\x42\x60\x82", 12);
            assert_true(sid2_image_decode(&frame, png, png_size + 12, "frame", NULL));
            assert_memory_equal(frame.pixels, frames[shown].pixels, (size_t)(21 * 13 * frame.channels));
            sid2_image_free(&frame);
            shown++;
            png_size = head;
        }
        if (!memcmp(type, "acTL", 4)) assert_int_equal(big_endian(body), count);
        if (!memcmp(type, "fcTL", 4)) {
            assert_int_equal(big_endian(body), sequence++);
            assert_int_equal(body[20] << 8 | body[21], ++controls < count ? 50 : 900);
        }
        if (memcmp(type, "fdAT", 4) != 0) continue;
        assert_int_equal(big_endian(body), sequence++);
        uint8_t *to = png + png_size;
        for (int i = 0; i < 4; i++) to[i] = (uint8_t)((length - 4) >> (24 - 8 * i));
        memcpy(to + 4, "IDAT", 4);
        memcpy(to + 8, body + 4, length - 4);
        uint32_t check = (uint32_t)crc32(0, to + 4, length);
        for (int i = 0; i < 4; i++) to[4 + length + (uint32_t)i] = (uint8_t)(check >> (24 - 8 * i));
        png_size += length + 8;
    }
    assert_int_equal(controls, count);
    assert_int_equal(shown, count);
    free(png);
}

static void test_formats_and_their_texts(void **state)
{
    (void)state;
    enum { FRAMES = 4 };
    char folder[] = "/tmp/sid2-image-XXXXXX", path[64];
    static const char *const ends[] = {"png", "JPG", "webp"};
    assert_non_null(mkdtemp(folder));
    sid2_error err = {0};
    const sid2_png_text text[] = {{"Seed", "42"},
                                  {"Title", "na\xc3\xafve \xe2\x9c\x93: a"},
                                  {"parameters", "Steps\xff \xe2\x9c\x93 \xf0\x9f\x98\xba"}};
    static const char comment[] = "UNICODE\0\0S\0t\0e\0p\0s\0?\0 \x27\x13\0 \xd8\x3d\xde\x3a";
    for (int channels = 1; channels <= 3; channels += 2)
        for (int format = 0; format < 3; format++)
            for (int count = 1; count <= FRAMES; count += FRAMES - 1) {
                sid2_image frames[FRAMES], back;
                make_frames(frames, FRAMES, channels);
                uint8_t *bytes;
                size_t size, found_count;
                sid2_encode_options options = SID2_INIT(sid2_encode_options);
                snprintf(path, sizeof path, "%s/a.%s", folder, ends[format]);
                assert_true(sid2_image_format_of(path, &options.format));
                assert_int_equal(options.format, format);
                options.text = text;
                options.text_count = 3;
                options.frame_ms = 50;
                options.last_ms = 900;
                bool ok = sid2_image_encode(frames, count, &options, &bytes, &size, &err);
                assert_int_equal(ok, format != SID2_IMAGE_JPEG || count == 1);
                if (!ok) assert_int_equal(err.code, SID2_ERR_USAGE);
                if (ok) {
                    assert_true(sid2_file_write(path, bytes, size, &err));
                    sid2_png_text *found;
                    assert_true(sid2_image_read_text(path, &found, &found_count, &err));
                    assert_int_equal(found_count, format == SID2_IMAGE_PNG ? 3 : 2);
                    for (size_t i = 0; i < found_count; i++) {
                        assert_string_equal(found[i].key, text[i].key);
                        assert_string_equal(found[i].value, text[i].value);
                    }
                    sid2_png_text_free(found, found_count);
                    if (format != SID2_IMAGE_PNG) /* as others read it */
                        assert_non_null(memmem(bytes, size, comment, sizeof comment - 1));
                    if (format == SID2_IMAGE_PNG && count > 1) check_apng(bytes, size, frames, count);
                }
                if (ok && format != SID2_IMAGE_WEBP) {
                    assert_true(sid2_image_decode(&back, bytes, size, path, &err));
                    assert_int_equal(back.channels, channels);
                    for (int i = 0; i < 21 * 13 * channels; i++)
                        assert_in_range(back.pixels[i] - frames[count - 1].pixels[i] + 40, format ? 0 : 40,
                                        format ? 80 : 40);
                    sid2_image_free(&back);
                }
                if (ok && format == SID2_IMAGE_WEBP) {
                    WebPData file = {bytes, size};
                    WebPAnimDecoder *decoder = WebPAnimDecoderNew(&file, NULL);
                    assert_non_null(decoder);
                    uint8_t *rgba;
                    int time;
                    for (int i = 0; i < count; i++) {
                        assert_true(WebPAnimDecoderGetNext(decoder, &rgba, &time));
                        if (count > 1) assert_int_equal(time, i + 1 < count ? 50 * (i + 1) : 50 * i + 900);
                        for (int k = 0; k < 21 * 13; k++)
                            for (int c = 0; c < 3; c++)
                                assert_int_equal(rgba[4 * k + c],
                                                 frames[i].pixels[channels * k + c % channels]);
                    }
                    assert_false(WebPAnimDecoderHasMoreFrames(decoder));
                    WebPAnimDecoderDelete(decoder);
                }
                free(bytes);
                for (int i = 0; i < FRAMES; i++) sid2_image_free(&frames[i]);
                unlink(path);
            }
    sid2_image frames[2];
    uint8_t *bytes;
    size_t size;
    make_frames(frames, 2, 3);
    sid2_encode_options options = SID2_INIT(sid2_encode_options);
    frames[1].width--;
    assert_false(sid2_image_encode(frames, 2, &options, &bytes, &size, &err));
    frames[1].width++;
    options.quality = 101;
    assert_false(sid2_image_encode(frames, 1, &options, &bytes, &size, &err));
    options = (sid2_encode_options){.struct_size = sizeof options, .format = SID2_IMAGE_WEBP, .quality = 80};
    assert_true(sid2_image_encode(frames, 2, &options, &bytes, &size, &err));
    free(bytes);
    sid2_image wide;
    assert_true(sid2_image_alloc(&wide, 16384, 1, 3, &err));
    memset(wide.pixels, 0, 3 * 16384);
    assert_false(sid2_image_encode(&wide, 1, &options, &bytes, &size, &err));
    assert_non_null(strstr(err.message, "16384x1"));
    sid2_image_free(&wide);
    for (int i = 0; i < 2; i++) sid2_image_free(&frames[i]);
    sid2_image_format format;
    assert_false(sid2_image_format_of("a.gif", &format));
    assert_int_equal(rmdir(folder), 0);
}

static void test_full_disk(void **state)
{
    (void)state;
    char folder[] = "/tmp/sid2-image-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.png", folder);
    sid2_image image;
    assert_true(sid2_image_alloc(&image, 256, 256, 3, NULL));
    uint32_t random = 1;
    for (int i = 0; i < 256 * 256 * 3; i++)
        image.pixels[i] = (uint8_t)((random = random * 1664525u + 1013904223u) >> 24);
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 10000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    sid2_error err = {0};
    bool wrote = sid2_png_write(path, &image, NULL, 0, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_false(wrote);
    assert_int_equal(err.code, SID2_ERR_IO);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(rmdir(folder), 0);
    sid2_image_free(&image);
}

static void test_grid(void **state)
{
    (void)state;
    uint8_t pixels[5 * 2 * 3];
    for (int i = 0; i < 30; i++) pixels[i] = (uint8_t)(i + 1);
    sid2_image grid;
    assert_true(sid2_image_grid(&grid, pixels, 5, 2, 3, 1, 3, 1, 200, NULL));
    assert_int_equal(grid.width, 3 * 4 + 1);
    assert_int_equal(grid.height, 2 * 3 + 1);
    assert_int_equal(grid.pixels[0], 200);
    assert_int_equal(grid.pixels[1 * 13 + 1], 1);
    assert_int_equal(grid.pixels[1 * 13 + 4], 200);
    assert_int_equal(grid.pixels[2 * 13 + 9], 12 + 4);
    assert_int_equal(grid.pixels[4 * 13 + 5], 4 * 6 + 1);
    assert_int_equal(grid.pixels[4 * 13 + 9], 200); /* no sixth picture */
    sid2_image_free(&grid);
    assert_true(sid2_image_grid(&grid, pixels, 5, 2, 3, 1, 0, 0, 0, NULL));
    assert_int_equal(grid.width, 9);
    sid2_image_free(&grid);
    assert_false(sid2_image_grid(&grid, pixels, 0, 2, 3, 1, 0, 0, 0, NULL));
    sid2_grid_size size;
    assert_true(sid2_image_grid_size(&size, 65500, 1, 1, 65500, 0, NULL));
    assert_false(sid2_image_grid_size(&size, 65501, 1, 1, 65501, 0, NULL));
    assert_false(sid2_image_grid_size(&size, 1 << 14, 100, 100, 0, 0, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decodes_every_kind),
        cmocka_unit_test(test_tells_of_exif_rotation),
        cmocka_unit_test(test_refuses_truncated_files),
        cmocka_unit_test(test_chunks_cost_what_they_hold),
        cmocka_unit_test(test_survives_damage),
        cmocka_unit_test(test_refuses_bombs),
        cmocka_unit_test(test_refuses_jpegs_without_end),
        cmocka_unit_test(test_writes_png_with_text),
        cmocka_unit_test(test_formats_and_their_texts),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_grid),
    };
    return cmocka_run_group_tests(tests, load_pictures, free_pictures);
}
