/* Elementwise operators: every element read once and written once. */
#include "columns.h"
#include "samples.h"

using namespace exec;

namespace
{
struct activation_body {
    sid2_act kind;
    array x, y;
    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        float v[8];
        x.get(at, wide, v);
        act(kind, v);
        y.set(at, wide, v);
    }
};

struct activation_grad_body {
    sid2_act kind;
    array dy, x, dx;
    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        raw raw_dy = dy.fetch(at, wide), raw_x = x.fetch(at, wide);
        float g[8], v[8];
        dy.unpack(raw_dy, g);
        x.unpack(raw_x, v);
        act_grad(kind, v, g);
        dx.set(at, wide, g);
    }
};

/* With FiLM, forward (dy absent) and backward. */
struct film_kernel {
    enum { THREADS = columns::THREADS };
    columns c;
    sid2_act kind;
    array dy, x, film, to;

    SID2_DEVICE void operator()() const
    {
        column mine(c);
        if (!mine.active) return;
        float scale[8], shift[8], v[8], g[8];
        film.get(mine.sample * 2 * c.channels + mine.channel, c.wide, scale);
        film.get((mine.sample * 2 + 1) * c.channels + mine.channel, c.wide, shift);
        for (int row = mine.row; row < mine.rows; row += c.depth) {
            int64_t at = (mine.sample * c.rows + row) * c.channels + mine.channel;
            raw raw_dy = {}, raw_x = x.fetch(at, c.wide);
            if (dy) raw_dy = dy.fetch(at, c.wide);
            x.unpack(raw_x, v);
            if (dy) dy.unpack(raw_dy, g);
            if (dy) {
                act_grad(kind, v, g);
                for (int e = 0; e < 8; e++) v[e] = g[e] * f32_film_gain(scale[e]);
            } else {
                act(kind, v);
                for (int e = 0; e < 8; e++) v[e] = f32_affine(v[e], f32_film_gain(scale[e]), shift[e]);
            }
            to.set(at, c.wide, v);
        }
    }
};

/* dfilm: sums of dy act(x) and of dy. */
struct film_term {
    sid2_act kind;
    array dy, x;
    SID2_DEVICE void begin(int64_t, int, bool) {}
    SID2_DEVICE void add(int64_t, int64_t at, bool wide, float first[8], float second[8])
    {
        raw raw_dy = dy.fetch(at, wide), raw_x = x.fetch(at, wide);
        float g[8], v[8];
        dy.unpack(raw_dy, g);
        x.unpack(raw_x, v);
        act(kind, v);
        for (int e = 0; e < 8; e++) {
            first[e] += g[e] * v[e];
            second[e] += g[e];
        }
    }
};

struct film_finish {
    int width; /* of film: 2 C */
    array dfilm;
    SID2_DEVICE void operator()(int64_t sample, int i, float sum) const
    {
        dfilm.set(sample * width + i, sum);
    }
};

struct add_body {
    float scale;
    array a, b, y;
    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        raw raw_a = a.fetch(at, wide), raw_b = b.fetch(at, wide);
        float v[8], w[8];
        a.unpack(raw_a, v);
        b.unpack(raw_b, w);
        for (int e = 0; e < 8; e++) v[e] += scale * w[e];
        y.set(at, wide, v);
    }
};

/* scale and cast. */
struct scale_body {
    float scale;
    array x, y;
    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        float v[8];
        x.get(at, wide, v);
        for (int e = 0; e < 8; e++) v[e] *= scale;
        y.set(at, wide, v);
    }
};

struct image_to_float_body {
    span<uint8_t> x;
    array y;
    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        float v[8] = {};
        for (int e = 0; e < (wide ? 8 : 1); e++) v[e] = f32_from_pixel(static_cast<float>(x[at + e]));
        y.set(at, wide, v);
    }
};

struct float_to_image_body {
    array x;
    span<uint8_t> y;
    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        float v[8];
        x.get(at, wide, v);
        for (int e = 0; e < (wide ? 8 : 1); e++) y.set(at + e, static_cast<uint8_t>(f32_to_pixel(v[e])));
    }
};
} // namespace

extern "C" void sid2_own_activation(sid2_own *o)
{
    const sid2_shape &shape = o->call->in[0].shape;
    sid2_act kind = o->call->attr->act;
    array x = in(o, 0, "x"), film = in(o, 1, "film"), y = out(o, 0, "y");
    columns c = columns_of(o, shape);
    if (film)
        launch_columns(o, film_kernel{c, kind, array(), x, film, y}, c);
    else
        launch_each(o, flat_of(shape), activation_body{kind, x, y});
}

extern "C" void sid2_own_activation_grad(sid2_own *o)
{
    const sid2_shape &shape = o->call->in[1].shape;
    sid2_act kind = o->call->attr->act;
    array dy = in(o, 0, "dy"), x = in(o, 1, "x"), film = in(o, 2, "film"), dx = out(o, 0, "dx");
    array dfilm = out(o, 1, "dfilm");
    columns c = columns_of(o, shape);
    if (dfilm) { /* before dx, which may lie over dy or x */
        span<float> partials = column_partials(o, c);
        launch_columns(o, column_sums<film_term>{c, film_term{kind, dy, x}, partials}, c);
        launch_add(o, partial_sums{partials, c.samples, c.chunks, 2 * c.channels, 2 * c.channels},
                   film_finish{2 * c.channels, dfilm});
    }
    if (film)
        launch_columns(o, film_kernel{c, kind, dy, x, film, dx}, c);
    else
        launch_each(o, flat_of(shape), activation_grad_body{kind, dy, x, dx});
}

extern "C" void sid2_own_add(sid2_own *o)
{
    add_body body = {o->call->attr->scale, in(o, 0, "a"), in(o, 1, "b"), out(o, 0, "y")};
    launch_each(o, flat_of(o->call->in[0].shape), body);
}

extern "C" void sid2_own_scale(sid2_own *o)
{
    scale_body body = {o->call->attr->scale, in(o, 0, "x"), out(o, 0, "y")};
    launch_each(o, flat_of(o->call->in[0].shape), body);
}

extern "C" void sid2_own_cast(sid2_own *o)
{
    launch_each(o, flat_of(o->call->in[0].shape), scale_body{1.0f, in(o, 0, "x"), out(o, 0, "y")});
}

extern "C" void sid2_own_image_to_float(sid2_own *o)
{
    image_to_float_body body = {words<uint8_t>(o->call->in[0], "x"), out(o, 0, "y")};
    launch_each(o, flat_of(o->call->in[0].shape), body);
}

extern "C" void sid2_own_float_to_image(sid2_own *o)
{
    float_to_image_body body = {in(o, 0, "x"), words<uint8_t>(o->call->out[0], "y")};
    launch_each(o, flat_of(o->call->in[0].shape), body);
}
