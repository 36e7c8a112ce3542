/* Matrix products and convolutions by oneDNN.
 *
 * Two shapes of work cover six operators.
 *
 * A *product* is out = a * W + bias + residual: a matrix product where the kernel is 1 x 1, else a
 * convolution. The gradient by the input is one too, with W transposed and its taps turned round; so it runs
 * on the forward convolution, which in oneDNN is up to a third faster than its own backward-data kernel. A
 * convolution's W is kept in the layout that the primitive likes best, packed again only when its buffer's
 * version has moved: once when sampling, once per optimizer step when training. A matrix is read where it is:
 * packing saves 2 to 9 % of a product, but costs more than that when the weights change each step.
 *
 * A *weight gradient* is dW += dy^T x. The matrix product adds in place; the convolution writes its own
 * layout into scratch, and a reorder adds that to dW. The bias gradient is a column sum of our own: oneDNN's
 * costs up to a sixth of the convolution.
 *
 * Primitives are made once, in prepare. Where oneDNN has only a reference implementation (an old processor,
 * bf16 without AVX-512) prepare declines and our own loops run. */
#include "guard.h"
#include "kernel.h"
#include "onednn_compat.h"

#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ARGS = 8, LINE = 64 };

typedef struct primitive {
    dnnl_primitive_t handle;
    dnnl_exec_arg_t args[MAX_ARGS];
    const sid2_operand *operand[MAX_ARGS]; /* of each argument; NULL: memory of our own */
    int count;
} primitive;

typedef struct state {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    primitive main;    /* the product, or the weight gradient */
    primitive reorder; /* packs W before, or adds dW after; absent where main works on the plain layout */
    void *packed;
    size_t packed_bytes;
    uint64_t packed_version;
    bool is_packed;
    bool flip; /* W's taps are turned round, into scratch, before packing */
    bool copy_residual;
    /* Memories whose place in scratch is known only when running. */
    dnnl_memory_t scratchpad, scratch_weights;
    size_t scratch_weights_at, partial_sums_at;
} state;

/* What a call computes, in convolution terms. A linear layer is a 1 x 1 kernel on rows x 1 x 1 images. */
typedef struct geometry {
    int64_t batch, height, width, k; /* height and width 1 where k is */
    int64_t in, out;                 /* channels */
} geometry;

static int64_t last(const sid2_operand *t) { return t->shape.dim[t->shape.rank - 1]; }

static geometry geometry_of(const sid2_operand *a, const sid2_operand *w, int64_t out)
{
    geometry g = {.height = 1, .width = 1, .in = last(a), .out = out};
    g.k = w->shape.rank == 4 ? w->shape.dim[1] : 1;
    if (g.k > 1) {
        g.height = a->shape.dim[a->shape.rank - 3];
        g.width = a->shape.dim[a->shape.rank - 2];
    }
    g.batch = sid2_shape_count(a->shape) / (g.height * g.width * g.in);
    return g;
}

static size_t aligned(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

/* oneDNN reads the thread count from OpenMP, when a primitive is made and when it runs; the caller's own
 * setting is put back. */
static int set_threads(int threads)
{
    int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    return before;
}

/* ---- Pieces of a primitive ---- */
static dnnl_data_type_t dnnl_type(sid2_dtype dtype)
{
    return dtype == SID2_F32 ? dnnl_f32 : dtype == SID2_BF16 ? dnnl_bf16 : dnnl_data_type_undef;
}

static md rows_md(int64_t rows, int64_t columns, dnnl_data_type_t type)
{
    return md_make(2, (dnnl_dim_t[]){rows, columns}, type, (dnnl_dim_t[]){columns, 1});
}

static md image_md(const geometry *g, int64_t c, dnnl_data_type_t type)
{
    return md_make(4, (dnnl_dim_t[]){g->batch, c, g->height, g->width}, type,
                   (dnnl_dim_t[]){g->height * g->width * c, 1, g->width * c, c});
}

/* A kernel [out,in,k,k] whose output and input channels lie `out_step` and `in_step` apart; 0: any layout. */
static md kernel_md(const geometry *g, dnnl_data_type_t type, int64_t out_step, int64_t in_step,
                    int64_t column)
{
    return md_make(4, (dnnl_dim_t[]){g->out, g->in, g->k, g->k}, type,
                   out_step ? (dnnl_dim_t[]){out_step, in_step, g->k * column, column} : NULL);
}

/* Scratchpad from the caller; with `sum` the result is added to what the output holds. */
static dnnl_primitive_attr_t make_attr(bool sum)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    bool made = done(dnnl_primitive_attr_create(&attr)) &&
                done(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user)) &&
                done(dnnl_post_ops_create(&ops));
    if (made && sum) made = append_sum(ops) && done(dnnl_primitive_attr_set_post_ops(attr, ops));
    if (ops) dnnl_post_ops_destroy(ops);
    if (!made && attr) {
        dnnl_primitive_attr_destroy(attr);
        attr = NULL;
    }
    return attr;
}

