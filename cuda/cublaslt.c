/* Matrix products by cublasLt: linear layers, 1 x 1 convolutions and their gradients.
 *
 * cublasLt counts matrices by column, so a row-major matrix is to it the transposed one, and each product is
 * asked for transposed, D (m x n) = A B, with nothing moved in memory:
 *
 *     forward          y^T  = w   x^T      A = w (read transposed)   B = x                        m = out
 *     input gradient   dx^T = w^T dy^T     A = w                     B = dy                       m = in
 *     weight gradient  dw^T = x^T dy       A = x                     B = dy (read transposed)     m = in, k =
 * rows
 *
 * A residual is C with beta = 1; so is dw, which is added to. Bias and bias gradient are epilogues. The bias
 * must have D's type: parameters are kept in the compute type too, any other bias is rounded in scratch. The
 * bias gradient replaces what it is written over, so it goes to scratch and is added; where cublasLt has no
 * such kernel, or one that is the same in every run is wanted, the own kernel sums it.
 *
 * Where it is asked for, 16-bit products are of operands in eight bits (fp8.h), made in scratch. The matrix units of Ada
 * and Hopper want those along the sum, A read transposed and B not; what lies otherwise is transposed on the way.
 *
 * The heuristic is asked once for each shape, and only for algorithms that keep partial sums in f32; of these ways.h says
 * which is taken. */
#include "device.h"
#include "fp8.h"
#include "helper.h"
#include "libraries.h"
#include "ways.h"

#include <stdlib.h>
#include <string.h>

enum { WORKSPACE = 32 << 20, ALIGNMENT = 256, CANDIDATES = 4 };

/* What is asked, as cublasLt sees it; compared as bytes, so all of it is set. */
typedef struct request {
    int64_t m, n, k;
    cudaDataType_t in_a, in_b, out;
    cublasComputeType_t compute;
    cublasLtEpilogue_t epilogue;
    int32_t transpose_a, transpose_b, add; /* beta = 1 */
    int32_t eight, hasty;                  /* bits; adds less exactly, as FP8 units are faster */
    uint32_t align_a, align_b, align_c, align_d;
} request;

typedef struct sid2_cublaslt_choice {
    request asked;
    sid2_cuda_ways ways;
    cublasLtMatmulAlgo_t algorithm[SID2_CUDA_WAYS];
    size_t workspace; /* of the one that wants most */
} choice;

typedef struct state {
    request asked;
    const void *a, *b, *c;      /* D is the call's output 0 */
    sid2_fp8 low[2];            /* a and b in eight bits */
    size_t low_at[2], parts_at; /* in scratch */
    cublasLtMatmulDesc_t matmul;
    cublasLtMatrixLayout_t layout_a, layout_b, layout_d;
    int choice; /* of the library's; they may move */
    void *bias; /* of the epilogue; NULL: at vector_at in scratch */
    size_t vector_at;
    sid2_cuda_helper before, after; /* the bias in D's type; the bias gradient */
} state;

static size_t aligned(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }
static size_t larger(size_t a, size_t b) { return a > b ? a : b; }
static int64_t last(const sid2_operand *t) { return t->shape.dim[t->shape.rank - 1]; }
static int64_t rows(const sid2_operand *t) { return sid2_shape_count(t->shape) / last(t); }

static bool data_type(sid2_dtype dtype, cudaDataType_t *type)
{
    switch (dtype) {
    case SID2_F32: *type = CUDA_R_32F; return true;
    case SID2_BF16: *type = CUDA_R_16BF; return true;
    case SID2_F16: *type = CUDA_R_16F; return true;
    default: return false;
    }
}

/* The largest power of two, up to ALIGNMENT, that divides an address. */
static uint32_t alignment_of(const void *address)
{
    uint32_t alignment = ALIGNMENT;
    while ((uintptr_t)address % alignment) alignment /= 2;
    return alignment;
}

/* ---- What to ask ---- */

