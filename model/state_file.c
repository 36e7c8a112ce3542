/* A state in the files of a checkpoint. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "state.h"

int sid2_state_files(const sid2_state_rule *rule, sid2_state_file files[SID2_MAX_STATE_FILES])
{
    int count = 0;
    const char *dot = rule->name[0] ? "." : "";
    for (int i = 0; i < rule->average_count; i++)
        files[count++] = (sid2_state_file){.array = {rule->averages[i].name}, .prefix = {""}, .arrays = 1};
    files[count++] = (sid2_state_file){.array = {"weights"}, .prefix = {""}, .arrays = 1};
    for (int i = 0; i < count; i++)
        snprintf(files[i].name, sizeof files[i].name, "%s%s%s.safetensors", rule->name, dot,
                 files[i].array[0]);
    if (!rule->trained) return count;
    sid2_state_file *moments = &files[count++];
    *moments = (sid2_state_file){.array = {"m", "v"}, .prefix = {"m.", "v."}, .arrays = 2};
    snprintf(moments->name, sizeof moments->name, "%s%soptimizer.safetensors", rule->name, dot);
    return count;
}

/* The arrays of a file on the host, one after the other. */
static float *make_arrays(const sid2_state *s, int count, sid2_error *err)
{
    float *arrays = calloc((size_t)s->params->elements * (size_t)count, sizeof *arrays);
    if (!arrays) sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the weights");
    return arrays;
}

static void make_parts(const sid2_state *s, const sid2_state_file *file, float *arrays,
                       sid2_params_part parts[2])
{
    for (int i = 0; i < file->arrays; i++)
        parts[i] = (sid2_params_part){file->prefix[i], arrays + i * s->params->elements};
}

static bool save_file(const sid2_state *s, const sid2_state_file *file, const char *path, float *arrays,
                      const char *const *facts, sid2_error *err)
{
    sid2_params_part parts[2];
    make_parts(s, file, arrays, parts);
    for (int i = 0; i < file->arrays; i++) {
        if (!sid2_state_download(s, file->array[i], parts[i].flat, err)) return false;
        const sid2_param *broken = sid2_params_broken(s->params, parts[i].flat);
        if (broken) /* nothing that cannot be gone on from replaces what can be */
            return sid2_fail(
                err, SID2_ERR_DEVICE,
                "'%s' of the %s is no longer finite, so nothing is saved: go on from the last checkpoint, "
                "with a lower train.learning_rate or a larger train.eps",
                broken->name, file->array[i]);
    }
    return sid2_params_save(path, s->params, parts, file->arrays, facts, err);
}

bool sid2_state_save(const sid2_state *s, const char *directory, const char *const *facts, sid2_error *err)
{
    char path[4096];
    sid2_state_file files[SID2_MAX_STATE_FILES];
    int count = sid2_state_files(&s->rule, files);
    float *arrays = make_arrays(s, 2, err);
    bool ok = arrays != NULL;
    for (int i = 0; ok && i < count; i++)
        ok = sid2_path(path, err, "%s/%s", directory, files[i].name) &&
             save_file(s, &files[i], path, arrays, facts, err);
    free(arrays);
    return ok;
}

bool sid2_state_check(const sid2_state *s, const char *directory, const char *const *facts, sid2_error *err)
{
    char path[4096];
    sid2_state_file files[SID2_MAX_STATE_FILES];
    int count = sid2_state_files(&s->rule, files);
    bool ok = true;
    for (int i = 0; ok && i < count; i++) {
        const sid2_params_part parts[2] = {{files[i].prefix[0], NULL}, {files[i].prefix[1], NULL}};
        ok = sid2_path(path, err, "%s/%s", directory, files[i].name) &&
             sid2_params_load(path, s->params, parts, files[i].arrays, facts, NULL, err);
    }
    return ok;
}

bool sid2_state_load(sid2_state *s, const char *directory, const char *const *facts, sid2_error *err)
{
    char path[4096];
    sid2_state_file files[SID2_MAX_STATE_FILES];
    sid2_params_part parts[SID2_MAX_STATE_FILES][2];
    int count = sid2_state_files(&s->rule, files);
    /* All are read before the first is taken: a damaged file leaves the state as it was. */
    float *arrays = make_arrays(s, count + 1, err), *next = arrays;
    bool ok = arrays != NULL;
    for (int i = 0; ok && i < count; i++) {
        make_parts(s, &files[i], next, parts[i]);
        next += files[i].arrays * s->params->elements;
        ok = sid2_path(path, err, "%s/%s", directory, files[i].name) &&
             sid2_params_load(path, s->params, parts[i], files[i].arrays, facts, NULL, err);
    }
    s->torn |= ok;
    ok = ok && sid2_state_reset(s, err); /* a failed step may have left gradients */
    for (int i = 0; ok && i < count; i++)
        for (int k = 0; ok && k < files[i].arrays; k++)
            ok = sid2_state_upload(s, files[i].array[k], parts[i][k].flat, err);
    if (ok) s->torn = false;
    free(arrays);
    return ok;
}

bool sid2_state_warm_start(sid2_state *s, const char *path, uint64_t seed,
                           bool (*starts_fresh)(const char *name), sid2_error *err)
{
    float *weights = sid2_params_initial(s->params, seed, err);
    bool ok = weights &&
              sid2_params_load(path, s->params, &(sid2_params_part){"", weights}, 1, NULL, starts_fresh, err);
    s->torn |= ok;
    ok = ok && sid2_state_reset(s, err) && sid2_state_set(s, weights, err);
    if (ok) s->torn = false;
    free(weights);
    return ok;
}