/* Drops (and returns NULL for) what only a reference implementation would do. */
static dnnl_primitive_desc_t only_fast(dnnl_primitive_desc_t pd)
{
    const char *implementation = NULL;
    if (!pd) return NULL;
    if (!done(dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&implementation)) ||
        strstr(implementation, "ref")) {
        dnnl_primitive_desc_destroy(pd);
        return NULL;
    }
    return pd;
}

/* An operand, wherever it lies when the primitive runs, or (NULL) memory of our own. */
static dnnl_memory_t add_arg(state *s, primitive *p, int arg, md_view desc, const sid2_operand *operand,
                             void *own)
{
    dnnl_memory_t memory = NULL;
    if (!desc || p->count == MAX_ARGS ||
        !done(dnnl_memory_create(&memory, desc, s->engine, operand ? operand->data : own)))
        return NULL;
    p->operand[p->count] = operand;
    p->args[p->count++] = (dnnl_exec_arg_t){arg, memory};
    return memory;
}

static void free_primitive(primitive *p)
{
    if (p->handle) dnnl_primitive_destroy(p->handle);
    for (int i = 0; i < p->count; i++) dnnl_memory_destroy(p->args[i].memory);
}

/* Primitives are made and dropped by one thread at a time. Where two threads did so at once, oneDNN 2.6.3
 * computed wrong numbers in one convolution of some thousands; without its primitive cache it did not.
 * Running needs no lock. */
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

static void drop(sid2_call *call)
{
    state *s = call->state;
    if (!s) return;
    free_primitive(&s->main);
    free_primitive(&s->reorder);
    if (s->stream) dnnl_stream_destroy(s->stream);
    if (s->engine) dnnl_engine_destroy(s->engine);
    free(s->packed);
    free(s);
    call->state = NULL;
}

static void release(sid2_call *call)
{
    pthread_mutex_lock(&making);
    drop(call);
    pthread_mutex_unlock(&making);
}

static size_t owned(const sid2_call *call) { return ((const state *)call->state)->packed_bytes; }

static state *make_state(sid2_call *call, sid2_error *err)
{
    state *s = calloc(1, sizeof *s);
    if (!s) return sid2_fail(err, SID2_ERR_MEMORY, "no memory to prepare %s", sid2_op_name(call->op)), NULL;
    call->state = s;
    bool made = done(dnnl_engine_create(&s->engine, dnnl_cpu, 0)) &&
                done(dnnl_stream_create(&s->stream, s->engine, dnnl_stream_default_flags));
    return made ? s : NULL;
}

/* The scratchpad lies at the start of the call's scratch. */
static bool add_scratchpad(sid2_call *call, state *s, const_dnnl_primitive_desc_t pd)
{
    md_view desc = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    size_t bytes = desc ? dnnl_memory_desc_get_size(desc) : 0;
    call->scratch_bytes = aligned(bytes);
    if (bytes == 0) return true;
    s->scratchpad = add_arg(s, &s->main, DNNL_ARG_SCRATCHPAD, desc, NULL, DNNL_MEMORY_NONE);
    return s->scratchpad != NULL;
}

