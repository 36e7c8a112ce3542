/* Pools over windows, and tensors put side by side. A thread makes eight channels (one where they are no multiple of 8). */
#include "exec.h"

using namespace exec;

namespace
{
struct pool_kernel {
    enum { THREADS = 256 };
    int from[3], to[3], window[3], stride[3], before[3], channels;
    bool mean, wide;
    int64_t all;
    array x, y;

    SID2_DEVICE void operator()() const
    {
        for (int64_t i = block_x() * THREADS + thread(); i < all; i += blocks_x() * THREADS)
            make(i * (wide ? 8 : 1));
    }

    SID2_DEVICE void make(int64_t at) const
    {
        int64_t pixel = at / channels;
        int first[3], last[3], count = 1;
        for (int i = 2; i >= 0; i--) {
            first[i] = static_cast<int>(pixel % to[i]) * stride[i] - before[i];
            last[i] = first[i] + window[i] < from[i] ? first[i] + window[i] : from[i];
            first[i] = first[i] > 0 ? first[i] : 0;
            count *= last[i] - first[i];
            pixel /= to[i];
        }
        float sum[8] = {}, v[8];
        bool begun = false;
        for (int f = first[0]; f < last[0]; f++)
            for (int i = first[1]; i < last[1]; i++)
                for (int j = first[2]; j < last[2]; j++) {
                    int64_t under = ((pixel * from[0] + f) * from[1] + i) * from[2] + j;
                    x.get(under * channels + at % channels, wide, v);
                    for (int e = 0; e < 8; e++) /* where there is one: zeros behind it */
                        if (mean)
                            sum[e] += v[e];
                        else if (!begun || !(v[e] <= sum[e] || sum[e] != sum[e])) /* NaN stays */
                            sum[e] = v[e];
                    begun = true;
                }
        for (int e = 0; mean && e < 8; e++) sum[e] /= static_cast<float>(count);
        y.set(at, wide, sum);
    }
};

/* The channels of x to their place among those of y. */
struct concat_kernel {
    enum { THREADS = 256 };
    int channels, width, place;
    bool wide;
    int64_t all;
    array x, y;

    SID2_DEVICE void operator()() const
    {
        for (int64_t i = block_x() * THREADS + thread(); i < all; i += blocks_x() * THREADS) {
            int64_t at = i * (wide ? 8 : 1);
            float v[8] = {};
            x.get(at, wide, v);
            y.set(at / channels * width + place + at % channels, wide, v);
        }
    }
};
} // namespace

extern "C" void sid2_own_pool3d(sid2_own *o)
{
    const sid2_shape &x = o->call->in[0].shape, &y = o->call->out[0].shape;
    const sid2_attr *a = o->call->attr;
    pool_kernel k = {};
    for (int i = 0; i < 3; i++) {
        k.from[i] = static_cast<int>(x.dim[i + 1]);
        k.to[i] = static_cast<int>(y.dim[i + 1]);
        k.window[i] = a->window[i], k.stride[i] = a->stride[i], k.before[i] = a->before[i];
    }
    k.channels = static_cast<int>(last(x));
    k.mean = a->mean != 0;
    k.wide = k.channels % 8 == 0;
    k.all = sid2_shape_count(y) / (k.wide ? 8 : 1);
    k.x = in(o, 0, "x");
    k.y = out(o, 0, "y");
    launch(o, k, blocks_for(o, k.all, pool_kernel::THREADS));
}

extern "C" void sid2_own_concat(sid2_own *o)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    int width = static_cast<int>(last(o->call->out[0].shape)), place = 0;
    for (int i = 0; i < 6; i++) {
        if (!o->call->in[i].data) continue;
        const sid2_shape &x = o->call->in[i].shape;
        concat_kernel k = {};
        k.channels = static_cast<int>(last(x));
        k.width = width;
        k.place = place;
        k.wide = k.channels % 8 == 0 && width % 8 == 0 && place % 8 == 0;
        k.all = sid2_shape_count(x) / (k.wide ? 8 : 1);
        k.x = in(o, i, names[i]);
        k.y = out(o, 0, "y");
        launch(o, k, blocks_for(o, k.all, concat_kernel::THREADS));
        place += k.channels;
    }
}
