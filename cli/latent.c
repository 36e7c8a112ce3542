/* sid2 bench --latent: what an image costs in pixels, and in the latents of an autoencoder. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "predict.h"
#include "sampling.h"

/* What a model costs: of an image, but for memory, which is of a batch, and the update, which is of a step. */
typedef struct price {
    double parameters;
    sid2_cost evaluation, training; /* one forward pass; forward and backward */
    double update;                  /* bytes moved by the norm, Adam and averages */
    double train_memory, sample_memory;
    sid2_cost image; /* from noise to pixels, at the published number of evaluations */
} price;

/* The published sampler of DiT-XL/2: 250 steps, each with and without the class. */
enum { LATENT_EVALUATIONS = 2 * 250, LATENT_BLOCKS = 28 };
/* Sides that must be seen whole; above, the autoencoder is timed in pieces. */
enum { WHOLE_SIDE = 512, LATENT_STEP = 32 /* three halvings, patches of two, and one more halving */ };

static sid2_cost plus(sid2_cost a, double times, sid2_cost b)
{
    return (sid2_cost){a.multiply_adds + times * b.multiply_adds, a.bytes + times * b.bytes};
}

static sid2_cost each(sid2_cost batch, int64_t images)
{
    return plus((sid2_cost){0}, 1 / (double)images, batch);
}

static int side_of(const sid2_config *config) { return sid2_config_image_height(config); }

/* ---- Counting ---- */

/* All images of the batch at once, as PyTorch has them. */
static bool settle(const bench_job *j, sid2_config *config, const char *dtype, sid2_error *err)
{
    return config_set_int(config, "train.batch", j->batch, err) &&
           config_set_int(config, "train.microbatch", j->batch, err) &&
           config_set_int(config, "train.lanes", 1, err) &&
           config_set(config, "train.precision", dtype, err) &&
           config_set_int(config, "sample.batch", j->batch, err) &&
           config_set(config, "sample.precision", dtype, err);
}

static bool count_training(const bench_job *j, const sid2_config *config, price *p, sid2_error *err)
{
    sid2_training plan;
    sid2_recipe recipe = sid2_recipe_of(config);
    sid2_training_site site = sid2_training_site_of(NULL, 0);
    if (!sid2_training_plan(config, &recipe, &site, &plan, err)) return false;
    sid2_step_work work = sid2_step_work_of(&plan, &recipe, j->batch);
    p->training = each((sid2_cost){work.multiply_adds, work.bytes}, j->batch);
    p->update = work.update;
    p->train_memory = (double)(sid2_training_state(&plan) + sid2_training_arena(&plan));
    sid2_training_clear(&plan);
    return true;
}

/* An evaluation with the update of z that follows it; without guidance, which is another evaluation. */
static bool count_sampling(const bench_job *j, const sid2_config *config, price *p, sid2_error *err)
{
    sid2_sampling plan;
    sid2_training_site site = sid2_sampling_site_of(NULL, 0);
    site.gpu = true; /* the batch in one part */
    bool runs[SID2_PASS_COUNT], plain[SID2_PASS_COUNT] = {[SID2_PASS_PLAIN] = true};
    int64_t count;
    double evaluations = 0;
    sid2_solver_stage *stages = sid2_sampling_stages(config, NULL, &count, runs, err);
    if (!stages) return false;
    for (int64_t i = 0; i < count; i++) evaluations += stages[i].guided ? 2 : 1;
    free(stages);
    if (!sid2_sampling_plan(config, NULL, plain, (int)j->batch, 1, &site, &plan, err)) return false;
    p->evaluation = each(sid2_graph_cost(plan.graph[SID2_PASS_PLAIN]), j->batch);
    p->image = plus((sid2_cost){0}, evaluations, p->evaluation);
    p->sample_memory = (double)(sid2_sampling_state(&plan) + sid2_sampling_arena(&plan));
    sid2_sampling_clear(&plan);
    return true;
}

static bool count_pixels(const bench_job *j, sid2_config *config, const char *dtype, price *p,
                         sid2_error *err)
{
    if (!settle(j, config, dtype, err)) return false;
    sid2_model_info *info = sid2_model_describe(config, NULL, 0, err);
    if (!info) return false;
    *p = (price){.parameters = (double)info->parameters};
    sid2_model_info_destroy(info);
    return count_training(j, config, p, err) && count_sampling(j, config, p, err);
}