/* A reorder from one layout to another: from `source` (NULL: from scratch), into `packed` or, adding, to `target`. */
static bool make_reorder(state *s, md_view from, const sid2_operand *source, md_view to, void *packed,
                         const sid2_operand *target)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_desc_t pd = NULL;
    bool made = done(dnnl_primitive_attr_create(&attr)) && done(dnnl_post_ops_create(&ops));
    if (made && target) made = append_sum(ops) && done(dnnl_primitive_attr_set_post_ops(attr, ops));
    made = made && done(dnnl_reorder_primitive_desc_create(&pd, from, s->engine, to, s->engine, attr)) &&
           done(dnnl_primitive_create(&s->reorder.handle, pd));
    if (made) {
        dnnl_memory_t in = add_arg(s, &s->reorder, DNNL_ARG_FROM, from, source, NULL);
        made = in && add_arg(s, &s->reorder, DNNL_ARG_TO, to, target, packed);
        if (!source) s->scratch_weights = in;
    }
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (ops) dnnl_post_ops_destroy(ops);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return made;
}

/* ---- Products ---- */
typedef struct product {
    geometry g;
    const sid2_operand *a, *w, *bias, *residual, *out;
    bool transposed; /* W is read as the gradient by the input reads it */
    md a_md, w_wanted, w_plain, bias_md, out_md;
} product;

static product product_of(const sid2_call *call)
{
    bool dgrad = call->op == SID2_OP_linear_dgrad || call->op == SID2_OP_conv2d_dgrad;
    product p = {.a = &call->in[0], .w = &call->in[1], .out = &call->out[0], .transposed = dgrad};
    static const sid2_operand absent = {0};
    p.bias = dgrad ? &absent : &call->in[2];
    p.residual = dgrad ? &call->in[2] : &call->in[3];
    p.g = geometry_of(p.a, p.w, last(p.out));
    return p;
}

static bool describe_product(product *p)
{
    const geometry *g = &p->g;
    dnnl_data_type_t type = dnnl_type(p->a->dtype), w_type = dnnl_type(p->w->dtype);
    int64_t channels = last(p->w), filter = g->k * g->k * channels;
    int64_t out_step = p->transposed ? 1 : filter, in_step = p->transposed ? filter : 1;
    if (g->k == 1) {
        const dnnl_dim_t dims[] = {g->in, g->out}, steps[] = {in_step, out_step};
        p->a_md = rows_md(g->batch, g->in, type);
        p->out_md = rows_md(g->batch, g->out, dnnl_type(p->out->dtype));
        p->bias_md = rows_md(1, g->out, dnnl_f32);
        p->w_plain = md_make(2, dims, w_type, steps);
        p->w_wanted = md_make(2, dims, type, p->w->dtype == p->a->dtype ? steps : NULL);
    } else {
        p->a_md = image_md(g, g->in, type);
        p->out_md = image_md(g, g->out, dnnl_type(p->out->dtype));
        p->bias_md = md_make(1, (dnnl_dim_t[]){g->out}, dnnl_f32, (dnnl_dim_t[]){1});
        p->w_plain = kernel_md(g, w_type, out_step, in_step, channels);
        p->w_wanted = kernel_md(g, type, 0, 0, 0);
    }
    return p->a_md.made && p->out_md.made && p->bias_md.made && p->w_plain.made && p->w_wanted.made;
}

static dnnl_primitive_desc_t product_pd(dnnl_engine_t engine, const product *p)
{
    dnnl_primitive_attr_t attr = make_attr(p->residual->data != NULL);
    md_view bias = p->bias->data ? md_get(&p->bias_md) : NULL;
    if (!attr) return NULL;
    dnnl_primitive_desc_t pd =
        p->g.k == 1
            ? matmul_desc(engine, md_get(&p->a_md), md_get(&p->w_wanted), bias, md_get(&p->out_md), attr)
            : conv_desc(engine, CONV_FORWARD, md_get(&p->a_md), md_get(&p->w_wanted), bias,
                        md_get(&p->out_md), p->g.k / 2, NULL, attr);
    dnnl_primitive_attr_destroy(attr);
    return only_fast(pd);
}

