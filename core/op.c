#include "op.h"

#include <string.h>

/* ---- The table, parsed ---- */

static const struct {
    const char *name, *inputs, *outputs, *attributes, *formula;
} rows[SID2_OP_COUNT] = {
#define OP(name, inputs, outputs, attributes, gradient, formula)                                             \
    {#name, inputs, outputs, attributes, formula},
#include "op.def"
};

/* Reads "x w* bias?* residual?=&" into slots; returns how many. */
static int parse_slots(const char *text, sid2_slot *slots)
{
    int count = 0;
    for (const char *p = text; *p;) {
        sid2_slot slot = {0};
        for (; *p && *p != ' '; p++) {
            slot.optional |= *p == '?';
            slot.inplace |= *p == '=';
            slot.added |= *p == '&';
            slot.accumulate |= *p == '+';
            slot.whole |= *p == '*';
        }
        slots[count++] = slot;
        while (*p == ' ') p++;
    }
    return count;
}

sid2_op_info sid2_op_describe(sid2_op op)
{
    sid2_op_info info = {.name = rows[op].name,
                         .inputs = rows[op].inputs,
                         .outputs = rows[op].outputs,
                         .attributes = rows[op].attributes,
                         .formula = rows[op].formula};
    info.input_count = parse_slots(info.inputs, info.input);
    info.output_count = parse_slots(info.outputs, info.output);
    return info;
}

const char *sid2_op_name(sid2_op op) { return rows[op].name; }

/* ---- Shape rules ---- */

typedef struct rule {
    const sid2_attr *attr;
    const sid2_type *in;
    sid2_type *out;
} rule;

static bool present(sid2_type t) { return t.shape.rank >= 0; }
static int64_t last(sid2_shape s) { return s.rank > 0 ? s.dim[s.rank - 1] : 1; }
static int64_t rows_of(sid2_shape s) { return sid2_shape_count(s) / (last(s) ? last(s) : 1); }

static sid2_shape with_last(sid2_shape s, int64_t extent)
{
    s.dim[s.rank - 1] = extent;
    return s;
}

/* An optional tensor that must have this shape if it is there. */
static bool fits(sid2_type t, sid2_shape shape) { return !present(t) || sid2_shape_equal(t.shape, shape); }
static bool is(sid2_type t, sid2_shape shape) { return present(t) && sid2_shape_equal(t.shape, shape); }
static bool is_vector(sid2_type t, int64_t n) { return is(t, sid2_shape_of(n)); }
static bool fits_vector(sid2_type t, int64_t n) { return fits(t, sid2_shape_of(n)); }
static bool fits_film(sid2_type t, sid2_shape x) { return fits(t, sid2_shape_of(x.dim[0], 2 * last(x))); }

/* Statistics and gradients of parameters are f32, or f64 in an f64 graph. */
static sid2_dtype wide(sid2_dtype dtype) { return dtype == SID2_F64 ? SID2_F64 : SID2_F32; }
static sid2_type wide_type(sid2_dtype dtype, sid2_shape shape) { return (sid2_type){wide(dtype), shape}; }

static bool infer_linear(rule r)
{
    sid2_type x = r.in[0], w = r.in[1];
    if (x.shape.rank < 1 || w.shape.rank != 2 || last(x.shape) != w.shape.dim[1]) return false;
    r.out[0] = (sid2_type){r.attr->dtype, with_last(x.shape, w.shape.dim[0])};
    return fits_vector(r.in[2], w.shape.dim[0]) && fits(r.in[3], r.out[0].shape);
}

static bool infer_linear_dgrad(rule r)
{
    sid2_type dy = r.in[0], w = r.in[1];
    if (dy.shape.rank < 1 || w.shape.rank != 2 || last(dy.shape) != w.shape.dim[0]) return false;
    r.out[0] = (sid2_type){dy.dtype, with_last(dy.shape, w.shape.dim[1])};
    return fits(r.in[2], r.out[0].shape);
}

static bool infer_linear_wgrad(rule r)
{
    sid2_type x = r.in[0], dy = r.in[1];
    if (x.shape.rank < 1 || x.shape.rank != dy.shape.rank || rows_of(x.shape) != rows_of(dy.shape))
        return false;
    r.out[0] = wide_type(dy.dtype, sid2_shape_of(last(dy.shape), last(x.shape)));
    r.out[1] = wide_type(dy.dtype, sid2_shape_of(last(dy.shape)));
    return true;
}

static bool is_kernel(sid2_shape w) { return w.rank == 4 && w.dim[1] == w.dim[2] && w.dim[1] % 2 == 1; }

static bool infer_conv2d(rule r)
{
    sid2_type x = r.in[0], w = r.in[1];
    if (x.shape.rank < 4 || !is_kernel(w.shape) || last(x.shape) != w.shape.dim[3]) return false;
    r.out[0] = (sid2_type){x.dtype, with_last(x.shape, w.shape.dim[0])};
    return fits_vector(r.in[2], w.shape.dim[0]) && fits(r.in[3], r.out[0].shape);
}

static bool infer_conv2d_dgrad(rule r)
{
    sid2_type dy = r.in[0], w = r.in[1];
    if (dy.shape.rank < 4 || !is_kernel(w.shape) || last(dy.shape) != w.shape.dim[0]) return false;
    r.out[0] = (sid2_type){dy.dtype, with_last(dy.shape, w.shape.dim[3])};
    return fits(r.in[2], r.out[0].shape);
}

/* The kernel's side cannot be told from x and dy: it is attr.shape, the shape of w. */
static bool infer_conv2d_wgrad(rule r)
{
    sid2_type x = r.in[0], dy = r.in[1];
    sid2_shape w = r.attr->shape;
    if (x.shape.rank < 4 || !sid2_shape_equal(x.shape, with_last(dy.shape, last(x.shape)))) return false;
    if (!is_kernel(w) || w.dim[0] != last(dy.shape) || w.dim[3] != last(x.shape)) return false;
    r.out[0] = wide_type(dy.dtype, w);
    r.out[1] = wide_type(dy.dtype, sid2_shape_of(w.dim[0]));
    return true;
}

static bool infer_group_norm(rule r)
{
    sid2_type x = r.in[0];
    int64_t c = last(x.shape), groups = r.attr->groups;
    if (x.shape.rank < 2 || groups < 1 || c % groups) return false;
    r.out[0] = x;
    r.out[1] = wide_type(x.dtype, sid2_shape_of(x.shape.dim[0], groups, 2));
    return is_vector(r.in[1], c) && is_vector(r.in[2], c) && fits_film(r.in[3], x.shape);
}

static bool infer_group_norm_grad(rule r)
{
    sid2_type dy = r.in[0], x = r.in[1];
    int64_t c = last(x.shape), groups = r.attr->groups;
    if (x.shape.rank < 2 || groups < 1 || c % groups || !sid2_shape_equal(dy.shape, x.shape)) return false;
    r.out[0] = x;
    r.out[1] = r.out[2] = wide_type(x.dtype, sid2_shape_of(c));
    r.out[3] = (sid2_type){x.dtype, sid2_shape_of(x.shape.dim[0], 2 * c)};
    return is(r.in[2], sid2_shape_of(x.shape.dim[0], groups, 2)) && is_vector(r.in[3], c) &&
           is_vector(r.in[4], c) && fits_film(r.in[5], x.shape) && fits(r.in[6], x.shape);
}

static bool infer_row_norm(rule r)
{
    sid2_type x = r.in[0];
    int64_t c = last(x.shape);
    if (x.shape.rank < 1) return false;
    r.out[0] = x;
    r.out[1] = wide_type(x.dtype, sid2_shape_of(rows_of(x.shape), 2));
    return is_vector(r.in[1], c) && fits_vector(r.in[2], c) && fits_film(r.in[3], x.shape);
}

static bool infer_row_norm_grad(rule r)
{
    sid2_type dy = r.in[0], x = r.in[1];
    int64_t c = last(x.shape);
    if (x.shape.rank < 1 || !sid2_shape_equal(dy.shape, x.shape)) return false;
    r.out[0] = x;
    r.out[1] = r.out[2] = wide_type(x.dtype, sid2_shape_of(c));
    r.out[3] = (sid2_type){x.dtype, sid2_shape_of(x.shape.dim[0], 2 * c)};
    return is(r.in[2], sid2_shape_of(rows_of(x.shape), 2)) && is_vector(r.in[3], c) &&
           fits_vector(r.in[4], c) && fits_film(r.in[5], x.shape) && fits(r.in[6], x.shape);
}

static bool infer_activation(rule r)
{
    r.out[0] = r.in[0];
    return r.in[0].shape.rank >= 1 && fits_film(r.in[1], r.in[0].shape);
}

static bool infer_activation_grad(rule r)
{
    sid2_type dy = r.in[0], x = r.in[1];
    if (x.shape.rank < 1) return false;
    r.out[0] = x;
    r.out[1] = (sid2_type){x.dtype, sid2_shape_of(x.shape.dim[0], 2 * last(x.shape))};
    return sid2_shape_equal(dy.shape, x.shape) && fits_film(r.in[2], x.shape);
}

static bool infer_each(rule r)
{
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) r.out[i] = r.in[0];
    for (int i = 0; i < SID2_MAX_INPUTS; i++)
        if (!fits(r.in[i], r.in[0].shape) || (present(r.in[i]) && r.in[i].dtype != r.in[0].dtype))
            return false;
    return true;
}

