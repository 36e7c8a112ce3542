#include "opcheck.h"

#include "text.h"

#include "element.h"
#include "opcase.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = SID2_PARAM_ALIGN }; /* elements before and after each tensor */
enum { TENSORS = SID2_MAX_INPUTS + SID2_MAX_OUTPUTS };

static bool present(sid2_type t) { return t.shape.rank >= 0; }
static int64_t count_of(sid2_type t) { return present(t) ? sid2_shape_count(t.shape) : 0; }

static bool is_float(sid2_dtype dtype)
{
    return dtype == SID2_F32 || dtype == SID2_BF16 || dtype == SID2_F16 || dtype == SID2_F64;
}

/* Where integers are not meant, the reference sees float64. */
static sid2_dtype widened(sid2_dtype dtype) { return is_float(dtype) ? SID2_F64 : dtype; }

/* One operator with concrete numbers, for one device. */
typedef struct call {
    sid2_op op;
    sid2_attr attr;
    sid2_type in[SID2_MAX_INPUTS], out[SID2_MAX_OUTPUTS]; /* rank -1: absent */
    int alias[SID2_MAX_OUTPUTS];
    const double *input[SID2_MAX_INPUTS];
    const double *initial[SID2_MAX_OUTPUTS]; /* of accumulating outputs; else NULL */
    double *output[SID2_MAX_OUTPUTS];
} call;

/* ---- Running a call on a device ---- */

typedef struct slot {
    char name[16];
    sid2_type type;
    const double *values; /* NULL: starts as NaN */
    double *result;       /* NULL: must not change */
    sid2_buffer *buffer;
    void *bytes;
    sid2_tensor tensor;
} slot;

typedef struct runner {
    sid2_device *device;
    sid2_graph *graph;
    sid2_program *program;
    sid2_buffer *none; /* for the empty flat buffers */
    slot slots[TENSORS];
    int slot_count;
    bool intact; /* guards and inputs */
} runner;

static size_t slot_bytes(const slot *s)
{
    return (size_t)(count_of(s->type) + 2 * GUARD) * sid2_dtype_size(s->type.dtype);
}

static unsigned char *tensor_bytes(const slot *s)
{
    return (unsigned char *)s->bytes + GUARD * sid2_dtype_size(s->type.dtype);
}

/* What lies around a tensor, and in it before it is written: a signalling NaN, which arithmetic never hands on as it
 * is; around what is written another than around what is only read, so that a copy of one shows too. In bytes and
 * integers, a value that a wrong write will rarely match. */
static void fill_guards(slot *s, bool written)
{
    uint64_t pattern = 0xa5a5a5a5a5a5a5a5;
    if (s->type.dtype == SID2_F64) pattern = 0x7ff4a5a5a5a5a5a5;
    if (s->type.dtype == SID2_F32) pattern = 0x7fa5a5a5;
    if (s->type.dtype == SID2_BF16) pattern = 0x7fa5;
    if (s->type.dtype == SID2_F16) pattern = 0x7da5;
    if (written) pattern ^= 0x3c;
    size_t size = sid2_dtype_size(s->type.dtype);
    for (size_t at = 0; at < slot_bytes(s); at += size)
        memcpy((unsigned char *)s->bytes + at, &pattern, size); /* low bytes first */
}

/* A buffer with guards, filled, and its tensor in the graph. */
static slot *add_slot(runner *r, const char *prefix, int index, sid2_type type, const double *values,
                      bool written, sid2_error *err)
{
    slot *s = &r->slots[r->slot_count++];
    *s = (slot){.type = type, .values = values};
    snprintf(s->name, sizeof s->name, "%s%d", prefix, index);
    s->bytes = malloc(slot_bytes(s));
    if (!s->bytes) return sid2_fail(err, SID2_ERR_MEMORY, "opcheck: out of memory"), NULL;
    fill_guards(s, written);
    for (int64_t i = 0, n = count_of(type); values && i < n; i++)
        sid2_element_set(type.dtype, tensor_bytes(s), i, values[i]);
    s->buffer = sid2_buffer_create(r->device, slot_bytes(s), err);
    if (!s->buffer || !sid2_buffer_upload(s->buffer, 0, s->bytes, slot_bytes(s), err)) return NULL;
    sid2_tensor base =
        sid2_graph_external(r->graph, s->name, type.dtype, sid2_shape_of(count_of(type) + 2 * GUARD));
    s->tensor = sid2_graph_view(r->graph, base, GUARD, type.shape);
    return s;
}

