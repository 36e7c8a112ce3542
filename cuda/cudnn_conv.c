/* Convolutions and their gradients, NHWC. A call may be f32, bf16 or f16 throughout; biases and weight
 * gradients are f32.
 *
 * Which graph is asked for decides how good an engine there is. The ready-made ones use what matrix units a
 * GPU has; those that cuDNN compiles for a graph are, for convolutions, of Ampere's kind on Hopper too (cuDNN
 * 9.19), and leave Hopper's own matrix instructions idle. So:
 * - bias and residual: the convolution, + residual, + bias, in this order, and the bias in x's type;
 * - residual alone: the convolution adds to y (beta = 1), where the residual mostly lies already;
 * - weight gradient of 16-bit tensors: no ready-made engine writes f32. On Hopper and its like the product
 *   is written in 16 bits, rounded once, and an own kernel adds it to dw. Elsewhere a compiled engine has
 *   the same instructions, adds dw in f32 behind the product, and no digit is lost. */
#include "cudnn_graph.h"
#include "helper.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>

/* What a prepared call of this file keeps. Scratch: the plan's workspace or a helper's, then, at tensor_at,
 * what a helper casts or adds: the bias or the weight gradient in 16 bits. */
typedef struct conv_state {
    sid2_cudnn_plan *plan; /* the cache's */
    sid2_cuda_helper cast, add, bias_gradient;
    void *bias; /* in x's type; NULL: cast, in scratch */
    size_t tensor_at;
} conv_state;

/* Images of any leading dimensions as N, H, W, C. */
typedef struct extent {
    int64_t n, h, w, c;
} extent;

static extent extent_of(sid2_shape s)
{
    extent e = {1, s.dim[s.rank - 3], s.dim[s.rank - 2], s.dim[s.rank - 1]};
    for (int i = 0; i < s.rank - 3; i++) e.n *= s.dim[i];
    return e;
}

/* cuDNN counts dimensions as N, C, H, W whatever the layout; filters [O,k,k,C] are the same with N = O. */
static sid2_cudnn_tensor add_image(sid2_cudnn_graph *g, sid2_cudnn_storage storage, sid2_dtype dtype,
                                   extent e)
{
    const int64_t dim[4] = {e.n, e.c, e.h, e.w}, stride[4] = {e.h * e.w * e.c, 1, e.w * e.c, e.c};
    return sid2_cudnn_add_tensor(g, storage, dtype, dim, stride);
}

static bool prepare(sid2_call *call, const sid2_cudnn_graph *g, sid2_error *err)
{
    sid2_cudnn_plan *plan = sid2_cudnn_find_plan(call->target, g, err);
    if (!plan) return false;
    conv_state *state = calloc(1, sizeof *state);
    if (!state) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a prepared call");
    state->plan = plan;
    call->state = state;
    return true;
}

/* Lays out the scratch, once the helpers are prepared; good: whether they could be. */
static bool finish(sid2_call *call, const sid2_operand *in_scratch, bool ok)
{
    conv_state *state = call->state;
    const sid2_cuda_helper *helpers[] = {&state->cast, &state->add, &state->bias_gradient};
    size_t shared = state->plan->workspace;
    if (!ok) return sid2_cudnn_release_conv(call), false;
    for (int i = 0; i < 3; i++)
        if (helpers[i]->call.scratch_bytes > shared) shared = helpers[i]->call.scratch_bytes;
    state->tensor_at = (shared + 255) / 256 * 256;
    call->scratch_bytes = state->tensor_at;
    if (in_scratch)
        call->scratch_bytes +=
            (size_t)sid2_shape_count(in_scratch->shape) * sid2_dtype_size(in_scratch->dtype);
    return true;
}

static void *tensor_in_scratch(const sid2_call *call)
{
    const conv_state *state = call->state;
    return (char *)call->scratch + state->tensor_at;
}

