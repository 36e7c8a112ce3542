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

/* `flat`: one after the other, or NULL. Whole arrays are everybody's, of others each rank has a part. */
static void make_parts(const sid2_state *s, const sid2_state_file *file, float *flat, bool whole,
                       sid2_params_part parts[2])
{
    for (int i = 0; i < file->arrays; i++)
        parts[i] = (sid2_params_part){file->prefix[i], flat ? flat + i * s->params->elements : NULL,
                                      whole ? NULL : s->own, s->buckets};
}

static bool is_finite(const sid2_state *s, const char *array, const float *flat, sid2_error *err)
{
    const sid2_param *broken = sid2_params_broken(s->params, flat);
    return !broken || /* nothing that cannot be gone on from replaces what can be */
           sid2_fail(
               err, SID2_ERR_DEVICE,
               "'%s' of the %s is no longer finite, so nothing is saved: go on from the last checkpoint, "
               "with a lower train.learning_rate or a larger train.eps",
               broken->name, array);
}

static bool save_file(const sid2_state *s, const sid2_state_file *file, const char *path, float *arrays,
                      const char *const *facts, int writers, sid2_error *err)
{
    sid2_params_part parts[2];
    make_parts(s, file, arrays, true, parts);
    for (int i = 0; i < file->arrays; i++)
        if (!sid2_state_gather(s, file->array[i], parts[i].flat, err) ||
            !sid2_group_concur(s->group, is_finite(s, file->array[i], parts[i].flat, err), err))
            return false;
    return sid2_params_save(s->group, writers, path, s->params, parts, file->arrays, facts, err);
}

bool sid2_state_save(const sid2_state *s, const char *directory, const char *const *facts, int writers,
                     sid2_error *err)
{
    char path[4096];
    sid2_state_file files[SID2_MAX_STATE_FILES];
    int count = sid2_state_files(&s->rule, files);
    float *arrays = make_arrays(s, 2, err);
    bool ok = sid2_group_concur(s->group, arrays, err);
    for (int i = 0; ok && i < count; i++)
        ok = sid2_path(path, err, "%s/%s", directory, files[i].name) &&
             save_file(s, &files[i], path, arrays, facts, writers, err);
    free(arrays);
    return ok;
}

/* Each rank looks at its part; together they have seen everything. */
bool sid2_state_check(const sid2_state *s, const char *directory, const char *const *facts, sid2_error *err)
{
    char path[4096];
    sid2_state_file files[SID2_MAX_STATE_FILES];
    sid2_params_part parts[2];
    int count = sid2_state_files(&s->rule, files);
    bool ok = true;
    for (int i = 0; ok && i < count; i++) {
        make_parts(s, &files[i], NULL, false, parts);
        ok = sid2_path(path, err, "%s/%s", directory, files[i].name) &&
             sid2_params_load(path, s->params, parts, files[i].arrays, facts, NULL, err);
    }
    return sid2_group_concur(s->group, ok, err);
}

static bool is_shared(const sid2_state_file *file) { return strcmp(file->array[0], "weights") == 0; }

bool sid2_state_load(sid2_state *s, const char *directory, const char *const *facts, sid2_error *err)
{
    char path[4096];
    sid2_state_file files[SID2_MAX_STATE_FILES];
    sid2_params_part parts[SID2_MAX_STATE_FILES][2];
    int count = sid2_state_files(&s->rule, files);
    /* All are read before the first is taken: a damaged file leaves the state as it was. Memory of parts that are not read
     * is never touched. */
    float *arrays = make_arrays(s, count + 1, err), *next = arrays;
    bool ok = arrays != NULL;
    for (int i = 0; ok && i < count; i++) {
        make_parts(s, &files[i], next, is_shared(&files[i]), parts[i]);
        next += files[i].arrays * s->params->elements;
        ok = sid2_path(path, err, "%s/%s", directory, files[i].name) &&
             sid2_params_load(path, s->params, parts[i], files[i].arrays, facts, NULL, err);
    }
    ok = sid2_group_concur(s->group, ok, err);
    s->torn |= ok;
    ok = ok && sid2_state_reset(s, err); /* a failed step may have left gradients */
    for (int i = 0; ok && i < count; i++)
        for (int k = 0; ok && k < files[i].arrays; k++)
            ok = sid2_state_upload(s, files[i].array[k], parts[i][k].flat, err);
    ok = sid2_group_concur(s->group, ok, err);
    if (ok) s->torn = false;
    free(arrays);
    return ok;
}

bool sid2_state_warm_start(sid2_state *s, const char *path, uint64_t seed,
                           bool (*starts_fresh)(const char *name), sid2_error *err)
{
    float *weights = sid2_params_initial(s->params, seed, err);
    bool ok = weights && sid2_params_load(path, s->params, &(sid2_params_part){.prefix = "", .flat = weights},
                                          1, NULL, starts_fresh, err);
    ok = sid2_group_concur(s->group, ok, err);
    s->torn |= ok;
    ok = sid2_group_concur(s->group, ok && sid2_state_reset(s, err) && sid2_state_set(s, weights, err), err);
    if (ok) s->torn = false;
    free(weights);
    return ok;
}
