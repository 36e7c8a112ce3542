/* Separable resampling in 8-bit fixed point, equal to Pillow's in every bit.
 *
 * Along one axis, output pixel i sits at c = (i + 1/2) s in the input, s = input / output. It is the mean
 * of the input pixels within support * max(s, 1) of c, weighted by the filter at (j + 1/2 - c) / max(s, 1)
 * and normalised to 1 in double precision. Weights are then rounded to 22 fractional bits, sums start at one
 * half and are shifted back and clamped to 0..255. Horizontal first, its 8-bit result vertically. The order
 * of every floating-point operation is fixed (no contraction, see CMakeLists.txt), as weights near a rounding
 * border depend on it. */
#include "resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FRACTION_BITS = 22 };

typedef struct axis {
    int32_t taps;   /* room for weights per output pixel */
    int32_t *first; /* first input pixel, per output pixel */
    int32_t *count; /* weights in use, per output pixel */
    int32_t *weight;
} axis;

static double filter_support(sid2_filter filter)
{
    return filter == SID2_FILTER_BOX ? 0.5 : filter == SID2_FILTER_BILINEAR ? 1.0 : 2.0;
}

static double filter_value(sid2_filter filter, double x)
{
    const double a = -0.5;
    if (filter == SID2_FILTER_BOX) return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    x = fabs(x);
    if (filter == SID2_FILTER_BILINEAR) return x < 1.0 ? 1.0 - x : 0.0;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static void axis_free(axis *a)
{
    free(a->first);
    free(a->count);
    free(a->weight);
}

static bool axis_make(axis *a, int32_t input, int32_t output, sid2_filter filter, sid2_error *err)
{
    double scale = (double)input / output, widening = scale < 1.0 ? 1.0 : scale;
    double support = filter_support(filter) * widening;
    a->taps = (int32_t)ceil(support) * 2 + 1;
    a->first = malloc((size_t)output * sizeof *a->first);
    a->count = malloc((size_t)output * sizeof *a->count);
    a->weight = calloc((size_t)output * (size_t)a->taps, sizeof *a->weight);
    double *exact = malloc((size_t)a->taps * sizeof *exact);
    if (!a->first || !a->count || !a->weight || !exact) {
        free(exact);
        axis_free(a);
        return sid2_fail(err, SID2_ERR_MEMORY, "no memory to resample %d pixels to %d", input, output);
    }
    for (int32_t i = 0; i < output; i++) {
        double centre = (i + 0.5) * scale, inverse = 1.0 / widening, sum = 0.0;
        int32_t low = (int32_t)(centre - support + 0.5), high = (int32_t)(centre + support + 0.5);
        if (low < 0) low = 0;
        if (high > input) high = input;
        int32_t count = high - low;
        for (int32_t j = 0; j < count; j++) {
            exact[j] = filter_value(filter, (j + low - centre + 0.5) * inverse);
            sum += exact[j];
        }
        for (int32_t j = 0; j < count; j++) {
            double scaled = (sum != 0.0 ? exact[j] / sum : exact[j]) * (1 << FRACTION_BITS);
            a->weight[(size_t)i * (size_t)a->taps + (size_t)j] =
                (int32_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
        }
        a->first[i] = low;
        a->count[i] = count;
    }
    free(exact);
    return true;
}

static uint8_t to_byte(int32_t sum)
{
    int32_t value = sum >> FRACTION_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static void resample_rows(sid2_image *out, const sid2_image *in, const axis *a)
{
    int32_t channels = in->channels;
    for (int32_t y = 0; y < in->height; y++) {
        const uint8_t *from = in->pixels + (size_t)y * (size_t)in->width * (size_t)channels;
        uint8_t *to = out->pixels + (size_t)y * (size_t)out->width * (size_t)channels;
        for (int32_t x = 0; x < out->width; x++) {
            const int32_t *weight = a->weight + (size_t)x * (size_t)a->taps;
            const uint8_t *pixel = from + (size_t)a->first[x] * (size_t)channels;
            int32_t count = a->count[x];
            if (channels == 3) {
                int32_t r = 1 << (FRACTION_BITS - 1), g = r, b = r;
                for (int32_t j = 0; j < count; j++, pixel += 3) {
                    r += weight[j] * pixel[0];
                    g += weight[j] * pixel[1];
                    b += weight[j] * pixel[2];
                }
                to[3 * x] = to_byte(r);
                to[3 * x + 1] = to_byte(g);
                to[3 * x + 2] = to_byte(b);
            } else {
                int32_t sum = 1 << (FRACTION_BITS - 1);
                for (int32_t j = 0; j < count; j++) sum += weight[j] * pixel[j];
                to[x] = to_byte(sum);
            }
        }
    }
}

/* Row by row, so that the inner loop runs along memory. `sums` holds one row. */
static void resample_columns(sid2_image *out, const sid2_image *in, const axis *a, int32_t *sums)
{
    size_t row = (size_t)in->width * (size_t)in->channels;
    for (int32_t y = 0; y < out->height; y++) {
        for (size_t x = 0; x < row; x++) sums[x] = 1 << (FRACTION_BITS - 1);
        for (int32_t j = 0; j < a->count[y]; j++) {
            int32_t weight = a->weight[(size_t)y * (size_t)a->taps + (size_t)j];
            const uint8_t *from = in->pixels + (size_t)(a->first[y] + j) * row;
            for (size_t x = 0; x < row; x++) sums[x] += weight * from[x];
        }
        uint8_t *to = out->pixels + (size_t)y * row;
        for (size_t x = 0; x < row; x++) to[x] = to_byte(sums[x]);
    }
}

static bool resize_width(sid2_image *out, const sid2_image *in, int32_t width, sid2_filter filter,
                         sid2_error *err)
{
    axis a;
    if (!axis_make(&a, in->width, width, filter, err)) return false;
    bool ok = sid2_image_alloc(out, width, in->height, in->channels, err);
    if (ok) resample_rows(out, in, &a);
    axis_free(&a);
    return ok;
}

static bool resize_height(sid2_image *out, const sid2_image *in, int32_t height, sid2_filter filter,
                          sid2_error *err)
{
    axis a;
    if (!axis_make(&a, in->height, height, filter, err)) return false;
    int32_t *sums = malloc((size_t)in->width * (size_t)in->channels * sizeof *sums);
    bool ok = sums ? sid2_image_alloc(out, in->width, height, in->channels, err)
                   : sid2_fail(err, SID2_ERR_MEMORY, "no memory to resample %d rows", in->height);
    if (ok) resample_columns(out, in, &a, sums);
    free(sums);
    axis_free(&a);
    return ok;
}

bool sid2_image_resize(sid2_image *out, const sid2_image *image, int32_t width, int32_t height,
                       sid2_filter filter, sid2_error *err)
{
    *out = (sid2_image){0};
    if (width < 1 || height < 1 || (int64_t)width * height > SID2_IMAGE_MAX_PIXELS)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "a picture of %dx%d pixels cannot be made %dx%d",
                         image->width, image->height, width, height);
    if (height == image->height) return resize_width(out, image, width, filter, err);
    sid2_image narrowed;
    if (!resize_width(&narrowed, image, width, filter, err)) return false;
    bool ok = resize_height(out, &narrowed, height, filter, err);
    sid2_image_free(&narrowed);
    return ok;
}

bool sid2_image_center_crop(uint8_t *pixels, const sid2_image *image, int32_t height, int32_t width,
                            sid2_error *err)
{
    sid2_image scaled = *image; /* borrowed until replaced */
    for (;;) {
        double by_height = (double)height / scaled.height, by_width = (double)width / scaled.width;
        double scale = by_height > by_width ? by_height : by_width;
        if (scale == 1) break;
        bool halve = scaled.height >= 2 * (int64_t)height && scaled.width >= 2 * (int64_t)width;
        double columns = halve ? scaled.width / 2 : rint(scaled.width * scale);
        double rows = halve ? scaled.height / 2 : rint(scaled.height * scale);
        sid2_image next = {0};
        bool ok = columns <= INT32_MAX && rows <= INT32_MAX
                      ? sid2_image_resize(&next, &scaled, (int32_t)columns, (int32_t)rows,
                                          halve ? SID2_FILTER_BOX : SID2_FILTER_BICUBIC, err)
                      : sid2_fail(err, SID2_ERR_UNSUPPORTED, "a picture of %dx%d pixels is too narrow",
                                  image->width, image->height);
        if (scaled.pixels != image->pixels) sid2_image_free(&scaled);
        if (!ok) return false;
        scaled = next;
    }
    size_t row = (size_t)width * (size_t)scaled.channels;
    size_t stride = (size_t)scaled.width * (size_t)scaled.channels;
    const uint8_t *from = scaled.pixels + (size_t)((scaled.height - height) / 2) * stride +
                          (size_t)((scaled.width - width) / 2) * (size_t)scaled.channels;
    for (int32_t y = 0; y < height; y++) memcpy(pixels + (size_t)y * row, from + (size_t)y * stride, row);
    if (scaled.pixels != image->pixels) sid2_image_free(&scaled);
    return true;
}

bool sid2_image_crop(uint8_t *pixels, const sid2_image *image, int32_t height, int32_t width, int32_t place,
                     int32_t of, sid2_error *err)
{
    int64_t rows = image->height, columns = image->width;
    if (rows * width > columns * height)
        rows = columns * height / width;
    else
        columns = rows * width / height;
    if (rows < 1 || columns < 1)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "a picture of %dx%d pixels is too narrow", image->width,
                         image->height);
    sid2_image part, out;
    if (!sid2_image_alloc(&part, (int32_t)columns, (int32_t)rows, image->channels, err)) return false;
    int64_t top = image->height - rows, left = image->width - columns;
    top = of > 1 ? top * place / (of - 1) : top / 2;
    left = of > 1 ? left * place / (of - 1) : left / 2;
    size_t row = (size_t)columns * (size_t)image->channels,
           stride = (size_t)image->width * (size_t)image->channels;
    for (int64_t y = 0; y < rows; y++)
        memcpy(part.pixels + (size_t)y * row,
               image->pixels + (size_t)(top + y) * stride + (size_t)left * (size_t)image->channels, row);
    bool ok = sid2_image_resize(&out, &part, width, height, SID2_FILTER_BILINEAR, err);
    if (ok) memcpy(pixels, out.pixels, (size_t)height * (size_t)width * (size_t)out.channels);
    sid2_image_free(&out);
    sid2_image_free(&part);
    return ok;
}
