#include "image.h"

#include "file.h"
#include "image_read.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* What people's picture files turn out to be when they are none that is read here. */
static const char *kind_of(const uint8_t *bytes, size_t size)
{
    static const struct {
        size_t at;
        const char *bytes, *kind;
    } kinds[] = {
        {0, "GIF8", "a GIF"},         {0, "BM", "a BMP"},       {0, "II*", "a TIFF"},
        {0, "MM", "a TIFF"},          {4, "ftyphei", "a HEIC"}, {4, "ftypmif1", "a HEIC"},
        {4, "ftypavi", "an AVIF"},    {0, "%PDF", "a PDF"},     {0, "<", "text (a web page?)"},
        {0, "\xff\x0a", "a JPEG XL"}, {4, "JXL ", "a JPEG XL"}, {4, "ftyp", "a film"},
        {4, "jP  ", "a JPEG 2000"},   {0, "8BPS", "a PSD"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t length = strlen(kinds[i].bytes);
        if (kinds[i].at + length <= size && !memcmp(bytes + kinds[i].at, kinds[i].bytes, length))
            return kinds[i].kind;
    }
    return NULL;
}

bool sid2_image_decode(sid2_image *image, const void *bytes, size_t size, const char *name, sid2_error *err)
{
    *image = (sid2_image){0};
    sid2_image_format format;
    if (sid2_image_format_in(bytes, size, &format))
        return format == SID2_IMAGE_WEBP   ? sid2_webp_decode(image, bytes, size, name, err)
               : format == SID2_IMAGE_JPEG ? sid2_jpeg_decode(image, bytes, size, name, err)
                                           : sid2_png_decode(image, NULL, NULL, bytes, size, name, err);
    const char *kind = kind_of(bytes, size);
    return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s%s", name, kind ? kind : "",
                     !size  ? "the file is empty"
                     : kind ? ", neither PNG, JPEG nor WebP"
                            : "neither PNG, JPEG nor WebP");
}

/* What stands at (x, y) of the upright picture stands at `from` in this one, a step aside or down from its neighbours. */
bool sid2_image_upright(sid2_image *image, sid2_error *err)
{
    int32_t way = image->orientation, width = image->width, height = image->height;
    image->orientation = 0;
    if (way < 2 || way > 8) return true;
    bool swaps = way >= 5, flips_x = way == 2 || way == 3 || way == 7 || way == 8,
         flips_y = way == 3 || way == 4 || way == 6 || way == 7; /* of this picture's axes */
    sid2_image out;
    if (!sid2_image_alloc(&out, swaps ? height : width, swaps ? width : height, image->channels, err))
        return false;
    ptrdiff_t channels = image->channels, along_x = flips_x ? -channels : channels,
              along_y = flips_y ? -channels * width : channels * width;
    const uint8_t *corner = image->pixels + (flips_x ? channels * (width - 1) : 0) +
                            (flips_y ? channels * width * (ptrdiff_t)(height - 1) : 0);
    uint8_t *to = out.pixels;
    for (int32_t y = 0; y < out.height; y++) {
        const uint8_t *from = corner + (swaps ? along_x : along_y) * y;
        for (int32_t x = 0; x < out.width; x++, from += swaps ? along_y : along_x)
            for (ptrdiff_t c = 0; c < channels; c++) *to++ = from[c];
    }
    sid2_image_free(image);
    *image = out;
    return true;
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