static bool infer_cast(rule r)
{
    r.out[0] = (sid2_type){r.attr->dtype, r.in[0].shape};
    return true;
}

/* samples[N,2] and seed[2], both u32. */
static bool are_keys(sid2_type samples, sid2_type seed, int64_t n)
{
    return is(samples, sid2_shape_of(n, 2)) && samples.dtype == SID2_U32 && is_vector(seed, 2) &&
           seed.dtype == SID2_U32;
}

static bool infer_dropout(rule r)
{
    r.out[0] = r.in[0];
    return r.in[0].shape.rank >= 1 && r.attr->rate >= 0 && r.attr->rate < 1 &&
           are_keys(r.in[1], r.in[2], r.in[0].shape.dim[0]);
}

/* Multiplies rows and columns by up/down. */
static bool resize(sid2_type in, sid2_type *out, int64_t up, int64_t down)
{
    int h = in.shape.rank - 3, w = in.shape.rank - 2;
    if (h < 1 || in.shape.dim[h] % down || in.shape.dim[w] % down) return false;
    *out = in;
    out->shape.dim[h] = in.shape.dim[h] * up / down;
    out->shape.dim[w] = in.shape.dim[w] * up / down;
    return true;
}

static bool infer_pool2(rule r) { return resize(r.in[0], &r.out[0], 1, 2); }
static bool infer_upsample2(rule r)
{
    return resize(r.in[0], &r.out[0], 2, 1) && fits(r.in[1], r.out[0].shape);
}

