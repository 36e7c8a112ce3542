#include "state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double sid2_exponential_decay(const sid2_average *average, uint64_t update)
{
    double decay = average->rate, number = (double)update, ramp = (1 + number) / (10 + number);
    return average->rampup && ramp < decay ? ramp : decay;
}

size_t sid2_state_extra(const sid2_state_rule *rule, bool masters, int64_t elements)
{
    size_t arrays = (rule->trained ? 2 : 0) + (size_t)rule->average_count + masters;
    return arrays * (size_t)elements * sizeof(float);
}

size_t sid2_state_snapshot(const sid2_state_rule *rule, int64_t elements)
{
    size_t arrays = 1 + (rule->trained ? 2 : 0) + (size_t)rule->average_count;
    return (arrays + 2) * (size_t)elements * sizeof(float);
}

static int64_t blocks_of(int64_t elements) { return (elements + SID2_SUM_BLOCK - 1) / SID2_SUM_BLOCK; }

/* Equal, in whole blocks, but for the front: that is whole last, with nothing behind which it could leave, and small. */
sid2_span sid2_state_bucket(int64_t elements, int bucket, int buckets)
{
    enum { FRONT = 12 };
    int64_t blocks = blocks_of(elements), front = buckets > 1 ? blocks / FRONT : 0, others = buckets - 1,
            first = bucket ? front + (blocks - front) * (bucket - 1) / others : 0,
            next = bucket < others ? front + (blocks - front) * bucket / others : blocks;
    int64_t end = next * SID2_SUM_BLOCK < elements ? next * SID2_SUM_BLOCK : elements;
    return (sid2_span){first * SID2_SUM_BLOCK, end - first * SID2_SUM_BLOCK};
}

int64_t sid2_state_part(int64_t elements, int ranks)
{
    return sid2_part_of(0, ranks, (sid2_span){0, elements}, SID2_SUM_BLOCK).count;
}

const char *sid2_state_buffer(const sid2_state *s, const char *what, char name[96])
{
    return sid2_params_buffer(s->rule.name, what, name);
}

/* ---- The update ---- */

static sid2_tensor external(sid2_graph *g, const sid2_state *s, const char *what, sid2_dtype dtype,
                            int64_t count)
{
    char name[96];
    return sid2_graph_external(g, sid2_state_buffer(s, what, name), dtype, sid2_shape_of(count));
}

/* What an update reads and writes: whole arrays, and those of which there is a part, bucket after bucket. */
typedef struct arrays {
    sid2_tensor weights, grads, m, v, average[SID2_MAX_AVERAGES], shares, hyper, sums, norm;
    sid2_tensor low, vectors, rows; /* beside masters; rows: of a bucket's part, those that vectors lie in */
} arrays;

static arrays make_arrays(sid2_graph *g, const sid2_state *s)
{
    int64_t all = s->params->elements, count = s->rule.average_count;
    arrays a = {.weights = external(g, s, "weights", SID2_F32, s->masters ? s->owned : all),
                .grads = external(g, s, "grads", SID2_F32, all),
                .m = external(g, s, "m", SID2_F32, s->owned),
                .v = external(g, s, "v", SID2_F32, s->owned),
                .hyper = external(g, s, "hyper", SID2_F32, 7),
                .sums = external(g, s, "sums", SID2_F64, blocks_of(all))};
    for (int i = 0; i < count; i++)
        a.average[i] = external(g, s, s->rule.averages[i].name, SID2_F32, s->owned);
    if (count) a.shares = external(g, s, "shares", SID2_F32, count);
    if (!s->masters) return a;
    int64_t vectors = s->params->vector_elements;
    a.low = external(g, s, "weights_low", s->graph->compute, all);
    a.vectors = external(g, s, "vectors", SID2_F32, vectors);
    a.rows = external(g, s, "rows", SID2_I32, vectors / SID2_PARAM_ALIGN);
    return a;
}

static sid2_tensor part(sid2_graph *g, sid2_tensor array, int64_t first, int64_t count)
{
    return sid2_graph_view(g, array, first, sid2_shape_of(count));
}

/* Of this rank's part of a bucket. */
static void add_sums(sid2_graph *g, const arrays *a, sid2_span own)
{
    sid2_tensor grads = part(g, a->grads, own.first, own.count),
                sums = part(g, a->sums, own.first / SID2_SUM_BLOCK, blocks_of(own.count));
    sid2_graph_emit_into(g, SID2_OP_square_sums, (sid2_attr){0}, &grads, 1, &sums, 1);
}

