#include "image.h"

#include "file.h"
#include "image_png.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

bool sid2_image_alloc(sid2_image *image, int32_t width, int32_t height, int32_t channels, sid2_error *err)
{
    *image = (sid2_image){0};
    if (width < 1 || height < 1 || (int64_t)width * height > SID2_IMAGE_MAX_PIXELS)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "a picture of %dx%d pixels is outside the limits", width,
                         height);
    uint8_t *pixels = malloc((size_t)width * (size_t)height * (size_t)channels);
    if (!pixels)
        return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a picture of %dx%d pixels", width, height);
    *image = (sid2_image){.width = width, .height = height, .channels = channels, .pixels = pixels};
    return true;
}

void sid2_image_free(sid2_image *image)
{
    free(image->pixels);
    *image = (sid2_image){0};
}

/* CMYK files are written the Adobe way, with 255 for no ink; so a colour is ink times black. */
static void multiply_out(uint8_t *rgb, const uint8_t *cmyk, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (int k = 0; k < 3; k++)
            rgb[3 * i + k] = (uint8_t)((cmyk[4 * i + k] * cmyk[4 * i + 3] + 127) / 255);
}

/* A warning need not mean damage: stray bytes between markers are common and skipped. Every other one means
 * that pixels are missing or made up. */
static bool is_harmless(tjhandle jpeg)
{
    return tjGetErrorCode(jpeg) == TJERR_WARNING && strstr(tjGetErrorStr2(jpeg), "extraneous");
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

static bool decode_jpeg(tjhandle jpeg, sid2_image *image, const uint8_t *bytes, unsigned long size,
                        const char *name, sid2_error *err)
{
    /* The header call also fails on odd chroma subsampling, which decoding itself takes. */
    int width = 0, height = 0, subsampling = -1, space = -1;
    bool known = !tjDecompressHeader3(jpeg, bytes, size, &width, &height, &subsampling, &space);
    if (!known && (width < 1 || height < 1 || space < 0))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s", name, tjGetErrorStr2(jpeg));
    if (width < 1 || height < 1) /* a file of nothing but tables is a valid JPEG */
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: it holds no picture", name);
    if ((int64_t)width * height > SID2_IMAGE_MAX_PIXELS)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: the picture is too large (%dx%d)", name, width, height);
    if (!is_worth_it((int64_t)width * height, bytes, size))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %zu bytes are too few for %dx%d pixels in so many scans",
                         name, size, width, height);
    bool is_cmyk = space == TJCS_CMYK || space == TJCS_YCCK, is_grey = space == TJCS_GRAY;
    if (!sid2_image_alloc(image, width, height, is_grey ? 1 : is_cmyk ? 4 : 3, err)) return false;
    int flags = TJFLAG_ACCURATEDCT;
#ifdef TJFLAG_LIMITSCANS
    flags |= TJFLAG_LIMITSCANS; /* a small progressive file can ask for hours of work */
#endif
    int format = is_grey ? TJPF_GRAY : is_cmyk ? TJPF_CMYK : TJPF_RGB;
    if (tjDecompress2(jpeg, bytes, size, image->pixels, width, 0, height, format, flags) &&
        !is_harmless(jpeg))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s", name, tjGetErrorStr2(jpeg));
    if (is_cmyk) {
        sid2_image rgb;
        if (!sid2_image_alloc(&rgb, width, height, 3, err)) return false;
        multiply_out(rgb.pixels, image->pixels, (size_t)width * (size_t)height);
        sid2_image_free(image);
        *image = rgb;
    }
    return true;
}

/* EXIF is a TIFF file in the APP1 segment; its first directory holds the orientation: 1 upright, 2 to 8 the
 * other ways to lay a rectangle. */
static bool is_exif_turned(const uint8_t *tiff, size_t size)
{
    if (size < 8 || (memcmp(tiff, "II*", 4) && memcmp(tiff, "MM\0*", 4))) return false;
    bool big = tiff[0] == 'M';
#define U16(at) (big ? (uint32_t)tiff[at] << 8 | tiff[(at) + 1] : (uint32_t)tiff[(at) + 1] << 8 | tiff[at])
    size_t at = big ? (size_t)U16(4) << 16 | U16(6) : (size_t)U16(6) << 16 | U16(4);
    if (at > size - 2) return false;
    uint32_t entries = U16(at);
    for (at += 2; entries-- && at + 12 <= size; at += 12)
        if (U16(at) == 0x0112) return U16(at + 8) >= 2 && U16(at + 8) <= 8;
#undef U16
    return false;
}

