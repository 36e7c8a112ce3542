#include "scaling.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "predict.h"

/* ---- The table ---- */

enum {
#define ASSUMED(word, value, help) ASSUMED_##word,
#include "gpus.def"
    ASSUMED_COUNT
};

static const sid2_assumption assumptions[] = {
#define ASSUMED(word, value, help) {#word, help, value},
#include "gpus.def"
};

static double assumed(int which) { return assumptions[which].value; }

const sid2_assumption *sid2_scaling_assumption(int index)
{
    return index < ASSUMED_COUNT ? &assumptions[index] : NULL;
}

static const sid2_cluster clusters[] = {
#define GPU(word, title, tera, tera_fp8, gib, memory_rate, cache_mb, link_rate, network_rate)                \
    {.gpu = #word,                                                                                           \
     .name = title,                                                                                          \
     .operations = (tera)*1e12,                                                                              \
     .fp8 = (tera_fp8)*1e12,                                                                                 \
     .memory = (size_t)(gib) << 30,                                                                          \
     .cache = (size_t)(cache_mb)*1000000,                                                                    \
     .bandwidth = (memory_rate)*1e9,                                                                         \
     .link = (link_rate)*1e9,                                                                                \
     .network = (network_rate)*1e9},
#include "gpus.def"
};

bool sid2_cluster_of(sid2_cluster *cluster, const char *gpu, sid2_error *err)
{
    char known[160] = "";
    for (size_t i = 0; i < sizeof clusters / sizeof *clusters; i++) {
        size_t length = strlen(known);
        snprintf(known + length, sizeof known - length, "%s%s", i ? ", " : "", clusters[i].gpu);
        *cluster = clusters[i];
        cluster->node = 8;
        cluster->share = assumed(ASSUMED_share);
        if (strcmp(gpu, cluster->gpu) == 0) return true;
    }
    return sid2_fail(err, SID2_ERR_USAGE, "no GPU '%s' in the table; there are %s", gpu, known);
}

bool sid2_cluster_of_device(sid2_cluster *cluster, const char *name)
{
    for (size_t i = 0; i < sizeof clusters / sizeof *clusters; i++) {
        char model[16];
        snprintf(model, sizeof model, "%.*s", (int)strcspn(clusters[i].name, " "), clusters[i].name);
        if (strstr(name, model)) return sid2_cluster_of(cluster, clusters[i].gpu, NULL);
    }
    return false;
}

/* ---- What is cut, and when it is there ---- */

/* Weights are wanted from the front of their buffer to the tail; what is wanted first has nothing to hide behind. */
static const double piece_first[SID2_PIECES] = {0, 1.0 / 12, 1.0 / 4};

static double piece_share(int i) { return (i + 1 < SID2_PIECES ? piece_first[i + 1] : 1) - piece_first[i]; }

static sid2_span bucket(const sid2_rank_work *w, int i)
{
    return sid2_state_bucket(w->elements, i, SID2_BUCKETS);
}

static double bucket_share(const sid2_rank_work *w, int i)
{
    return (double)bucket(w, i).count / (double)w->elements;
}

static bool looks_into(const sid2_graph *g, sid2_tensor t, sid2_tensor buffer)
{
    return t != SID2_NONE && buffer != SID2_NONE && sid2_graph_base(g, t) == buffer;
}

/* Whether the node adds to gradients from element `first` on. */
static bool adds(const sid2_graph *g, const sid2_node *node, const sid2_params *p, int64_t first)
{
    bool any = false;
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) {
        sid2_tensor t = node->out[i];
        any = any || (looks_into(g, t, p->grads) &&
                      g->tensors[t].offset + sid2_shape_count(g->tensors[t].shape) > first);
    }
    return any;
}