typedef struct roles {
    const sid2_operand *a, *b, *c, *d, *bias, *dbias; /* c, bias, dbias NULL where absent */
    int64_t side;                                     /* of a convolution's kernel */
} roles;

static const sid2_operand *present(const sid2_operand *t) { return t->data ? t : NULL; }

static roles roles_of(const sid2_call *call)
{
    roles r = {.d = &call->out[0], .side = 1};
    switch (call->op) {
    case SID2_OP_linear:
    case SID2_OP_conv2d:
        r.a = &call->in[1], r.b = &call->in[0];
        r.bias = present(&call->in[2]), r.c = present(&call->in[3]);
        break;
    case SID2_OP_linear_dgrad:
    case SID2_OP_conv2d_dgrad: r.a = &call->in[1], r.b = &call->in[0], r.c = present(&call->in[2]); break;
    default: r.a = &call->in[0], r.b = &call->in[1], r.c = r.d; r.dbias = present(&call->out[1]);
    }
    if (call->op == SID2_OP_conv2d || call->op == SID2_OP_conv2d_dgrad)
        r.side = call->in[1].shape.dim[1];
    else if (call->op == SID2_OP_conv2d_wgrad)
        r.side = call->attr->shape.dim[1];
    return r;
}

/* False where the types are mixed in a way that cublasLt has no product for, or the kernel is larger. */
static bool ask(const sid2_call *call, const roles *r, request *asked)
{
    memset(asked, 0, sizeof *asked);
    cudaDataType_t in, other, out;
    if (r->side != 1 || !data_type(r->a->dtype, &in) || !data_type(r->b->dtype, &other) ||
        !data_type(r->d->dtype, &out))
        return false;
    if (in != other || (out != in && out != CUDA_R_32F) || (r->c && r->c->dtype != r->d->dtype)) return false;
    asked->in_a = asked->in_b = in;
    asked->out = out;
    asked->compute = in == CUDA_R_32F && sid2_cuda_target_of(call)->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                         : CUBLAS_COMPUTE_32F;
    asked->epilogue = r->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    switch (call->op) {
    case SID2_OP_linear_wgrad:
    case SID2_OP_conv2d_wgrad:
        asked->m = last(r->a), asked->n = last(r->b), asked->k = rows(r->a);
        asked->transpose_b = 1;
        break;
    default:
        asked->m = last(r->d), asked->n = rows(r->d), asked->k = last(r->b);
        asked->transpose_a = call->op == SID2_OP_linear || call->op == SID2_OP_conv2d;
    }
    asked->add = r->c != NULL;
    asked->align_a = alignment_of(r->a->data);
    asked->align_b = alignment_of(r->b->data);
    asked->align_d = alignment_of(r->d->data);
    asked->align_c = r->c ? alignment_of(r->c->data) : asked->align_d;
    return true;
}

/* The same product of operands in eight bits, in `asked` and `low`; false where there is none, or it is not wanted. A bias
 * has 16 bits then. */
static bool ask_for_eight(const sid2_call *call, const roles *r, request *asked, sid2_fp8 low[2])
{
    const sid2_cuda_target *target = sid2_cuda_target_of(call);
    const bool gradient = call->op != SID2_OP_linear && call->op != SID2_OP_conv2d;
    request *q = asked;
    if (!target->fp8 || q->in_a == CUDA_R_32F ||
        (target->fp8 == SID2_FP8_LARGE && !sid2_fp8_gains((double)q->m, (double)q->n, (double)q->k)) ||
        (r->bias && q->out == CUDA_R_32F) || q->m % 16 || q->n % 16 || q->k % 16 || q->align_a < 16 ||
        q->align_b < 16 || q->align_c < 16 || q->align_d < 16)
        return false;
    const sid2_operand *from[2] = {r->a, r->b};
    for (int i = 0; i < 2; i++)
        low[i] = (sid2_fp8){.from = *from[i],
                            .rows = rows(from[i]),
                            .columns = last(from[i]),
                            .transposed = i ? q->transpose_b : !q->transpose_a,
                            .format = i && gradient ? SID2_E5M2 : SID2_E4M3};
    q->in_a = CUDA_R_8F_E4M3;
    q->in_b = gradient ? CUDA_R_8F_E5M2 : CUDA_R_8F_E4M3;
    q->transpose_a = 1;
    q->transpose_b = 0;
    q->align_a = q->align_b = ALIGNMENT;
    q->eight = 1;
    q->hasty = !gradient;
    return true;
}