/* W as the primitive wants it: its own memory where the layouts agree, else packed. */
static bool add_weights(sid2_call *call, state *s, const product *p, const_dnnl_primitive_desc_t pd,
                        sid2_error *err)
{
    md_view wanted = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    s->flip = p->transposed && p->g.k > 1;
    if (!s->flip && dnnl_memory_desc_equal(wanted, md_get(&p->w_plain)))
        return add_arg(s, &s->main, DNNL_ARG_WEIGHTS, wanted, p->w, NULL) != NULL;
    s->packed_bytes = aligned(dnnl_memory_desc_get_size(wanted));
    s->packed = aligned_alloc(LINE, s->packed_bytes);
    if (!s->packed)
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for %.1f MiB of packed weights",
                         sid2_op_name(call->op), (double)s->packed_bytes / (1 << 20));
    if (s->flip) {
        s->scratch_weights_at = call->scratch_bytes;
        call->scratch_bytes += aligned((size_t)sid2_shape_count(p->w->shape) * sid2_dtype_size(p->w->dtype));
    }
    return add_arg(s, &s->main, DNNL_ARG_WEIGHTS, wanted, NULL, s->packed) &&
           make_reorder(s, md_get(&p->w_plain), s->flip ? NULL : p->w, wanted, s->packed, NULL);
}

/* The residual is added in place. Where it is not the output already it is copied there first: faster than
 * oneDNN's binary post-op, by 5 to 10 % of a convolution. */
static bool build_product(sid2_call *call, state *s, const product *p, sid2_error *err)
{
    dnnl_primitive_desc_t pd = product_pd(s->engine, p);
    if (!pd) return false;
    s->copy_residual = p->residual->data && p->residual->data != p->out->data;
    bool made = done(dnnl_primitive_create(&s->main.handle, pd)) && add_scratchpad(call, s, pd) &&
                add_weights(call, s, p, pd, err) &&
                add_arg(s, &s->main, DNNL_ARG_SRC, md_get(&p->a_md), p->a, NULL) &&
                add_arg(s, &s->main, DNNL_ARG_DST, md_get(&p->out_md), p->out, NULL);
    if (made && p->bias->data) made = add_arg(s, &s->main, DNNL_ARG_BIAS, md_get(&p->bias_md), p->bias, NULL);
    dnnl_primitive_desc_destroy(pd);
    return made;
}

/* A prepare: `make` fills the call's state. On failure what was made is freed and the cause named. */
typedef struct preparation {
    sid2_call *call;
    bool (*make)(sid2_call *call, sid2_error *err);
    sid2_error *err;
    bool made;
} preparation;

/* Where memory ends oneDNN 2 builds some of its objects on the NULL that it was given, which nobody can catch. So there must be
 * room first: for a primitive, its code and its scratch, and more than malloc keeps when it is freed. */
static bool has_room(void)
{
    enum { ROOM = 32 << 20 };
    void *volatile reserve = malloc(ROOM);
    free(reserve);
    return reserve != NULL;
}

static void make_one(void *user)
{
    preparation *p = user;
    p->made = p->make(p->call, p->err);
}

static bool prepare(sid2_call *call, bool (*make)(sid2_call *call, sid2_error *err), sid2_error *err)
{
    preparation p = {call, make, err, false};
    pthread_mutex_lock(&making);
    int threads_before = set_threads(call->threads);
    onednn_starved = false;
    if (!has_room() || !sid2_guard(make_one, &p)) p.made = false, onednn_starved = true;
    omp_set_num_threads(threads_before);
    if (!p.made) drop(call);
    pthread_mutex_unlock(&making);
    if (!p.made && onednn_starved)
        sid2_fail(err, SID2_ERR_MEMORY, "no memory for oneDNN to prepare %s", sid2_op_name(call->op));
    else if (!p.made && (!err || err->code == SID2_OK))
        sid2_fail(err, SID2_ERR_UNSUPPORTED, "oneDNN has no fast %s for these tensors",
                  sid2_op_name(call->op));
    return p.made;
}

