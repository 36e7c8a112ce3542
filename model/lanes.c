#include "lanes.h"

#include <stdlib.h>
#include <string.h>

/* ---- Making them ---- */

/* The names of a graph's stops, in the order in which they come. */
static void order_stops(const sid2_graph *g, const char *stops[SID2_MAX_STOPS + 1])
{
    int count = 0;
    for (; count < g->stop_count; count++) {
        int at = count;
        int32_t place = sid2_graph_stop_at(g, g->stops[count].name);
        for (; at > 0 && sid2_graph_stop_at(g, stops[at - 1]) > place; at--) stops[at] = stops[at - 1];
        stops[at] = g->stops[count].name;
    }
    stops[count] = NULL;
}

static bool open_worker(sid2_lanes *l, sid2_lane_worker *w, const sid2_buffers *states,
                        const sid2_graph *const *graphs, int count, sid2_error *err)
{
    sid2_device *device = states->device;
    if (l->plan->workers > 1 && !(w->part = sid2_device_part(device, l->plan->cores, err))) return false;
    w->buffers.device = w->part ? w->part : device;
    if (!sid2_buffers_borrow(&w->buffers, states, err) ||
        !(w->arena = sid2_arena_create(w->buffers.device, graphs, count, err)))
        return false;
    for (int i = 0; i < l->plan->graph_count; i++)
        if (!(w->program[i] = sid2_buffers_program(&w->buffers, l->plan->graph[i], w->arena, err)))
            return false;
    return true;
}

static bool open_sums(sid2_lanes *l, sid2_device *device, sid2_error *err)
{
    int count = l->plan->sums, lanes = l->plan->own;
    l->sums = calloc((size_t)count + 1, sizeof(sid2_buffer *));
    l->free = calloc((size_t)count + 1, sizeof(sid2_buffer *));
    l->node = calloc((size_t)lanes * 2, sizeof(sid2_buffer *));
    l->meeting = calloc((size_t)count + 1, sizeof *l->meeting);
    if (!l->sums || !l->free || !l->node || !l->meeting)
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d lanes", lanes);
    for (int i = 0; i < count; i++)
        if (!(l->sums[i] = sid2_buffer_create(device, l->plan->sum, err))) return false;
    return true;
}