/* ---- Asking ---- */

#define SET_MATMUL(lt, matmul, name, value)                                                                  \
    ((lt)->cublasLtMatmulDescSetAttribute((matmul), CUBLASLT_MATMUL_DESC_##name, &(value), sizeof(value)) == \
     CUBLAS_STATUS_SUCCESS)
#define SET_PREFERENCE(lt, preference, name, value)                                                          \
    ((lt)->cublasLtMatmulPreferenceSetAttribute((preference), CUBLASLT_MATMUL_PREF_##name, &(value),         \
                                                sizeof(value)) == CUBLAS_STATUS_SUCCESS)

static bool make_layout(const sid2_cublaslt *lt, cublasLtMatrixLayout_t *layout, cudaDataType_t type,
                        int64_t height, int64_t width)
{
    return lt->cublasLtMatrixLayoutCreate(layout, type, (uint64_t)height, (uint64_t)width, height) ==
           CUBLAS_STATUS_SUCCESS;
}

static void free_descriptors(const sid2_cublaslt *lt, state *s)
{
    if (s->matmul) lt->cublasLtMatmulDescDestroy(s->matmul);
    if (s->layout_a) lt->cublasLtMatrixLayoutDestroy(s->layout_a);
    if (s->layout_b) lt->cublasLtMatrixLayoutDestroy(s->layout_b);
    if (s->layout_d) lt->cublasLtMatrixLayoutDestroy(s->layout_d);
    s->matmul = NULL;
    s->layout_a = s->layout_b = s->layout_d = NULL;
}

static bool describe_eight(const sid2_cublaslt *lt, const request *q, state *s)
{
    const int8_t hasty = (int8_t)q->hasty;
    const int32_t bias = (int32_t)q->out;
    const float *scales[2] = {s->low[0].scaling + SID2_FP8_INVERSE, s->low[1].scaling + SID2_FP8_INVERSE};
    return SET_MATMUL(lt, s->matmul, A_SCALE_POINTER, scales[0]) &&
           SET_MATMUL(lt, s->matmul, B_SCALE_POINTER, scales[1]) &&
           SET_MATMUL(lt, s->matmul, FAST_ACCUM, hasty) &&
           (q->epilogue != CUBLASLT_EPILOGUE_BIAS || SET_MATMUL(lt, s->matmul, BIAS_DATA_TYPE, bias));
}

static bool make_descriptors(const sid2_cublaslt *lt, const request *q, state *s)
{
    const cublasOperation_t as_it_is = CUBLAS_OP_N, transposed = CUBLAS_OP_T;
    const void *const bias = (const void *)(uintptr_t)ALIGNMENT; /* as aligned as it will be */
    bool made = lt->cublasLtMatmulDescCreate(&s->matmul, q->compute, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
                SET_MATMUL(lt, s->matmul, TRANSA, *(q->transpose_a ? &transposed : &as_it_is)) &&
                SET_MATMUL(lt, s->matmul, TRANSB, *(q->transpose_b ? &transposed : &as_it_is)) &&
                SET_MATMUL(lt, s->matmul, EPILOGUE, q->epilogue);
    if (made && q->epilogue != CUBLASLT_EPILOGUE_DEFAULT)
        made = SET_MATMUL(lt, s->matmul, BIAS_POINTER, bias);
    if (made && q->eight) made = describe_eight(lt, q, s);
    return made &&
           make_layout(lt, &s->layout_a, q->in_a, q->transpose_a ? q->k : q->m,
                       q->transpose_a ? q->m : q->k) &&
           make_layout(lt, &s->layout_b, q->in_b, q->transpose_b ? q->n : q->k,
                       q->transpose_b ? q->k : q->n) &&
           make_layout(lt, &s->layout_d, q->out, q->m, q->n);
}

static void search(const sid2_cuda_target *target, const request *q, const state *s, choice *found)
{
    const sid2_cublaslt *lt = target->cublaslt;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t results[CANDIDATES];
    const size_t workspace = WORKSPACE;
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    int count = 0;
    bool asked = lt->cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS &&
                 SET_PREFERENCE(lt, preference, MAX_WORKSPACE_BYTES, workspace) &&
                 SET_PREFERENCE(lt, preference, REDUCTION_SCHEME_MASK, reductions) &&
                 SET_PREFERENCE(lt, preference, MIN_ALIGNMENT_A_BYTES, q->align_a) &&
                 SET_PREFERENCE(lt, preference, MIN_ALIGNMENT_B_BYTES, q->align_b) &&
                 SET_PREFERENCE(lt, preference, MIN_ALIGNMENT_C_BYTES, q->align_c) &&
                 SET_PREFERENCE(lt, preference, MIN_ALIGNMENT_D_BYTES, q->align_d) &&
                 lt->cublasLtMatmulAlgoGetHeuristic(lt->handle, s->matmul, s->layout_a, s->layout_b,
                                                    s->layout_d, s->layout_d, preference, CANDIDATES, results,
                                                    &count) == CUBLAS_STATUS_SUCCESS;
    int first = asked ? sid2_cuda_way_first(target, q, sizeof *q, count) : 0;
    sid2_cuda_ways *ways = &found->ways;
    for (int i = 0; asked && i < count && ways->count < sid2_cuda_ways_wanted(target); i++) {
        int number = sid2_cuda_way_at(first, i);
        if (results[number].state != CUBLAS_STATUS_SUCCESS) continue;
        ways->number[ways->count] = number;
        found->algorithm[ways->count++] = results[number].algo;
        found->workspace = larger(found->workspace, results[number].workspaceSize);
    }
    if (preference) lt->cublasLtMatmulPreferenceDestroy(preference);
}

/* The number of the answer to a request, from before or from the library; -1 when memory runs out. */
static int choose(const sid2_cuda_target *target, const request *q, const state *s)
{
    sid2_cublaslt *lt = target->cublaslt;
    for (int i = 0; i < lt->choice_count; i++)
        if (memcmp(&lt->choices[i].asked, q, sizeof *q) == 0) return i;
    if (lt->choice_count == lt->choice_capacity) {
        int capacity = lt->choice_capacity ? 2 * lt->choice_capacity : 64;
        choice *grown = realloc(lt->choices, (size_t)capacity * sizeof *grown);
        if (!grown) return -1;
        lt->choices = grown;
        lt->choice_capacity = capacity;
    }
    lt->choices[lt->choice_count] = (choice){.asked = *q};
    search(target, q, s, &lt->choices[lt->choice_count]);
    return lt->choice_count++;
}

/* ---- The kernel ---- */

static void release(sid2_call *call)
{
    state *s = call->state;
    if (!s) return;
    free_descriptors(sid2_cuda_target_of(call)->cublaslt, s);
    sid2_cuda_helper_release(&s->before);
    sid2_cuda_helper_release(&s->after);
    for (int i = 0; i < 2; i++) sid2_fp8_release(&s->low[i]);
    free(s);
    call->state = NULL;
}

static bool plan(sid2_call *call, state *s, sid2_error *err)
{
    sid2_cublaslt *lt = sid2_cuda_target_of(call)->cublaslt;
    if (make_descriptors(lt, &s->asked, s)) {
        s->choice = choose(sid2_cuda_target_of(call), &s->asked, s);
        if (s->choice < 0)
            return sid2_fail(err, SID2_ERR_MEMORY, "no memory to prepare %s", sid2_op_name(call->op));
        if (lt->choices[s->choice].ways.count) return true;
    }
    free_descriptors(lt, s);
    return sid2_fail(err, SID2_ERR_UNSUPPORTED, "cublasLt has no kernel for it");
}

/* The bias in D's type: as it is, as it is kept in that type, or rounded to it in scratch. */
static bool plan_bias(sid2_call *call, state *s, const roles *r, sid2_error *err)
{
    s->bias = sid2_cuda_helper_kept(r->bias, r->d->dtype);
    return s->bias || sid2_cuda_helper_cast(&s->before, call, r->bias, r->d->dtype, err);
}

/* dbias by the product's epilogue and an addition, or by the own kernel alone. */
static bool plan_bias_gradient(sid2_call *call, state *s, const roles *r, sid2_error *err)
{
    s->asked.epilogue = CUBLASLT_EPILOGUE_BGRADB; /* of what b was before it had eight bits */
    if (!s->asked.eight && !sid2_cuda_target_of(call)->deterministic && r->dbias->dtype == r->d->dtype &&
        plan(call, s, NULL))
        return sid2_cuda_helper_add(&s->after, call, r->dbias, r->dbias->dtype, err);
    s->asked.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return plan(call, s, err) && sid2_cuda_helper_bias_gradient(&s->after, call, err);
}

static bool plan_all(sid2_call *call, state *s, const roles *r, sid2_error *err)
{
    return (r->dbias ? plan_bias_gradient(call, s, r, err) : plan(call, s, err)) &&
           (!r->bias || plan_bias(call, s, r, err));
}

/* In eight bits, if that is wanted and there is a kernel for it; SID2_ERR_UNSUPPORTED: not. */
static bool plan_eight(sid2_call *call, state *s, const roles *r, sid2_error *err)
{
    if (!ask_for_eight(call, r, &s->asked, s->low))
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "no product in eight bits");
    for (int i = 0; i < 2; i++)
        if (!sid2_fp8_prepare(&s->low[i], call, err)) return false;
    return plan_all(call, s, r, err);
}

/* Scratch: what the library and the helpers share; a bias; the operands in eight bits. */
static void lay_out(sid2_call *call, state *s)
{
    const sid2_cublaslt *lt = sid2_cuda_target_of(call)->cublaslt;
    size_t workspace = lt->choices[s->choice].workspace;
    size_t shared = larger(workspace, larger(s->before.call.scratch_bytes, s->after.call.scratch_bytes));
    int64_t elements = s->asked.m > s->asked.n ? s->asked.m : s->asked.n;
    bool in_scratch = s->asked.epilogue != CUBLASLT_EPILOGUE_DEFAULT && !s->bias;
    s->vector_at = aligned(shared);
    size_t end = s->vector_at + (in_scratch ? aligned((size_t)elements * sizeof(float)) : 0);
    for (int i = 0; s->asked.eight && i < 2; i++) {
        s->low_at[i] = end;
        end += aligned((size_t)(s->low[i].rows * s->low[i].columns));
    }
    s->parts_at = end;
    if (s->asked.eight) end += (size_t)sid2_fp8_parts(sid2_cuda_target_of(call)) * sizeof(float);
    call->scratch_bytes = aligned(end);
}

static bool prepare(sid2_call *call, sid2_error *err)
{
    roles r = roles_of(call);
    sid2_error why = {0};
    request asked;
    if (!sid2_cuda_target_of(call)->cublaslt || !r.d->data || !ask(call, &r, &asked))
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "cublasLt has no such product");
    state *s = calloc(1, sizeof *s);
    if (!s) return sid2_fail(err, SID2_ERR_MEMORY, "no memory to prepare %s", sid2_op_name(call->op));
    call->state = s;
    s->asked = asked;
    s->a = r.a->data;
    s->b = r.b->data;
    s->c = r.c ? r.c->data : r.d->data;
    bool ok = plan_eight(call, s, &r, &why);
    if (!ok && why.code != SID2_ERR_UNSUPPORTED) *err = why;
    if (!ok && why.code == SID2_ERR_UNSUPPORTED) {
        for (int i = 0; i < 2; i++) sid2_fp8_release(&s->low[i]);
        s->asked = asked;
        ok = plan_all(call, s, &r, err);
    }
    if (!ok) return release(call), false;
    lay_out(call, s);
    return true;
}