static bool build(runner *r, const call *c, sid2_error *err)
{
    sid2_tensor in[SID2_MAX_INPUTS], out[SID2_MAX_OUTPUTS];
    slot *of_input[SID2_MAX_INPUTS] = {0};
    for (int i = 0; i < SID2_MAX_INPUTS; i++) {
        in[i] = SID2_NONE;
        if (!present(c->in[i])) continue;
        bool written = false;
        for (int o = 0; o < SID2_MAX_OUTPUTS; o++) written |= present(c->out[o]) && c->alias[o] == i;
        of_input[i] = add_slot(r, "in", i, c->in[i], c->input[i], written, err);
        if (!of_input[i]) return false;
        in[i] = of_input[i]->tensor;
    }
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) {
        out[i] = SID2_NONE;
        if (!present(c->out[i])) continue;
        slot *s = c->alias[i] >= 0 ? of_input[c->alias[i]]
                                   : add_slot(r, "out", i, c->out[i], c->initial[i], true, err);
        if (!s) return false;
        s->result = c->output[i];
        out[i] = s->tensor;
    }
    sid2_graph_emit_into(r->graph, c->op, c->attr, in, SID2_MAX_INPUTS, out, SID2_MAX_OUTPUTS);
    return sid2_graph_finish(r->graph, err);
}

/* Reads results back and looks at everything that should be as it was. */
static bool collect(runner *r, slot *s, sid2_error *err)
{
    size_t size = slot_bytes(s), margin = GUARD * sid2_dtype_size(s->type.dtype);
    unsigned char *after = malloc(size);
    if (!after) return sid2_fail(err, SID2_ERR_MEMORY, "opcheck: out of memory");
    bool ok = sid2_buffer_download(s->buffer, 0, after, size, err);
    if (ok) {
        r->intact &= !memcmp(after, s->bytes, margin);
        r->intact &= !memcmp(after + size - margin, (unsigned char *)s->bytes + size - margin, margin);
        if (!s->result) r->intact &= !memcmp(after, s->bytes, size);
        for (int64_t i = 0, n = count_of(s->type); s->result && i < n; i++)
            s->result[i] = sid2_element_get(s->type.dtype, after + margin, i);
    }
    free(after);
    return ok;
}

static bool compile(runner *r, const call *c, sid2_error *err)
{
    if (!r->graph) return sid2_fail(err, SID2_ERR_MEMORY, "opcheck: out of memory");
    if (!build(r, c, err) || !(r->none = sid2_buffer_create(r->device, 64, err))) return false;
    sid2_binding bindings[TENSORS + 3] = {{"weights", r->none}, {"weights_low", r->none}, {"grads", r->none}};
    for (int i = 0; i < r->slot_count; i++)
        bindings[3 + i] = (sid2_binding){r->slots[i].name, r->slots[i].buffer};
    r->program = sid2_program_create(r->device, r->graph, NULL, bindings, 3 + r->slot_count, err);
    return r->program != NULL;
}

static void clear(runner *r)
{
    sid2_program_destroy(r->program);
    sid2_graph_destroy(r->graph);
    sid2_buffer_destroy(r->none);
    for (int i = 0; i < r->slot_count; i++) {
        sid2_buffer_destroy(r->slots[i].buffer);
        free(r->slots[i].bytes);
    }
}

static bool execute(sid2_device *device, const call *c, bool *intact, sid2_error *err)
{
    runner r = {.device = device, .graph = sid2_graph_create(SID2_F32), .intact = true};
    bool ok = compile(&r, c, err) && sid2_program_run(r.program, err);
    for (int i = 0; ok && i < r.slot_count; i++) ok = collect(&r, &r.slots[i], err);
    if (intact) *intact = r.intact;
    clear(&r);
    return ok;
}

/* ---- A case: numbers, two calls, a comparison ---- */

typedef struct numbers {
    double *input[SID2_MAX_INPUTS], *initial[SID2_MAX_OUTPUTS];
    double *got[SID2_MAX_OUTPUTS], *expected[SID2_MAX_OUTPUTS];
} numbers;

static void release(numbers *n)
{
    for (int i = 0; i < SID2_MAX_INPUTS; i++) free(n->input[i]);
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) {
        free(n->initial[i]);
        free(n->got[i]);
        free(n->expected[i]);
    }
}