/* into += from, from = 0; not 0 from, which a NaN would survive. */
static sid2_graph *move_graph(int64_t count, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory building the graph"), NULL;
    const sid2_shape shape = sid2_shape_of(count);
    sid2_tensor into = sid2_graph_external(g, "into", SID2_F32, shape),
                from = sid2_graph_external(g, "from", SID2_F32, shape),
                zero = sid2_graph_external(g, "zero", SID2_F32, shape);
    const sid2_attr as_it_is = {.scale = 1};
    sid2_graph_emit_into(g, SID2_OP_add, as_it_is, (sid2_tensor[]){into, from}, 2, &into, 1);
    sid2_graph_emit_into(g, SID2_OP_scale, as_it_is, &zero, 1, &from, 1);
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

/* The last of the sums stays zero, to be copied from. */
static bool open_moves(sid2_lanes *l, int objective, sid2_error *err)
{
    char name[96];
    sid2_lane_moves *m = &l->moves[objective];
    sid2_lane_worker *w = &l->worker[0];
    sid2_buffer *zero = l->sums[l->plan->sums - 1],
                *home = sid2_buffers_find(
                    &w->buffers, sid2_params_buffer(l->recipe->objectives[objective]->trains, "grads", name));
    if (!(m->graph = move_graph((int64_t)(home->bytes / sizeof(float)), err))) return false;
    for (int i = 0; i + 1 < l->plan->sums; i++) {
        const sid2_binding out[] = {{"into", l->sums[i]}, {"from", home}, {"zero", zero}},
                           back[] = {{"into", home}, {"from", l->sums[i]}, {"zero", zero}};
        m->out[i] = sid2_program_create(w->buffers.device, m->graph, w->arena, out, 3, err);
        m->back[i] =
            m->out[i] ? sid2_program_create(w->buffers.device, m->graph, w->arena, back, 3, err) : NULL;
        if (!m->back[i]) return false;
    }
    return true;
}

static void close_moves(sid2_lane_moves *m)
{
    for (int i = 0; i < SID2_MAX_HEIGHT; i++) {
        sid2_program_destroy(m->out[i]);
        sid2_program_destroy(m->back[i]);
    }
    sid2_graph_destroy(m->graph);
}

bool sid2_lanes_open(sid2_lanes *l, const sid2_recipe *recipe, const sid2_training *plan,
                     const sid2_buffers *states, const sid2_config *config, sid2_group *group,
                     const sid2_graph *const *others, int other_count, sid2_error *err)
{
    const sid2_graph *graphs[SID2_MAX_OBJECTIVES + SID2_MAX_STATES];
    int count = 0;
    *l = (sid2_lanes){.recipe = recipe,
                      .plan = plan,
                      .images = (int)(config->train_batch / plan->lanes),
                      .begin = (int)(config->train_batch / plan->lanes) * plan->own * sid2_group_rank(group),
                      .group = group,
                      .low = config->train_wire == SID2_WIRE_bf16,
                      .rebinds = sid2_device_rebinds(states->device)};
    if (l->low && !l->rebinds && plan->own > 1)
        return *l = (sid2_lanes){0},
               sid2_fail(err, SID2_ERR_UNSUPPORTED, "train.wire=bf16 on %s takes one lane a rank, not %d",
                         sid2_device_describe(states->device)->id, plan->own);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    for (int i = 0; i < plan->graph_count; i++) {
        order_stops(plan->graph[i], l->stops[i]);
        graphs[count++] = plan->graph[i];
    }
    for (int i = 0; i < other_count; i++) graphs[count++] = others[i];
    l->worker = calloc((size_t)plan->workers, sizeof *l->worker);
    if (!l->worker) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d workers", plan->workers);
    for (int w = 0; w < plan->workers; w++)
        if (!open_worker(l, &l->worker[w], states, graphs, count, err)) return false;
    if (!open_sums(l, states->device, err)) return false;
    for (int i = 0; i < plan->graph_count && plan->sums && !l->rebinds; i++)
        if (!open_moves(l, i, err)) return false;
    return (l->team = sid2_team_create(plan->workers, err)) != NULL;
}

bool sid2_lanes_start(sid2_lanes *l, const sid2_config *config, sid2_error *err)
{
    for (int w = 0; w < l->plan->workers; w++)
        for (int i = 0; i < l->recipe->objective_count; i++) {
            sid2_lane_worker *worker = &l->worker[w];
            worker->host[i] =
                l->recipe->objectives[i]->open(config, l->plan->microbatch, &worker->buffers, err);
            if (!worker->host[i]) return false;
        }
    return true;
}

static void close_worker(sid2_lanes *l, sid2_lane_worker *w)
{
    for (int i = 0; i < l->plan->graph_count; i++) {
        l->recipe->objectives[i]->close(w->host[i]);
        sid2_program_destroy(w->program[i]);
    }
    sid2_arena_destroy(w->arena);
    sid2_buffers_clear(&w->buffers);
    sid2_device_close(w->part);
}

void sid2_lanes_close(sid2_lanes *l)
{
    if (!l->plan) return;
    sid2_team_destroy(l->team);
    for (int i = 0; i < SID2_MAX_OBJECTIVES; i++) close_moves(&l->moves[i]);
    for (int w = 0; l->worker && w < l->plan->workers; w++) close_worker(l, &l->worker[w]);
    for (int i = 0; l->sums && i < l->plan->sums; i++) sid2_buffer_destroy(l->sums[i]);
    free(l->worker);
    free(l->sums);
    free(l->free);
    free(l->node);
    free(l->meeting);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    *l = (sid2_lanes){0};
}

/* ---- Bytes ---- */

size_t sid2_lanes_buffers(const sid2_lanes *l)
{
    size_t bytes = (size_t)l->plan->sums * l->plan->sum;
    for (int w = 0; w < l->plan->workers; w++) bytes += sid2_buffers_bytes(&l->worker[w].buffers);
    return bytes;
}

size_t sid2_lanes_arenas(const sid2_lanes *l)
{
    size_t bytes = 0;
    for (int w = 0; w < l->plan->workers; w++) bytes += sid2_arena_bytes(l->worker[w].arena);
    return bytes;
}

size_t sid2_lanes_workspace(const sid2_lanes *l)
{
    size_t bytes = 0;
    for (int w = 0; w < l->plan->workers; w++)
        for (int i = 0; i < l->plan->graph_count; i++)
            bytes += sid2_program_workspace(l->worker[w].program[i]);
    for (int i = 0; i < l->plan->graph_count; i++)
        for (int k = 0; l->moves[i].graph && k + 1 < l->plan->sums; k++)
            bytes += sid2_program_workspace(l->moves[i].out[k]) + sid2_program_workspace(l->moves[i].back[k]);
    return bytes;
}

/* ---- The tree ---- */

static size_t elements(const sid2_lanes *l) { return l->home->bytes / sizeof(float); }

/* The two sums below `parent` become one, which waits there: true where both are there. The state's own buffer is
 * never the one that is emptied, so that the last sum ends there. */
static bool meet(sid2_lanes *l, int parent, struct sid2_meeting *m)
{
    sid2_buffer **child = &l->node[2 * parent];
    if (!child[0] || !child[1]) return false;
    bool swap = child[1] == l->home;
    *m = (struct sid2_meeting){child[swap], child[!swap]};
    child[0] = child[1] = NULL;
    return true;
}

/* Under the lock, which is given back while it adds: frees a buffer by adding two sums up. *failed: it could not. */
static bool make_room(sid2_lanes *l, bool *failed, sid2_error *err)
{
    struct sid2_meeting m;
    int parent = l->plan->own - 1;
    while (parent >= 1 && !meet(l, parent, &m)) parent--;
    if (parent < 1) return false;
    pthread_mutex_unlock(&l->lock);
    *failed = !sid2_buffer_fold(m.into, m.from, 0, elements(l), l->low, err);
    pthread_mutex_lock(&l->lock);
    l->node[parent] = m.into;
    l->free[l->free_count++] = m.from;
    pthread_cond_broadcast(&l->changed);
    return true;
}

/* The next lane, and a buffer of zeros for it; *sum is NULL where there are none left. A lane is taken only with a buffer,
 * and in order: so whoever waits for a buffer waits for lanes that are being computed, and when none is, the sums of all
 * lanes before have met but for one at each height. */
static bool take(sid2_lanes *l, int *lane, sid2_buffer **sum, sid2_error *err)
{
    bool failed = false;
    *sum = NULL;
    pthread_mutex_lock(&l->lock);
    while (!failed && !atomic_load(&l->stop) && l->next < l->plan->own && !l->free_count)
        if (!make_room(l, &failed, err)) pthread_cond_wait(&l->changed, &l->lock);
    *lane = l->next;
    if (!failed && !atomic_load(&l->stop) && l->next < l->plan->own) {
        l->next++;
        *sum = l->free[--l->free_count];
    }
    pthread_mutex_unlock(&l->lock);
    return !failed;
}

static void put(sid2_lanes *l, int lane, sid2_buffer *sum)
{
    pthread_mutex_lock(&l->lock);
    l->node[l->plan->own + lane] = sum;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static void stop(sid2_lanes *l)
{
    pthread_mutex_lock(&l->lock);
    atomic_store(&l->stop, true);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

/* ---- A lane ---- */

/* Up to a stop, if anything is to be done there, and that. */
static bool stop_at(sid2_lanes *l, sid2_lane_worker *w, const char *stop, bool begins, bool last,
                    sid2_error *err)
{
    const sid2_objective *objective = l->recipe->objectives[l->turn];
    int bucket = sid2_state_bucket_of(stop), piece = sid2_state_piece_of(stop);
    bool sums = bucket >= 0 && last && l->early, comes = piece >= 0 && begins && l->coming,
         asks = bucket < 0 && piece < 0 && objective->at_stop;
    if (!sums && !comes && !asks) return true;
    return sid2_program_run_to(w->program[l->turn], stop, err) &&
           (!sums || sid2_state_sum_bucket(l->early, bucket, l->low, err)) &&
           (!comes || sid2_state_arrive(l->coming, piece, err)) &&
           (!asks || objective->at_stop(w->host[l->turn], &w->buffers, stop, last, err));
}

static bool run_microbatch(sid2_lanes *l, sid2_lane_worker *w, int first, bool last, sid2_error *err)
{
    const sid2_objective *objective = l->recipe->objectives[l->turn];
    sid2_program *program = w->program[l->turn];
    void *host = w->host[l->turn];
    const char *const *stops = l->stops[l->turn];
    const sid2_buffer *loss = sid2_buffers_find(&w->buffers, "loss");
    bool ok = objective->tell(host, &w->buffers, l->step, first, l->logsnr + first, err);
    for (int i = 0; ok && stops[i]; i++) ok = stop_at(l, w, stops[i], first == l->begin, last, err);
    size_t frames = loss->bytes / sizeof(float) / (size_t)l->plan->microbatch;
    return ok && sid2_program_run(program, err) &&
           sid2_buffer_download_later(loss, 0, l->loss + (size_t)first * frames, loss->bytes, err);
}

/* Added to the gradients that its program is bound to. */
static bool run_lane(sid2_lanes *l, sid2_lane_worker *w, int lane, sid2_error *err)
{
    int begin = l->begin + lane * l->images, end = begin + l->images, size = l->plan->microbatch;
    for (int first = begin; first < end; first += size) {
        bool last = lane + 1 == l->plan->own && first + size >= end;
        if (atomic_load(&l->stop)) return true; /* the error is somebody else's */
        if (!run_microbatch(l, w, first, last, err)) return false;
    }
    return true;
}

static bool run_lanes(void *data, int member, sid2_error *err)
{
    sid2_lanes *l = data;
    sid2_lane_worker *w = &l->worker[member];
    for (;;) {
        int lane;
        sid2_buffer *sum;
        bool ok = take(l, &lane, &sum, err);
        if (ok && !sum) return true;
        ok = ok && sid2_program_rebind(w->program[l->turn], l->grads, sum, err) && run_lane(l, w, lane, err);
        if (!ok) return stop(l), false;
        put(l, lane, sum);
    }
}

/* What is left to be added, in the order of the tree, is added range by range, so that every core has some and all that
 * meets in a range is in its cache. */
static bool add_ranges(void *data, int member, sid2_error *err)
{
    enum { RANGE = 1 << 14 };
    sid2_lanes *l = data;
    (void)member;
    size_t all = elements(l);
    for (size_t first; (first = (size_t)sid2_team_next(l->team) * RANGE) < all;)
        for (int i = 0; i < l->meetings; i++) {
            const struct sid2_meeting *m = &l->meeting[i];
            size_t count = all - first < RANGE ? all - first : RANGE;
            if (!sid2_buffer_fold(m->into, m->from, first, count, l->low, err)) return false;
        }
    return true;
}

/* Where programs keep their buffers, there is one worker: each lane is added up in the state's own, and a sum waits at
 * its height of the tree for the next one there, as a binary number counts. */
static bool run_in_order(sid2_lanes *l, sid2_error *err)
{
    const sid2_lane_moves *moves = &l->moves[l->turn];
    for (int lane = 0; lane < l->plan->own; lane++) {
        int height = 0;
        if (!run_lane(l, &l->worker[0], lane, err)) return false;
        for (; lane >> height & 1; height++)
            if (!sid2_program_run(moves->back[height], err)) return false;
        if (lane + 1 < l->plan->own && !sid2_program_run(moves->out[height], err)) return false;
    }
    return true;
}

/* Lanes side by side, then what is left of the tree. */
static bool run_side_by_side(sid2_lanes *l, sid2_error *err)
{
    l->next = l->meetings = l->free_count = 0;
    memset(l->node, 0, (size_t)l->plan->own * 2 * sizeof(sid2_buffer *));
    for (int i = l->plan->sums; i-- > 0;) l->free[l->free_count++] = l->sums[i];
    l->free[l->free_count++] = l->home; /* the first to be taken */
    if (!sid2_team_run(l->team, run_lanes, l, err)) return false;
    for (int parent = l->plan->own - 1; parent >= 1; parent--)
        if (meet(l, parent, &l->meeting[l->meetings])) l->node[parent] = l->meeting[l->meetings++].into;
    return !l->meetings || sid2_team_run(l->team, add_ranges, l, err);
}

/* ---- A step ---- */

/* What a failed step has left. */
static bool clean(sid2_lanes *l, sid2_error *err)
{
    float *zero = calloc(1, l->plan->sum + 1);
    bool ok = zero || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; ok && i < l->plan->sums; i++)
        ok = sid2_buffer_upload(l->sums[i], 0, zero, l->plan->sum, err);
    free(zero);
    return ok;
}

bool sid2_lanes_run(sid2_lanes *l, int turn, const sid2_step_input *step, const char *grads, float *loss,
                    float *logsnr, sid2_error *err)
{
    if (l->dirty && !clean(l, err)) return false;
    l->dirty = true;
    l->turn = turn;
    l->step = step;
    l->loss = loss, l->logsnr = logsnr;
    l->grads = grads;
    l->home = sid2_buffers_find(&l->worker[0].buffers, grads);
    atomic_store(&l->stop, false);
    if (!(l->rebinds ? run_side_by_side(l, err) : run_in_order(l, err))) return false;
    l->dirty = false;
    return true;
}