static cublasStatus_t multiply(const sid2_call *call, int way)
{
    const state *s = call->state;
    const sid2_cublaslt *lt = sid2_cuda_target_of(call)->cublaslt;
    const choice *c = &lt->choices[s->choice];
    const float one = 1, beta = s->asked.add ? 1 : 0;
    return lt->cublasLtMatmul(lt->handle, s->matmul, &one, s->a, s->layout_a, s->b, s->layout_b, &beta, s->c,
                              s->layout_d, call->out[0].data, s->layout_d, &c->algorithm[way], call->scratch,
                              c->workspace, sid2_cuda_target_of(call)->stream);
}

static bool try_way(void *call, int way) { return multiply(call, way) == CUBLAS_STATUS_SUCCESS; }

/* Which of several ways is the fastest, the first time. */
static void measure(sid2_call *call, choice *c)
{
    const sid2_operand *d = &call->out[0];
    const sid2_cuda_trial trial = {.asked = &c->asked,
                                   .bytes = sizeof c->asked,
                                   .result = d->data,
                                   .result_bytes =
                                       (size_t)sid2_shape_count(d->shape) * sid2_dtype_size(d->dtype),
                                   .run = try_way,
                                   .context = call};
    sid2_cuda_ways_measure(&c->ways, call, &trial);
}

