/* Conditioning, the diffusion process, the optimizer. */
#include "samples.h"

using namespace exec;

namespace
{
/* ---- Conditioning ---- */

SID2_DEVICE int64_t table_row(int32_t index, int64_t rows)
{
    return index >= 0 && index < rows ? index : rows - 1;
}

/* Element i of y[N,E]. */
struct embedding_body {
    int64_t rows, width;
    array table, y;
    span<int32_t> index;
    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        for (int64_t i = at; i < at + (wide ? 8 : 1); i++)
            y.set(i, table.get(table_row(index[i / width], rows) * width + i % width));
    }
};

/* A block has some columns of one n. Where an earlier n has the same row, that one adds for both. */
struct embedding_grad_kernel {
    enum { THREADS = 128 };
    int64_t count, rows, width;
    array dy, dtable;
    span<int32_t> index;

    SID2_DEVICE void operator()() const
    {
        int64_t n = block_x(), row = table_row(index[n], rows), e = block_y() * THREADS + thread();
        if (e >= width) return;
        for (int64_t i = 0; i < n; i++)
            if (table_row(index[i], rows) == row) return;
        float sum = dtable.get(row * width + e);
        for (int64_t i = n; i < count; i++)
            if (table_row(index[i], rows) == row) sum += dy.get(i * width + e);
        dtable.set(row * width + e, sum);
    }
};

/* In float64: angles reach thousands of radians, and there are few. */
struct sinusoid_kernel {
    enum { THREADS = 128 };
    int64_t count, width;
    double period;
    span<float> t;
    array y;

    SID2_DEVICE void operator()() const
    {
        int64_t i = block_x() * THREADS + thread(), half = width / 2, k = i % width % half;
        if (i >= count) return;
        double f = pow(period, -static_cast<double>(k) / static_cast<double>(half));
        double angle = static_cast<double>(t[i / width]) * f;
        y.set(i, static_cast<float>(i % width < half ? cos(angle) : sin(angle)));
    }
};

/* ---- Diffusion ---- */

struct diffuse_body {
    array x, eps, z;
    span<float> alpha, sigma;
    SID2_DEVICE void operator()(int64_t n, int64_t, int64_t at, bool wide) const
    {
        raw raw_x = x.fetch(at, wide), raw_eps = eps.fetch(at, wide);
        float a = alpha[n], s = sigma[n], v[8], w[8];
        x.unpack(raw_x, v);
        eps.unpack(raw_eps, w);
        for (int e = 0; e < 8; e++) v[e] = f32_diffuse(v[e], w[e], a, s);
        z.set(at, wide, v);
    }
};

/* v, z, x, alpha, sigma, weight: what the loss and its gradient read. */
struct prediction {
    array v, z, x;
    span<float> alpha, sigma, weight;

    /* xhat - x */
    SID2_DEVICE void errors(int64_t n, int64_t at, bool wide, float d[8]) const
    {
        raw raw_v = v.fetch(at, wide), raw_z = z.fetch(at, wide), raw_x = x.fetch(at, wide);
        float a = alpha[n], s = sigma[n], p[8], q[8];
        v.unpack(raw_v, p);
        z.unpack(raw_z, q);
        x.unpack(raw_x, d);
        for (int e = 0; e < 8; e++) d[e] = f32_x_error(p[e], q[e], d[e], a, s);
    }
};

struct loss_term {
    prediction p;
    SID2_DEVICE float operator()(int64_t n, int64_t at, bool wide) const
    {
        float d[8], sum = 0;
        p.errors(n, at, wide, d);
        for (int e = 0; e < (wide ? 8 : 1); e++) sum += d[e] * d[e];
        return sum;
    }
};

struct loss_finish {
    float each;
    span<float> weight, loss;
    SID2_DEVICE void operator()(int64_t n, float sum) const { loss.set(n, f32_loss(sum, weight[n], each)); }
};

struct loss_grad_body {
    prediction p;
    float each;
    span<float> dloss, loss;
    array dv;
    SID2_DEVICE void operator()(int64_t n, int64_t, int64_t at, bool wide) const
    {
        float factor = f32_loss_slope(loss[n], dloss[n], p.weight[n], p.sigma[n], each), d[8];
        p.errors(n, at, wide, d);
        for (int e = 0; e < 8; e++) d[e] *= factor;
        dv.set(at, wide, d);
    }
};

prediction prediction_of(const sid2_own *o, int first)
{
    const sid2_operand *t = o->call->in + first;
    prediction p = {array_of(t[0], "v"),         array_of(t[1], "z"),         array_of(t[2], "x"),
                    words<float>(t[3], "alpha"), words<float>(t[4], "sigma"), words<float>(t[5], "weight")};
    return p;
}