static bool same_types(const sid2_call *call, sid2_error *err)
{
    sid2_dtype a = call->in[0].dtype, b = call->in[1].dtype;
    return (a == b && (a == SID2_F32 || a == SID2_BF16 || a == SID2_F16)) ||
           sid2_fail(err, SID2_ERR_UNSUPPORTED, "cuDNN's convolutions want one type");
}

/* conv2d: x, w, bias?, residual? -> y.  conv2d_dgrad: dy, w, residual? -> dx. */
bool sid2_cudnn_prepare_conv(sid2_call *call, sid2_error *err)
{
    bool forward = call->op == SID2_OP_conv2d;
    sid2_cudnn_verb verb = forward ? SID2_CUDNN_CONV : SID2_CUDNN_DGRAD;
    sid2_dtype dtype = call->in[0].dtype;
    const sid2_operand *bias = forward ? &call->in[2] : NULL, *residual = &call->in[forward ? 3 : 2];
    extent out = extent_of(call->out[0].shape), vector = {1, 1, 1, out.c};
    if (!same_types(call, err)) return false;

    sid2_cudnn_graph g = {.kernel = call->in[1].shape.dim[1], .f32 = dtype == SID2_F32};
    sid2_cudnn_tensor x = add_image(&g, SID2_CUDNN_MEMORY, dtype, extent_of(call->in[0].shape));
    sid2_cudnn_tensor w = add_image(&g, SID2_CUDNN_MEMORY, dtype, extent_of(call->in[1].shape));
    sid2_cudnn_tensor y = add_image(&g, SID2_CUDNN_MEMORY, dtype, out);
    if (!bias || !bias->data) {
        sid2_cudnn_add_step(&g, verb, residual->data ? SID2_CUDNN_ADDED : SID2_CUDNN_WRITTEN, x, w, y);
        return prepare(call, &g, err) && finish(call, NULL, true);
    }
    sid2_cudnn_tensor b = add_image(&g, SID2_CUDNN_MEMORY, dtype, vector);
    sid2_cudnn_tensor sum = add_image(&g, SID2_CUDNN_VIRTUAL, SID2_F32, out);
    sid2_cudnn_add_step(&g, verb, SID2_CUDNN_WRITTEN, x, w, sum);
    if (residual->data) {
        sid2_cudnn_tensor r = add_image(&g, SID2_CUDNN_MEMORY, dtype, out);
        sid2_cudnn_tensor more = add_image(&g, SID2_CUDNN_VIRTUAL, SID2_F32, out);
        sid2_cudnn_add_step(&g, SID2_CUDNN_POINTWISE, CUDNN_POINTWISE_ADD, sum, r, more);
        sum = more;
    }
    sid2_cudnn_add_step(&g, SID2_CUDNN_POINTWISE, CUDNN_POINTWISE_ADD, sum, b, y);
    if (!prepare(call, &g, err)) return false;
    conv_state *state = call->state;
    state->bias = sid2_cuda_helper_kept(bias, dtype);
    if (state->bias) return finish(call, NULL, true);
    bool ok = sid2_cuda_helper_cast(&state->cast, call, bias, dtype, err);
    return finish(call, &state->cast.call.out[0], ok);
}

void sid2_cudnn_run_conv(sid2_call *call)
{
    conv_state *state = call->state;
    bool forward = call->op == SID2_OP_conv2d;
    void *bias = state->bias, *residual = call->in[forward ? 3 : 2].data;
    void *y = call->out[0].data;
    if (state->cast.kernel) {
        bias = state->cast.call.out[0].data = tensor_in_scratch(call);
        if (!sid2_cuda_helper_run(&state->cast, call)) return;
    }
    /* By index, in the order in which prepare added them. */
    void *const pointers[SID2_CUDNN_TENSORS] = {call->in[0].data, call->in[1].data, y, bias, NULL, residual};
    if (!bias && residual && residual != y) {
        size_t bytes = (size_t)sid2_shape_count(call->out[0].shape) * sid2_dtype_size(call->out[0].dtype);
        void *stream = sid2_cuda_target_of(call)->stream;
        if (cudaMemcpyAsync(y, residual, bytes, cudaMemcpyDeviceToDevice, stream) != cudaSuccess) {
            sid2_fail(call->error, SID2_ERR_DEVICE, "copying a residual failed");
            return;
        }
    }
    sid2_cudnn_execute(call, state->plan, pointers, call->scratch);
}