/* Of the same; `at`: where it begins in the arrays of which there is a part. */
static void add_update(sid2_graph *g, const sid2_state *s, const arrays *a, sid2_span own, int64_t at)
{
    sid2_tensor weights = part(g, a->weights, s->masters ? at : own.first, own.count),
                grads = part(g, a->grads, own.first, own.count), m = part(g, a->m, at, own.count),
                v = part(g, a->v, at, own.count), updated[5] = {weights, m, v, grads};
    if (s->masters) updated[4] = part(g, a->low, own.first, own.count);
    sid2_graph_emit_into(g, SID2_OP_adam, (sid2_attr){.dtype = s->graph->compute},
                         (sid2_tensor[]){weights, grads, m, v, a->norm, a->hyper}, 6, updated,
                         4 + s->masters);
    for (int i = 0; i < s->rule.average_count; i++) {
        sid2_tensor average = part(g, a->average[i], at, own.count), share = part(g, a->shares, i, 1);
        sid2_graph_emit_into(g, SID2_OP_ema, (sid2_attr){0},
                             (sid2_tensor[]){average, weights, a->norm, share}, 4, &average, 1);
    }
}

/* The vectors among the same, which the network reads in f32, from the masters: rows of SID2_PARAM_ALIGN, which no two
 * share. */
static void add_vectors(sid2_graph *g, const sid2_state *s, const arrays *a, sid2_span own, int64_t at)
{
    enum { ROW = SID2_PARAM_ALIGN };
    int64_t first = sid2_params_vectors(s->params, own.first),
            count = sid2_params_vectors(s->params, own.first + own.count) - first;
    if (!count) return;
    sid2_tensor from[2] = {sid2_graph_view(g, a->weights, at, sid2_shape_of(own.count / ROW, ROW)),
                           part(g, a->rows, first / ROW, count / ROW)},
                vectors = sid2_graph_view(g, a->vectors, first, sid2_shape_of(count / ROW, ROW));
    sid2_graph_emit_into(g, SID2_OP_embedding, (sid2_attr){0}, from, 2, &vectors, 1);
}

/* Adam clears the gradients of its part. The others hold sums of fewer ranks, all finite where the norm is: x - x = 0. */
static void add_clear(sid2_graph *g, const arrays *a, int64_t first, int64_t end)
{
    if (first == end) return;
    sid2_tensor rest = part(g, a->grads, first, end - first);
    sid2_graph_emit_into(g, SID2_OP_add, (sid2_attr){.scale = -1}, (sid2_tensor[]){rest, rest}, 2, &rest, 1);
}

