/* Attention and its gradient as cuDNN's fused engines know them: a fixed sequence of small steps over
 * [N,heads,T,..], recognised as a whole, of which nothing but inputs and outputs ever reaches memory. 16-bit
 * types only; f32 has no engine.
 *
 *     forward    s = scale q k^T;  m = max s;  e = exp(s - m);  l = sum e;  lse = m + log l;  y = (e / l) v
 *     backward   D = sum dy y;  p = exp(scale q k^T - lse);  dv = p^T dy;  ds = scale p (dy v^T - D);
 *                dk = ds^T q;  dq = ds k
 *
 * q and k are the halves of qk[N,T,2C], v is the last third of qkv[N,T,3C]: strides say so, nothing is
 * copied. */
#include "cudnn_graph.h"

#include <cuda_runtime_api.h>
#include <math.h>

/* Sizes of a call: `width` is that of one head. */
typedef struct sizes {
    int64_t n, heads, t, width, c;
} sizes;

static sizes sizes_of(const sid2_call *call, sid2_shape y)
{
    sizes s = {.n = y.dim[0], .heads = call->attr->heads, .t = 1, .c = y.dim[y.rank - 1]};
    for (int i = 1; i < y.rank - 1; i++) s.t *= y.dim[i];
    s.width = s.c / s.heads;
    return s;
}

/* One of `parts` tensors of C channels side by side in memory, as [N,heads,T,width]. */
static sid2_cudnn_tensor add_part(sid2_cudnn_graph *g, sid2_dtype dtype, sizes s, int parts)
{
    const int64_t row = parts * s.c, dim[4] = {s.n, s.heads, s.t, s.width},
                  stride[4] = {s.t * row, s.width, row, 1};
    return sid2_cudnn_add_tensor(g, SID2_CUDNN_MEMORY, dtype, dim, stride);
}

/* The same with the last two dimensions exchanged. */
static sid2_cudnn_tensor add_part_transposed(sid2_cudnn_graph *g, sid2_dtype dtype, sizes s, int parts)
{
    const int64_t row = parts * s.c, dim[4] = {s.n, s.heads, s.width, s.t},
                  stride[4] = {s.t * row, s.width, 1, row};
    return sid2_cudnn_add_tensor(g, SID2_CUDNN_MEMORY, dtype, dim, stride);
}

/* [N,heads,T,columns], dense. */
static sid2_cudnn_tensor add_dense(sid2_cudnn_graph *g, sid2_cudnn_storage storage, sid2_dtype dtype, sizes s,
                                   int64_t columns)
{
    const int64_t dim[4] = {s.n, s.heads, s.t, columns},
                  stride[4] = {s.heads * s.t * columns, s.t * columns, columns, 1};
    return sid2_cudnn_add_tensor(g, storage, dtype, dim, stride);
}

/* Scores, before or after some function: [N,heads,T,T] in f32. */
static sid2_cudnn_tensor add_scores(sid2_cudnn_graph *g, sizes s)
{
    return add_dense(g, SID2_CUDNN_VIRTUAL, SID2_F32, s, s.t);
}

static sid2_cudnn_tensor pointwise(sid2_cudnn_graph *g, cudnnPointwiseMode_t mode, sid2_cudnn_tensor a,
                                   sid2_cudnn_tensor b, sid2_cudnn_tensor y)
{
    sid2_cudnn_add_step(g, SID2_CUDNN_POINTWISE, mode, a, b, y);
    return y;
}

static sid2_cudnn_tensor reduce(sid2_cudnn_graph *g, cudnnReduceTensorOp_t mode, sid2_cudnn_tensor x,
                                sid2_cudnn_tensor y)
{
    sid2_cudnn_add_step(g, SID2_CUDNN_REDUCTION, mode, x, -1, y);
    return y;
}

static void matmul(sid2_cudnn_graph *g, sid2_cudnn_tensor a, sid2_cudnn_tensor b, sid2_cudnn_tensor y)
{
    sid2_cudnn_add_step(g, SID2_CUDNN_MATMUL, 0, a, b, y);
}