/* Windows of these extents over x: the shape of y, which has `channels`. Each window meets x somewhere, as no margin is as
 * large as it. */
static bool slide(const sid2_attr *attr, sid2_type x, const int64_t window[3], int64_t channels, sid2_type *y)
{
    if (x.shape.rank != 5) return false;
    *y = x;
    y->shape = with_last(x.shape, channels);
    for (int i = 0; i < 3; i++) {
        int64_t before = attr->before[i], after = attr->after[i];
        int64_t reach = before + x.shape.dim[i + 1] + after - window[i];
        if (window[i] < 1 || attr->stride[i] < 1 || before < 0 || after < 0 || before >= window[i] ||
            after >= window[i] || reach < 0)
            return false;
        y->shape.dim[i + 1] = reach / attr->stride[i] + 1;
    }
    return true;
}

static bool infer_conv3d(rule r)
{
    sid2_type x = r.in[0], w = r.in[1];
    return w.shape.rank == 5 && x.shape.rank == 5 && last(x.shape) == last(w.shape) &&
           slide(r.attr, x, w.shape.dim + 1, w.shape.dim[0], &r.out[0]) &&
           fits_vector(r.in[2], w.shape.dim[0]);
}

static bool infer_pool3d(rule r)
{
    const int64_t window[] = {r.attr->window[0], r.attr->window[1], r.attr->window[2]};
    return slide(r.attr, r.in[0], window, last(r.in[0].shape), &r.out[0]);
}

static bool infer_concat(rule r)
{
    int64_t channels = 0;
    for (int i = 0; i < 6; i++) {
        if (!present(r.in[i])) continue;
        if (r.in[i].shape.rank < 2 || r.in[i].dtype != r.in[0].dtype ||
            !sid2_shape_equal(with_last(r.in[i].shape, 1), with_last(r.in[0].shape, 1)))
            return false;
        channels += last(r.in[i].shape);
    }
    r.out[0] = (sid2_type){r.in[0].dtype, with_last(r.in[0].shape, channels)};
    return true;
}