static double *reserve(int64_t count) { return malloc((size_t)(count ? count : 1) * sizeof(double)); }

static double draw_number(const sid2_opcase_input *in, sid2_draw *draw)
{
    switch (in->fill) {
    case SID2_FILL_NORMAL: return in->a + in->b * sid2_draw_normal(draw);
    case SID2_FILL_UNIFORM: return in->a + (in->b - in->a) * sid2_draw_uniform(draw);
    case SID2_FILL_INTEGER: return floor(in->a + (in->b - in->a + 1) * sid2_draw_uniform(draw));
    case SID2_FILL_WORDS: return sid2_draw_word(draw);
    case SID2_FILL_FORWARD: break;
    }
    return 0;
}

static bool draw_numbers(const sid2_opcase *c, const sid2_op_info *info, sid2_draw *draw, numbers *n,
                         sid2_error *err)
{
    for (int i = 0; i < info->input_count; i++) {
        const sid2_opcase_input *in = &c->in[i];
        int64_t count = count_of(in->type);
        if (!present(in->type)) continue;
        if (!(n->input[i] = reserve(count))) return sid2_fail(err, SID2_ERR_MEMORY, "opcheck: out of memory");
        for (int64_t j = 0; j < count; j++)
            n->input[i][j] = sid2_element_round(in->type.dtype, draw_number(in, draw));
    }
    for (int i = 0; i < info->output_count; i++) {
        int64_t count = count_of(c->out[i]);
        if (!c->wanted[i]) continue;
        n->got[i] = reserve(count);
        n->expected[i] = reserve(count);
        if (info->output[i].accumulate) n->initial[i] = reserve(count);
        if (!n->got[i] || !n->expected[i] || (info->output[i].accumulate && !n->initial[i]))
            return sid2_fail(err, SID2_ERR_MEMORY, "opcheck: out of memory");
        for (int64_t j = 0; n->initial[i] && j < count; j++)
            n->initial[i][j] = sid2_element_round(c->out[i].dtype, sid2_draw_normal(draw));
    }
    return true;
}

/* In one case of twelve, makes one number of one floating input NaN. Returns which input, or -1. */
static int poison(const sid2_opcase *c, const sid2_op_info *info, sid2_draw draw, numbers *n)
{
    draw.next += 1u << 30; /* apart from all other draws */
    if (sid2_draw_word(&draw) % 12) return -1;
    int i = (int)(sid2_draw_word(&draw) % (uint32_t)info->input_count);
    const sid2_opcase_input *in = &c->in[i];
    if (!present(in->type) || !is_float(in->type.dtype) || in->fill == SID2_FILL_FORWARD) return -1;
    n->input[i][sid2_draw_word(&draw) % (uint64_t)count_of(in->type)] = NAN;
    return i;
}

/* Fills the inputs that a forward pass leaves behind: statistics, an attention's output. */
static bool run_forward(sid2_device *reference, const sid2_opcase *c, numbers *n, sid2_error *err)
{
    call f = {.op = c->forward, .attr = c->attr};
    sid2_type in[SID2_MAX_INPUTS];
    bool any = false;
    for (int i = 0; i < SID2_MAX_INPUTS; i++) {
        any |= present(c->in[i].type) && c->in[i].fill == SID2_FILL_FORWARD;
        in[i].shape.rank = -1;
        if (c->forward_in[i] >= 0) {
            in[i] = c->in[c->forward_in[i]].type;
            in[i].dtype = widened(in[i].dtype);
            f.input[i] = n->input[c->forward_in[i]];
        }
        f.in[i] = in[i];
    }
    if (!any) return true;
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) f.out[i].shape.rank = f.alias[i] = -1;
    if (!sid2_op_infer(f.op, &f.attr, in, f.out, err)) return false;
    bool ok = true;
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++)
        if (present(f.out[i]) && !(f.output[i] = reserve(count_of(f.out[i]))))
            ok = sid2_fail(err, SID2_ERR_MEMORY, "opcheck: out of memory");
    ok = ok && execute(reference, &f, NULL, err);
    for (int i = 0; ok && i < SID2_MAX_INPUTS; i++)
        for (int64_t j = 0, count = count_of(c->in[i].type); c->in[i].fill == SID2_FILL_FORWARD && j < count;
             j++)
            n->input[i][j] = sid2_element_round(c->in[i].type.dtype, f.output[(int)c->in[i].a][j]);
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) free(f.output[i]);
    return ok;
}