/* A pass takes as long as its multiply-adds. */
static void note_times(const sid2_graph *g, sid2_rank_work *work)
{
    const sid2_params *p = &g->params[0];
    double sum[2] = {0}, done[2] = {0};
    for (int32_t n = 0; n < g->node_count; n++)
        sum[g->nodes[n].phase != SID2_FORWARD] += sid2_graph_node_cost(g, &g->nodes[n]).multiply_adds;
    for (int i = 0; i < SID2_BUCKETS; i++) work->whole[i] = 0;
    for (int i = 0; i < SID2_PIECES; i++) work->wanted[i] = 1;
    for (int32_t n = 0; n < g->node_count; n++) {
        const sid2_node *node = &g->nodes[n];
        int backward = node->phase != SID2_FORWARD;
        double before = done[backward];
        done[backward] += sid2_graph_node_cost(g, node).multiply_adds;
        for (int i = 0; i < SID2_BUCKETS; i++)
            if (backward && adds(g, node, p, bucket(work, i).first)) work->whole[i] = done[1] / sum[1];
        for (int i = 0; i < SID2_PIECES; i++)
            if (!backward &&
                sid2_graph_reads(g, node, p, (int64_t)(piece_first[i] * (double)p->elements), p->elements))
                work->wanted[i] = fmin(work->wanted[i], before / sum[0]);
    }
}

/* ---- A rank's share ---- */

/* Three passes of a network that learns, as published counts have it, and one of a frozen network; the mean of objectives
 * that take turns. */
static void count_operations(const sid2_training *plan, sid2_rank_work *work)
{
    double passes = 0, again = 0;
    for (int i = 0; i < plan->graph_count; i++) {
        const sid2_graph *g = plan->graph[i];
        for (int32_t n = 0; n < g->node_count; n++) {
            double cost = sid2_graph_node_cost(g, &g->nodes[n]).multiply_adds;
            bool learns = g->tensors[g->nodes[n].out[0]].requires_grad;
            if (g->nodes[n].phase == SID2_FORWARD) passes += (learns ? 3 : 1) * cost;
            if (g->nodes[n].phase == SID2_RECOMPUTED) again += cost;
        }
    }
    work->operations = 2 * passes / plan->microbatch / plan->graph_count;
    work->again = 3 * again / passes;
}

/* Bytes that a norm over groups reads a second time from memory. Its second walk begins where the first ended, and finds
 * what was read last in the cache until what it reads and writes has pushed the rest out. */
static double read_again(const sid2_graph *g, const sid2_node *node, const sid2_cluster *c)
{
    bool backward = node->op == SID2_OP_group_norm_grad;
    if (!backward && node->op != SID2_OP_group_norm) return 0;
    const sid2_tensor_info *x = &g->tensors[node->in[backward]];
    double tensor = (double)sid2_shape_count(x->shape) * (double)sid2_dtype_size(x->dtype);
    double read = backward ? 2 * tensor : tensor;
    return fmax(0, read - (double)c->cache * read / (read + tensor));
}

/* Whether `sid2 train --fp8 large` rounds the operands of a node to eight bits; so many `numbers`. */
static bool has_eight(const sid2_graph *g, const sid2_node *node, sid2_cost cost, double *numbers)
{
    const bool product =
        node->op == SID2_OP_linear || node->op == SID2_OP_linear_dgrad || node->op == SID2_OP_linear_wgrad;
    if (!product) return false;
    const double a = (double)sid2_shape_count(g->tensors[node->in[0]].shape),
                 b = (double)sid2_shape_count(g->tensors[node->in[1]].shape), mnk = cost.multiply_adds,
                 mn = (double)sid2_shape_count(g->tensors[node->out[0]].shape), k = mnk / mn;
    *numbers = a + b;
    return sid2_fp8_gains(a / k, b / k, k);
}

/* Seconds of such a node: two bytes of each number are read and one written, and that is read again. */
static double seconds_in_eight(sid2_cost cost, double numbers, const sid2_cluster *c)
{
    const double bandwidth = assumed(ASSUMED_memory_share) * c->bandwidth;
    return fmax(2 * cost.multiply_adds / (assumed(ASSUMED_fp8_share) * c->fp8),
                (cost.bytes - numbers) / bandwidth) +
           3 * numbers / bandwidth + 5 * assumed(ASSUMED_kernel);
}