static bool infer_patchify(rule r)
{
    int64_t p = r.attr->patch;
    if (p < 1 || !resize(r.in[0], &r.out[0], 1, p)) return false;
    r.out[0].shape = with_last(r.out[0].shape, last(r.in[0].shape) * p * p);
    return true;
}

static bool infer_unpatchify(rule r)
{
    int64_t p = r.attr->patch;
    if (p < 1 || last(r.in[0].shape) % (p * p) || !resize(r.in[0], &r.out[0], p, 1)) return false;
    r.out[0].shape = with_last(r.out[0].shape, last(r.in[0].shape) / (p * p));
    return true;
}

static int64_t tokens_of(sid2_shape s) { return rows_of(s) / (s.dim[0] ? s.dim[0] : 1); }

static bool heads_fit(int64_t channels, int32_t heads) { return heads >= 1 && channels % heads == 0; }

static bool rope_fits(const sid2_attr *attr, sid2_type qkv, sid2_type gamma, sid2_type beta)
{
    if (qkv.shape.rank < 3 || last(qkv.shape) % 3) return false;
    int64_t c = last(qkv.shape) / 3;
    int64_t cells = (int64_t)attr->grid[0] * attr->grid[1] * attr->grid[2];
    if (!heads_fit(c, attr->heads) || c / attr->heads % 2 || cells != tokens_of(qkv.shape)) return false;
    sid2_shape affine = sid2_shape_of(2, c / attr->heads);
    return fits(gamma, affine) && fits(beta, affine) && (present(gamma) || !present(beta));
}

static bool infer_qk_norm_rope(rule r)
{
    sid2_type qkv = r.in[0];
    if (!rope_fits(r.attr, qkv, r.in[1], r.in[2])) return false;
    r.out[0] = (sid2_type){qkv.dtype, with_last(qkv.shape, last(qkv.shape) / 3 * 2)};
    return true;
}

static bool infer_qk_norm_rope_grad(rule r)
{
    sid2_type dqk = r.in[0], dv = r.in[1], qkv = r.in[2];
    if (!rope_fits(r.attr, qkv, r.in[3], r.in[4])) return false;
    int64_t c = last(qkv.shape) / 3;
    r.out[0] = qkv;
    r.out[1] = r.out[2] = wide_type(qkv.dtype, sid2_shape_of(2, c / r.attr->heads));
    return is(dqk, with_last(qkv.shape, 2 * c)) && is(dv, with_last(qkv.shape, c));
}

static bool infer_attention(rule r)
{
    sid2_type qk = r.in[0], qkv = r.in[1];
    if (qkv.shape.rank < 3 || last(qkv.shape) % 3) return false;
    int64_t c = last(qkv.shape) / 3;
    if (!heads_fit(c, r.attr->heads) || !is(qk, with_last(qkv.shape, 2 * c))) return false;
    r.out[0] = (sid2_type){qkv.dtype, with_last(qkv.shape, c)};
    r.out[1] = wide_type(qkv.dtype, sid2_shape_of(qkv.shape.dim[0], r.attr->heads, tokens_of(qkv.shape)));
    return true;
}

static bool infer_attention_grad(rule r)
{
    sid2_type dy = r.in[0], qk = r.in[1], qkv = r.in[2], y = r.in[3], lse = r.in[4];
    if (qkv.shape.rank < 3 || last(qkv.shape) % 3) return false;
    int64_t c = last(qkv.shape) / 3;
    if (!heads_fit(c, r.attr->heads) || !is(qk, with_last(qkv.shape, 2 * c))) return false;
    sid2_shape out = with_last(qkv.shape, c);
    r.out[0] = qk;
    r.out[1] = (sid2_type){qkv.dtype, out};
    return is(dy, out) && is(y, out) &&
           is(lse, sid2_shape_of(qkv.shape.dim[0], r.attr->heads, tokens_of(qkv.shape)));
}

