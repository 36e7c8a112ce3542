/* Pictures made smaller, larger, or cut into patches. A thread makes eight channels of a pixel of y (one
 * where channels are no multiple of 8). */
#include "exec.h"

using namespace exec;

namespace
{
/* The result as `pixels` in lines of `width`, of `channels`. Below 2^32 vectors. */
template <class Body> struct pixels_kernel {
    enum { THREADS = 256 };
    int64_t pixels;
    int width, channels;
    bool wide;
    Body body;

    SID2_DEVICE void operator()() const
    {
        uint32_t step = wide ? 8 : 1, vectors = static_cast<uint32_t>(channels) / step;
        int64_t all = pixels * vectors;
        for (int64_t i = block_x() * THREADS + thread(); i < all; i += blocks_x() * THREADS) {
            uint32_t index = static_cast<uint32_t>(i), pixel = index / vectors;
            int channel = static_cast<int>(index % vectors * step);
            int64_t line = pixel / static_cast<uint32_t>(width);
            body(line, static_cast<int>(pixel % static_cast<uint32_t>(width)), channel, i * step, wide);
        }
    }
};

template <class Body>
void launch_pixels(sid2_own *o, int64_t pixels, int64_t width, int64_t channels, const Body &body)
{
    pixels_kernel<Body> k = {pixels, static_cast<int>(width), static_cast<int>(channels), channels % 8 == 0,
                             body};
    launch(o, k, blocks_for(o, pixels * channels / (k.wide ? 8 : 1), 256));
}

struct pool_body {
    float scale;
    int width, channels; /* of y */
    array x, y;

    SID2_DEVICE void operator()(int64_t line, int column, int channel, int64_t at, bool wide) const
    {
        int64_t below = 2 * static_cast<int64_t>(width) * channels; /* a line of x */
        int64_t from = 2 * line * below + 2 * static_cast<int64_t>(column) * channels + channel;
        raw corners[4] = {x.fetch(from, wide), x.fetch(from + channels, wide), x.fetch(from + below, wide),
                          x.fetch(from + below + channels, wide)};
        float sum[8] = {}, v[8];
        for (int i = 0; i < 4; i++) {
            x.unpack(corners[i], v);
            for (int e = 0; e < 8; e++) sum[e] += v[e];
        }
        for (int e = 0; e < 8; e++) sum[e] *= scale;
        y.set(at, wide, sum);
    }
};

struct upsample_body {
    float scale;
    int width, channels; /* of y */
    array x, residual, y;

    SID2_DEVICE void operator()(int64_t line, int column, int channel, int64_t at, bool wide) const
    {
        raw more = {};
        raw here = x.fetch((line / 2 * (width / 2) + column / 2) * channels + channel, wide);
        if (residual) more = residual.fetch(at, wide);
        float v[8], r[8] = {};
        x.unpack(here, v);
        if (residual) residual.unpack(more, r);
        for (int e = 0; e < 8; e++) v[e] = r[e] + scale * v[e];
        y.set(at, wide, v);
    }
};

/* A line of a patch is the same run of `run` = patch channels in both forms: the picture has it at
 * (line, cell), the patched tensor at cell's offset. Here one vector of one run. */
struct patch_body {
    int patch, cells, run; /* cells: patches side by side */
    bool cut;              /* picture to patches, else back */
    array x, y;

    /* `row` counts lines of the picture, `cell` patches in it, i the run's elements. */
    SID2_DEVICE void operator()(int64_t row, int cell, int i, int64_t at, bool wide) const
    {
        int64_t patched = ((row / patch * cells + cell) * patch + row % patch) * run + i;
        float v[8];
        x.get(cut ? at : patched, wide, v);
        y.set(cut ? patched : at, wide, v);
    }
};

void launch_patches(sid2_own *o, const sid2_shape &picture, bool cut)
{
    int64_t patch = o->call->attr->patch, channels = last(picture), width = picture.dim[picture.rank - 2];
    int64_t cells = width / patch, run = patch * channels;
    patch_body body = {static_cast<int>(patch), static_cast<int>(cells), static_cast<int>(run), cut,
                       in(o, 0, "x"),           out(o, 0, "y")};
    launch_pixels(o, sid2_shape_count(picture) / run, cells, run, body);
}
} // namespace

extern "C" void sid2_own_pool2(sid2_own *o)
{
    const sid2_shape &y = o->call->out[0].shape;
    int64_t width = y.dim[y.rank - 2], channels = last(y);
    pool_body body = {o->call->attr->scale, static_cast<int>(width), static_cast<int>(channels),
                      in(o, 0, "x"), out(o, 0, "y")};
    launch_pixels(o, sid2_shape_count(y) / channels, width, channels, body);
}

extern "C" void sid2_own_upsample2(sid2_own *o)
{
    const sid2_shape &y = o->call->out[0].shape;
    int64_t width = y.dim[y.rank - 2], channels = last(y);
    upsample_body body = {o->call->attr->scale, static_cast<int>(width), static_cast<int>(channels),
                          in(o, 0, "x"),        in(o, 1, "residual"),    out(o, 0, "y")};
    launch_pixels(o, sid2_shape_count(y) / channels, width, channels, body);
}

extern "C" void sid2_own_patchify(sid2_own *o) { launch_patches(o, o->call->in[0].shape, true); }
extern "C" void sid2_own_unpatchify(sid2_own *o) { launch_patches(o, o->call->out[0].shape, false); }