/* The share of the GPU's operations a second that a micro-batch's passes reach by count. */
static void count_share(const sid2_training *plan, const sid2_cluster *c, sid2_rank_work *work)
{
    double seconds = 0, gained = 0, operations = work->operations * plan->microbatch * plan->graph_count;
    for (int i = 0; i < plan->graph_count; i++)
        for (int32_t n = 0; n < plan->graph[i]->node_count; n++) {
            const sid2_node *node = &plan->graph[i]->nodes[n];
            sid2_cost cost = sid2_graph_node_cost(plan->graph[i], node);
            double bytes = cost.bytes + read_again(plan->graph[i], node, c);
            double own = fmax(2 * cost.multiply_adds / (assumed(ASSUMED_product_share) * c->operations),
                              bytes / (assumed(ASSUMED_memory_share) * c->bandwidth)) +
                         assumed(ASSUMED_kernel);
            seconds += own;
            double numbers;
            if (c->fp8 > 0 && has_eight(plan->graph[i], node, cost, &numbers))
                gained += own - seconds_in_eight(cost, numbers, c);
        }
    double done = operations * (1 + work->again / 3) / c->operations;
    work->counted = done / seconds;
    work->counted_fp8 = done / (seconds - gained);
}

bool sid2_rank_work_of(const sid2_config *whole, const sid2_cluster *cluster, int ranks, sid2_rank_work *work,
                       sid2_error *err)
{
    enum { CUDA_ALIGNMENT = 256 };
    sid2_config config = *whole;
    config.train_precision = SID2_PRECISION_bf16;
    sid2_recipe recipe = sid2_recipe_of(&config);
    const sid2_device_info device = {.own_memory = true, .memory = cluster->memory};
    sid2_training_site site = sid2_training_site_of(&device, 0);
    site.alignment = CUDA_ALIGNMENT;
    site.rebinds = false;
    site.ranks = ranks;
    sid2_training plan;
    if (!sid2_training_plan(&config, &recipe, &site, &plan, err)) return false;
    *work = (sid2_rank_work){.ranks = ranks,
                             .lanes = plan.own,
                             .images = (int)(config.train_batch / ranks),
                             .microbatch = plan.microbatch,
                             .elements = plan.graph[0]->params[0].elements,
                             .averages = recipe.states[0].average_count,
                             .state = sid2_training_state(&plan),
                             .arena = sid2_training_arena(&plan)};
    count_operations(&plan, work);
    count_share(&plan, cluster, work);
    note_times(plan.graph[0], work);
    const sid2_memory_report need = {
        .state = work->state, .arena = work->arena, .microbatch = plan.microbatch, .lanes = plan.lanes};
    bool ok = sid2_training_fits(&need, cluster->memory, err);
    sid2_training_clear(&plan);
    return ok;
}

/* ---- Time ---- */

bool sid2_sum_suits(sid2_sum sum, int ranks) { return sum == SID2_SUM_LIBRARY || (ranks & (ranks - 1)) == 0; }

static double gradient_bytes(sid2_sum sum) { return sum == SID2_SUM_BF16 ? 2 : 4; }
static const double weight_bytes = 2;

double sid2_sum_bytes(const sid2_rank_work *w, sid2_sum sum)
{
    return (gradient_bytes(sum) + weight_bytes) * (double)w->elements * (w->ranks - 1) / w->ranks;
}

/* Bytes and latency of a call that sums, or gathers, an array of so many bytes. */
typedef struct call_time {
    double bytes, latency;
} call_time;

static int nodes_of(const sid2_cluster *c, int ranks) { return (ranks + c->node - 1) / c->node; }

/* Through every rank in turn; each card of a node carries a ring of its own. */
static call_time ring(const sid2_cluster *c, int ranks, double bytes)
{
    int nodes = nodes_of(c, ranks), local = ranks < c->node ? ranks : c->node;
    double rate = nodes > 1 ? fmin(c->link, local * c->network) : c->link;
    return (call_time){bytes * (ranks - 1) / ranks / rate,
                       assumed(ASSUMED_ring_call) + (ranks - nodes) * assumed(ASSUMED_ring_hop) +
                           (nodes - 1) * assumed(ASSUMED_ring_network_hop)};
}