struct sampler_body {
    array z, v, v_null, noise, x_prev, z_next, x_hat;
    span<float> coef; /* alpha, sigma, w, z, x, noise, prev, 0 */

    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        raw raw_z = z.fetch(at, wide), raw_v = v.fetch(at, wide), raw_null = {}, raw_noise = {},
            raw_prev = {};
        if (v_null) raw_null = v_null.fetch(at, wide);
        if (noise) raw_noise = noise.fetch(at, wide);
        if (x_prev) raw_prev = x_prev.fetch(at, wide);
        float a[8], b[8], next[8], hat[8];
        z.unpack(raw_z, a);
        v.unpack(raw_v, b);
        if (v_null) {
            float c[8];
            v_null.unpack(raw_null, c);
            for (int e = 0; e < 8; e++) b[e] = f32_toward(c[e], b[e], coef[2]);
        }
        for (int e = 0; e < 8; e++) {
            hat[e] = f32_x_hat_clamped(a[e], b[e], coef[0], coef[1]);
            next[e] = f32_z_next(a[e], hat[e], coef[3], coef[4]);
        }
        if (noise) {
            noise.unpack(raw_noise, b);
            for (int e = 0; e < 8; e++) next[e] = f32_z_more(next[e], b[e], coef[5]);
        }
        if (x_prev) {
            x_prev.unpack(raw_prev, b);
            for (int e = 0; e < 8; e++) next[e] = f32_z_more(next[e], b[e], coef[6]);
        }
        z_next.set(at, wide, next);
        x_hat.set(at, wide, hat);
    }
};

/* ---- Optimizer ---- */

/* The sum over a block, in thread 0: a fixed tree. */
template <int THREADS> SID2_DEVICE double wide_sum(double v)
{
    SID2_SHARED(double, parts, THREADS);
    parts[thread()] = v;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        barrier();
        if (thread() >= half) continue;
        v += parts[thread() + half];
        parts[thread()] = v;
    }
    return v;
}

/* A block of threads for each block of elements, whatever the device, so that ranges add up to the same bits. In
 * double: a GPU that is slow at it still waits for memory here. */
struct square_sums_kernel {
    enum { THREADS = 256 };
    int64_t count;
    array x;
    span<double> sums;

    SID2_DEVICE void operator()() const
    {
        int64_t first = block_x() * SID2_SUM_BLOCK, end = first + SID2_SUM_BLOCK;
        double sum = 0;
        if (end > count) end = count;
        for (int64_t i = first + 8 * thread(); i < end; i += 8 * THREADS)
            if (i + 8 <= end) {
                float v[8];
                x.get(i, true, v);
                for (int e = 0; e < 8; e++) sum += static_cast<double>(v[e]) * static_cast<double>(v[e]);
            } else
                for (int64_t k = i; k < end; k++) {
                    double v = static_cast<double>(x.get(k));
                    sum += v * v;
                }
        sum = wide_sum<THREADS>(sum);
        if (thread() == 0) sums.set(block_x(), sum);
    }
};

struct norm_of_kernel {
    enum { THREADS = 256 };
    int64_t count;
    span<double> sums;
    span<float> norm;

    SID2_DEVICE void operator()() const
    {
        double sum = 0;
        for (int64_t i = thread(); i < count; i += THREADS) sum += sums[i];
        sum = wide_sum<THREADS>(sum);
        if (thread() == 0) norm.set(0, static_cast<float>(sqrt(sum)));
    }
};

/* 28 to 34 bytes a parameter: four buffers read, three to five written. */
struct adam_body {
    array weights, grads, m, v, cleared, low;
    span<float> norm, hyper; /* lr, beta1, beta2, eps, c1, c2, clip */

    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        if (!is_finite(norm[0])) return;
        raw raw_w = weights.fetch(at, wide), raw_g = grads.fetch(at, wide), raw_m = m.fetch(at, wide);
        raw raw_v = v.fetch(at, wide);
        float shrink = f32_clip_factor(hyper[6], norm[0]), rate = hyper[0] / hyper[4],
              spread = 1.0f / hyper[5];
        float w[8], g[8], first[8], second[8];
        weights.unpack(raw_w, w);
        grads.unpack(raw_g, g);
        m.unpack(raw_m, first);
        v.unpack(raw_v, second);
        for (int e = 0; e < 8; e++) {
            g[e] *= shrink;
            first[e] = f32_toward(first[e], g[e], 1.0f - hyper[1]);
            second[e] = f32_toward(second[e], g[e] * g[e], 1.0f - hyper[2]);
            w[e] = f32_adam(w[e], first[e], second[e], rate, spread, hyper[3]);
            g[e] = 0;
        }
        weights.set(at, wide, w);
        if (low) low.set(at, wide, w);
        m.set(at, wide, first);
        v.set(at, wide, second);
        if (cleared) cleared.set(at, wide, g);
    }
};

struct ema_body {
    array average, weights;
    span<float> norm, share;

    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        if (!is_finite(norm[0])) return;
        raw raw_a = average.fetch(at, wide), raw_w = weights.fetch(at, wide);
        float a[8], w[8];
        average.unpack(raw_a, a);
        weights.unpack(raw_w, w);
        for (int e = 0; e < 8; e++) a[e] = f32_toward(a[e], w[e], share[0]);
        average.set(at, wide, a);
    }
};

