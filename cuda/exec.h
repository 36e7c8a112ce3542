/* The execution layer: what a kernel may use of a GPU. nvcc makes GPU code of it; a plain C++ compiler makes
 * the same kernels run on the host, where emulator.h checks every access. Included by kernels_*.cu only.
 *
 * A kernel is a struct of arguments with `enum { THREADS }`, the threads of a block, and a call operator,
 * which every thread runs. exec::launch starts it. Sums are always made in a fixed order, never by atomics,
 * so all kernels are deterministic.
 *
 * Tensors keep their element type to run time (exec::array): kernels here are bound by memory, and the switch
 * over types is one uniform branch for eight elements; so there is one kernel for every mix of types. */
#ifndef SID2_CUDA_EXEC_H
#define SID2_CUDA_EXEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

extern "C" {
#include "own.h"
}

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define SID2_DEVICE                    __device__ __forceinline__
#define SID2_HOST_DEVICE               __host__ __device__ __forceinline__
#define SID2_SHARED(type, name, count) __shared__ type name[count]
#else
#include "emulator.h"
#define SID2_DEVICE      inline
#define SID2_HOST_DEVICE inline
/* Every thread of a block that comes here gets the same array. */
#define SID2_SHARED(type, name, count)                                                                       \
    static const char name##_declaration = 0;                                                                \
    const emulator::shared<type> name(&name##_declaration, #name, count)
#endif

namespace exec
{
enum { WARP = 32 };

/* ---- Threads ---- */

#ifdef __CUDACC__
SID2_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
SID2_DEVICE int64_t block_x() { return blockIdx.x; }
SID2_DEVICE int64_t block_y() { return blockIdx.y; }
SID2_DEVICE int64_t block_z() { return blockIdx.z; }
SID2_DEVICE int64_t blocks_x() { return gridDim.x; }
SID2_DEVICE int64_t blocks_y() { return gridDim.y; }
SID2_DEVICE void barrier() { __syncthreads(); }
SID2_DEVICE float shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
#else
inline int thread() { return emulator::here.thread; }
inline int64_t block_x() { return emulator::here.block[0]; }
inline int64_t block_y() { return emulator::here.block[1]; }
inline int64_t block_z() { return emulator::here.block[2]; }
inline int64_t blocks_x() { return emulator::here.blocks[0]; }
inline int64_t blocks_y() { return emulator::here.blocks[1]; }
inline void barrier() { emulator::barrier(); }
inline float shuffle_xor(float v, int mask) { return emulator::shuffle_xor(v, mask); }
#endif

/* The sum over a warp, in all its lanes. All 32 must come. */
SID2_DEVICE float warp_sum(float v)
{
    for (int mask = WARP / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    return v;
}

/* The sum over a block, in all its threads. All must come. */
template <int THREADS> SID2_DEVICE float block_sum(float v)
{
    SID2_SHARED(float, parts, THREADS / WARP);
    v = warp_sum(v);
    if (thread() % WARP == 0) parts[thread() / WARP] = v;
    barrier();
    float sum = 0;
    for (int i = 0; i < THREADS / WARP; i++) sum += parts[i];
    barrier(); /* `parts` may be wanted again */
    return sum;
}

/* The largest over a block of what is not below 0, in all its threads. All must come. */
template <int THREADS> SID2_DEVICE float block_max(float v)
{
    SID2_SHARED(float, parts, THREADS / WARP);
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        float other = shuffle_xor(v, mask);
        v = other > v ? other : v;
    }
    if (thread() % WARP == 0) parts[thread() / WARP] = v;
    barrier();
    float largest = 0;
    for (int i = 0; i < THREADS / WARP; i++) {
        float part = parts[i];
        largest = part > largest ? part : largest;
    }
    barrier(); /* `parts` may be wanted again */
    return largest;
}

/* ---- Memory ---- */

/* Words of one fixed type. */
template <class T> struct span {
    T *data;
#ifdef __CUDACC__
    SID2_DEVICE const T &operator[](int64_t i) const { return data[i]; }
    SID2_DEVICE void set(int64_t i, T value) const { data[i] = value; }
#else
    int64_t count;
    const char *name;
    T *at(int64_t i) const
    {
        static T nothing;
        if (i >= 0 && i < count) return data + i;
        emulator::fault("%s[%lld] is outside its %lld elements", name, static_cast<long long>(i),
                        static_cast<long long>(count));
        return &nothing;
    }
    const T &operator[](int64_t i) const
    {
        emulator::reads(at(i), name, i);
        return *at(i);
    }
    void set(int64_t i, T value) const
    {
        emulator::wrote(at(i), name, i);
        *at(i) = value;
    }
#endif
    SID2_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
};

/* Eight words from i on, which is a multiple of four. */
SID2_DEVICE void get_eight(const span<float> &x, int64_t i, float v[8])
{
#ifdef __CUDACC__
    const float4 *from = reinterpret_cast<const float4 *>(x.data + i);
    float4 low = from[0], high = from[1];
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
#else
    if (i % 4) emulator::fault("%s[%lld .. + 7] is not aligned", x.name, static_cast<long long>(i));
    for (int e = 0; e < 8; e++) v[e] = x[i + e];
#endif
}

/* Eight elements on their way, as they lie in memory; so several loads can be under way before the first is
 * waited for. */
struct raw {
    uint32_t word[8];
};

SID2_DEVICE float as_float(uint32_t bits)
{
#ifdef __CUDACC__
    return __uint_as_float(bits);
#else
    float value;
    memcpy(&value, &bits, 4);
    return value;
#endif
}

SID2_DEVICE uint32_t as_bits(float value)
{
#ifdef __CUDACC__
    return __float_as_uint(value);
#else
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
#endif
}

SID2_DEVICE float half_to_float(uint32_t bits)
{
#ifdef __CUDACC__
    return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
#else
    return sid2_f16_to_f32(static_cast<uint16_t>(bits));
#endif
}

SID2_DEVICE uint32_t to_half(float value)
{
#ifdef __CUDACC__
    return __half_as_ushort(__float2half_rn(value));
#else
    return sid2_f32_to_f16(value);
#endif
}

SID2_DEVICE uint32_t to_bf16(float value)
{
#ifdef __CUDACC__
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
    return sid2_f32_to_bf16(value);
#endif
}

#ifdef __CUDACC__
/* 16 bytes at once. Word by word into `raw`, which promises no more alignment than a word's. */
SID2_DEVICE void load_four(const char *from, uint32_t word[4])
{
    uint4 four = *reinterpret_cast<const uint4 *>(from);
    word[0] = four.x, word[1] = four.y, word[2] = four.z, word[3] = four.w;
}
SID2_DEVICE void store_four(char *to, const uint32_t word[4])
{
    *reinterpret_cast<uint4 *>(to) = make_uint4(word[0], word[1], word[2], word[3]);
}
#endif

/* Four words from i on, which is a multiple of four. */
SID2_DEVICE void set_four(const span<uint32_t> &to, int64_t i, const uint32_t word[4])
{
#ifdef __CUDACC__
    store_four(reinterpret_cast<char *>(to.data + i), word);
#else
    if (i % 4) emulator::fault("%s[%lld .. + 3] is not aligned", to.name, static_cast<long long>(i));
    for (int w = 0; w < 4; w++) to.set(i + w, word[w]);
#endif
}

/* A tensor of f32, bf16 or f16. Indices count elements. */
struct array {
    void *data;
    sid2_dtype dtype;
#ifndef __CUDACC__
    int64_t count;
    const char *name;
#endif
    SID2_HOST_DEVICE explicit operator bool() const { return data != nullptr; }

    SID2_DEVICE int size() const { return dtype == SID2_F32 ? 4 : 2; }
    SID2_DEVICE char *at(int64_t i, bool wide) const
    {
#ifndef __CUDACC__
        static char nothing[32] __attribute__((aligned(16)));
        if (i < 0 || i + (wide ? 8 : 1) > count) {
            emulator::fault("%s[%lld%s] is outside its %lld elements", name, static_cast<long long>(i),
                            wide ? " .. + 7" : "", static_cast<long long>(count));
            return nothing;
        }
        if (wide && (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(i * size())) % 16) {
            emulator::fault("%s[%lld .. + 7] is not aligned", name, static_cast<long long>(i));
            return nothing;
        }
#else
        (void)wide;
#endif
        return static_cast<char *>(data) + i * size();
    }

    /* Eight elements from i on, or one. */
    SID2_DEVICE raw fetch(int64_t i, bool wide) const
    {
        raw r = {};
        const char *from = at(i, wide);
#ifndef __CUDACC__
        emulator::reads(from, name, i);
#endif
        if (!wide)
            r.word[0] = dtype == SID2_F32 ? *reinterpret_cast<const uint32_t *>(from)
                                          : *reinterpret_cast<const uint16_t *>(from);
        else {
#ifdef __CUDACC__
            load_four(from, r.word);
            if (dtype == SID2_F32) load_four(from + 16, r.word + 4);
#else
            memcpy(r.word, from, static_cast<size_t>(8 * size()));
#endif
        }
        return r;
    }

    SID2_DEVICE void unpack(const raw &r, float v[8]) const
    {
        if (dtype == SID2_F32)
            for (int e = 0; e < 8; e++) v[e] = as_float(r.word[e]);
        else if (dtype == SID2_BF16)
            for (int e = 0; e < 8; e += 2) {
                v[e] = as_float(r.word[e / 2] << 16);
                v[e + 1] = as_float(r.word[e / 2] & 0xffff0000u);
            }
        else
            for (int e = 0; e < 8; e += 2) {
                v[e] = half_to_float(r.word[e / 2] & 0xffffu);
                v[e + 1] = half_to_float(r.word[e / 2] >> 16);
            }
    }

    SID2_DEVICE void get(int64_t i, bool wide, float v[8]) const { unpack(fetch(i, wide), v); }

    SID2_DEVICE float get(int64_t i) const
    {
        const char *from = at(i, false);
#ifndef __CUDACC__
        emulator::reads(from, name, i);
#endif
        if (dtype == SID2_F32) return *reinterpret_cast<const float *>(from);
        uint32_t bits = *reinterpret_cast<const uint16_t *>(from);
        return dtype == SID2_BF16 ? as_float(bits << 16) : half_to_float(bits);
    }

    SID2_DEVICE void set(int64_t i, bool wide, const float v[8]) const
    {
        if (!wide) return set(i, v[0]);
        char *to = at(i, true);
        raw r = {};
        if (dtype == SID2_F32)
            for (int e = 0; e < 8; e++) r.word[e] = as_bits(v[e]);
        else if (dtype == SID2_BF16)
            for (int e = 0; e < 8; e += 2) r.word[e / 2] = to_bf16(v[e]) | to_bf16(v[e + 1]) << 16;
        else
            for (int e = 0; e < 8; e += 2) r.word[e / 2] = to_half(v[e]) | to_half(v[e + 1]) << 16;
#ifdef __CUDACC__
        store_four(to, r.word);
        if (dtype == SID2_F32) store_four(to + 16, r.word + 4);
#else
        emulator::wrote(to, name, i);
        memcpy(to, r.word, static_cast<size_t>(8 * size()));
#endif
    }

    SID2_DEVICE void set(int64_t i, float value) const
    {
        char *to = at(i, false);
#ifndef __CUDACC__
        emulator::wrote(to, name, i);
#endif
        if (dtype == SID2_F32)
            *reinterpret_cast<float *>(to) = value;
        else
            *reinterpret_cast<uint16_t *>(to) =
                static_cast<uint16_t>(dtype == SID2_BF16 ? to_bf16(value) : to_half(value));
    }
};

/* ---- Numbers ---- */

SID2_DEVICE float fast_exp(float x)
{
#ifdef __CUDACC__
    return __expf(x);
#else
    return expf(x);
#endif
}

SID2_DEVICE float fast_divide(float a, float b)
{
#ifdef __CUDACC__
    return __fdividef(a, b);
#else
    return a / b;
#endif
}

SID2_DEVICE float inverse_root(float x)
{
#ifdef __CUDACC__
    return rsqrtf(x);
#else
    return 1 / sqrtf(x);
#endif
}

/* 1 / (1 + exp(-x)). The quotient's fast form gives 0 where the divisor is huge, as it should here. */
SID2_DEVICE float sigmoid(float x) { return fast_divide(1.0f, 1.0f + fast_exp(-x)); }

/* A comparison, for fminf and fmaxf make a number of NaN. */
SID2_DEVICE float clamp(float x) { return x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x; }

SID2_DEVICE bool is_finite(float x) { return (as_bits(x) & 0x7fffffffu) < 0x7f800000u; }

#define REAL                float
#define NUMBER              float
#define FORMULA(name)       f32_##name
#define FORMULA_INLINE      SID2_DEVICE
#define CONSTANT(x)         static_cast<float>(x)
#define EACH(x)             (x)
#define SQRT(x)             sqrtf(x)
#define CLAMP(x)            clamp(x)
#define FINITE(x)           is_finite(x)
#define NOT_FINITE          as_float(0x7fc00000u)
#define KIND                sid2_act
#define SIGMOID(x)          sigmoid(x)
#define BELL(x)             fast_exp(-0.5f * (x) * (x))
#define NORMAL_CDF(x, bell) (0.5f * erfcf(-(x)*0.70710678f))
#include "formulas.h"

/* Eight at once, so that the kind is asked once. */
SID2_DEVICE void act(sid2_act kind, float v[8])
{
    if (kind == SID2_ACT_SILU)
        for (int e = 0; e < 8; e++) v[e] = f32_silu(v[e]);
    else if (kind == SID2_ACT_GELU)
        for (int e = 0; e < 8; e++) v[e] = f32_gelu(v[e]);
}

/* g times the derivative of act at x. */
SID2_DEVICE void act_grad(sid2_act kind, const float x[8], float g[8])
{
    if (kind == SID2_ACT_SILU)
        for (int e = 0; e < 8; e++) g[e] *= f32_silu_slope(x[e]);
    else if (kind == SID2_ACT_GELU)
        for (int e = 0; e < 8; e++) g[e] *= f32_gelu_slope(x[e]);
}

/* ---- On the host: arguments, scratch, launching ---- */

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t last(const sid2_shape &s) { return s.dim[s.rank - 1]; }

inline int64_t count_of(const sid2_operand &t) { return t.data ? sid2_shape_count(t.shape) : 0; }

inline array array_of(const sid2_operand &t, const char *name)
{
    array a = {};
    a.data = t.data;
    a.dtype = t.dtype;
#ifndef __CUDACC__
    a.count = count_of(t);
    a.name = name;
#else
    (void)name;
#endif
    return a;
}
inline array in(const sid2_own *o, int i, const char *name) { return array_of(o->call->in[i], name); }
inline array out(const sid2_own *o, int i, const char *name) { return array_of(o->call->out[i], name); }

template <class T> span<T> make_span(void *data, int64_t count, const char *name)
{
    span<T> s = {};
    s.data = static_cast<T *>(data);
#ifndef __CUDACC__
    s.count = count;
    s.name = name;
#else
    (void)count, (void)name;
#endif
    return s;
}
template <class T> span<T> words(const sid2_operand &t, const char *name)
{
    return make_span<T>(t.data, count_of(t), name);
}

/* Part of the call's scratch, until the call ends. */
template <class T> span<T> scratch(sid2_own *o, int64_t count, const char *name)
{
    char *base = static_cast<char *>(o->call->scratch) + o->scratch_used;
    o->scratch_used += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return make_span<T>(o->dry ? nullptr : base, count, name);
}

/* Enough blocks for `items` threads, but no more than fill the GPU a few times over: the rest is a loop. */
inline int64_t blocks_for(const sid2_own *o, int64_t items, int threads, int each = 16)
{
    return most(
        1, least(divide_up(items, threads), int64_t(each) * sid2_cuda_target_of(o->call)->multiprocessors));
}

#ifdef __CUDACC__
template <class K> __global__ void __launch_bounds__(K::THREADS) entry(const __grid_constant__ K kernel)
{
    kernel();
}
#endif

template <class K> void launch(sid2_own *o, const K &kernel, int64_t x, int64_t y = 1, int64_t z = 1)
{
    if (o->dry || !o->ok || x * y * z == 0) return;
#ifdef __CUDACC__
    dim3 blocks(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
    entry<K><<<blocks, K::THREADS, 0, static_cast<cudaStream_t>(o->stream)>>>(kernel);
    cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess)
        o->ok = sid2_fail(o->err, SID2_ERR_DEVICE, "%s: %s (CUDA error %d)", sid2_op_name(o->call->op),
                          cudaGetErrorString(status), static_cast<int>(status));
#else
    struct body {
        static void run(const void *k) { (*static_cast<const K *>(k))(); }
    };
    const int64_t blocks[3] = {x, y, z};
    const char *fault = emulator::launch(__PRETTY_FUNCTION__, blocks, K::THREADS, body::run, &kernel);
    if (fault) o->ok = sid2_fail(o->err, SID2_ERR_DEVICE, "%s", fault);
#endif
}
} // namespace exec

#endif