/* Halves, quarters, ... with partners at twice the distance each; those of a node come first. */
static call_time halving(const sid2_cluster *c, int ranks, double bytes)
{
    double local = ranks < c->node ? ranks : c->node;
    return (call_time){bytes * (1 - 1 / local) / c->link + bytes * (1 / local - 1.0 / ranks) / c->network,
                       log2(ranks) * assumed(ASSUMED_stage)};
}

static call_time exchange(const sid2_cluster *c, const sid2_rank_work *w, sid2_sum sum, double share)
{
    double bytes = share * (double)w->elements * gradient_bytes(sum);
    if (sum == SID2_SUM_LIBRARY) return ring(c, w->ranks, bytes);
    call_time time = halving(c, w->ranks, bytes);
    double times = assumed(sum == SID2_SUM_BF16 ? ASSUMED_sum_bf16 : ASSUMED_sum_f32);
    time.bytes += times * bytes * (w->ranks - 1) / w->ranks / (assumed(ASSUMED_memory_share) * c->bandwidth);
    return time;
}

static call_time gather(const sid2_cluster *c, const sid2_rank_work *w, sid2_sum sum, double share)
{
    double bytes = share * (double)w->elements * weight_bytes;
    return sum == SID2_SUM_LIBRARY ? ring(c, w->ranks, bytes) : halving(c, w->ranks, bytes);
}

static double whole_call(call_time time) { return time.bytes + time.latency; }

/* One pass of `images`. */
static double pass(const sid2_rank_work *w, const sid2_cluster *c, double images)
{
    return images * w->operations / 3 / (c->share * c->operations);
}

static double update(const sid2_rank_work *w, const sid2_cluster *c, double elements)
{
    return sid2_update_bytes(elements, w->averages) / (assumed(ASSUMED_memory_share) * c->bandwidth);
}

/* What the last micro-batch's backward pass does not hide of the buckets; with several lanes, all: they are added first. */
static double exchange_left(const sid2_rank_work *w, const sid2_cluster *c, sid2_sum sum)
{
    double backward = w->lanes > 1 ? 0 : (2 + w->again) * pass(w, c, w->microbatch), sent = 0;
    for (int i = SID2_BUCKETS; i-- > 0;)
        sent = fmax(sent, w->whole[i] * backward) + whole_call(exchange(c, w, sum, bucket_share(w, i)));
    return fmax(0, sent - backward);
}

/* What the first micro-batch's forward pass does not hide of the pieces. */
static double gather_left(const sid2_rank_work *w, const sid2_cluster *c, sid2_sum sum)
{
    double forward = pass(w, c, w->microbatch), come = 0, waited = 0;
    for (int i = 0; i < SID2_PIECES; i++) {
        come += whole_call(gather(c, w, sum, piece_share(i)));
        waited = fmax(waited, come - w->wanted[i] * forward);
    }
    return waited;
}

sid2_step_time sid2_scaling_step(const sid2_rank_work *w, const sid2_cluster *c, sid2_sum sum, bool overlap)
{
    sid2_step_time step = {.compute = (3 + w->again) * pass(w, c, w->images),
                           .update = update(w, c, (double)w->elements / w->ranks)};
    if (w->ranks == 1) return step;
    step.latency = assumed(ASSUMED_host) +
                   log2(w->ranks) * assumed(sum == SID2_SUM_LIBRARY ? ASSUMED_ring_small : ASSUMED_small);
    if (overlap) {
        step.exchange = exchange_left(w, c, sum);
        step.gather = gather_left(w, c, sum);
        return step;
    }
    for (int i = 0; i < SID2_BUCKETS; i++) {
        call_time time = exchange(c, w, sum, bucket_share(w, i));
        step.exchange += time.bytes;
        step.latency += time.latency;
    }
    for (int i = 0; i < SID2_PIECES; i++) {
        call_time time = gather(c, w, sum, piece_share(i));
        step.gather += time.bytes;
        step.latency += time.latency;
    }
    return step;
}

double sid2_step_seconds(const sid2_step_time *s)
{
    return s->compute + s->update + s->exchange + s->gather + s->latency;
}

double sid2_scaling_alone(const sid2_rank_work *w, const sid2_cluster *c)
{
    return (3 + w->again) * pass(w, c, (double)w->images * w->ranks) + update(w, c, (double)w->elements);
}