/* Whether an operator's outputs lie where it updates them. */
bool in_place(sid2_own *o, int output, int input)
{
    const sid2_operand *to = &o->call->out[output], *from = &o->call->in[input];
    if (!to->data || to->data == from->data) return true;
    o->ok = sid2_fail(o->err, SID2_ERR_INTERNAL, "%s updates its buffers where they are",
                      sid2_op_name(o->call->op));
    return false;
}
} // namespace

extern "C" void sid2_own_embedding(sid2_own *o)
{
    const sid2_shape &table = o->call->in[0].shape;
    embedding_body body = {table.dim[0], table.dim[1], in(o, 0, "table"), out(o, 0, "y"),
                           words<int32_t>(o->call->in[1], "index")};
    launch_each(o, flat_of(o->call->out[0].shape), body);
}

extern "C" void sid2_own_embedding_grad(sid2_own *o)
{
    const sid2_shape &table = o->call->out[0].shape;
    int64_t count = o->call->in[1].shape.dim[0];
    embedding_grad_kernel k = {count,          table.dim[0],        table.dim[1],
                               in(o, 0, "dy"), out(o, 0, "dtable"), words<int32_t>(o->call->in[1], "index")};
    launch(o, k, count, divide_up(table.dim[1], embedding_grad_kernel::THREADS));
}

extern "C" void sid2_own_sinusoid(sid2_own *o)
{
    const sid2_shape &y = o->call->out[0].shape;
    sinusoid_kernel k = {sid2_shape_count(y), y.dim[1], static_cast<double>(o->call->attr->period),
                         words<float>(o->call->in[0], "t"), out(o, 0, "y")};
    launch(o, k, divide_up(k.count, sinusoid_kernel::THREADS));
}

extern "C" void sid2_own_diffuse(sid2_own *o)
{
    diffuse_body body = {in(o, 0, "x"), in(o, 1, "eps"), out(o, 0, "z"),
                         words<float>(o->call->in[2], "alpha"), words<float>(o->call->in[3], "sigma")};
    launch_each(o, samples_of(o->call->out[0].shape), body);
}

extern "C" void sid2_own_diffusion_loss(sid2_own *o)
{
    prediction p = prediction_of(o, 0);
    samples s = samples_of(o->call->in[0].shape);
    loss_finish finish = {static_cast<float>(s.each), p.weight, words<float>(o->call->out[0], "loss")};
    launch_sums(o, s, loss_term{p}, finish);
}

extern "C" void sid2_own_diffusion_loss_grad(sid2_own *o)
{
    samples s = samples_of(o->call->in[1].shape);
    loss_grad_body body = {prediction_of(o, 1), static_cast<float>(s.each),
                           words<float>(o->call->in[0], "dloss"), words<float>(o->call->in[7], "loss"),
                           out(o, 0, "dv")};
    launch_each(o, s, body);
}

extern "C" void sid2_own_sampler_step(sid2_own *o)
{
    sampler_body body = {
        in(o, 0, "z"),      in(o, 1, "v"),       in(o, 2, "v_null"), in(o, 3, "noise"),
        in(o, 4, "x_prev"), out(o, 0, "z_next"), out(o, 1, "x_hat"), words<float>(o->call->in[5], "coef")};
    launch_each(o, flat_of(o->call->in[0].shape), body);
}

extern "C" void sid2_own_square_sums(sid2_own *o)
{
    int64_t count = sid2_shape_count(o->call->in[0].shape);
    square_sums_kernel k = {count, in(o, 0, "x"), words<double>(o->call->out[0], "sums")};
    launch(o, k, divide_up(count, SID2_SUM_BLOCK));
}

extern "C" void sid2_own_norm_of(sid2_own *o)
{
    norm_of_kernel k = {sid2_shape_count(o->call->in[0].shape), words<double>(o->call->in[0], "sums"),
                        words<float>(o->call->out[0], "norm")};
    launch(o, k, 1);
}

extern "C" void sid2_own_adam(sid2_own *o)
{
    adam_body body = {in(o, 0, "weights"),
                      in(o, 1, "grads"),
                      in(o, 2, "m"),
                      in(o, 3, "v"),
                      out(o, 3, "cleared"),
                      out(o, 4, "low"),
                      words<float>(o->call->in[4], "norm"),
                      words<float>(o->call->in[5], "hyper")};
    if (in_place(o, 0, 0) && in_place(o, 1, 2) && in_place(o, 2, 3) && in_place(o, 3, 1))
        launch_each(o, flat_of(o->call->in[0].shape), body);
}

extern "C" void sid2_own_ema(sid2_own *o)
{
    ema_body body = {in(o, 0, "average"), in(o, 1, "weights"), words<float>(o->call->in[2], "norm"),
                     words<float>(o->call->in[3], "share")};
    if (in_place(o, 0, 0)) launch_each(o, flat_of(o->call->in[0].shape), body);
}