static bool infer_embedding(rule r)
{
    sid2_type table = r.in[0], index = r.in[1];
    if (table.shape.rank != 2 || index.shape.rank != 1 || index.dtype != SID2_I32) return false;
    r.out[0] = (sid2_type){table.dtype, sid2_shape_of(index.shape.dim[0], table.shape.dim[1])};
    return true;
}

/* The table's length is attr.shape, the shape of the table. */
static bool infer_embedding_grad(rule r)
{
    sid2_type dy = r.in[0], index = r.in[1];
    if (dy.shape.rank != 2 || index.dtype != SID2_I32 || r.attr->shape.rank != 2) return false;
    r.out[0] = wide_type(dy.dtype, r.attr->shape);
    return r.attr->shape.dim[1] == dy.shape.dim[1] && is_vector(index, dy.shape.dim[0]);
}

static bool infer_sinusoid(rule r)
{
    if (r.in[0].shape.rank != 1 || r.attr->shape.rank != 1 || r.attr->shape.dim[0] % 2) return false;
    r.out[0] = (sid2_type){r.attr->dtype, sid2_shape_of(r.in[0].shape.dim[0], r.attr->shape.dim[0])};
    return true;
}

static bool infer_random(rule r)
{
    if (r.attr->shape.rank < 1) return false;
    r.out[0] = (sid2_type){r.attr->dtype, r.attr->shape};
    return are_keys(r.in[0], r.in[1], r.attr->shape.dim[0]);
}
static bool infer_random_normal(rule r) { return infer_random(r); }
static bool infer_random_uniform(rule r) { return infer_random(r); }

static bool infer_image_to_float(rule r)
{
    r.out[0] = (sid2_type){SID2_F32, r.in[0].shape};
    return r.in[0].dtype == SID2_U8;
}

static bool infer_float_to_image(rule r)
{
    r.out[0] = (sid2_type){SID2_U8, r.in[0].shape};
    return true;
}

static bool infer_diffuse(rule r)
{
    sid2_type x = r.in[0];
    if (x.shape.rank < 1) return false;
    r.out[0] = x;
    return is(r.in[1], x.shape) && is_vector(r.in[2], x.shape.dim[0]) && is_vector(r.in[3], x.shape.dim[0]);
}

/* v, z, x of one shape; alpha, sigma, weight per sample. */
static bool is_loss(const sid2_type *in)
{
    sid2_shape s = in[0].shape;
    if (s.rank < 1) return false;
    for (int i = 3; i < 6; i++)
        if (!is_vector(in[i], s.dim[0])) return false;
    return is(in[1], s) && is(in[2], s);
}

static bool infer_diffusion_loss(rule r)
{
    if (!is_loss(r.in)) return false;
    r.out[0] = wide_type(r.in[0].dtype, sid2_shape_of(r.in[0].shape.dim[0]));
    return true;
}

static bool infer_diffusion_loss_grad(rule r)
{
    if (!is_loss(r.in + 1)) return false;
    r.out[0] = r.in[1];
    return is_vector(r.in[0], r.in[1].shape.dim[0]) && is_vector(r.in[7], r.in[1].shape.dim[0]);
}

static bool infer_sampler_step(rule r)
{
    sid2_shape s = r.in[0].shape;
    r.out[0] = r.out[1] = r.in[0];
    return is(r.in[1], s) && fits(r.in[2], s) && fits(r.in[3], s) && fits(r.in[4], s) &&
           is_vector(r.in[5], 8);
}

static bool infer_square_sums(rule r)
{
    sid2_type x = r.in[0];
    int64_t count = sid2_shape_count(x.shape);
    r.out[0] = (sid2_type){SID2_F64, sid2_shape_of((count + SID2_SUM_BLOCK - 1) / SID2_SUM_BLOCK)};
    return count > 0 && x.dtype == wide(x.dtype);
}

static bool infer_norm_of(rule r)
{
    r.out[0] = (sid2_type){r.attr->dtype, sid2_shape_of(1)};
    return r.in[0].shape.rank == 1 && r.in[0].dtype == SID2_F64 && r.attr->dtype == wide(r.attr->dtype);
}