typedef struct latent_prices {
    price transformer, encoder, decoder, both; /* both: the transformer with its autoencoder */
} latent_prices;

/* Freed memory is kept, which a careful user of PyTorch asks for: mapped anew, large tensors take longer to make
 * than to use. */
static json_t *request_latent(const bench_job *j, const char *mode, const char *dtype, int side, int depth,
                              bool attention)
{
    return bench_request_on(j, dtype,
                            json_pack("{s:s, s:i, s:I, s:i, s:b, s:s}", "mode", mode, "size", side, "batch",
                                      (json_int_t)j->batch, "depth", depth, "attention", attention, "malloc",
                                      "keep"));
}

static bool start_latent(const bench_job *j, worker *w, json_t *request, sid2_error *err)
{
    bool ok = worker_start(w, (const char *const[]){j->python, j->script, NULL}, request, err);
    json_decref(request);
    return ok;
}

static double field(const json_t *counts, const char *part, const char *name)
{
    return json_number_value(json_object_get(json_object_get(counts, part), name));
}

static sid2_cost counted(const bench_job *j, const json_t *counts, const char *part)
{
    return each((sid2_cost){field(counts, part, "multiply_adds"), field(counts, part, "bytes")}, j->batch);
}

static latent_prices latent_prices_of(const bench_job *j, const json_t *counts)
{
    double weight = sizeof(float), state = 5 * weight; /* gradients, Adam's two and an average beside it */
    latent_prices l = {.transformer = {.parameters = field(counts, "train", "parameters"),
                                       .evaluation = counted(j, counts, "evaluate"),
                                       .training = counted(j, counts, "train"),
                                       .update = field(counts, "train", "update"),
                                       .train_memory = field(counts, "train", "memory"),
                                       .sample_memory = field(counts, "evaluate", "memory")},
                       .encoder = {.parameters = field(counts, "encode", "parameters"),
                                   .training = counted(j, counts, "encode"),
                                   .train_memory = field(counts, "encode", "memory")},
                       .decoder = {.parameters = field(counts, "decode", "parameters"),
                                   .image = counted(j, counts, "decode"),
                                   .sample_memory = field(counts, "decode", "memory")}};
    price *t = &l.transformer, *both = &l.both;
    t->image = plus((sid2_cost){0}, LATENT_EVALUATIONS, t->evaluation);
    *both = *t;
    both->parameters += l.encoder.parameters + l.decoder.parameters;
    both->training = plus(t->training, 1, l.encoder.training);
    both->image = plus(t->image, 1, l.decoder.image);
    both->train_memory =
        fmax(t->train_memory + weight * l.encoder.parameters, l.encoder.train_memory + state * t->parameters);
    both->sample_memory = fmax(t->sample_memory + weight * l.decoder.parameters,
                               l.decoder.sample_memory + weight * t->parameters);
    return l;
}

static bool count_latents(const bench_job *j, const char *dtype, int side, latent_prices *l, sid2_error *err)
{
    enum { SIZE = 4096 };
    char *answer = malloc(SIZE);
    json_t *counts = NULL;
    worker w = {0};
    bool ok = (answer || sid2_fail(err, SID2_ERR_MEMORY, "out of memory")) &&
              start_latent(j, &w, request_latent(j, "count", dtype, side, LATENT_BLOCKS, true), err) &&
              worker_ask(&w, "count", answer, SIZE, err) &&
              ((counts = json_loads(answer, 0, NULL)) ||
               sid2_fail(err, SID2_ERR_FORMAT, "the counts cannot be read"));
    if (ok) *l = latent_prices_of(j, counts);
    worker_stop(&w);
    json_decref(counts);
    free(answer);
    return ok;
}

static void print_cell(double number, int width, const char *(*text)(double, char[32]))
{
    char cell[32];
    printf(" %*s", width, number > 0 ? text(number, cell) : "-");
}

