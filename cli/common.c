#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sid2_device *open_device(const device_choice *choice, sid2_error *err)
{
    if (choice->threads > 1024) return sid2_fail(err, SID2_ERR_USAGE, "--threads is at most 1024"), NULL;
    sid2_fp8_products fp8 = SID2_FP8_NONE;
    if (choice->fp8) {
        fp8 = !strcmp(choice->fp8, "large") ? SID2_FP8_LARGE : SID2_FP8_ALL;
        if (fp8 == SID2_FP8_ALL && strcmp(choice->fp8, "all"))
            return sid2_fail(err, SID2_ERR_USAGE, "--fp8 is '%.40s'; it may be large or all", choice->fp8),
                   NULL;
    }
    const sid2_device_options options =
        sid2_with(sid2_device_options, .threads = (int)choice->threads, .share_cores = true,
                  .deterministic = choice->deterministic, .tf32 = choice->tf32, .fp8 = fp8);
    return sid2_device_open(choice->id ? choice->id : "auto", &options, err);
}

const char *config_text(const sid2_config *config, const char *key, char text[256])
{
    if (!sid2_config_get(config, key, text, 256, NULL)) text[0] = 0;
    return text;
}

int64_t config_int(const sid2_config *config, const char *key)
{
    char text[256];
    return strtoll(config_text(config, key, text), NULL, 10);
}

double config_real(const sid2_config *config, const char *key)
{
    char text[256];
    return sid2_text_real(config_text(config, key, text), NULL);
}

bool config_yes(const sid2_config *config, const char *key)
{
    char text[256];
    return strcmp(config_text(config, key, text), "yes") == 0;
}

bool config_set(sid2_config *config, const char *key, const char *value, sid2_error *err)
{
    char text[512];
    if (snprintf(text, sizeof text, "%s=%s", key, value) < (int)sizeof text)
        return sid2_config_set(config, text, err);
    return sid2_fail(err, SID2_ERR_USAGE, "%s: '%.80s...' is too long", key, value);
}

bool config_set_int(sid2_config *config, const char *key, int64_t value, sid2_error *err)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    return config_set(config, key, text, err);
}

/* Where a lane has several cores, so have its sums, and oneDNN's depend on how many. */
const char *lanes_text(const char *lane, const sid2_memory_report *m, int64_t batch, char text[320])
{
    char on[64] = "", lanes[128] = "", wish[96] = "", bits[64] = "", bytes[32];
    if (m->cores > 1 && m->workers > 1)
        snprintf(on, sizeof on, " on %d groups of %d cores", m->workers, m->cores);
    else if (m->cores > 1 || m->workers > 1)
        snprintf(on, sizeof on, " on %d cores%s", m->cores > 1 ? m->cores : m->workers,
                 m->cores > 1 && m->lanes > 1 ? ", one after another" : "");
    if (m->lanes > 1)
        snprintf(lanes, sizeof lanes, " in %d %ss%s", m->lanes, lane, on);
    else
        snprintf(lanes, sizeof lanes, "%s", on);
    if (m->wish)
        snprintf(wish, sizeof wish, "; a %s on every core would take %s", lane,
                 sid2_text_bytes((double)m->wish, bytes));
    if (m->cores > 1) snprintf(bits, sizeof bits, "; the last bits depend on the cores of a %s", lane);
    snprintf(text, 320, "%lld image%s%s, %d at a time%s%s", (long long)batch, batch == 1 ? "" : "s", lanes,
             m->microbatch, bits, wish);
    return text;
}

const char *words_of(const char *key, char text[256])
{
    const sid2_config_key *row;
    int i = 0;
    while ((row = sid2_config_key_at(i)) && strcmp(row->name, key) != 0) i++;
    size_t used = 0;
    for (const char *word = row ? row->accepts : "", *end; *word; word = *end ? end + 1 : end) {
        end = strchrnul(word, '|');
        const char *next = !*end ? "" : strchr(end + 1, '|') ? ", " : " or ";
        used += (size_t)snprintf(text + used, 256 - used, "%.*s%s", (int)(end - word), word, next);
    }
    snprintf(text + used, 256 - used, " (%s)", key);
    return text;
}

bool is_preset(const char *name)
{
    for (int i = 0; sid2_preset_name(i); i++)
        if (strcmp(name, sid2_preset_name(i)) == 0) return true;
    return false;
}

bool upright_of(const char *word, sid2_upright *upright)
{
    static const char *const words[] = {"auto", "yes", "no"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(word, words[i])) return *upright = (sid2_upright)i, true;
    return false;
}

void print_skipped(void *user, const char *name, const char *reason)
{
    progress_clear(user);
    fprintf(stderr, "left out: %s: %s\n", name, reason);
}

void print_notice(sid2_device *device)
{
    for (const char *line; (line = sid2_device_notice(device));) fprintf(stderr, "%s\n", line);
}

bool json_print(const json_t *result, sid2_error *err)
{
    if (!result)
        return sid2_fail(err, SID2_ERR_MEMORY,
                         "no JSON of the result: no memory, or a path in it is not UTF-8");
    bool ok = json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(8)) == 0;
    if (ok) putchar('\n');
    return ok || sid2_fail(err, SID2_ERR_IO, "cannot write the result as JSON");
}