/* The transpose of scores, in the type that matrix units read. */
static sid2_cudnn_tensor transposed(sid2_cudnn_graph *g, sid2_dtype dtype, sizes s, sid2_cudnn_tensor x)
{
    const int64_t dim[4] = {s.n, s.heads, s.t, s.t}, stride[4] = {s.heads * s.t * s.t, s.t * s.t, 1, s.t};
    sid2_cudnn_tensor y = sid2_cudnn_add_tensor(g, SID2_CUDNN_VIRTUAL, dtype, dim, stride);
    sid2_cudnn_add_step(g, SID2_CUDNN_RESHAPE, 0, x, -1, y);
    return y;
}

/* Also what cuDNN claims to support and is known to get wrong: single tokens, and in the gradient 9.10.0 and
 * 9.10.1 everything, up to 9.15.0 the last keys where T is no multiple of 128. Before 9.6 the gradient did
 * not clear its sums. Only Hopper has the gradient of wide heads, and no Blackwell one that is the same in
 * every run. */
static bool supported(const sid2_call *call, sizes s, bool gradient, sid2_error *err)
{
    const sid2_cuda_target *target = call->target;
    size_t version = ((const sid2_cudnn *)target->cudnn)->cudnnGetVersion();
    bool ok = call->in[0].dtype == SID2_BF16 || call->in[0].dtype == SID2_F16;
    for (int i = 0; i < 2; i++) ok = ok && call->in[i].dtype == call->in[0].dtype;
    ok = ok && s.width % 8 == 0 && s.width <= 256 && s.t > 1 && version >= 90600;
    if (gradient)
        ok = ok && version != 91000 && version != 91001 && (version > 91500 || s.t % 128 == 0) &&
             (s.width <= 128 || target->capability == 90) &&
             !(target->deterministic && target->capability >= 100);
    return ok || sid2_fail(err, SID2_ERR_UNSUPPORTED, "cuDNN has no attention for it");
}

static bool prepare(sid2_call *call, const sid2_cudnn_graph *g, size_t more, sid2_error *err)
{
    sid2_cudnn_plan *plan = sid2_cudnn_find_plan(call->target, g, err);
    if (!plan) return false;
    call->state = plan; /* the cache's: nothing to release */
    call->scratch_bytes = plan->workspace + more;
    return true;
}

/* Element `index` behind an address. */
static void *at(const sid2_operand *t, int64_t index)
{
    return (char *)t->data + (size_t)index * sid2_dtype_size(t->dtype);
}

/* ---- Forward: qk, qkv -> y, lse ---- */

enum { F_Q, F_K, F_V, F_Y, F_LSE }; /* the tensors in memory, in this order */

static sid2_cudnn_graph forward_graph(sid2_dtype dtype, sizes s)
{
    sid2_cudnn_graph g = {0};
    sid2_cudnn_tensor q = add_part(&g, dtype, s, 2), k = add_part_transposed(&g, dtype, s, 2);
    sid2_cudnn_tensor v = add_part(&g, dtype, s, 3), y = add_part(&g, dtype, s, 1);
    sid2_cudnn_tensor lse = add_dense(&g, SID2_CUDNN_MEMORY, SID2_F32, s, 1);
    sid2_cudnn_tensor scale = sid2_cudnn_add_scalar(&g, (float)(1 / sqrt((double)s.width)));
    sid2_cudnn_tensor product = add_scores(&g, s), scores = add_scores(&g, s);
    matmul(&g, q, k, product);
    pointwise(&g, CUDNN_POINTWISE_MUL, product, scale, scores);

    sid2_cudnn_tensor top =
        reduce(&g, CUDNN_REDUCE_TENSOR_MAX, scores, add_dense(&g, SID2_CUDNN_VIRTUAL, SID2_F32, s, 1));
    sid2_cudnn_tensor less = pointwise(&g, CUDNN_POINTWISE_SUB, scores, top, add_scores(&g, s));
    sid2_cudnn_tensor e = pointwise(&g, CUDNN_POINTWISE_EXP, less, -1, add_scores(&g, s));
    sid2_cudnn_tensor sum =
        reduce(&g, CUDNN_REDUCE_TENSOR_ADD, e, add_dense(&g, SID2_CUDNN_VIRTUAL, SID2_F32, s, 1));
    sid2_cudnn_tensor log =
        pointwise(&g, CUDNN_POINTWISE_LOG, sum, -1, add_dense(&g, SID2_CUDNN_VIRTUAL, SID2_F32, s, 1));
    pointwise(&g, CUDNN_POINTWISE_ADD, top, log, lse);
    sid2_cudnn_tensor p =
        pointwise(&g, CUDNN_POINTWISE_DIV, e, sum, add_dense(&g, SID2_CUDNN_VIRTUAL, dtype, s, s.t));
    matmul(&g, p, v, y);
    return g;
}