static bool make_product(sid2_call *call, sid2_error *err)
{
    product p = product_of(call);
    state *s = make_state(call, err);
    bool made = s && describe_product(&p) && build_product(call, s, &p, err);
    md_free(&p.a_md), md_free(&p.out_md), md_free(&p.bias_md), md_free(&p.w_plain), md_free(&p.w_wanted);
    return made;
}

static bool prepare_product(sid2_call *call, sid2_error *err) { return prepare(call, make_product, err); }

typedef struct execution {
    state *s;
    primitive *p;
    bool done;
} execution;

static void execute_one(void *user)
{
    execution *e = user;
    e->done = done(dnnl_primitive_execute(e->p->handle, e->s->stream, e->p->count, e->p->args)) &&
              done(dnnl_stream_wait(e->s->stream));
}

static void execute(sid2_call *call, primitive *p)
{
    execution e = {call->state, p, false};
    for (int i = 0; i < p->count; i++)
        if (p->operand[i]) dnnl_memory_set_data_handle(p->args[i].memory, p->operand[i]->data);
    onednn_starved = false;
    if (!sid2_guard(execute_one, &e) || onednn_starved)
        sid2_fail(call->error, SID2_ERR_MEMORY, "no memory for oneDNN to run it");
    else if (!e.done)
        sid2_fail(call->error, SID2_ERR_DEVICE, "oneDNN refused to run it");
}

/* to[o][tap] = from[o][last tap - tap], rows of input channels. */
static void flip_taps(const sid2_operand *w, char *to, int threads)
{
    int64_t taps = w->shape.dim[1] * w->shape.dim[2], filters = w->shape.dim[0];
    size_t row = (size_t)last(w) * sid2_dtype_size(w->dtype);
    const char *from = w->data;
#pragma omp parallel for num_threads(threads)
    for (int64_t o = 0; o < filters; o++)
        for (int64_t tap = 0; tap < taps; tap++)
            memcpy(to + (size_t)(o * taps + tap) * row, from + (size_t)(o * taps + taps - 1 - tap) * row,
                   row);
}

static void copy_rows(void *to, const void *from, size_t bytes, int threads)
{
    enum { BLOCK = 1 << 16 };
#pragma omp parallel for num_threads(threads)
    for (size_t at = 0; at < bytes; at += BLOCK)
        memcpy((char *)to + at, (const char *)from + at, bytes - at < BLOCK ? bytes - at : BLOCK);
}

static void pack(sid2_call *call, state *s)
{
    const uint64_t *version = call->in[1].version;
    if (!s->reorder.handle || (version && s->is_packed && s->packed_version == *version)) return;
    if (s->flip) {
        char *turned = (char *)call->scratch + s->scratch_weights_at;
        flip_taps(&call->in[1], turned, call->threads);
        dnnl_memory_set_data_handle(s->scratch_weights, turned);
    }
    execute(call, &s->reorder);
    s->is_packed = true;
    if (version) s->packed_version = *version;
}

static void run_product(sid2_call *call)
{
    state *s = call->state;
    int before = set_threads(call->threads);
    if (s->scratchpad) dnnl_memory_set_data_handle(s->scratchpad, call->scratch);
    pack(call, s);
    if (s->copy_residual) {
        product p = product_of(call);
        copy_rows(p.out->data, p.residual->data,
                  (size_t)sid2_shape_count(p.out->shape) * sid2_dtype_size(p.out->dtype), call->threads);
    }
    execute(call, &s->main);
    omp_set_num_threads(before);
}