static void print_price(const char *name, const price *p)
{
    printf("%-26s", name);
    print_cell(p->parameters, 10, sid2_text_count);
    print_cell(p->evaluation.multiply_adds, 8, sid2_text_count);
    print_cell(p->evaluation.bytes, 9, sid2_text_bytes);
    print_cell(p->training.multiply_adds, 8, sid2_text_count);
    print_cell(p->training.bytes, 9, sid2_text_bytes);
    print_cell(p->update, 9, sid2_text_bytes);
    print_cell(p->image.multiply_adds, 8, sid2_text_count);
    print_cell(p->image.bytes, 9, sid2_text_bytes);
    print_cell(p->train_memory, 9, sid2_text_bytes);
    print_cell(p->sample_memory, 9, sid2_text_bytes);
    putchar('\n');
}

/* Where one side becomes the cheaper one: the decoder is paid once an image, the rest at every evaluation. */
static void print_crossover(const char *name, const price *p, const latent_prices *l)
{
    double more = p->evaluation.multiply_adds - l->transformer.evaluation.multiply_adds;
    printf(
        "  %s: multiply-adds of a training %.2f of the latent side's, %.2f where latents were encoded "
        "before; sampling ",
        name, p->training.multiply_adds / l->both.training.multiply_adds,
        p->training.multiply_adds / l->transformer.training.multiply_adds);
    double most = more > 0 ? floor(l->decoder.image.multiply_adds / more) : 0;
    if (most > 0)
        printf("less up to %.0f evaluations on both sides\n", most);
    else
        printf("%s at any number of evaluations\n", more > 0 ? "more" : "less");
}

/* ---- Measuring ---- */

enum { MOST_SIDES = 5 };

/* Processes that are asked in turn, and what an image takes in each: in the network, and in the update after it. */
typedef struct race {
    worker side[MOST_SIDES];
    int count;
    double network[MOST_SIDES], update[MOST_SIDES];
} race;

/* Seconds of a batch in the network, the sum of the operators'; the rest of a step is its update. */
static bool time_network(worker *w, double *network, double *update, sid2_error *err)
{
    json_t *profile = bench_profile(w, w->whole, err), *node;
    size_t i;
    if (!profile) return false;
    *network = 0;
    json_array_foreach(json_object_get(profile, "nodes"), i, node) *network +=
        json_number_value(json_array_get(node, 2));
    *update = json_number_value(json_object_get(profile, "seconds")) - *network;
    json_decref(profile);
    return true;
}

/* Medians of an image, if all sides have started; stops them in any case. */
static bool run_race(const bench_job *j, race *r, bool started, sid2_error *err)
{
    double(*times)[2][BENCH_MAX_ROUNDS] = calloc(MOST_SIDES, sizeof *times);
    bool ok = started && (times || sid2_fail(err, SID2_ERR_MEMORY, "out of memory"));
    for (int64_t round = 0; ok && round < j->rounds; round++)
        for (int s = 0; ok && s < r->count; s++)
            ok = time_network(&r->side[s], &times[s][0][round], &times[s][1][round], err);
    for (int s = 0; s < r->count; s++) {
        if (ok) {
            r->network[s] = bench_median(times[s][0], (int)j->rounds) / (double)j->batch;
            r->update[s] = bench_median(times[s][1], (int)j->rounds);
        }
        worker_stop(&r->side[s]);
    }
    free(times);
    return ok;
}

/* How many blocks a model is timed with, for its time is linear in them. Of sid2: on each of the finer levels, and
 * in the middle. */
enum { FEW = 3, FEW_LATENT = 2 };
static const int64_t few_levels[FEW] = {1, 2, 1}, few_middle[FEW] = {1, 1, 5};

/* Of the transformer: far apart, for the difference is what counts, and fewer of large pictures, which last. */
static int few_latent(int i, int side) { return i == 0 ? 1 : side <= 256 ? 9 : side <= 512 ? 5 : 2; }

static double of_all_blocks(const double seconds[FEW], const sid2_config *config)
{
    double level = (seconds[1] - seconds[0]) / (double)(few_levels[1] - few_levels[0]);
    double middle = (seconds[2] - seconds[0]) / (double)(few_middle[2] - few_middle[0]);
    return seconds[0] + (double)(sid2_config_depth(config, 0) - few_levels[0]) * level +
           (double)(config_int(config, "model.mid_depth") - few_middle[0]) * middle;
}

static double of_all_latent_blocks(const double seconds[FEW_LATENT], int side)
{
    double block = (seconds[1] - seconds[0]) / (few_latent(1, side) - few_latent(0, side));
    return seconds[0] + (LATENT_BLOCKS - few_latent(0, side)) * block;
}

