#include "sampling.h"

#include "buffers.h"
#include "philox.h"
#include "plan.h"
#include "uvit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sid2_graph *create(const sid2_config *config, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(sid2_config_dtype(config->sample_precision));
    if (!g) sid2_fail(err, SID2_ERR_MEMORY, "out of memory building the graph");
    return g;
}

static sid2_graph *finish(sid2_graph *g, sid2_error *err)
{
    sid2_graph_fuse(g);
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

static sid2_tensor external(sid2_graph *g, const char *name, sid2_dtype dtype, sid2_shape shape)
{
    sid2_tensor known = sid2_graph_find(g, name);
    return known == SID2_NONE ? sid2_graph_external(g, name, dtype, shape) : known;
}

/* Of `n` clips, by the key that is in `seed`. */
static sid2_tensor normal(sid2_graph *g, const sid2_config *config, int64_t n, const char *seed,
                          uint32_t purpose)
{
    return sid2_uvit_noise(g, config, n, external(g, "samples", SID2_U32, sid2_shape_of(n, 2)),
                           external(g, seed, SID2_U32, sid2_shape_of(2)), purpose);
}

static sid2_tensor scalars(sid2_graph *g, const sid2_config *config, int64_t n, const char *name)
{
    return external(g, name, SID2_F32, sid2_shape_of(n * config->model_frames));
}

static sid2_tensor given_frames(sid2_graph *g, const sid2_config *config, int64_t n)
{
    return sid2_image_to_float(g, external(g, "given", SID2_U8, sid2_config_images(config, n)));
}

/* z, but in the frames that are not made `given`. */
static sid2_tensor set_given(sid2_graph *g, const sid2_config *config, int64_t n, sid2_tensor z,
                             sid2_tensor given)
{
    return sid2_diffuse(g, z, given, scalars(g, config, n, "made"), scalars(g, config, n, "kept"));
}

/* With `measured` guidance no direction was gone before. */
static sid2_graph *start_graph(const sid2_config *config, int64_t n, bool measured, sid2_error *err)
{
    sid2_graph *g = create(config, err);
    if (!g) return NULL;
    sid2_tensor z = normal(g, config, n, "seed", SID2_PURPOSE_NOISE);
    if (config->model_given) z = set_given(g, config, n, z, given_frames(g, config, n));
    z = sid2_graph_export(g, z, "z");
    if (measured) {
        sid2_tensor none = sid2_graph_external(g, "direction", SID2_F32, sid2_config_images(config, n));
        sid2_graph_emit_into(g, SID2_OP_scale, (sid2_attr){.scale = 0}, &z, 1, &none, 1);
    }
    return finish(g, err);
}

static void copy(sid2_graph *g, sid2_tensor from, sid2_tensor to)
{
    sid2_graph_emit_into(g, SID2_OP_scale, (sid2_attr){.scale = 1}, &from, 1, &to, 1);
}

static const char *const past_names[SID2_MAX_HISTORY] = {"x_hat", "x_hat_before"};

/* The given frames as noisy as those that are made: all that a guide without the history hears of it. */
static sid2_tensor blur_given(sid2_graph *g, const sid2_config *config, int64_t n, sid2_tensor z)
{
    sid2_tensor noise = normal(g, config, n, "history_seed", SID2_PURPOSE_NOISE);
    sid2_tensor noisy =
        sid2_diffuse(g, given_frames(g, config, n), noise, scalars(g, config, n, "history_alpha"),
                     scalars(g, config, n, "history_sigma"));
    return set_given(g, config, n, z, noisy);
}

/* What the guide says of the same z: another network, or this one without a class, a history, or both. */
static sid2_tensor ask_guide(sid2_graph *g, const sid2_config *config, const sid2_config *guide, int64_t n,
                             sid2_uvit_inputs in)
{
    sid2_shape each = sid2_shape_of(n * config->model_frames);
    bool blurred = sid2_guide_forgets(config, guide);
    in.label = sid2_graph_external(g, guide ? "guide_label" : "no_label", SID2_I32, each);
    if (guide) in.params = sid2_graph_params(g, "guide", false);
    if (guide || blurred) in.time = scalars(g, config, n, "guide_time");
    if (blurred) in.z = blur_given(g, config, n, in.z);
    return sid2_uvit_build(g, guide ? guide : config, in).v;
}

/* z, and x_hat of the evaluations so far, after one that says v; v_guide: SID2_NONE, or what its guide says. */
static void advance(sid2_graph *g, const sid2_config *config, int64_t n, sid2_tensor z, sid2_tensor v,
                    sid2_tensor v_guide)
{
    sid2_shape images = sid2_config_images(config, n), each = sid2_shape_of(images.dim[0]);
    const sid2_solver *solver = sid2_solver_of(config);
    sid2_tensor noise = solver->noise ? normal(g, config, n, "seed", SID2_PURPOSE_STEP) : SID2_NONE;
    sid2_tensor past[SID2_MAX_HISTORY], before = SID2_NONE;
    for (int k = 0; k < solver->history; k++)
        past[k] = sid2_graph_external(g, past_names[k], SID2_F32, images);
    if (solver->history == 1) before = past[0];
    if (solver->history == 2)
        before = sid2_diffuse(g, past[0], past[1], sid2_graph_external(g, "past_0", SID2_F32, each),
                              sid2_graph_external(g, "past_1", SID2_F32, each));
    sid2_tensor coef = sid2_graph_external(g, "coef", SID2_F32, sid2_shape_of(8));
    const sid2_tensor step[] = {z, v, v_guide, noise, before, coef};
    sid2_tensor next = config->model_given
                           ? sid2_graph_activation(g, sid2_graph_type(g, z)) /* set back below */
                           : z;
    sid2_graph_emit_into(g, SID2_OP_sampler_step, (sid2_attr){0}, step, 6, &next, 1);
    sid2_tensor x_hat = g->error.code ? SID2_NONE : g->nodes[g->node_count - 1].out[1];
    if (config->model_given) {
        sid2_tensor given = given_frames(g, config, n);
        sid2_graph_emit_into(
            g, SID2_OP_diffuse, (sid2_attr){0},
            (sid2_tensor[]){next, given, scalars(g, config, n, "made"), scalars(g, config, n, "kept")}, 4, &z,
            1);
    }
    if (solver->history && !g->error.code) {
        for (int k = solver->history - 1; k >= 0; k--) copy(g, k ? past[k - 1] : x_hat, past[k]);
    }
}

/* What guidance by measure wants to know of what network and guide say, v and v_guide of z: diffusion_loss sums squares. */
static void measure(sid2_graph *g, const sid2_config *config, int64_t n, sid2_tensor z, sid2_tensor v,
                    sid2_tensor v_guide)
{
    sid2_shape images = sid2_config_images(config, n);
    sid2_tensor alpha = scalars(g, config, n, "level_alpha"), sigma = scalars(g, config, n, "level_sigma"),
                zero = scalars(g, config, n, "zero"), one = scalars(g, config, n, "one");
    sid2_tensor x = sid2_graph_external(g, "x_model", SID2_F32, images),
                d = sid2_graph_external(g, "direction", SID2_F32, images);
    sid2_graph_emit_into(g, SID2_OP_diffuse, (sid2_attr){0}, (sid2_tensor[]){z, v, alpha, sigma}, 4, &x, 1);
    sid2_tensor x_guide = sid2_diffuse(g, z, v_guide, alpha, sigma);
    sid2_tensor now =
        sid2_graph_emit(g, SID2_OP_add, (sid2_attr){.scale = -1}, (sid2_tensor[]){x, x_guide}, 2, false);
    sid2_graph_emit_into(g, SID2_OP_add, (sid2_attr){.scale = config->sample_apg_momentum},
                         (sid2_tensor[]){now, d}, 2, &d, 1);
    sid2_graph_export(g, sid2_diffusion_loss(g, x, x, x, zero, zero, one), "x_square");
    sid2_graph_export(g, sid2_diffusion_loss(g, d, d, d, zero, zero, one), "d_square");
    sid2_graph_export(g, sid2_diffusion_loss(g, d, d, x, one, zero, one), "apart_square");
}

static sid2_graph *sample_graph(const sid2_config *config, const sid2_config *guide, int64_t n, bool guided,
                                sid2_error *err)
{
    sid2_graph *g = create(config, err);
    if (!g) return NULL;
    sid2_shape images = sid2_config_images(config, n), each = sid2_shape_of(images.dim[0]);
    sid2_uvit_inputs in = {.params = sid2_graph_params(g, "", false),
                           .z = sid2_graph_external(g, "z", SID2_F32, images),
                           .time = sid2_graph_external(g, "time", SID2_F32, each),
                           .label = sid2_graph_external(g, "label", SID2_I32, each),
                           .samples = SID2_NONE,
                           .seed = SID2_NONE};
    sid2_tensor v = sid2_uvit_build(g, config, in).v;
    sid2_tensor v_guide = guided ? ask_guide(g, config, guide, n, in) : SID2_NONE;
    if (guided && sid2_guidance_measures(config))
        measure(g, config, n, in.z, v, v_guide);
    else
        advance(g, config, n, in.z, v, v_guide);
    return finish(g, err);
}

/* The step that follows a measure, from x̂ as it is, and so with alpha = 0 and sigma = -1. */
static sid2_graph *step_graph(const sid2_config *config, int64_t n, sid2_error *err)
{
    sid2_graph *g = create(config, err);
    if (!g) return NULL;
    sid2_shape images = sid2_config_images(config, n);
    sid2_tensor x = sid2_graph_external(g, "x_model", SID2_F32, images),
                d = sid2_graph_external(g, "direction", SID2_F32, images);
    sid2_tensor guided =
        sid2_diffuse(g, x, d, scalars(g, config, n, "share_x"), scalars(g, config, n, "share_d"));
    advance(g, config, n, sid2_graph_external(g, "z", SID2_F32, images), guided, SID2_NONE);
    return finish(g, err);
}

static sid2_graph *finish_graph(const sid2_config *config, int64_t n, sid2_error *err)
{
    sid2_graph *g = create(config, err);
    if (!g) return NULL;
    sid2_tensor z = sid2_graph_external(g, "z", SID2_F32, sid2_config_images(config, n));
    sid2_graph_export(g, sid2_graph_emit(g, SID2_OP_float_to_image, (sid2_attr){0}, &z, 1, false), "image");
    return finish(g, err);
}

static sid2_graph *error_graph(const sid2_config *config, int64_t n, sid2_error *err)
{
    sid2_graph *g = create(config, err);
    if (!g) return NULL;
    sid2_shape images = sid2_config_images(config, n), each = sid2_shape_of(images.dim[0]);
    sid2_tensor x = sid2_image_to_float(g, sid2_graph_external(g, "pixels", SID2_U8, images));
    sid2_tensor alpha = sid2_graph_external(g, "alpha", SID2_F32, each);
    sid2_tensor sigma = sid2_graph_external(g, "sigma", SID2_F32, each);
    sid2_tensor weight = sid2_graph_external(g, "weight", SID2_F32, each);
    sid2_tensor noise = normal(g, config, n, "seed", SID2_PURPOSE_NOISE);
    sid2_tensor z = sid2_diffuse(g, x, noise, alpha, sigma);
    sid2_uvit_inputs in = {.params = sid2_graph_params(g, "", false),
                           .z = z,
                           .time = sid2_graph_external(g, "time", SID2_F32, each),
                           .label = sid2_graph_external(g, "label", SID2_I32, each),
                           .samples = SID2_NONE,
                           .seed = SID2_NONE};
    sid2_tensor v = sid2_uvit_build(g, config, in).v;
    sid2_graph_export(g, sid2_diffusion_loss(g, v, z, x, alpha, sigma, weight), "error");
    return finish(g, err);
}

sid2_graph *sid2_pass_graph(const sid2_config *config, const sid2_config *guide, sid2_pass pass, int64_t n,
                            sid2_error *err)
{
    switch (pass) {
    case SID2_PASS_START:
        return start_graph(config, n, sid2_config_guides(config) && sid2_guidance_measures(config), err);
    case SID2_PASS_STEP: return step_graph(config, n, err);
    case SID2_PASS_FINISH: return finish_graph(config, n, err);
    case SID2_PASS_ERRORS: return error_graph(config, n, err);
    default: return sample_graph(config, guide, n, pass == SID2_PASS_GUIDED, err);
    }
}

/* ---- The plan ---- */

bool sid2_guide_forgets(const sid2_config *config, const sid2_config *guide)
{
    return !guide && config->model_given && config->sample_guide_without != SID2_WITHOUT_class;
}

bool sid2_guide_check(const sid2_config *config, const sid2_config *guide, sid2_error *err)
{
    const sid2_config *of[] = {guide, config};
    char size[2][32];
    for (int i = 0; i < 2; i++)
        snprintf(size[i], sizeof size[i], "%dx%dx%d", sid2_config_image_height(of[i]),
                 sid2_config_image_width(of[i]), sid2_config_image_channels(of[i]));
    if (strcmp(size[0], size[1]) != 0)
        return sid2_fail(err, SID2_ERR_USAGE, "the guide makes images of %s, the model of %s", size[0],
                         size[1]);
    if (guide->model_frames != config->model_frames || guide->model_given != config->model_given)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "the guide makes clips of %d frames, %d of them given, the model of %d, with %d",
                         (int)guide->model_frames, (int)guide->model_given, (int)config->model_frames,
                         (int)config->model_given);
    if (guide->model_classes && guide->model_classes != config->model_classes)
        return sid2_fail(err, SID2_ERR_USAGE, "the guide knows %d classes, the model %d",
                         sid2_config_classes(guide), sid2_config_classes(config));
    return sid2_config_guides(config) ||
           sid2_fail(err, SID2_ERR_USAGE, "a guide is named, but sample.guidance = 1 asks for none");
}