/* ---- Weight gradients ---- */
static bool build_linear_wgrad(sid2_call *call, state *s, const geometry *g)
{
    dnnl_data_type_t type = dnnl_type(call->in[0].dtype);
    md dy = md_make(2, (dnnl_dim_t[]){g->out, g->batch}, type, (dnnl_dim_t[]){1, g->out});
    md x = rows_md(g->batch, g->in, type), dw = rows_md(g->out, g->in, dnnl_f32);
    dnnl_primitive_attr_t attr = make_attr(true);
    dnnl_primitive_desc_t pd = NULL;
    if (attr && dy.made && x.made && dw.made)
        pd = only_fast(matmul_desc(s->engine, md_get(&dy), md_get(&x), NULL, md_get(&dw), attr));
    bool made = pd && done(dnnl_primitive_create(&s->main.handle, pd)) && add_scratchpad(call, s, pd) &&
                add_arg(s, &s->main, DNNL_ARG_SRC, md_get(&dy), &call->in[1], NULL) &&
                add_arg(s, &s->main, DNNL_ARG_WEIGHTS, md_get(&x), &call->in[0], NULL) &&
                add_arg(s, &s->main, DNNL_ARG_DST, md_get(&dw), &call->out[0], NULL);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    md_free(&dy), md_free(&x), md_free(&dw);
    return made;
}

static bool build_conv_wgrad(sid2_call *call, state *s, const geometry *g)
{
    dnnl_data_type_t type = dnnl_type(call->in[0].dtype);
    md x = image_md(g, g->in, type), dy = image_md(g, g->out, type), w = kernel_md(g, type, 0, 0, 0);
    md dw = kernel_md(g, dnnl_f32, 0, 0, 0), plain = kernel_md(g, dnnl_f32, g->k * g->k * g->in, 1, g->in);
    dnnl_primitive_attr_t attr = make_attr(false);
    dnnl_primitive_desc_t hint = NULL, pd = NULL;
    if (attr && x.made && dy.made && w.made && dw.made && plain.made)
        hint = conv_desc(s->engine, CONV_FORWARD, md_get(&x), md_get(&w), NULL, md_get(&dy), g->k / 2, NULL,
                         attr);
    if (hint)
        pd = only_fast(conv_desc(s->engine, CONV_WGRAD, md_get(&x), md_get(&dw), NULL, md_get(&dy), g->k / 2,
                                 hint, attr));
    bool made = pd && done(dnnl_primitive_create(&s->main.handle, pd)) && add_scratchpad(call, s, pd);
    if (made) {
        md_view own = dnnl_primitive_desc_query_md(pd, dnnl_query_diff_weights_md, 0);
        s->scratch_weights_at = call->scratch_bytes;
        call->scratch_bytes += aligned(dnnl_memory_desc_get_size(own));
        made = add_arg(s, &s->main, DNNL_ARG_SRC, md_get(&x), &call->in[0], NULL) &&
               add_arg(s, &s->main, DNNL_ARG_DIFF_DST, md_get(&dy), &call->in[1], NULL) &&
               make_reorder(s, own, NULL, md_get(&plain), NULL, &call->out[0]) &&
               add_arg(s, &s->main, DNNL_ARG_DIFF_WEIGHTS, own, NULL, DNNL_MEMORY_NONE);
    }
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (hint) dnnl_primitive_desc_destroy(hint);
    if (attr) dnnl_primitive_attr_destroy(attr);
    md_free(&x), md_free(&dy), md_free(&w), md_free(&dw), md_free(&plain);
    return made;
}

static bool make_wgrad(sid2_call *call, sid2_error *err)
{
    const sid2_operand *x = &call->in[0], *dy = &call->in[1];
    geometry g = geometry_of(x, &call->out[0], last(dy));
    state *s = make_state(call, err);
    bool made = s && x->dtype == dy->dtype &&
                (g.k == 1 ? build_linear_wgrad(call, s, &g) : build_conv_wgrad(call, s, &g));
    if (made && call->out[1].data) {
        s->partial_sums_at = call->scratch_bytes;
        call->scratch_bytes += aligned((size_t)call->threads * (size_t)g.out * sizeof(float));
    }
    return made;
}

static bool prepare_wgrad(sid2_call *call, sid2_error *err)
{
    if (!call->out[0].data) /* the bias gradient alone is no product */
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: not a weight gradient", sid2_op_name(call->op));
    return prepare(call, make_wgrad, err);
}

