/* The CUDA backend's own kernels, run on the host by cuda/emulator.h: every operator against the float64
 * reference on random shapes, in every type, with every access to memory checked for bounds, alignment and
 * races.
 *
 *     test_cuda_kernels [cases] [operator] [dtype] [order]
 *
 * cases (12) each, of one operator or "all", one of f32, bf16, f16 or "all". `order` (0: ascending) seeds the
 * order in which threads and blocks run; results may not depend on it. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "exec.h"

extern "C" {
#include "op_test.h"
}

namespace
{
/* ---- A device that walks the calls ---- */

enum { ALIGNMENT = 256 };

/* Few multiprocessors, so that loops over a grid go around more than once. */
const sid2_cuda_target target = {2, 90, true, false, SID2_FP8_NONE, nullptr, nullptr, nullptr, nullptr};
const sid2_kernel_table own = {SID2_TYPE_BIT(SID2_F32) | SID2_TYPE_BIT(SID2_BF16) | SID2_TYPE_BIT(SID2_F16),
                               sid2_cuda_own};
const sid2_kernels kernels = {{&own}, &target, 1, 0};

int count() { return 1; }

bool describe(int, const sid2_device_options *, sid2_device_info *info)
{
    *info = sid2_device_info();
    snprintf(info->name, sizeof info->name, "emulated GPU");
    snprintf(info->id, sizeof info->id, "emulated");
    info->bf16 = info->f16 = true;
    return true;
}

uint64_t order; /* of threads and blocks; each thread of this program has an emulator of its own */

void *open(int, const sid2_device_options *, sid2_error *)
{
    static char token;
    emulator::shuffle(order);
    return &token;
}
void close(void *) {}
size_t alignment(void *) { return ALIGNMENT; }
bool supports(void *, sid2_op op, sid2_dtype compute) { return sid2_kernels_have(&kernels, op, compute); }

void *alloc(void *, size_t bytes, const char *, bool zero, sid2_error *)
{
    bytes = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    return memset(aligned_alloc(ALIGNMENT, bytes), zero ? 0 : 0xff /* NaN */, bytes);
}
void release(void *, void *handle) { free(handle); }

bool upload(void *, void *handle, size_t offset, const void *from, size_t bytes, sid2_error *)
{
    memcpy(static_cast<char *>(handle) + offset, from, bytes);
    return true;
}

bool download(void *, const void *handle, size_t offset, void *to, size_t bytes, sid2_error *)
{
    memcpy(to, static_cast<const char *>(handle) + offset, bytes);
    return true;
}

void destroy(void *, void *) {}

void *compile(void *, sid2_steps *steps, sid2_arena *arena, sid2_error *err)
{
    void *scratch;
    if (!sid2_steps_prepare(steps, &kernels, err) ||
        !sid2_arena_scratch(arena, steps->scratch_bytes, &scratch, err))
        return nullptr;
    sid2_steps_give_scratch(steps, scratch);
    return steps;
}

bool run(void *, void *handle, int, sid2_error *err)
{
    sid2_steps *steps = static_cast<sid2_steps *>(handle);
    steps->error.code = SID2_OK;
    for (int32_t n = 0; n < steps->count && !steps->error.code; n++)
        steps->item[n].kernel->run(&steps->item[n].call);
    return !steps->error.code || sid2_fail(err, steps->error.code, "%s", steps->error.message);
}

size_t workspace(void *, void *) { return 0; }

sid2_backend emulated_backend()
{
    sid2_backend b = sid2_backend();
    b.name = "emulated";
    b.count = count;
    b.describe = describe;
    b.open = open;
    b.close = close;
    b.addresses = true;
    b.alignment = alignment;
    b.supports = supports;
    b.alloc = alloc;
    b.free = release;
    b.upload = upload;
    b.download = download;
    b.compile = compile;
    b.run = run;
    b.workspace = workspace;
    b.destroy = destroy;
    return b;
}

/* ---- Kernels with a fault each ---- */

enum fault_kind {
    NONE,
    OUTSIDE,
    UNALIGNED,
    NO_BARRIER,
    RACE,
    UNWRITTEN,
    LEFT_EARLY,
    WRITTEN_TWICE,
    READ_ACROSS
};