/* The case in the device's own types, or all in float64. */
static bool make_call(const sid2_opcase *c, const numbers *n, bool wide, call *to, sid2_error *err)
{
    *to = (call){.op = c->op, .attr = c->attr};
    sid2_type in[SID2_MAX_INPUTS], out[SID2_MAX_OUTPUTS];
    for (int i = 0; i < SID2_MAX_INPUTS; i++) {
        in[i] = c->in[i].type;
        if (wide) in[i].dtype = widened(in[i].dtype);
        to->in[i] = in[i];
        to->input[i] = n->input[i];
    }
    if (wide) to->attr.dtype = widened(to->attr.dtype);
    if (!sid2_op_infer(c->op, &to->attr, in, out, err)) return false;
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) {
        to->alias[i] = wide ? -1 : c->alias[i];
        to->out[i].shape.rank = -1;
        if (!c->wanted[i]) continue;
        to->out[i] = out[i];
        to->initial[i] = n->initial[i];
        to->output[i] = wide ? n->expected[i] : n->got[i];
    }
    return true;
}

/* Half a unit in the last place, relative. */
static double rounding(sid2_dtype dtype)
{
    switch (dtype) {
    case SID2_BF16: return 0x1p-8;
    case SID2_F16: return 0x1p-11;
    case SID2_F32: return 0x1p-24;
    default: return 0;
    }
}

/* Roundings of intermediate numbers to a 16-bit type that a device may do: probabilities in attention, as
 * matrix units take them; and what it says of itself. */
static double inner_roundings(const sid2_opcase *c, int output, const sid2_device_info *device)
{
    switch (c->op) {
    case SID2_OP_attention: return 2 * rounding(c->in[0].type.dtype);
    case SID2_OP_attention_grad: return 4 * rounding(c->in[0].type.dtype);
    case SID2_OP_linear: /* cublasLt takes a bias in the output's type only */
    case SID2_OP_conv2d: return present(c->in[2].type) ? rounding(c->out[0].dtype) : 0;
    case SID2_OP_conv2d_wgrad:
        return output == 0 && device->rounds_conv_wgrad ? rounding(c->in[0].type.dtype) : 0;
    default: return 0;
    }
}

/* How far an element may be from what is expected; see opcheck.h. before: what it was added to. */
static double allowance(const sid2_opcase *c, int output, const sid2_device_info *device, double expected,
                        double before, double rms)
{
    if (c->out[output].dtype == SID2_U8)
        return 1; /* a level next door, where a rounding falls the other way */
    if (c->out[output].dtype == SID2_F64) return fabs(expected) * 0x1p-27; /* sums of squares */
    double size = fabs(expected) + rms, sum = 8 * 0x1p-24 * sqrt(1 + (double)c->length[output]);
    double inner = inner_roundings(c, output, device) * (size + fabs(before));
    double smallest = c->out[output].dtype == SID2_F16 ? 0x1p-25 : 0; /* half of what f16 can tell from 0 */
    return size * rounding(c->out[output].dtype) + inner + (size + c->magnitude[output]) * sum + smallest;
}

static void describe_failure(const sid2_opcase *c, const sid2_op_info *info, int number, const char *what,
                             sid2_opcheck_result *result)
{
    if (result->failures++) return;
    char text[64];
    int used = snprintf(result->failure, sizeof result->failure, "%s case %d: %s;", info->name, number, what);
    for (int i = 0; i < info->input_count && used > 0 && (size_t)used < sizeof result->failure; i++)
        if (present(c->in[i].type))
            used += snprintf(result->failure + used, sizeof result->failure - (size_t)used, " %d:%s%s", i,
                             sid2_shape_text(c->in[i].type.shape, text), c->alias[0] == i ? "=" : "");
}