sid2_solver_stage *sid2_sampling_stages(const sid2_config *config, const sid2_config *guide, int64_t *count,
                                        bool runs[SID2_PASS_COUNT], sid2_error *err)
{
    if (!sid2_config_check(config, err) ||
        !(guide ? sid2_guide_check(config, guide, err) : sid2_config_check_guidance(config, err)))
        return NULL;
    *count = sid2_solver_evaluations(config);
    sid2_solver_stage *stages = malloc((size_t)*count * sizeof *stages);
    if (!stages) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    sid2_schedule schedule = sid2_schedule_create(config);
    sid2_solver_plan(&schedule, config, stages);
    for (int i = 0; i < SID2_PASS_COUNT; i++) runs[i] = i == SID2_PASS_START || i == SID2_PASS_FINISH;
    for (int64_t i = 0; i < *count; i++) runs[stages[i].guided ? SID2_PASS_GUIDED : SID2_PASS_PLAIN] = true;
    runs[SID2_PASS_STEP] = runs[SID2_PASS_GUIDED] && sid2_guidance_measures(config);
    return stages;
}

void sid2_sampling_clear(sid2_sampling *sampling)
{
    for (int i = 0; i < SID2_PASS_COUNT; i++) sid2_graph_destroy(sampling->graph[i]);
    *sampling = (sid2_sampling){0};
}