static bool infer_adam(rule r)
{
    enum { WEIGHTS, GRADS, M, V, NORM, HYPER };
    for (int i = WEIGHTS; i <= V; i++)
        if (!is(r.in[i], r.in[0].shape)) return false;
    r.out[0] = r.in[WEIGHTS];
    r.out[1] = r.in[M];
    r.out[2] = r.in[V];
    r.out[3] = r.in[GRADS];
    r.out[4] = (sid2_type){r.attr->dtype, r.in[WEIGHTS].shape};
    return is_vector(r.in[NORM], 1) && is_vector(r.in[HYPER], 7);
}

static bool infer_ema(rule r)
{
    r.out[0] = r.in[0];
    return is(r.in[1], r.in[0].shape) && is_vector(r.in[2], 1) && is_vector(r.in[3], 1);
}

bool sid2_op_infer(sid2_op op, const sid2_attr *attr, const sid2_type in[], sid2_type out[], sid2_error *err)
{
    static bool (*const rules[SID2_OP_COUNT])(rule) = {
#define OP(name, inputs, outputs, attributes, gradient, formula) infer_##name,
#define EACH(name, ...)                                          infer_each,
#include "op.def"
    };
    sid2_op_info info = sid2_op_describe(op);
    bool complete = true;
    for (int i = 0; i < info.input_count; i++) complete &= info.input[i].optional || present(in[i]);
    for (int i = info.input_count; i < SID2_MAX_INPUTS; i++) complete &= !present(in[i]);
    if (complete && rules[op]((rule){attr, in, out})) return true;

    char shapes[320] = "", text[64];
    size_t used = 0;
    for (int i = 0; i < info.input_count && used < sizeof shapes - 1; i++) {
        const char *shape = present(in[i]) ? sid2_shape_text(in[i].shape, text) : "-";
        size_t length = strlen(shape);
        if (used + length + 3 > sizeof shapes) break;
        if (i) memcpy(shapes + used, ", ", 2), used += 2;
        memcpy(shapes + used, shape, length + 1);
        used += length;
    }
    return sid2_fail(err, SID2_ERR_INTERNAL, "operator %s(%s) cannot take (%s)", info.name, info.inputs,
                     shapes);
}

/* ---- Cost rules ---- */

static double macs(sid2_op op, const sid2_type in[], const sid2_type out[])
{
    switch (op) {
    case SID2_OP_linear:
    case SID2_OP_linear_dgrad: return (double)sid2_shape_count(out[0].shape) * (double)last(in[0].shape);
    case SID2_OP_linear_wgrad: return (double)sid2_shape_count(in[0].shape) * (double)last(in[1].shape);
    case SID2_OP_conv2d:
    case SID2_OP_conv2d_dgrad: {
        double taps = (double)in[1].shape.dim[1] * (double)in[1].shape.dim[2];
        return (double)sid2_shape_count(out[0].shape) * (double)last(in[0].shape) * taps;
    }
    case SID2_OP_conv3d: {
        double taps = (double)(sid2_shape_count(in[1].shape) / in[1].shape.dim[0]);
        return (double)sid2_shape_count(out[0].shape) * taps;
    }
    case SID2_OP_conv2d_wgrad: {
        double taps = (double)out[0].shape.dim[1] * (double)out[0].shape.dim[2];
        return (double)sid2_shape_count(in[0].shape) * (double)last(in[1].shape) * taps;
    }
    case SID2_OP_attention: /* q k^T and p v */
        return 2 * (double)sid2_shape_count(out[0].shape) * (double)tokens_of(out[0].shape);
    case SID2_OP_attention_grad: /* the scores again, dp, dv, dq, dk */
        return 5 * (double)sid2_shape_count(out[1].shape) * (double)tokens_of(out[1].shape);
    default: return 0;
    }
}

static double bytes_of(sid2_type t)
{
    return present(t) ? (double)sid2_shape_count(t.shape) * (double)sid2_dtype_size(t.dtype) : 0;
}

sid2_cost sid2_op_cost(sid2_op op, const sid2_attr *attr, const sid2_type in[], const sid2_type out[])
{
    (void)attr;
    sid2_op_info info = sid2_op_describe(op);
    sid2_cost cost = {.multiply_adds = macs(op, in, out)};
    for (int i = 0; i < info.input_count; i++) cost.bytes += bytes_of(in[i]);
    for (int i = 0; i < info.output_count; i++)
        cost.bytes += bytes_of(out[i]) * (info.output[i].accumulate ? 2 : 1);
    return cost;
}