/* sum[c] += rows begin .. end of dy[rows,n]; four rows at a time, whole rows, so that memory streams. */
#define SUM_ROWS(name, type, widen)                                                                          \
    static void name(const type *dy, int64_t n, int64_t begin, int64_t end, float *sum)                      \
    {                                                                                                        \
        int64_t r = begin;                                                                                   \
        for (; r + 4 <= end; r += 4) {                                                                       \
            const type *a = dy + r * n, *b = a + n, *c = b + n, *d = c + n;                                  \
            for (int64_t i = 0; i < n; i++)                                                                  \
                sum[i] += (widen(a[i]) + widen(b[i])) + (widen(c[i]) + widen(d[i]));                         \
        }                                                                                                    \
        for (; r < end; r++)                                                                                 \
            for (int64_t i = 0; i < n; i++) sum[i] += widen(dy[r * n + i]);                                  \
    }

static inline float same(float value) { return value; }

static inline float widen_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

SUM_ROWS(sum_rows_f32, float, same)
SUM_ROWS(sum_rows_bf16, uint16_t, widen_bf16)

/* dbias += the column sums of dy: a share of the rows per thread, then the shares in order. */
static void add_bias_gradient(sid2_call *call, float *partial)
{
    const sid2_operand *dy = &call->in[1];
    int64_t n = last(dy), rows = sid2_shape_count(dy->shape) / n,
            share = (rows + call->threads - 1) / call->threads;
    float *dbias = call->out[1].data;
#pragma omp parallel for num_threads(call->threads) schedule(static, 1)
    for (int t = 0; t < call->threads; t++) {
        int64_t begin = t * share, end = begin + share < rows ? begin + share : rows;
        memset(partial + t * n, 0, (size_t)n * sizeof(float));
        if (begin >= end) continue;
        if (dy->dtype == SID2_F32)
            sum_rows_f32(dy->data, n, begin, end, partial + t * n);
        else
            sum_rows_bf16(dy->data, n, begin, end, partial + t * n);
    }
    for (int t = 0; t < call->threads; t++)
        for (int64_t c = 0; c < n; c++) dbias[c] += partial[t * n + c];
}

static void run_wgrad(sid2_call *call)
{
    state *s = call->state;
    char *scratch = call->scratch;
    int before = set_threads(call->threads);
    if (s->scratchpad) dnnl_memory_set_data_handle(s->scratchpad, scratch);
    if (s->reorder.handle) {
        char *dw = scratch + s->scratch_weights_at;
        dnnl_memory_set_data_handle(s->scratch_weights, dw);
        dnnl_memory_set_data_handle(s->main.args[s->main.count - 1].memory, dw);
    }
    execute(call, &s->main);
    if (s->reorder.handle) execute(call, &s->reorder);
    if (call->out[1].data) add_bias_gradient(call, (float *)(void *)(scratch + s->partial_sums_at));
    omp_set_num_threads(before);
}

#define PRODUCT                                                                                              \
    {                                                                                                        \
        .run = run_product, .prepare = prepare_product, .release = release, .owned = owned                   \
    }
#define WGRAD                                                                                                \
    {                                                                                                        \
        .run = run_wgrad, .prepare = prepare_wgrad, .release = release, .owned = owned                       \
    }
const sid2_kernel sid2_cpu_onednn[SID2_OP_COUNT] = {
    [SID2_OP_linear] = PRODUCT, [SID2_OP_linear_dgrad] = PRODUCT, [SID2_OP_linear_wgrad] = WGRAD,
    [SID2_OP_conv2d] = PRODUCT, [SID2_OP_conv2d_dgrad] = PRODUCT, [SID2_OP_conv2d_wgrad] = WGRAD,
};

const char *sid2_cpu_onednn_version(void)
{
#define TEXT(x)  #x
#define TEXT2(x) TEXT(x)
    return "oneDNN " TEXT2(DNNL_VERSION_MAJOR) "." TEXT2(DNNL_VERSION_MINOR) "." TEXT2(
        DNNL_VERSION_PATCH) " (OpenMP)";
}