size_t sid2_sampling_state(const sid2_sampling *s) { return s->params + (size_t)s->parts * s->told; }
size_t sid2_sampling_arena(const sid2_sampling *s) { return (size_t)s->workers * s->arena; }

sid2_training_site sid2_sampling_site_of(const sid2_device_info *device, size_t memory)
{
    sid2_training_site site = sid2_training_site_of(device, memory);
    site.memory = memory;
    return site;
}

/* Enough for a part to read the weights once for several images, and few enough for its activations to stay in a cache. */
static int images_of(int batch, int frames, const sid2_training_site *site)
{
    enum { PARTS = 8, MOST = 8 };
    int images = (batch + PARTS - 1) / PARTS, most = frames < MOST ? MOST / frames : 1;
    return site->gpu || !site->rebinds ? batch : images < most ? images : most;
}

static bool plan(const sid2_config *config, const sid2_config *guide, const bool runs[SID2_PASS_COUNT],
                 size_t alignment, sid2_sampling *out, sid2_error *err)
{
    const sid2_graph *used[SID2_PASS_COUNT];
    int count = 0;
    for (int i = 0; i < SID2_PASS_COUNT; i++) {
        if (!runs[i]) continue;
        sid2_graph *g = out->graph[i] = sid2_pass_graph(config, guide, (sid2_pass)i, out->images, err);
        sid2_plan *own = g ? sid2_plan_create(g, alignment, err) : NULL;
        if (!own) return false;
        if (own->arena_bytes > out->arena) out->arena = own->arena_bytes;
        sid2_plan_destroy(own);
        used[count++] = g;
    }
    out->params = sid2_externals_bytes(used, count, true);
    out->told = sid2_externals_bytes(used, count, false);
    return true;
}

static bool within(const sid2_sampling *s, size_t limit)
{
    return !limit || sid2_sampling_state(s) + sid2_sampling_arena(s) <= limit;
}

bool sid2_sampling_plan(const sid2_config *config, const sid2_config *guide, const bool runs[SID2_PASS_COUNT],
                        int batch, int workers, const sid2_training_site *site, sid2_sampling *out,
                        sid2_error *err)
{
    for (;; batch = (batch + 1) / 2) {
        int images = images_of(batch, (int)config->model_frames, site);
        *out = (sid2_sampling){.images = images, .parts = (batch + images - 1) / images, .workers = 1};
        out->batch = images * out->parts;
        bool made = plan(config, guide, runs, site->alignment, out, err);
        if (made && (batch == 1 || within(out, site->memory))) break;
        sid2_sampling_clear(out);
        if (!made) return false;
    }
    int most = site->cores < out->parts ? site->cores : out->parts;
    out->workers = workers < most ? workers : most;
    while (out->workers > 1 && !within(out, site->room)) out->workers--;
    out->cores = site->cores / out->workers;
    return true;
}
