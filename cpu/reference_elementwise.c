/* Activations, sums, casts, resampling, pictures. */
#include "reference.h"

void sid2_reference_activation(const sid2_reference *r)
{
    sid2_rows x = sid2_rows_of(r->in_shape[0]);
    const int64_t channels = x.channels, count = sid2_shape_count(r->in_shape[0]);
    for (int64_t i = 0; i < count; i++) {
        double h = f64_activate(r->attr->act, r->in[0][i]);
        if (r->in[1]) {
            const double *film = r->in[1] + i / (x.rows * channels) * 2 * channels;
            h = f64_affine(h, f64_film_gain(film[i % channels]), film[channels + i % channels]);
        }
        r->out[0][i] = h;
    }
}

void sid2_reference_activation_grad(const sid2_reference *r)
{
    const double *dy = r->in[0], *x = r->in[1], *film = r->in[2];
    sid2_rows rows = sid2_rows_of(r->in_shape[1]);
    const int64_t channels = rows.channels, count = sid2_shape_count(r->in_shape[1]);
    for (int64_t i = 0; i < count; i++) {
        int64_t scale = i / (rows.rows * channels) * 2 * channels + i % channels;
        if (r->out[1]) {
            r->out[1][scale] += dy[i] * f64_activate(r->attr->act, x[i]);
            r->out[1][scale + channels] += dy[i];
        }
        double dh = film ? dy[i] * f64_film_gain(film[scale]) : dy[i];
        r->out[0][i] = dh * f64_activation_slope(r->attr->act, x[i]);
    }
}

void sid2_reference_add(const sid2_reference *r)
{
    int64_t count = sid2_shape_count(r->in_shape[0]);
    for (int64_t i = 0; i < count; i++) r->out[0][i] = r->in[0][i] + (double)r->attr->scale * r->in[1][i];
}

void sid2_reference_scale(const sid2_reference *r)
{
    int64_t count = sid2_shape_count(r->in_shape[0]);
    for (int64_t i = 0; i < count; i++) r->out[0][i] = (double)r->attr->scale * r->in[0][i];
}

void sid2_reference_cast(const sid2_reference *r)
{
    int64_t count = sid2_shape_count(r->in_shape[0]);
    for (int64_t i = 0; i < count; i++) r->out[0][i] = r->in[0][i];
}

void sid2_reference_pool2(const sid2_reference *r)
{
    sid2_images y = sid2_images_of(r->out_shape[0]);
    int64_t c = y.channels, line = 2 * y.width * c; /* of the input */
    for (int64_t i = 0; i < y.count * y.height; i++)
        for (int64_t j = 0; j < y.width; j++)
            for (int64_t k = 0; k < c; k++) {
                const double *x = r->in[0] + 2 * i * line + 2 * j * c + k;
                r->out[0][(i * y.width + j) * c + k] =
                    (double)r->attr->scale * (x[0] + x[c] + x[line] + x[line + c]);
            }
}

void sid2_reference_upsample2(const sid2_reference *r)
{
    sid2_images y = sid2_images_of(r->out_shape[0]);
    int64_t c = y.channels;
    for (int64_t i = 0; i < y.count * y.height; i++) /* heights are even: i / 2 stays within its image */
        for (int64_t j = 0; j < y.width; j++)
            for (int64_t k = 0; k < c; k++) {
                int64_t at = (i * y.width + j) * c + k;
                double x = r->in[0][(i / 2 * (y.width / 2) + j / 2) * c + k];
                r->out[0][at] = (r->in[1] ? r->in[1][at] : 0) + (double)r->attr->scale * x;
            }
}

/* Offset within the patched tensor of pixel (row i of all rows, column j), channel k. */
static int64_t patched(sid2_images image, int64_t patch, int64_t i, int64_t j, int64_t k)
{
    int64_t cell = i / patch * (image.width / patch) + j / patch;
    return ((cell * patch + i % patch) * patch + j % patch) * image.channels + k;
}

void sid2_reference_patchify(const sid2_reference *r)
{
    sid2_images x = sid2_images_of(r->in_shape[0]);
    for (int64_t i = 0; i < x.count * x.height; i++)
        for (int64_t j = 0; j < x.width; j++)
            for (int64_t k = 0; k < x.channels; k++)
                r->out[0][patched(x, r->attr->patch, i, j, k)] = r->in[0][(i * x.width + j) * x.channels + k];
}

void sid2_reference_unpatchify(const sid2_reference *r)
{
    sid2_images y = sid2_images_of(r->out_shape[0]);
    for (int64_t i = 0; i < y.count * y.height; i++)
        for (int64_t j = 0; j < y.width; j++)
            for (int64_t k = 0; k < y.channels; k++)
                r->out[0][(i * y.width + j) * y.channels + k] = r->in[0][patched(y, r->attr->patch, i, j, k)];
}

void sid2_reference_image_to_float(const sid2_reference *r)
{
    int64_t count = sid2_shape_count(r->in_shape[0]);
    for (int64_t i = 0; i < count; i++) r->out[0][i] = f64_from_pixel(r->in[0][i]);
}

void sid2_reference_float_to_image(const sid2_reference *r)
{
    int64_t count = sid2_shape_count(r->in_shape[0]);
    for (int64_t i = 0; i < count; i++) r->out[0][i] = floor(f64_to_pixel(r->in[0][i]));
}