/* y[i] = x[i] + x of the thread across its block, through shared memory. */
template <fault_kind KIND> struct faulty_kernel {
    enum { THREADS = 64 };
    exec::array x, y;

    void operator()() const
    {
        SID2_SHARED(float, tile, THREADS);
        int t = exec::thread();
        int64_t i = exec::block_x() * THREADS + t;
        float v[8] = {};
        if (KIND == OUTSIDE) v[0] = x.get(i + 1);
        if (KIND == UNALIGNED && i == 0) x.get(2, true, v);
        if (KIND == LEFT_EARLY && t == 5) return;
        if (KIND != UNWRITTEN || t != 3) tile[t] = x.get(i);
        if (KIND != NO_BARRIER) exec::barrier();
        if (KIND == RACE) tile[t] = v[0];
        y.set(KIND == WRITTEN_TWICE && t == 9 ? i + 1 : i, tile[t] + tile[THREADS - 1 - t]);
        if (KIND == READ_ACROSS) v[0] += y.get((i + 1) % (2 * THREADS));
    }
};

template <fault_kind KIND> int expect(const char *words)
{
    enum { COUNT = 2 * faulty_kernel<KIND>::THREADS };
    alignas(16) float x[COUNT] = {}, y[COUNT];
    for (int i = 0; i < COUNT; i++) x[i] = static_cast<float>(i);
    sid2_operand tensor = sid2_operand();
    tensor.data = x;
    tensor.shape = {1, {COUNT}};
    sid2_error err = sid2_error();
    sid2_own o = sid2_own();
    faulty_kernel<KIND> k = {exec::array_of(tensor, "x"), exec::array()};
    tensor.data = y;
    k.y = exec::array_of(tensor, "y");
    o.ok = true;
    o.err = &err;
    exec::launch(&o, k, 2);
    bool right = o.ok ? !*words && y[1] == 63 && y[127] == 64 + 127 : *words && strstr(err.message, words);
    if (!right) printf("FAILED fault %d: expected '%s', got '%s'\n", KIND, words, err.message);
    return !right;
}

int check_faults()
{
    return expect<NONE>("") + expect<OUTSIDE>("x[128] is outside its 128 elements") +
           expect<UNALIGNED>("x[2 .. + 7] is not aligned") + expect<NO_BARRIER>("tile[") +
           expect<RACE>("in a race with thread") + expect<UNWRITTEN>("tile[3] is read before it is written") +
           expect<LEFT_EARLY>("wait where the others never come") +
           expect<WRITTEN_TWICE>("was also written by thread") + expect<READ_ACROSS>("of the grid wrote it");
}

/* A head that no block can hold is refused, when the call is prepared. */
int check_limits()
{
    sid2_attr attr = sid2_attr();
    attr.heads = attr.grid[0] = attr.grid[1] = attr.grid[2] = 1;
    sid2_call call = sid2_call();
    sid2_error err = sid2_error();
    float nothing = 0;
    call.op = SID2_OP_qk_norm_rope;
    call.attr = &attr;
    call.target = &target;
    call.in[0].data = call.out[0].data = &nothing;
    call.in[0].shape = {3, {1, 1, 3 * 4096}};
    call.out[0].shape = {3, {1, 1, 2 * 4096}};
    bool right = !sid2_cuda_own[call.op].prepare(&call, &err) && err.code == SID2_ERR_UNSUPPORTED &&
                 strstr(err.message, "a head of 4096 elements");
    if (!right) printf("FAILED: a head of 4096 elements: '%s'\n", err.message);
    return !right;
}

} // namespace

int main(int argc, char **argv)
{
    const sid2_backend emulated = emulated_backend();
    op_test test = op_test();
    test.backend = &emulated;
    test.device = "emulated";
    test.workers = 2;
    test.cases = argc > 1 ? atoi(argv[1]) : 12;
    test.op = argc > 2 ? argv[2] : nullptr;
    test.dtype = argc > 3 ? argv[3] : nullptr;
    order = argc > 4 ? strtoull(argv[4], nullptr, 10) : 0;
    return check_faults() + check_limits() + op_test_run(&test) != 0;
}