/* The operands in eight bits. */
static bool round_operands(const sid2_call *call, state *s)
{
    char *scratch = call->scratch;
    for (int i = 0; i < 2; i++) {
        s->low[i].to = scratch + s->low_at[i];
        s->low[i].parts = (float *)(void *)(scratch + s->parts_at);
        if (!sid2_fp8_run(&s->low[i], call)) return false;
    }
    s->a = s->low[0].to;
    s->b = s->low[1].to;
    return true;
}

static void run(sid2_call *call)
{
    state *s = call->state;
    const sid2_cublaslt *lt = sid2_cuda_target_of(call)->cublaslt;
    choice *c = &lt->choices[s->choice];
    if (s->asked.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
        void *vector_place = s->bias ? s->bias : (char *)call->scratch + s->vector_at;
        if (s->asked.epilogue == CUBLASLT_EPILOGUE_BGRADB)
            s->after.call.in[1].data = vector_place;
        else if (!s->bias)
            s->before.call.out[0].data = vector_place;
        if (!SET_MATMUL(lt, s->matmul, BIAS_POINTER, vector_place)) {
            sid2_fail(call->error, SID2_ERR_DEVICE, "cublasLt refused a bias");
            return;
        }
    }
    if (!sid2_cuda_helper_run(&s->before, call)) return;
    if (s->asked.eight && !round_operands(call, s)) return;
    measure(call, c);
    cublasStatus_t status = multiply(call, c->ways.taken);
    if (status == CUBLAS_STATUS_SUCCESS)
        sid2_cuda_helper_run(&s->after, call);
    else
        sid2_fail(call->error, SID2_ERR_DEVICE, "cublasLt failed with status %d", (int)status);
}

#define PRODUCT                                                                                              \
    {                                                                                                        \
        .run = run, .prepare = prepare, .release = release                                                   \
    }
const sid2_kernel sid2_cuda_cublaslt[SID2_OP_COUNT] = {
    [SID2_OP_linear] = PRODUCT, [SID2_OP_linear_dgrad] = PRODUCT, [SID2_OP_linear_wgrad] = PRODUCT,
    [SID2_OP_conv2d] = PRODUCT, [SID2_OP_conv2d_dgrad] = PRODUCT, [SID2_OP_conv2d_wgrad] = PRODUCT,
};