/* At its stop ranks give each other the sums of squares, at its end weights. */
static sid2_graph *update_graph(const sid2_state *s, sid2_error *err)
{
    char name[96];
    int64_t all = s->params->elements;
    sid2_graph *g = sid2_graph_create(s->graph->compute);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory building the graph"), NULL;
    arrays a = make_arrays(g, s);
    for (int i = 0; i < s->buckets; i++)
        if (s->own[i].count) add_sums(g, &a, s->own[i]);
    if (s->group) sid2_graph_stop(g, "summed", a.sums, 0, blocks_of(all));
    a.norm = sid2_graph_emit(g, SID2_OP_norm_of, (sid2_attr){.dtype = SID2_F32}, &a.sums, 1, false);
    sid2_graph_export(g, a.norm, sid2_state_buffer(s, "norm", name));
    int64_t at = 0;
    for (int i = 0; i < s->buckets; i++) {
        sid2_span own = s->own[i], bucket = s->bucket[i];
        if (own.count) add_update(g, s, &a, own, at);
        if (own.count && s->masters) add_vectors(g, s, &a, own, at);
        at += own.count;
        add_clear(g, &a, bucket.first, own.first);
        add_clear(g, &a, own.first + own.count, bucket.first + bucket.count);
    }
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

/* What Adam and the averages are told: see op.def. */
static bool tell(const sid2_state *s, const sid2_config *c, double rate, sid2_error *err)
{
    char name[96];
    if (!s->owned) return true; /* nothing to be told to */
    double number = (double)(s->updates + 1);
    const double values[7] = {rate,
                              c->train_beta1,
                              c->train_beta2,
                              c->train_eps,
                              1 - pow(c->train_beta1, number),
                              1 - pow(c->train_beta2, number),
                              c->train_clip};
    float hyper[7], shares[SID2_MAX_AVERAGES];
    for (int i = 0; i < 7; i++) hyper[i] = (float)values[i];
    for (int i = 0; i < s->rule.average_count; i++) {
        const sid2_average *average = &s->rule.averages[i];
        shares[i] = (float)(1 - average->decay(average, s->updates + 1));
    }
    return sid2_buffers_upload(s->buffers, sid2_state_buffer(s, "hyper", name), hyper, err) &&
           (!s->rule.average_count ||
            sid2_buffers_upload(s->buffers, sid2_state_buffer(s, "shares", name), shares, err));
}

static sid2_buffer *buffer_of(const sid2_state *s, const char *what)
{
    char name[96];
    return sid2_buffers_find(s->buffers, sid2_state_buffer(s, what, name));
}

#define BUCKET_STOP "bucket of gradients "
#define PIECE_STOP  "bucket of weights "

void sid2_state_stops(const sid2_state *s, sid2_graph *graph, bool early)
{
    for (int32_t i = 0; i < graph->params_count; i++) {
        const sid2_params *params = &graph->params[i];
        if (!params->trained || strcmp(params->name, s->rule.name) != 0) continue;
        for (int k = 0; s->buckets > 1 && k < s->buckets; k++) {
            char name[32];
            snprintf(name, sizeof name, PIECE_STOP "%d", k);
            sid2_graph_stop_before(graph, name, params, s->bucket[k].first, s->bucket[k].count);
            snprintf(name, sizeof name, BUCKET_STOP "%d", k);
            if (early) sid2_graph_stop(graph, name, params->grads, s->bucket[k].first, s->bucket[k].count);
        }
    }
}

static int number_of(const char *stop, const char *kind)
{
    size_t length = strlen(kind);
    return strncmp(stop, kind, length) == 0 ? atoi(stop + length) : -1;
}

int sid2_state_bucket_of(const char *stop) { return number_of(stop, BUCKET_STOP); }
int sid2_state_piece_of(const char *stop) { return number_of(stop, PIECE_STOP); }

bool sid2_state_sum_bucket(sid2_state *s, int bucket, bool low, sid2_error *err)
{
    s->begun[bucket] = true;
    return sid2_group_sum(s->group, buffer_of(s, "grads"), s->bucket[bucket], SID2_SUM_BLOCK, low, err);
}

bool sid2_state_sum(sid2_state *s, bool low, sid2_error *err)
{
    bool ok = true;
    for (int i = s->buckets; ok && i-- > 0;) ok = s->begun[i] || sid2_state_sum_bucket(s, i, low, err);
    memset(s->begun, 0, sizeof s->begun);
    return ok && sid2_group_finish(s->group, err);
}

/* Where in the sums of squares what belongs to an element begins, and where among the vectors. */
static int64_t place_in_sums(const void *self, int64_t element)
{
    (void)self;
    return blocks_of(element);
}

static int64_t place_in_vectors(const void *self, int64_t element)
{
    return sid2_params_vectors(self, element);
}

static bool spread_sums(sid2_state *s, sid2_error *err)
{
    const sid2_parted sums = {buffer_of(s, "sums"), sizeof(double), place_in_sums, NULL};
    bool ok = true;
    for (int i = 0; ok && i < s->buckets; i++)
        ok = sid2_group_spread_buffers(s->group, &sums, 1, s->bucket[i], SID2_SUM_BLOCK, err);
    return ok && sid2_group_finish(s->group, err);
}

/* As the network reads them. */
bool sid2_state_fetch(sid2_state *s, sid2_error *err)
{
    const sid2_parted both[2] = {{buffer_of(s, s->masters ? "weights_low" : "weights"),
                                  s->masters ? sizeof(uint16_t) : sizeof(float), NULL, NULL},
                                 {buffer_of(s, "vectors"), sizeof(float), place_in_vectors, s->params}};
    bool ok = true;
    for (int i = 0; ok && s->stale && i < s->buckets; i++) {
        ok = sid2_group_spread_buffers(s->group, both, both[1].buffer ? 2 : 1, s->bucket[i], SID2_SUM_BLOCK,
                                       err) &&
             sid2_group_mark(s->group, i, err);
        s->coming[i] = true;
    }
    s->stale = s->stale && !ok;
    return ok;
}

bool sid2_state_arrive(sid2_state *s, int bucket, sid2_error *err)
{
    bool ok = !s->coming[bucket] || sid2_group_wait(s->group, bucket, err);
    s->coming[bucket] = s->coming[bucket] && !ok;
    return ok;
}

bool sid2_state_make_whole(sid2_state *s, sid2_error *err)
{
    bool ok = sid2_state_fetch(s, err);
    for (int i = 0; ok && i < s->buckets; i++) ok = sid2_state_arrive(s, i, err);
    return ok;
}

static bool run_update(sid2_state *s, sid2_error *err)
{
    return (!s->group || (sid2_program_run_to(s->update, "summed", err) && spread_sums(s, err))) &&
           sid2_program_run(s->update, err);
}

bool sid2_state_update(sid2_state *s, const sid2_config *config, double rate, float *norm, sid2_error *err)
{
    char name[96];
    bool ok = tell(s, config, rate, err) && run_update(s, err) &&
              sid2_buffers_download(s->buffers, sid2_state_buffer(s, "norm", name), norm, err);
    bool changed = ok && isfinite(*norm);
    s->updates += changed;
    s->stale = s->group && changed;
    return ok && (sid2_group_queues(s->group) || sid2_state_make_whole(s, err));
}

/* ---- Memory ---- */

/* More than one bucket is worth it only where they are summed while the device computes. */
static void cut(sid2_state *s)
{
    s->buckets = sid2_group_queues(s->group) ? SID2_BUCKETS : 1;
    for (int i = 0; i < s->buckets; i++) {
        s->bucket[i] = sid2_state_bucket(s->params->elements, i, s->buckets);
        s->own[i] = sid2_group_part(s->group, sid2_group_rank(s->group), s->bucket[i], SID2_SUM_BLOCK);
        s->owned += s->own[i].count;
    }
}

bool sid2_state_open(sid2_state *s, const sid2_state_rule *rule, sid2_buffers *buffers, sid2_group *group,
                     const sid2_graph *graph, sid2_error *err)
{
    *s = (sid2_state){.rule = *rule, .buffers = buffers, .group = group, .graph = graph};
    for (int32_t i = 0; i < graph->params_count; i++)
        if (strcmp(graph->params[i].name, rule->name) == 0) s->params = &graph->params[i];
    if (!s->params)
        return sid2_fail(err, SID2_ERR_INTERNAL, "no objective has the parameters '%s'", rule->name);
    s->masters = s->params->vectors != s->params->read;
    cut(s);
    char name[96];
    if (s->masters && !sid2_buffers_add(buffers, sid2_state_buffer(s, "weights", name),
                                        (size_t)s->owned * sizeof(float), err))
        return false;
    if (!rule->trained) return true;
    return (s->update_graph = update_graph(s, err)) != NULL;
}

/* The rows of this rank's part of a bucket that vectors lie in: they stay where they are. */
static bool tell_rows(const sid2_state *s, sid2_error *err)
{
    sid2_buffer *buffer = buffer_of(s, "rows");
    if (!buffer) return true;
    int32_t *rows = calloc(1, buffer->bytes);
    if (!rows) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; i < s->buckets; i++)
        for (int64_t e = 0; e < s->own[i].count; e += SID2_PARAM_ALIGN) {
            int64_t first = s->own[i].first + e, row = sid2_params_vectors(s->params, first);
            if (sid2_params_vectors(s->params, first + SID2_PARAM_ALIGN) > row)
                rows[row / SID2_PARAM_ALIGN] = (int32_t)(e / SID2_PARAM_ALIGN);
        }
    bool ok = sid2_buffer_upload(buffer, 0, rows, buffer->bytes, err);
    free(rows);
    return ok;
}