static void compare(const sid2_opcase *c, const sid2_op_info *info, const sid2_device_info *device,
                    const numbers *n, int number, bool intact, sid2_opcheck_result *result)
{
    bool failed = !intact;
    char what[120] = "memory beside a tensor, or an input, was overwritten";
    for (int o = 0; o < SID2_MAX_OUTPUTS; o++) {
        if (!c->wanted[o]) continue;
        int64_t count = count_of(c->out[o]);
        double squares = 0;
        for (int64_t i = 0; i < count; i++) squares += n->expected[o][i] * n->expected[o][i];
        double rms = sqrt(squares / (double)(count ? count : 1));
        for (int64_t i = 0; i < count; i++) {
            double got = n->got[o][i], expected = n->expected[o][i], error = fabs(got - expected);
            double before = n->initial[o] ? n->initial[o][i] : 0;
            double allowed = allowance(c, o, device, expected, before, rms);
            if (isnan(error)) error = INFINITY;
            if (error / allowed > result->worst) result->worst = error / allowed;
            if (error <= allowed || failed) continue;
            failed = true;
            sid2_text_format(what, sizeof what,
                             "output %d [%lld] is %.9g, expected %.9g, off by %.1f x allowed", o,
                             (long long)i, got, expected, error / allowed);
        }
    }
    if (failed) describe_failure(c, info, number, what, result);
}

static void compare_nan(const sid2_opcase *c, const sid2_op_info *info, const numbers *n, int number,
                        int poisoned, bool intact, sid2_opcheck_result *result)
{
    bool failed = !intact;
    char what[120] = "memory beside a tensor, or an input, was overwritten";
    for (int o = 0; o < SID2_MAX_OUTPUTS; o++)
        for (int64_t i = 0; c->wanted[o] && !failed && i < count_of(c->out[o]); i++) {
            failed = isnan(n->expected[o][i]) && (o ? isfinite(n->got[o][i]) : !isnan(n->got[o][i]));
            if (failed)
                sid2_text_format(what, sizeof what,
                                 "input %d has a NaN, and output %d [%lld] is %.9g, not NaN", poisoned, o,
                                 (long long)i, n->got[o][i]);
        }
    if (failed) describe_failure(c, info, number, what, result);
}

static bool run_case(sid2_device *device, sid2_device *reference, sid2_op op, sid2_dtype dtype, uint64_t seed,
                     int number, sid2_opcheck_result *result, sid2_error *err)
{
    const sid2_op_info info = sid2_op_describe(op);
    sid2_draw draw = {.seed = seed, .sample = (uint64_t)op << 32 | (uint32_t)number};
    sid2_opcase c;
    numbers n = {0};
    call tested, arbiter;
    bool intact = false;
    bool ok = sid2_opcase_draw(op, dtype, &draw, &c, err) && draw_numbers(&c, &info, &draw, &n, err);
    int poisoned = ok ? poison(&c, &info, draw, &n) : -1;
    ok = ok && run_forward(reference, &c, &n, err) && make_call(&c, &n, false, &tested, err) &&
         make_call(&c, &n, true, &arbiter, err) && execute(device, &tested, &intact, err) &&
         execute(reference, &arbiter, NULL, err);
    if (ok && poisoned >= 0)
        compare_nan(&c, &info, &n, number, poisoned, intact, result);
    else if (ok)
        compare(&c, &info, sid2_device_describe(device), &n, number, intact, result);
    release(&n);
    return ok;
}

bool sid2_opcheck_run(sid2_device *device, sid2_device *reference, sid2_op op, sid2_dtype dtype,
                      uint64_t seed, int cases, sid2_opcheck_result *result, sid2_error *err)
{
    *result = (sid2_opcheck_result){0};
    for (int i = 0; i < cases; i++, result->cases++) {
        sid2_error why = {0};
        if (!run_case(device, reference, op, dtype, seed, i, result, &why))
            return sid2_fail(err, why.code, "checking operator %s (%s), case %d: %s", sid2_op_name(op),
                             sid2_dtype_name(dtype), i, why.message);
    }
    return true;
}

bool sid2_opcheck_compile(sid2_device *device, sid2_op op, sid2_dtype dtype, uint64_t seed, int cases,
                          sid2_error *err)
{
    const numbers none = {0};
    for (int i = 0; i < cases; i++) {
        sid2_draw draw = {.seed = seed, .sample = (uint64_t)op << 32 | (uint32_t)i};
        sid2_opcase c;
        call made;
        runner r = {.device = device, .graph = sid2_graph_create(SID2_F32)};
        bool ok = sid2_opcase_draw(op, dtype, &draw, &c, err) && make_call(&c, &none, false, &made, err) &&
                  compile(&r, &made, err);
        clear(&r);
        if (!ok) return false;
    }
    return true;
}