bool sid2_cudnn_prepare_attention(sid2_call *call, sid2_error *err)
{
    sizes s = sizes_of(call, call->out[0].shape);
    if (!supported(call, s, false, err)) return false;
    sid2_cudnn_graph g = forward_graph(call->in[0].dtype, s);
    return prepare(call, &g, 0, err);
}

void sid2_cudnn_run_attention(sid2_call *call)
{
    sizes s = sizes_of(call, call->out[0].shape);
    void *const pointers[SID2_CUDNN_TENSORS] = {
        [F_Q] = call->in[0].data,  [F_K] = at(&call->in[0], s.c), [F_V] = at(&call->in[1], 2 * s.c),
        [F_Y] = call->out[0].data, [F_LSE] = call->out[1].data,
    };
    sid2_cudnn_execute(call, call->state, pointers, call->scratch);
}

/* ---- Backward: dy, qk, qkv, y, lse -> dqk, dv ---- */

/* The tensors in memory, in this order; the last two are scratch. */
enum { B_Q, B_K, B_V, B_Y, B_DY, B_LSE, B_DQ, B_DK, B_DV, B_DOTS, B_SUMS };

/* dq is summed over blocks of keys in whatever order they finish, in f32; or, deterministic, by a second pass
 * over ds that is kept in memory (cuDNN's choice of workspace). */