/* sid2 with few blocks, and after it the transformer. */
static bool start_models(const bench_job *j, const sid2_config *config, const char *dtype, bool trains,
                         race *r, sid2_error *err)
{
    bool ok = true;
    for (int i = 0; ok && i < FEW; i++) {
        bench_job one = *j;
        one.config = sid2_config_clone(config);
        ok = one.config || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
        ok = ok && config_set_int(one.config, "model.depth", few_levels[i], err) &&
             config_set_int(one.config, "model.mid_depth", few_middle[i], err);
        json_t *request = ok ? bench_request(&one, trains ? "train" : "sample", dtype) : NULL;
        ok = ok && bench_start_sid2(j, &r->side[r->count++], request, err);
        json_decref(request);
        sid2_config_destroy(one.config);
    }
    for (int i = 0; ok && i < FEW_LATENT; i++)
        ok = start_latent(j, &r->side[r->count++],
                          request_latent(j, trains ? "train" : "evaluate", dtype, side_of(config),
                                         few_latent(i, side_of(config)), true),
                          err);
    return ok;
}

static bool measure_models(const bench_job *j, const char *name, const sid2_config *config, const char *dtype,
                           bool trains, sid2_error *err)
{
    race r = {0};
    if (!run_race(j, &r, start_models(j, config, dtype, trains, &r, err), err)) return false;
    double ours = of_all_blocks(r.network, config),
           theirs = of_all_latent_blocks(r.network + FEW, side_of(config));
    printf("%-22s %-20s %10.3g %10.3g %8.3g", name, trains ? "an image trained" : "an evaluation", ours,
           theirs, ours / theirs);
    if (trains)
        printf("   update, once a step %.3g and %.3g", of_all_blocks(r.update, config),
               of_all_latent_blocks(r.update + FEW, side_of(config)));
    putchar('\n');
    return true;
}

/* Convolutions take time by pixels, so those of large pictures are timed at half the side; attention, which does not,
 * is timed at its own. */
static bool measure_coder(const bench_job *j, const char *mode, const char *dtype, int side, sid2_error *err)
{
    race r = {0};
    bool whole = side <= WHOLE_SIDE;
    bool ok =
        start_latent(j, &r.side[r.count++],
                     request_latent(j, mode, dtype, whole ? side : side / 2, LATENT_BLOCKS, whole), err);
    if (ok && !whole)
        ok = start_latent(j, &r.side[r.count++],
                          request_latent(j, "attend", dtype, side, LATENT_BLOCKS, true), err);
    if (!run_race(j, &r, ok, err)) return false;
    printf("%-22s %-20s %10s %10.3g\n", "  autoencoder", mode, "",
           whole ? r.network[0] : 4 * r.network[0] + r.network[1]);
    return true;
}

/* ---- The command ---- */

/* What a time can be told of from few blocks, and latents made of. */
static bool suits(const char *name, const sid2_config *config, sid2_error *err)
{
    int side = side_of(config);
    for (int level = 1; level + 1 < sid2_config_levels(config); level++)
        if (sid2_config_depth(config, level) != sid2_config_depth(config, 0))
            return sid2_fail(err, SID2_ERR_USAGE,
                             "%s has levels of different depth: --latent tells a time from few blocks", name);
    if (side != sid2_config_image_width(config) || side % LATENT_STEP)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s has pictures of %d x %d: latents want a square, a multiple of %d", name, side,
                         sid2_config_image_width(config), LATENT_STEP);
    if (config_int(config, "model.image_channels") != 3)
        return sid2_fail(err, SID2_ERR_USAGE, "%s has no colour pictures, which the autoencoder wants", name);
    return true;
}

typedef struct subject {
    const char *name;
    sid2_config *config;
} subject;
enum { MOST_SUBJECTS = 64 };