bool sid2_state_compile(sid2_state *s, sid2_arena *arena, sid2_error *err)
{
    if (!s->update_graph) return true;
    s->update = sid2_buffers_program(s->buffers, s->update_graph, arena, err);
    return s->update && tell_rows(s, err);
}

void sid2_state_close(sid2_state *s)
{
    sid2_program_destroy(s->update);
    sid2_graph_destroy(s->update_graph);
    *s = (sid2_state){0};
}

static bool is_whole(const sid2_state *s, const char *what)
{
    return !strcmp(what, "grads") || (!s->masters && !strcmp(what, "weights"));
}

bool sid2_state_upload(sid2_state *s, const char *what, const float *from, sid2_error *err)
{
    char name[96];
    size_t at = 0;
    if (strcmp(what, "weights") == 0) s->stale = false; /* all are new */
    if (strcmp(what, "weights") == 0 && !sid2_params_upload(s->buffers, s->graph, s->params, from, err))
        return false;
    if (is_whole(s, what))
        return sid2_buffers_upload(s->buffers, sid2_state_buffer(s, what, name), from, err);
    for (int i = 0; i < s->buckets; i++) {
        size_t bytes = (size_t)s->own[i].count * sizeof *from;
        if (bytes && !sid2_buffer_upload(buffer_of(s, what), at, from + s->own[i].first, bytes, err))
            return false;
        at += bytes;
    }
    return true;
}