static sid2_cudnn_graph backward_graph(sid2_dtype dtype, sizes s, bool deterministic)
{
    sid2_cudnn_graph g = {0};
    sid2_cudnn_tensor q = add_part(&g, dtype, s, 2), k = add_part_transposed(&g, dtype, s, 2);
    sid2_cudnn_tensor v = add_part_transposed(&g, dtype, s, 3), y = add_part(&g, dtype, s, 1);
    sid2_cudnn_tensor dy = add_part(&g, dtype, s, 1), lse = add_dense(&g, SID2_CUDNN_MEMORY, SID2_F32, s, 1);
    sid2_cudnn_tensor dq = add_part(&g, dtype, s, 2), dk = add_part(&g, dtype, s, 2);
    sid2_cudnn_tensor dv = add_part(&g, dtype, s, 1);
    sid2_cudnn_tensor dots = add_dense(&g, SID2_CUDNN_MEMORY, SID2_F32, s, 1), sums = -1;
    if (!deterministic) sums = add_dense(&g, SID2_CUDNN_MEMORY, SID2_F32, s, s.width);
    sid2_cudnn_tensor scale = sid2_cudnn_add_scalar(&g, (float)(1 / sqrt((double)s.width)));
    sid2_cudnn_tensor one = sid2_cudnn_add_scalar(&g, 1);

    sid2_cudnn_tensor products =
        pointwise(&g, CUDNN_POINTWISE_MUL, dy, y, add_dense(&g, SID2_CUDNN_VIRTUAL, SID2_F32, s, s.width));
    sid2_cudnn_tensor dot =
        reduce(&g, CUDNN_REDUCE_TENSOR_ADD, products, add_dense(&g, SID2_CUDNN_VIRTUAL, SID2_F32, s, 1));
    pointwise(&g, CUDNN_POINTWISE_MUL, dot, one, dots); /* the pattern wants a step here */

    sid2_cudnn_tensor product = add_scores(&g, s), dp = add_scores(&g, s);
    matmul(&g, q, k, product);
    sid2_cudnn_tensor scores = pointwise(&g, CUDNN_POINTWISE_MUL, product, scale, add_scores(&g, s));
    sid2_cudnn_tensor less = pointwise(&g, CUDNN_POINTWISE_SUB, scores, lse, add_scores(&g, s));
    sid2_cudnn_tensor p = pointwise(&g, CUDNN_POINTWISE_EXP, less, -1, add_scores(&g, s));
    matmul(&g, transposed(&g, dtype, s, p), dy, dv);

    matmul(&g, dy, v, dp);
    sid2_cudnn_tensor centred = pointwise(&g, CUDNN_POINTWISE_SUB, dp, dots, add_scores(&g, s));
    sid2_cudnn_tensor weighted = pointwise(&g, CUDNN_POINTWISE_MUL, centred, p, add_scores(&g, s));
    sid2_cudnn_tensor ds = pointwise(&g, CUDNN_POINTWISE_MUL, weighted, scale, add_scores(&g, s));
    matmul(&g, transposed(&g, dtype, s, ds), q, dk);

    const int64_t row = 2 * s.c, dim[4] = {s.n, s.heads, s.t, s.width},
                  stride[4] = {s.t * row, s.width, row, 1};
    sid2_cudnn_tensor keys = sid2_cudnn_add_tensor(&g, SID2_CUDNN_VIRTUAL, dtype, dim, stride);
    sid2_cudnn_add_step(&g, SID2_CUDNN_RESHAPE, 0, k, -1, keys);
    matmul(&g, ds, keys, deterministic ? dq : sums);
    if (!deterministic) pointwise(&g, CUDNN_POINTWISE_IDENTITY, sums, -1, dq);
    return g;
}

/* Bytes of the scratch tensors, which lie before cuDNN's workspace. */
static size_t dots_bytes(sizes s)
{
    return ((size_t)(s.n * s.heads * s.t) * sizeof(float) + 255) / 256 * 256;
}
static size_t sums_bytes(sizes s, bool deterministic)
{
    return deterministic ? 0 : dots_bytes(s) * (size_t)s.width;
}

bool sid2_cudnn_prepare_attention_grad(sid2_call *call, sid2_error *err)
{
    sizes s = sizes_of(call, call->out[1].shape);
    bool deterministic = sid2_cuda_target_of(call)->deterministic;
    if (!supported(call, s, true, err)) return false;
    sid2_cudnn_graph g = backward_graph(call->in[0].dtype, s, deterministic);
    return prepare(call, &g, dots_bytes(s) + sums_bytes(s, deterministic), err);
}

void sid2_cudnn_run_attention_grad(sid2_call *call)
{
    sizes s = sizes_of(call, call->out[1].shape);
    bool deterministic = sid2_cuda_target_of(call)->deterministic;
    char *dots = call->scratch, *sums = dots + dots_bytes(s),
         *workspace = sums + sums_bytes(s, deterministic);
    void *const pointers[SID2_CUDNN_TENSORS] = {
        [B_Q] = call->in[1].data,
        [B_K] = at(&call->in[1], s.c),
        [B_V] = at(&call->in[2], 2 * s.c),
        [B_Y] = call->in[3].data,
        [B_DY] = call->in[0].data,
        [B_LSE] = call->in[4].data,
        [B_DQ] = call->out[0].data,
        [B_DK] = at(&call->out[0], s.c),
        [B_DV] = call->out[1].data,
        [B_DOTS] = dots,
        [B_SUMS] = sums,
    };
    sid2_cudnn_execute(call, call->state, pointers, workspace);
}