/* The product as it is, in x's type; or dw + product, in f32. */
static bool prepare_product(sid2_call *call, bool rounded, sid2_error *err)
{
    sid2_dtype dtype = call->in[0].dtype;
    extent filter = extent_of(call->out[0].shape);
    sid2_cudnn_graph g = {.kernel = filter.h, .f32 = dtype == SID2_F32};
    sid2_cudnn_tensor x = add_image(&g, SID2_CUDNN_MEMORY, dtype, extent_of(call->in[0].shape));
    sid2_cudnn_tensor dy = add_image(&g, SID2_CUDNN_MEMORY, dtype, extent_of(call->in[1].shape));
    sid2_cudnn_tensor dw = add_image(&g, SID2_CUDNN_MEMORY, rounded ? dtype : SID2_F32, filter);
    if (rounded) {
        sid2_cudnn_add_step(&g, SID2_CUDNN_WGRAD, SID2_CUDNN_WRITTEN, x, dy, dw);
    } else if (dtype == SID2_F32) {
        sid2_cudnn_add_step(&g, SID2_CUDNN_WGRAD, SID2_CUDNN_ADDED, x, dy, dw);
    } else {
        sid2_cudnn_tensor before = add_image(&g, SID2_CUDNN_MEMORY, SID2_F32, filter);
        sid2_cudnn_tensor product = add_image(&g, SID2_CUDNN_VIRTUAL, SID2_F32, filter);
        sid2_cudnn_add_step(&g, SID2_CUDNN_WGRAD, SID2_CUDNN_WRITTEN, x, dy, product);
        sid2_cudnn_add_step(&g, SID2_CUDNN_POINTWISE, CUDNN_POINTWISE_ADD, product, before, dw);
    }
    return prepare(call, &g, err);
}

/* x, dy -> dw+ f32, dbias+ f32? */
bool sid2_cudnn_prepare_wgrad(sid2_call *call, sid2_error *err)
{
    sid2_dtype dtype = call->in[0].dtype;
    if (!same_types(call, err)) return false;
    if (!call->out[0].data) return sid2_fail(err, SID2_ERR_UNSUPPORTED, "not a weight gradient");
    bool rounded = dtype != SID2_F32 && sid2_cudnn_rounds_wgrad(sid2_cuda_target_of(call)->capability) &&
                   prepare_product(call, true, NULL);
    if (!rounded && !prepare_product(call, false, err)) return false;
    conv_state *state = call->state;
    bool ok = !rounded || sid2_cuda_helper_add(&state->add, call, &call->out[0], dtype, err);
    ok = ok && (!call->out[1].data || sid2_cuda_helper_bias_gradient(&state->bias_gradient, call, err));
    return finish(call, rounded ? &state->add.call.in[1] : NULL, ok);
}

void sid2_cudnn_run_wgrad(sid2_call *call)
{
    conv_state *state = call->state;
    void *dw = call->out[0].data;
    if (state->add.kernel) dw = state->add.call.in[1].data = tensor_in_scratch(call);
    void *const pointers[SID2_CUDNN_TENSORS] = {call->in[0].data, call->in[1].data, dw, dw};
    if (sid2_cudnn_execute(call, state->plan, pointers, call->scratch) &&
        sid2_cuda_helper_run(&state->add, call))
        sid2_cuda_helper_run(&state->bias_gradient, call);
}

void sid2_cudnn_release_conv(sid2_call *call)
{
    conv_state *state = call->state;
    if (!state) return;
    sid2_cuda_helper_release(&state->cast);
    sid2_cuda_helper_release(&state->add);
    sid2_cuda_helper_release(&state->bias_gradient);
    free(state);
    call->state = NULL;
}