/* The preset that is named, or all of ImageNet's from 256 on. */
static bool choose(const bench_job *j, subject *list, int *count, sid2_error *err)
{
    const char *name;
    for (int i = 0; (name = j->preset ? j->preset : sid2_preset_name(i)) && *count < MOST_SUBJECTS; i++) {
        if (!j->preset && strncmp(name, "imagenet", 8) != 0) continue;
        subject s = {name, bench_config(j, name, err)};
        if (!s.config) return false;
        if (j->preset || side_of(s.config) >= 256)
            list[(*count)++] = s;
        else
            sid2_config_destroy(s.config);
        if (j->preset) break;
    }
    for (int i = 0; i < *count; i++)
        if (!suits(list[i].name, list[i].config, err)) return false;
    return true;
}

static bool count_side(const bench_job *j, const subject *list, int count, int side, const char *dtype,
                       sid2_error *err)
{
    char title[64];
    price ours[MOST_SUBJECTS];
    latent_prices l;
    if (!count_latents(j, dtype, side, &l, err)) return false;
    for (int i = 0; i < count; i++)
        if (side_of(list[i].config) == side && !count_pixels(j, list[i].config, dtype, &ours[i], err))
            return false;
    snprintf(title, sizeof title, "%d x %d, %s, batch %lld", side, side, dtype, (long long)j->batch);
    printf("%-26s %10s %18s %18s %9s %18s %19s\n%-26s %10s", title, "", "an evaluation", "an image trained",
           "update", "an image sampled", "memory as planned", "", "parameters");
    for (int i = 0; i < 3; i++) printf(" %8s %9s%s", "mul-adds", "moved", i == 1 ? "     moved" : "");
    printf(" %9s %9s\n", "training", "sampling");
    for (int i = 0; i < count; i++)
        if (side_of(list[i].config) == side) print_price(list[i].name, &ours[i]);
    print_price("DiT-XL/2", &l.transformer);
    print_price("  encoder", &l.encoder);
    print_price("  decoder", &l.decoder);
    print_price("DiT-XL/2 with both", &l.both);
    for (int i = 0; i < count; i++)
        if (side_of(list[i].config) == side) print_crossover(list[i].name, &ours[i], &l);
    putchar('\n');
    return true;
}

static bool measure_side(const bench_job *j, const subject *list, int count, int side, const char *dtype,
                         sid2_error *err)
{
    bool trains = bench_wants(j->rows, "train"), samples = bench_wants(j->rows, "sample"), ok = true;
    bool encodes = bench_wants(j->rows, "encode"), decodes = bench_wants(j->rows, "decode");
    if (!trains && !samples && !encodes && !decodes) return true;
    printf("%d x %d, %s, batch %lld, threads %d: seconds an image, medians of %lld\n", side, side, dtype,
           (long long)j->batch, j->counts[0], (long long)j->rounds);
    printf("%-22s %-20s %10s %10s %8s\n", "", "", "sid2", "latent", "ratio");
    for (int i = 0; i < count && ok; i++) {
        if (side_of(list[i].config) != side) continue;
        if (trains) ok = measure_models(j, list[i].name, list[i].config, dtype, true, err);
        if (samples && ok) ok = measure_models(j, list[i].name, list[i].config, dtype, false, err);
    }
    if (encodes && ok) ok = measure_coder(j, "encode", dtype, side, err);
    if (decodes && ok) ok = measure_coder(j, "decode", dtype, side, err);
    putchar('\n');
    return ok;
}

/* All sizes, one after another. */
static bool compare(const bench_job *j, const subject *list, int count, const char *dtype, sid2_error *err)
{
    for (int side = LATENT_STEP, next; side > 0; side = next) {
        bool here = false;
        next = 0;
        for (int i = 0; i < count; i++) {
            int its = side_of(list[i].config);
            here |= its == side;
            if (its > side && (!next || its < next)) next = its;
        }
        if (!here) continue;
        if (bench_wants(j->rows, "count") && !count_side(j, list, count, side, dtype, err)) return false;
        if (!measure_side(j, list, count, side, dtype, err)) return false;
    }
    return true;
}

bool bench_latent(const bench_job *j, sid2_error *err)
{
    static const char *const dtypes[] = {"f32", "bf16"};
    subject list[MOST_SUBJECTS];
    int count = 0;
    bool ok = choose(j, list, &count, err);
    for (int d = 0; d < 2 && ok; d++)
        if (bench_wants(j->dtypes, dtypes[d])) ok = compare(j, list, count, dtypes[d], err);
    for (int i = 0; i < count; i++) sid2_config_destroy(list[i].config);
    return ok;
}
