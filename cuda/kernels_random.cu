/* Random numbers, the same bits as on every backend: core/philox.h, core/normal.h. Compiled without fused
 * multiply-add, as normal.h wants. A Philox block makes four elements, so a thread makes two blocks. */
#include "samples.h"

#include "normal.h"

using namespace exec;

namespace
{
struct keys {
    span<uint32_t> samples, seed; /* [N,2], [2] */
    uint32_t purpose;

    SID2_DEVICE sid2_philox_block block(int64_t sample, int64_t element) const
    {
        uint64_t number = samples[2 * sample] | static_cast<uint64_t>(samples[2 * sample + 1]) << 32;
        uint64_t key = seed[0] | static_cast<uint64_t>(seed[1]) << 32;
        return sid2_philox(key, number, purpose, static_cast<uint32_t>(element / 4));
    }

    /* The words of elements i .. i + 7, or of i alone. */
    SID2_DEVICE void words(int64_t sample, int64_t i, bool wide, uint32_t w[8]) const
    {
        sid2_philox_block first = block(sample, i);
        if (!wide) {
            w[0] = first.word[i % 4];
            return;
        }
        sid2_philox_block second = block(sample, i + 4);
        for (int e = 0; e < 4; e++) {
            w[e] = first.word[e];
            w[4 + e] = second.word[e];
        }
    }
};

struct normal_body {
    keys k;
    array y;
    SID2_DEVICE void operator()(int64_t sample, int64_t i, int64_t at, bool wide) const
    {
        float v[8] = {};
        for (int half = 0; half < (wide ? 2 : 1); half++) {
            sid2_philox_block b = k.block(sample, i + 4 * half);
            sid2_normal_pair(b.word[0], b.word[1], v + 4 * half);
            sid2_normal_pair(b.word[2], b.word[3], v + 4 * half + 2);
        }
        if (wide)
            y.set(at, true, v);
        else
            y.set(at, v[i % 4]);
    }
};

struct uniform_body {
    keys k;
    array y;
    SID2_DEVICE void operator()(int64_t sample, int64_t i, int64_t at, bool wide) const
    {
        uint32_t w[8] = {};
        float v[8];
        k.words(sample, i, wide, w);
        for (int e = 0; e < 8; e++) v[e] = sid2_uniform(w[e]);
        y.set(at, wide, v);
    }
};

struct dropout_body {
    keys k;
    float rate, scale;
    array x, y;
    SID2_DEVICE void operator()(int64_t sample, int64_t i, int64_t at, bool wide) const
    {
        raw r = x.fetch(at, wide);
        uint32_t w[8] = {};
        float v[8];
        k.words(sample, i, wide, w);
        x.unpack(r, v);
        for (int e = 0; e < 8; e++) v[e] = sid2_uniform(w[e]) >= rate ? v[e] * scale : 0.0f;
        y.set(at, wide, v);
    }
};

keys keys_of(const sid2_own *o, int first)
{
    keys k = {exec::words<uint32_t>(o->call->in[first], "samples"),
              exec::words<uint32_t>(o->call->in[first + 1], "seed"), o->call->attr->purpose};
    return k;
}
} // namespace

extern "C" void sid2_own_random_normal(sid2_own *o)
{
    launch_each(o, samples_of(o->call->out[0].shape), normal_body{keys_of(o, 0), out(o, 0, "y")});
}

extern "C" void sid2_own_random_uniform(sid2_own *o)
{
    launch_each(o, samples_of(o->call->out[0].shape), uniform_body{keys_of(o, 0), out(o, 0, "y")});
}

extern "C" void sid2_own_dropout(sid2_own *o)
{
    float rate = o->call->attr->rate, scale = static_cast<float>(1 / (1 - static_cast<double>(rate)));
    dropout_body body = {keys_of(o, 1), rate, scale, in(o, 0, "x"), out(o, 0, "y")};
    launch_each(o, samples_of(o->call->in[0].shape), body);
}
