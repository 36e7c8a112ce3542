/* Pooling, upsampling and patches: pure movement. The unit of work is one row of the smaller image, cut into
 * tiles of a few columns (or, for very wide pixels, some channels of one) so that a tile stays in the
 * first-level cache. */
#include "fast.h"

typedef struct picture {
    int64_t images, height, width, channels; /* of the smaller image; images: all leading dimensions */
    int64_t columns, depth;                  /* of a tile */
} picture;

/* Tiles of the smaller image whose pixels are `factor` wide on the larger one. */
static picture picture_of(const sid2_operand *small, int64_t factor)
{
    const int64_t *dim = small->shape.dim + small->shape.rank - 3;
    picture p = {.height = dim[0], .width = dim[1], .channels = dim[2]};
    p.images = count(small) / max64(1, p.height * p.width * p.channels);
    p.depth = min64(p.channels, CHUNK / factor);
    p.columns = p.depth < p.channels ? 1 : max64(1, CHUNK / factor / p.channels);
    return p;
}

/* Whole vectors where the channels are, else plain. */
INLINE void pool_tile(const float *top, const float *bottom, float *y, int64_t columns, int64_t depth,
                      float scale)
{
    for (int64_t w = 0; w < columns; w++) {
        const float *a = top + 2 * w * depth, *b = bottom + 2 * w * depth;
        float *to = y + w * depth;
        if (depth % VL == 0) {
            for (int64_t c = 0; c < depth; c += VL)
                vstore(to + c, scale * ((vload(a + c) + vload(a + depth + c)) +
                                        (vload(b + c) + vload(b + depth + c))));
        } else {
            for (int64_t c = 0; c < depth; c++)
                to[c] = scale * ((a[c] + a[depth + c]) + (b[c] + b[depth + c]));
        }
    }
}

/* The 2 columns x depth block of a row of the larger image that lies over a tile. */
static const float *pair_row(const sid2_operand *t, int64_t pixel, int64_t channel, const picture *p,
                             int64_t columns, int64_t depth, float *buffer)
{
    int64_t at = pixel * p->channels + channel;
    if (depth == p->channels) return load(t, at, 2 * columns * depth, buffer);
    fetch(t, at, depth, buffer);
    fetch(t, at + p->channels, depth, buffer + depth);
    return buffer;
}

void FAST(pool2)(sid2_call *call)
{
    const sid2_operand *x = &call->in[0], *y = &call->out[0];
    picture p = picture_of(y, 2);
    float scale = call->attr->scale;
    int threads = team(call, count(x));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < p.images * p.height; row++) {
        chunk buffer[3];
        for (int64_t w = 0; w < p.width; w += p.columns)
            for (int64_t c = 0; c < p.channels; c += p.depth) {
                int64_t columns = min64(p.columns, p.width - w), depth = min64(p.depth, p.channels - c);
                int64_t top = 4 * row * p.width + 2 * w, at = (row * p.width + w) * p.channels + c;
                const float *a = pair_row(x, top, c, &p, columns, depth, buffer[0].at);
                const float *b = pair_row(x, top + 2 * p.width, c, &p, columns, depth, buffer[1].at);
                float *to = target(y, at, columns * depth, buffer[2].at);
                pool_tile(a, b, to, columns, depth, scale);
                store(to, y, at, columns * depth);
            }
    }
}

INLINE void upsample_tile(const float *x, const float *residual, float *y, int64_t columns, int64_t depth,
                          float scale)
{
    for (int64_t w = 0; w < 2 * columns; w++) {
        const float *from = x + w / 2 * depth, *add = residual ? residual + w * depth : NULL;
        float *to = y + w * depth;
        if (depth % VL == 0) {
            for (int64_t c = 0; c < depth; c += VL) {
                vf v = scale * vload(from + c);
                vstore(to + c, add ? v + vload(add + c) : v);
            }
        } else {
            for (int64_t c = 0; c < depth; c++) to[c] = scale * from[c] + (add ? add[c] : 0.0f);
        }
    }
}

void FAST(upsample2)(sid2_call *call)
{
    const sid2_operand *x = &call->in[0], *residual = &call->in[1], *y = &call->out[0];
    picture p = picture_of(x, 2);
    float scale = call->attr->scale;
    int threads = team(call, count(y));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < p.images * p.height; row++) {
        chunk buffer[3];
        for (int64_t w = 0; w < p.width; w += p.columns)
            for (int64_t c = 0; c < p.channels; c += p.depth) {
                int64_t columns = min64(p.columns, p.width - w), depth = min64(p.depth, p.channels - c);
                const float *from =
                    load(x, (row * p.width + w) * p.channels + c, columns * depth, buffer[0].at);
                for (int64_t half = 0; half < 2; half++) {
                    int64_t pixel = 2 * (2 * row + half) * p.width + 2 * w, at = pixel * p.channels + c;
                    bool contiguous = depth == p.channels;
                    const float *add = residual->data
                                           ? pair_row(residual, pixel, c, &p, columns, depth, buffer[1].at)
                                           : NULL;
                    float *to = contiguous ? target(y, at, 2 * columns * depth, buffer[2].at) : buffer[2].at;
                    upsample_tile(from, add, to, columns, depth, scale);
                    store(to, y, at, contiguous ? 2 * columns * depth : depth);
                    if (!contiguous) store(to + depth, y, at + p.channels, depth);
                }
            }
    }
}

/* ---- Patches ---- */
/* Copies between an image and its patches: for each patch row, p runs of p C elements. */
static void move_patches(const sid2_call *call, bool gather)
{
    const sid2_operand *image = gather ? &call->in[0] : &call->out[0];
    const int64_t *dim = image->shape.dim + image->shape.rank - 3;
    int64_t patch = call->attr->patch, run = patch * dim[2], width = dim[1] / patch;
    int64_t rows = count(image) / max64(1, dim[1] * dim[2]); /* of pixels, over all images */
    size_t size = sid2_dtype_size(image->dtype), bytes = (size_t)run * size;
    const char *from = call->in[0].data;
    char *to = call->out[0].data;
    int threads = team(call, count(image));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t w = 0; w < width; w++) {
            size_t in_image = (size_t)(row * width + w) * bytes;
            size_t in_patches = (size_t)((row / patch * width + w) * patch + row % patch) * bytes;
            memcpy(to + (gather ? in_patches : in_image), from + (gather ? in_image : in_patches), bytes);
        }
}

void FAST(patchify)(sid2_call *call) { move_patches(call, true); }
void FAST(unpatchify)(sid2_call *call) { move_patches(call, false); }
