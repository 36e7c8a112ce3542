#include "inference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "params.h"
#include "trainer.h"

static void clear(sid2_inference *n)
{
    for (int i = 0; i < SID2_PASS_COUNT; i++) {
        sid2_program_destroy(n->program[i]);
        n->program[i] = NULL;
    }
    sid2_arena_destroy(n->arena);
    n->arena = NULL;
    sid2_buffers_clear(&n->buffers);
    sid2_sampling_clear(&n->plan);
}

sid2_memory_report sid2_inference_memory(const sid2_inference *n)
{
    sid2_memory_report report = {.state = sid2_buffers_bytes(&n->buffers),
                                 .arena = n->plan.arena,
                                 .workspace = sid2_arena_bytes(n->arena) - n->plan.arena,
                                 .microbatch = n->plan.batch};
    for (int i = 0; i < SID2_PASS_COUNT; i++)
        if (n->program[i]) report.workspace += sid2_program_workspace(n->program[i]);
    return report;
}

static bool compile(sid2_inference *n, sid2_error *err)
{
    const sid2_graph *used[SID2_PASS_COUNT];
    int count = 0;
    for (int i = 0; i < SID2_PASS_COUNT; i++)
        if (n->plan.graph[i]) used[count++] = n->plan.graph[i];
    n->arena = sid2_arena_create(n->buffers.device, used, count, err);
    bool ok = n->arena != NULL;
    for (int i = 0; ok && i < SID2_PASS_COUNT; i++)
        if (n->plan.graph[i])
            ok = (n->program[i] = sid2_buffers_program(&n->buffers, n->plan.graph[i], n->arena, err)) != NULL;
    return ok;
}

/* What programs hold beside the plan is known only once they are made, so a limit may take a smaller batch. */
static bool build(sid2_inference *n, const bool runs[SID2_PASS_COUNT], size_t memory, const char *doing,
                  sid2_error *err)
{
    size_t alignment = sid2_device_alignment(n->buffers.device);
    for (int batch = (int)n->config.sample_batch;; batch = (batch + 1) / 2) {
        if (!sid2_sampling_plan(&n->config, runs, batch, memory, alignment, &n->plan, err)) return false;
        batch = n->plan.batch;
        size_t needed = n->plan.state + n->plan.arena;
        if (!memory || needed <= memory) {
            if (!compile(n, err)) return false;
            sid2_memory_report m = sid2_inference_memory(n);
            needed = m.state + m.arena + m.workspace;
        }
        if (!memory || needed <= memory) return true;
        if (batch == 1)
            return sid2_fail(err, SID2_ERR_MEMORY,
                             "%s one image at a time needs %zu MiB, more than the %g MiB allowed", doing,
                             (needed >> 20) + 1, (double)memory / (1 << 20));
        clear(n);
    }
}

bool sid2_inference_open(sid2_inference *n, sid2_device *device, const sid2_config *config,
                         const bool runs[SID2_PASS_COUNT], size_t memory, const char *doing, sid2_error *err)
{
    *n = (sid2_inference){.config = *config, .buffers = {.device = device}};
    n->image_bytes =
        (size_t)(config->model_image_size * config->model_image_size * config->model_image_channels);
    if (!sid2_config_check(config, err)) return false;
    n->schedule = sid2_schedule_create(config);
    if (build(n, runs, memory, doing, err)) return true;
    clear(n);
    return false;
}

void sid2_inference_close(sid2_inference *n) { clear(n); }

/* ---- Weights ---- */

/* A graph that has the network; all lay it out alike. */
static const sid2_graph *network(const sid2_inference *n)
{
    for (int i = 0; i < SID2_PASS_COUNT; i++)
        if (n->plan.graph[i] && n->plan.graph[i]->params_count) return n->plan.graph[i];
    return NULL;
}

bool sid2_inference_load(sid2_inference *n, const char *directory, bool ema, sid2_error *err)
{
    const sid2_graph *g = network(n);
    char path[4096];
    if (!sid2_path(path, err, "%s/%s.safetensors", directory, ema ? "ema" : "weights") ||
        !sid2_params_read(path, &n->buffers, g, &g->params[0], err))
        return false;
    return n->loaded = true;
}

bool sid2_inference_load_trainer(sid2_inference *n, sid2_trainer *trainer, sid2_error *err)
{
    const sid2_graph *g = network(n);
    const sid2_params *params = &g->params[0];
    if (params->elements != trainer->states[0].params->elements)
        return sid2_fail(err, SID2_ERR_USAGE, "the sampler's model is not the trainer's");
    float *flat = malloc((size_t)params->elements * sizeof *flat);
    if (!flat) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the weights");
    bool ok = sid2_state_download(&trainer->states[0], "ema", flat, err) &&
              sid2_params_upload(&n->buffers, g, params, flat, err);
    free(flat);
    n->loaded |= ok;
    return ok;
}

bool sid2_inference_is_loaded(const sid2_inference *n, sid2_error *err)
{
    return n->loaded || sid2_fail(err, SID2_ERR_USAGE, "no weights are loaded yet");
}

const char *sid2_inference_cause(const sid2_inference *n, char text[200])
{
    const sid2_graph *g = network(n);
    const sid2_params *params = &g->params[0];
    float *flat = malloc((size_t)params->elements * sizeof *flat);
    const sid2_param *param = NULL;
    if (flat && sid2_buffers_download(&n->buffers, g->tensors[params->weights].name, flat, NULL))
        param = sid2_params_broken(params, flat);
    free(flat);
    text[0] = 0;
    if (param) snprintf(text, 200, "; the weight %s is not finite", param->name);
    return text;
}

/* ---- What a batch is told ---- */

bool sid2_inference_upload(sid2_inference *n, const char *name, double value, sid2_error *err)
{
    float *values = malloc((size_t)n->plan.batch * sizeof *values);
    if (!values) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; i < n->plan.batch; i++) values[i] = (float)value;
    bool ok = sid2_buffers_upload(&n->buffers, name, values, err);
    free(values);
    return ok;
}

bool sid2_inference_upload_images(sid2_inference *n, const uint64_t *seeds, const int32_t *labels, int first,
                                  int count, sid2_error *err)
{
    int batch = n->plan.batch;
    uint32_t *words = malloc((size_t)batch * 4 * sizeof *words), *own = words + 2 * batch,
             *none = own + batch;
    if (!words) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; i < batch; i++) {
        int image = first + i < count ? first + i : count - 1;
        words[2 * i] = (uint32_t)seeds[image];
        words[2 * i + 1] = (uint32_t)(seeds[image] >> 32);
        none[i] = (uint32_t)n->config.model_classes;
        own[i] = labels[image] < 0 ? none[i] : (uint32_t)labels[image];
    }
    bool guided = sid2_buffers_find(&n->buffers, "no_label") != NULL;
    bool ok = sid2_buffers_upload(&n->buffers, "samples", words, err) &&
              sid2_buffers_upload(&n->buffers, "label", own, err) &&
              (!guided || sid2_buffers_upload(&n->buffers, "no_label", none, err));
    free(words);
    return ok;
}

bool sid2_inference_upload_key(sid2_inference *n, uint32_t high, sid2_error *err)
{
    return sid2_buffers_upload(&n->buffers, "seed", (uint32_t[]){SID2_SAMPLE_KEY, high}, err);
}

bool sid2_inference_run(sid2_inference *n, sid2_pass pass, sid2_error *err)
{
    return sid2_program_run(n->program[pass], err);
}