bool sid2_state_download(const sid2_state *s, const char *what, float *to, sid2_error *err)
{
    char name[96];
    size_t at = 0;
    for (int i = 0; i < s->kept_count; i++)
        if (strcmp(s->kept[i].what, what) == 0) {
            memcpy(to, s->kept[i].flat, (size_t)s->params->elements * sizeof *to);
            return true;
        }
    if (is_whole(s, what))
        return sid2_buffers_download(s->buffers, sid2_state_buffer(s, what, name), to, err);
    for (int i = 0; i < s->buckets; i++) {
        size_t bytes = (size_t)s->own[i].count * sizeof *to;
        if (bytes && !sid2_buffer_download(buffer_of(s, what), at, to + s->own[i].first, bytes, err))
            return false;
        at += bytes;
    }
    return true;
}

bool sid2_state_gather(const sid2_state *s, const char *what, float *to, sid2_error *err)
{
    bool ok = sid2_group_concur(s->group, sid2_state_download(s, what, to, err), err);
    for (int i = 0; ok && !is_whole(s, what) && i < s->buckets; i++)
        ok = sid2_group_spread(s->group, to + s->bucket[i].first, sizeof *to, s->bucket[i].count,
                               SID2_SUM_BLOCK, err);
    return ok;
}

bool sid2_state_digest(const sid2_state *s, sid2_digest *stream, sid2_error *err)
{
    const char *const names[] = {s->masters ? "weights_low" : "weights", "vectors"};
    bool ok = true;
    for (int i = 0; ok && i < 2; i++) {
        const sid2_buffer *buffer = buffer_of(s, names[i]);
        void *bytes = buffer ? malloc(buffer->bytes + 1) : NULL;
        if (!buffer) continue;
        ok = bytes ? sid2_buffer_download(buffer, 0, bytes, buffer->bytes, err)
                   : sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the weights");
        if (ok) sid2_digest_add(stream, bytes, buffer->bytes);
        free(bytes);
    }
    return ok;
}

const sid2_param *sid2_state_broken(const sid2_state *s, const char *what)
{
    float *flat = calloc((size_t)s->params->elements, sizeof *flat);
    const sid2_param *broken =
        flat && sid2_state_download(s, what, flat, NULL) ? sid2_params_broken(s->params, flat) : NULL;
    free(flat);
    /* The first of all ranks' is the one with the most behind it. */
    int64_t count = s->params->count, place = broken ? count - (broken - s->params->item) : 0;
    if (!sid2_group_largest(s->group, &place, NULL) || !place) return NULL;
    return &s->params->item[count - place];
}

bool sid2_state_set(sid2_state *s, const float *weights, sid2_error *err)
{
    bool ok = sid2_state_upload(s, "weights", weights, err);
    for (int i = 0; ok && i < s->rule.average_count; i++)
        ok = sid2_state_upload(s, s->rule.averages[i].name, weights, err);
    return ok;
}

bool sid2_state_zero(sid2_state *s, const char *what, sid2_error *err)
{
    float *zero = calloc((size_t)s->params->elements, sizeof *zero);
    bool ok = zero ? sid2_state_upload(s, what, zero, err) : sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    free(zero);
    return ok;
}

bool sid2_state_reset(sid2_state *s, sid2_error *err)
{
    bool ok = !s->rule.trained || (sid2_state_zero(s, "m", err) && sid2_state_zero(s, "v", err) &&
                                   sid2_state_zero(s, "grads", err));
    s->updates = 0;
    return ok;
}

bool sid2_state_skip(sid2_state *s, sid2_error *err)
{
    s->updates++;
    return sid2_state_zero(s, "grads", err);
}