static bool is_jpeg_turned(const uint8_t *bytes, size_t size)
{
    for (size_t at = 2, length; at + 4 <= size && bytes[at] == 0xff && bytes[at + 1] != 0xda;
         at += 2 + length) {
        length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length > size - at - 2) break;
        if (bytes[at + 1] == 0xe1 && length > 8 && !memcmp(bytes + at + 4, "Exif\0", 6))
            return is_exif_turned(bytes + at + 10, length - 8);
    }
    return false;
}

bool sid2_image_decode(sid2_image *image, const void *bytes, size_t size, const char *name, sid2_error *err)
{
    *image = (sid2_image){0};
    if (size >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8))
        return sid2_png_decode(image, NULL, NULL, bytes, size, name, err);
    if (size < 3 || memcmp(bytes, "\xff\xd8\xff", 3))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s", name,
                         size ? "neither PNG nor JPEG" : "the file is empty");
    tjhandle jpeg = tjInitDecompress();
    if (!jpeg) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for a JPEG decoder", name);
    bool ok = decode_jpeg(jpeg, image, bytes, (unsigned long)size, name, err);
    tjDestroy(jpeg);
    if (ok) image->is_turned = is_jpeg_turned(bytes, size);
    if (!ok) sid2_image_free(image);
    return ok;
}

bool sid2_image_read(sid2_image *image, const char *path, sid2_error *err)
{
    *image = (sid2_image){0};
    size_t size;
    uint8_t *bytes = sid2_file_read(path, SID2_IMAGE_MAX_FILE, &size, err);
    if (!bytes) return false;
    bool ok = sid2_image_decode(image, bytes, size, path, err);
    free(bytes);
    return ok;
}

bool sid2_image_convert(sid2_image *image, int32_t channels, sid2_error *err)
{
    if (image->channels == channels) return true;
    sid2_image out;
    if (!sid2_image_alloc(&out, image->width, image->height, channels, err)) return false;
    size_t count = (size_t)image->width * (size_t)image->height;
    const uint8_t *from = image->pixels;
    if (channels == 1) /* 0.299, 0.587, 0.114 in units of 2^-16 */
        for (size_t i = 0; i < count; i++)
            out.pixels[i] = (uint8_t)((19595u * from[3 * i] + 38470u * from[3 * i + 1] +
                                       7471u * from[3 * i + 2] + 0x8000u) >>
                                      16);
    else
        for (size_t i = 0; i < count; i++) memset(out.pixels + 3 * i, from[i], 3);
    sid2_image_free(image);
    *image = out;
    return true;
}

bool sid2_image_grid_size(sid2_grid_size *size, int32_t count, int32_t height, int32_t width, int32_t columns,
                          int32_t padding, sid2_error *err)
{
    if (count < 1 || padding < 0 || columns < 0)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "a grid of %d pictures in %d columns, padding %d, is impossible", count, columns,
                         padding);
    if (columns == 0) columns = (int32_t)ceil(sqrt(count));
    if (columns > count) columns = count;
    int32_t rows = (count + columns - 1) / columns;
    int64_t full_width = (int64_t)columns * ((int64_t)width + padding) + padding;
    int64_t full_height = (int64_t)rows * ((int64_t)height + padding) + padding;
    if (full_width > SID2_IMAGE_MAX_SIDE || full_height > SID2_IMAGE_MAX_SIDE ||
        full_width * full_height > SID2_IMAGE_MAX_PIXELS)
        return sid2_fail(
            err, SID2_ERR_USAGE,
            "a grid of %d pictures in %d columns is %lldx%lld pixels, more than a picture may be", count,
            columns, (long long)full_width, (long long)full_height);
    *size = (sid2_grid_size){columns, (int32_t)full_width, (int32_t)full_height};
    return true;
}

bool sid2_image_grid(sid2_image *grid, const uint8_t *pixels, int32_t count, int32_t height, int32_t width,
                     int32_t channels, int32_t columns, int32_t padding, uint8_t background, sid2_error *err)
{
    *grid = (sid2_image){0};
    sid2_grid_size size;
    if (!sid2_image_grid_size(&size, count, height, width, columns, padding, err) ||
        !sid2_image_alloc(grid, size.width, size.height, channels, err))
        return false;
    size_t row = (size_t)width * (size_t)channels, stride = (size_t)size.width * (size_t)channels;
    memset(grid->pixels, background, stride * (size_t)size.height);
    for (int32_t i = 0; i < count; i++) {
        size_t left = (size_t)(padding + i % size.columns * (width + padding));
        size_t top = (size_t)(padding + i / size.columns * (height + padding));
        for (int32_t y = 0; y < height; y++)
            memcpy(grid->pixels + (top + (size_t)y) * stride + left * (size_t)channels,
                   pixels + ((size_t)i * (size_t)height + (size_t)y) * row, row);
    }
    return true;
}
