/* JPEG through libjpeg. Its errors leave by longjmp, so everything that must be freed afterwards lives in a struct
 * outside the function that calls setjmp. */
#include "image_read.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

typedef struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf exit;
    const char *name;
    sid2_error *err;
} decoder;

static void on_error(j_common_ptr jpeg)
{
    decoder *d = jpeg->client_data;
    char message[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, message);
    bool memory = jpeg->err->msg_code == JERR_OUT_OF_MEMORY;
    sid2_fail(d->err, memory ? SID2_ERR_MEMORY : SID2_ERR_FORMAT, "%s: %s", d->name, message);
    longjmp(d->exit, 1);
}

/* Some warnings are of what changes no pixel, as phones and editors write it. Every other one means that pixels are
 * missing or made up. */
static void on_message(j_common_ptr jpeg, int level)
{
    int code = jpeg->err->msg_code;
    if (level >= 0 || code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR ||
        code == JWRN_NOT_SEQUENTIAL || code == JWRN_ADOBE_XFORM)
        return;
    on_error(jpeg);
}

/* A small progressive file can ask for hours of work. */
static void on_progress(j_common_ptr jpeg)
{
    enum { MOST_SCANS = 500 };
    decoder *d = jpeg->client_data;
    if (d->jpeg.input_scan_number <= MOST_SCANS) return;
    sid2_fail(d->err, SID2_ERR_FORMAT, "%s: more than %d scans", d->name, MOST_SCANS);
    longjmp(d->exit, 1);
}

/* CMYK files are written the Adobe way, with 255 for no ink; so a colour is ink times black. */
static void multiply_out(uint8_t *rgb, const uint8_t *cmyk, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < 3; k++)
            rgb[3 * i + k] = (uint8_t)((cmyk[4 * i + k] * cmyk[4 * i + 3] + 127) / 255);
}

/* Scans of the file: each goes over the whole picture. */
static int64_t count_scans(const uint8_t *bytes, size_t size)
{
    int64_t scans = 0;
    for (const uint8_t *at = bytes, *end = bytes + size; (at = memchr(at, 0xff, (size_t)(end - at))); at++)
        scans += at + 1 < end && at[1] == 0xda;
    return scans;
}

/* A few bytes can ask for gigabytes and hours. What an encoder writes has a bit or more for each block of 64 pixels
 * and gets by with twenty scans; the limit is twice that for one without arithmetic coding. */
static bool is_worth_it(int64_t pixels, const uint8_t *bytes, size_t size)
{
    enum { PIXELS_A_BYTE = 1024, SCANS = 20, ALWAYS = 1 << 16 };
    int64_t scans = count_scans(bytes, size), limit = PIXELS_A_BYTE * (int64_t)size + ALWAYS;
    return pixels <= limit && (scans <= SCANS || pixels <= limit * SCANS / scans);
}

static bool read_header(decoder *d, const uint8_t *bytes, size_t size, sid2_error *err)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    if (setjmp(d->exit)) return false;
    jpeg_create_decompress(jpeg);
    jpeg->progress = &d->progress;
    jpeg_mem_src(jpeg, bytes, size);
    if (jpeg_read_header(jpeg, FALSE) != JPEG_HEADER_OK) /* a file of nothing but tables is a valid JPEG */
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: it holds no picture", d->name);
    int64_t pixels = (int64_t)jpeg->image_width * jpeg->image_height;
    if (pixels > SID2_IMAGE_MAX_PIXELS)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: the picture is too large (%ux%u)", d->name,
                         jpeg->image_width, jpeg->image_height);
    if (!is_worth_it(pixels, bytes, size))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %zu bytes are too few for %ux%u pixels in so many scans",
                         d->name, size, jpeg->image_width, jpeg->image_height);
    return true;
}

static bool read_pixels(decoder *d, sid2_image *image)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    if (setjmp(d->exit)) return false;
    jpeg_start_decompress(jpeg);
    size_t row = (size_t)image->width * (size_t)image->channels;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW to = image->pixels + jpeg->output_scanline * row;
        jpeg_read_scanlines(jpeg, &to, 1);
    }
    jpeg_finish_decompress(jpeg);
    return true;
}

static bool decode(decoder *d, sid2_image *image, const uint8_t *bytes, size_t size, sid2_error *err)
{
    if (!read_header(d, bytes, size, err)) return false;
    J_COLOR_SPACE space = d->jpeg.jpeg_color_space;
    bool is_cmyk = space == JCS_CMYK || space == JCS_YCCK, is_grey = space == JCS_GRAYSCALE;
    d->jpeg.out_color_space = is_grey ? JCS_GRAYSCALE : is_cmyk ? JCS_CMYK : JCS_RGB;
    int32_t width = (int32_t)d->jpeg.image_width, height = (int32_t)d->jpeg.image_height;
    if (!sid2_image_alloc(image, width, height, is_grey ? 1 : is_cmyk ? 4 : 3, err) || !read_pixels(d, image))
        return false;
    if (!is_cmyk) return true;
    sid2_image rgb;
    if (!sid2_image_alloc(&rgb, width, height, 3, err)) return false;
    multiply_out(rgb.pixels, image->pixels, (size_t)width * (size_t)height);
    sid2_image_free(image);
    *image = rgb;
    return true;
}

/* The EXIF block stands in one of the APP1 segments; other programs have theirs, too. */
static int32_t find_orientation(const uint8_t *bytes, size_t size)
{
    for (size_t at = 2, length; at + 4 <= size && bytes[at] == 0xff && bytes[at + 1] != 0xda;
         at += 2 + length) {
        length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length > size - at - 2) break;
        if (bytes[at + 1] == 0xe1 && length > 8 && !memcmp(bytes + at + 4, "Exif\0", 6))
            return sid2_exif_orientation(bytes + at + 4, length - 2);
    }
    return 0;
}

bool sid2_jpeg_decode(sid2_image *image, const uint8_t *bytes, size_t size, const char *name, sid2_error *err)
{
    decoder *d = calloc(1, sizeof *d);
    if (!d) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for a JPEG decoder", name);
    d->name = name;
    d->err = err;
    d->jpeg.err = jpeg_std_error(&d->errors);
    d->jpeg.client_data = d;
    d->errors.error_exit = on_error;
    d->errors.emit_message = on_message;
    d->progress.progress_monitor = on_progress;
    bool ok = decode(d, image, bytes, size, err);
    jpeg_destroy_decompress(&d->jpeg);
    free(d);
    if (ok) image->orientation = find_orientation(bytes, size);
    if (!ok) sid2_image_free(image);
    return ok;
}
