#include "judgements.h"

#include "digest.h"
#include "file.h"
#include "json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_BYTES = 1 << 26 };

static const struct {
    const char *name;
    size_t at;
} numbers[] = {{"guidance", offsetof(sid2_judgement, guidance)},
               {"fid", offsetof(sid2_judgement, fid)},
               {"deviation", offsetof(sid2_judgement, deviation)},
               {"sfid", offsetof(sid2_judgement, sfid)},
               {"kid", offsetof(sid2_judgement, kid)},
               {"precision", offsetof(sid2_judgement, precision)},
               {"recall", offsetof(sid2_judgement, recall)},
               {"inception", offsetof(sid2_judgement, inception)}};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static double *number_of(sid2_judgement *j, int i) { return (double *)(void *)((char *)j + numbers[i].at); }

static char *line_of(const sid2_judgement *j)
{
    sid2_judgement copy = *j;
    json_t *all = json_pack("{s:I, s:s, s:I, s:s, s:I, s:s}", "step", (json_int_t)j->step, "against",
                            j->against, "pictures", (json_int_t)j->pictures, "sampler", j->sampler, "steps",
                            (json_int_t)j->steps, "interval", j->interval);
    bool ok = all != NULL;
    for (int i = 0; ok && i < NUMBERS; i++)
        if (isfinite(*number_of(&copy, i)))
            ok = json_object_set_new(all, numbers[i].name, json_real(*number_of(&copy, i))) == 0;
    char *text = ok ? json_dumps(all, JSON_COMPACT) : NULL;
    json_decref(all);
    return text;
}

bool sid2_judgement_add(const char *run, const sid2_judgement *j, sid2_error *err)
{
    char path[4096], digest[33];
    char *text = line_of(j);
    if (!text) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    FILE *file = sid2_path(path, err, "%s/judgements.jsonl", run) ? sid2_file_append(path, err) : NULL;
    bool ok = file != NULL;
    if (ok) {
        size_t fields = strlen(text) - 1; /* without the brace */
        sid2_digest_bytes(text, fields, digest);
        fprintf(file, "%.*s, \"xxh3_128\": \"%s\"}\n", (int)fields, text, digest);
        ok = !fflush(file) && !ferror(file) && !fsync(fileno(file));
        int cause = errno;
        if (fclose(file) && ok) cause = errno, ok = false;
        if (!ok) sid2_fail(err, SID2_ERR_IO, "cannot write %s: %s", path, strerror(cause));
    }
    free(text);
    return ok;
}

static void take_text(const json_t *object, const char *key, char *to, size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(to, size, "%s", text ? text : "");
}

static bool take_line(const char *text, size_t size, sid2_judgement *j)
{
    json_t *all = sid2_json_read(text, size, 0, NULL);
    bool ok = json_is_object(all) && sid2_digest_holds(text, size);
    *j = (sid2_judgement){0};
    if (ok) {
        j->step = (uint64_t)json_integer_value(json_object_get(all, "step"));
        j->pictures = json_integer_value(json_object_get(all, "pictures"));
        j->steps = json_integer_value(json_object_get(all, "steps"));
        take_text(all, "against", j->against, sizeof j->against);
        take_text(all, "interval", j->interval, sizeof j->interval);
        take_text(all, "sampler", j->sampler, sizeof j->sampler);
        for (int i = 0; i < NUMBERS; i++) *number_of(j, i) = sid2_json_number(all, numbers[i].name);
    }
    json_decref(all);
    return ok;
}

bool sid2_judgements_read(const char *run, sid2_judgement **all, int *count, int *damaged, sid2_error *err)
{
    char path[4096];
    sid2_kind kind;
    size_t size;
    *all = NULL;
    *count = *damaged = 0;
    if (!sid2_path(path, err, "%s/judgements.jsonl", run) || !sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT) return true;
    char *bytes = (char *)sid2_file_read(path, MOST_BYTES, &size, err);
    if (!bytes) return false;
    bool ok = true;
    for (char *at = bytes; ok && at < bytes + size;) {
        char *end = memchr(at, '\n', (size_t)(bytes + size - at));
        size_t length = end ? (size_t)(end - at) : (size_t)(bytes + size - at);
        sid2_judgement *larger = realloc(*all, (size_t)(*count + 1) * sizeof **all);
        ok = larger != NULL;
        if (ok) *all = larger;
        if (ok && take_line(at, length, &larger[*count]))
            ++*count;
        else if (ok && sid2_json_no_memory())
            ok = false;
        else if (length)
            ++*damaged;
        at += length + 1;
    }
    free(bytes);
    if (ok) return true;
    free(*all);
    *all = NULL;
    return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
}
