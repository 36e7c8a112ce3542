/* The configuration: one table of keys, and a value grammar that the table's `accepts` column spells out. */
#include "config.h"

#include "device.h"

#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "file.h"
#include "solver.h"
#include "text.h"

typedef enum key_type {
    TYPE_INT,
    TYPE_FLOAT,
    TYPE_BOOL,
    TYPE_NAME,
    TYPE_INTS,
    TYPE_FLOATS,
    TYPE_NAMES,
    TYPE_INTERVAL,
    TYPE_SIZE
} key_type;

typedef struct key_row {
    const char *section, *name; /* name: "section.name" */
    key_type type;
    const char *accepts, *value, *help;
    size_t offset;
    bool is_free;
    const char *older; /* NULL: a checkpoint's file may not lack it */
} key_row;

/* What keys of words accept, "|a|b": from the lists of config.h, and from the rows of tables. */
#define WORD_TEXT(set, word) "|" #word
#define WORDS(list)          &"" list(WORD_TEXT)[1]
#define ROWS(table)          &table##_words[1]
static const char schedules_words[] =
#define SCHEDULE(word, help) "|" #word
#include "schedules.def"
    ;
static const char weightings_words[] =
#define WEIGHTING(word, help) "|" #word
#include "weightings.def"
    ;
static const char decays_words[] =
#define DECAY(word, help) "|" #word
#include "decays.def"
    ;
static const char samplers_words[] =
#define SAMPLER(word, evaluations, history, noise, help) "|" #word
#include "samplers.def"
    ;
static const char grids_words[] =
#define GRID(word, help) "|" #word
#include "grids.def"
    ;
static const char guidances_words[] =
#define GUIDANCE(word, measured, help) "|" #word
#include "guidances.def"
    ;

static const sid2_config_word explained[] = {
#define SCHEDULE(word, help) {"schedule.kind", #word, help},
#include "schedules.def"
#define WEIGHTING(word, help) {"loss.weighting", #word, help},
#include "weightings.def"
#define DECAY(word, help) {"train.decay", #word, help},
#include "decays.def"
#define SAMPLER(word, evaluations, history, noise, help) {"sample.sampler", #word, help},
#include "samplers.def"
#define GRID(word, help) {"sample.grid", #word, help},
#include "grids.def"
#define GUIDANCE(word, measured, help) {"sample.guidance_rule", #word, help},
#include "guidances.def"
};

static const key_row keys[] = {
#define SECTION(section, help)
#define KEY(...)              ROW(false, NULL, __VA_ARGS__)
#define KEY_FREE(...)         ROW(true, NULL, __VA_ARGS__)
#define KEY_LATER(older, ...) ROW(false, older, __VA_ARGS__)
#define ROW(is_free, older, section, name, type, accepts, value, help)                                       \
    {#section,                                                                                               \
     #section "." #name,                                                                                     \
     TYPE_##type,                                                                                            \
     accepts,                                                                                                \
     value,                                                                                                  \
     help,                                                                                                   \
     offsetof(sid2_config, section##_##name),                                                                \
     is_free,                                                                                                \
     older},
#include "config.def"
};
enum { TEXT_SIZE = 256, MAX_FILE = 1 << 20 };

static const struct {
    const char *name, *help;
} sections[] = {
#define SECTION(section, help) {#section, help},
#define KEY(section, name, type, accepts, value, help)
#include "config.def"
};

/* ---- Values ---- */

static char *trim(char *text)
{
    while (sid2_is_space(*text)) text++;
    size_t length = strlen(text);
    while (length && sid2_is_space(text[length - 1])) text[--length] = 0;
    return text;
}

/* The next of the alternatives in `accepts`; NULL past the last. */
static const char *next_alternative(const char **rest, char word[64])
{
    if (!**rest) return NULL;
    size_t length = strcspn(*rest, "|");
    snprintf(word, 64, "%.*s", (int)length, *rest);
    *rest += length + ((*rest)[length] == '|');
    return word;
}

static int word_index(const char *accepts, const char *text)
{
    char word[64];
    for (int i = 0; next_alternative(&accepts, word); i++)
        if (strcmp(word, text) == 0) return i;
    return -1;
}

static void word_at(const char *accepts, int index, char word[64])
{
    for (int i = 0; i <= index; i++) next_alternative(&accepts, word);
}

/* Whether a number lies in one of the ranges "lo..hi", or is one of the plain numbers. */
static bool in_ranges(const char *accepts, double number)
{
    char word[64];
    while (next_alternative(&accepts, word)) {
        char *dots = strstr(word, "..");
        double low = sid2_text_real(word, NULL), high = dots ? sid2_text_real(dots + 2, NULL) : low;
        if (strcmp(word, "auto") != 0 && number >= low && number <= high) return true;
    }
    return false;
}

/* The number that stands for "auto": one less than the least of "auto|least..most". */
static int64_t auto_of(const char *accepts)
{
    char word[64];
    next_alternative(&accepts, word);
    return strcmp(word, "auto") == 0 && next_alternative(&accepts, word) ? strtoll(word, NULL, 10) - 1
                                                                         : INT64_MIN;
}

static bool parse_int(const char *accepts, const char *text, int64_t *number)
{
    if (word_index(accepts, text) >= 0 && strcmp(text, "auto") == 0) return *number = auto_of(accepts), true;
    char *end;
    errno = 0;
    *number = strtoll(text, &end, 10);
    return end != text && !*end && !errno && in_ranges(accepts, (double)*number);
}

static bool parse_float(const char *accepts, const char *text, double *number)
{
    if (word_index(accepts, text) >= 0 && strcmp(text, "auto") == 0) return *number = NAN, true;
    char *end;
    *number = sid2_text_real(text, &end);
    return end != text && !*end && in_ranges(accepts, *number);
}

static bool parse_bool(const char *text, bool *value)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    for (int i = 0; i < 8; i++)
        if (strcmp(words[i], text) == 0) return *value = i % 2, true;
    return false;
}

static bool parse_interval(const char *text, sid2_config_INTERVAL *interval)
{
    if (strcmp(text, "always") == 0) return *interval = (sid2_config_INTERVAL){-INFINITY, INFINITY}, true;
    if (strcmp(text, "none") == 0) return *interval = (sid2_config_INTERVAL){INFINITY, -INFINITY}, true;
    char *end;
    double low = sid2_text_real(text, &end);
    if (end == text || *end != ',') return false;
    const char *second = end + 1;
    double high = sid2_text_real(second, &end);
    if (end == second || *end || !isfinite(low) || !isfinite(high) || low > high) return false;
    return *interval = (sid2_config_INTERVAL){low, high}, true;
}

static bool parse_size(const char *accepts, char *text, sid2_config_SIZE *size)
{
    char *cross = strpbrk(text, "xX");
    if (cross) *cross = 0;
    bool ok = parse_int(accepts, trim(text), &size->height);
    size->width = size->height;
    return ok && (!cross || parse_int(accepts, trim(cross + 1), &size->width));
}

/* Splits at commas and parses each item; the three kinds of list differ only in that. */
static bool parse_list(const key_row *key, char *text, void *list)
{
    int count = 0;
    for (char *next; text; text = next) {
        next = strchr(text, ',');
        if (next) *next++ = 0;
        if (count == SID2_MAX_LEVELS) return false;
        char *item = trim(text);
        bool ok = false;
        if (key->type == TYPE_INTS) {
            ok = parse_int(key->accepts, item, &((sid2_config_INTS *)list)->item[count]);
        } else if (key->type == TYPE_FLOATS) {
            ok = parse_float(key->accepts, item, &((sid2_config_FLOATS *)list)->item[count]);
        } else {
            int word = word_index(key->accepts, item);
            ((sid2_config_NAMES *)list)->item[count] = word;
            ok = word >= 0;
        }
        if (!ok) return false;
        count++;
    }
    *(int *)list = count; /* the first member of every list */
    return true;
}

static bool parse_value(const key_row *key, const char *given, void *out)
{
    char copy[TEXT_SIZE];
    if (strlen(given) >= sizeof copy) return false;
    strcpy(copy, given);
    char *text = trim(copy);
    switch (key->type) {
    case TYPE_INT: return parse_int(key->accepts, text, out);
    case TYPE_FLOAT: return parse_float(key->accepts, text, out);
    case TYPE_BOOL: return parse_bool(text, out);
    case TYPE_NAME: {
        int word = word_index(key->accepts, text);
        return word >= 0 && (*(int *)out = word, true);
    }
    case TYPE_INTERVAL: return parse_interval(text, out);
    case TYPE_SIZE: return parse_size(key->accepts, text, out);
    default: return parse_list(key, text, out);
    }
}

/* The shortest text that reads back as the same number. */
static void format_float(double number, char text[64])
{
    if (isnan(number)) {
        strcpy(text, "auto");
        return;
    }
    for (int digits = 6; digits <= 17; digits++) {
        sid2_text_format(text, 64, "%.*g", digits, number);
        if (sid2_text_real(text, NULL) == number) return;
    }
}

static void format_item(const key_row *key, const void *value, int i, char text[64])
{
    switch (key->type) {
    case TYPE_INTS: snprintf(text, 64, "%" PRId64, ((const sid2_config_INTS *)value)->item[i]); break;
    case TYPE_FLOATS: format_float(((const sid2_config_FLOATS *)value)->item[i], text); break;
    default: word_at(key->accepts, ((const sid2_config_NAMES *)value)->item[i], text);
    }
}

static void format_value(const key_row *key, const sid2_config *config, char text[TEXT_SIZE])
{
    const void *value = (const char *)config + key->offset;
    char item[64] = "", other[64];
    text[0] = 0;
    switch (key->type) {
    case TYPE_INT: {
        int64_t number = *(const int64_t *)value;
        bool is_auto = number == auto_of(key->accepts);
        snprintf(text, TEXT_SIZE, is_auto ? "auto" : "%" PRId64, number);
        break;
    }
    case TYPE_FLOAT: format_float(*(const double *)value, text); break;
    case TYPE_BOOL: strcpy(text, *(const bool *)value ? "yes" : "no"); break;
    case TYPE_NAME: word_at(key->accepts, *(const int *)value, text); break;
    case TYPE_SIZE: {
        const sid2_config_SIZE *size = value;
        int used = snprintf(text, TEXT_SIZE, "%" PRId64, size->height);
        if (size->width != size->height)
            snprintf(text + used, TEXT_SIZE - (size_t)used, "x%" PRId64, size->width);
        break;
    }
    case TYPE_INTERVAL: {
        const sid2_config_INTERVAL *interval = value;
        format_float(interval->low, item);
        format_float(interval->high, other);
        if (interval->low > interval->high)
            strcpy(text, "none");
        else if (isinf(interval->low))
            strcpy(text, "always");
        else
            snprintf(text, TEXT_SIZE, "%s,%s", item, other);
        break;
    }
    default:
        for (int i = 0; i < *(const int *)value; i++) {
            format_item(key, value, i, item);
            size_t used = strlen(text);
            snprintf(text + used, TEXT_SIZE - used, "%s%s", i ? "," : "", item);
        }
    }
}

/* ---- Keys ---- */

static const key_row *known_key(const char *name)
{
    for (int i = 0; i < SID2_KEY_COUNT; i++)
        if (strcmp(keys[i].name, name) == 0) return &keys[i];
    return NULL;
}

static const key_row *find_key(const char *name, sid2_error *err)
{
    const key_row *known = known_key(name);
    if (known || !err) return known; /* nobody to tell what is nearest */
    const char *nearest = NULL;
    for (int i = 0, least = SID2_TEXT_FAR; i < SID2_KEY_COUNT; i++) {
        /* Against the bare name too: people forget the section. */
        if (sid2_text_nearer(name, keys[i].name, &least) ||
            sid2_text_nearer(name, strchr(keys[i].name, '.') + 1, &least))
            nearest = keys[i].name;
    }
    if (nearest)
        return sid2_fail(err, SID2_ERR_USAGE, "unknown key '%s'; did you mean '%s'?", name, nearest), NULL;
    return sid2_fail(err, SID2_ERR_USAGE, "unknown key '%s'; `sid2 help train` lists all", name), NULL;
}

static bool set_key(sid2_config *config, const char *name, const char *value, sid2_error *err)
{
    const key_row *key = find_key(name, err);
    if (!key) return false;
    /* Into a copy first: a bad value leaves the old one. */
    sid2_config fresh = *config;
    if (!parse_value(key, value, (char *)&fresh + key->offset)) {
        bool list = key->type == TYPE_INTS || key->type == TYPE_FLOATS || key->type == TYPE_NAMES;
        return sid2_fail(err, SID2_ERR_USAGE, "%s = %.60s: expected %s%s (%s)", name, value,
                         list                     ? "a list, at most 8 long, of "
                         : key->type == TYPE_SIZE ? "HEIGHTxWIDTH or one number for both, each of "
                                                  : "",
                         key->accepts, key->help);
    }
    *config = fresh;
    return true;
}

sid2_config *sid2_config_create(void)
{
    sid2_config *config = calloc(1, sizeof *config);
    for (int i = 0; config && i < SID2_KEY_COUNT; i++)
        parse_value(&keys[i], keys[i].value, (char *)config + keys[i].offset);
    return config;
}

sid2_config *sid2_config_clone(const sid2_config *config)
{
    sid2_config *copy = malloc(sizeof *copy);
    if (copy) *copy = *config;
    return copy;
}

void sid2_config_destroy(sid2_config *config) { free(config); }

bool sid2_config_set(sid2_config *config, const char *assignment, sid2_error *err)
{
    const char *equals = strchr(assignment, '=');
    char name[64];
    if (!equals || equals - assignment >= (ptrdiff_t)sizeof name)
        return sid2_fail(err, SID2_ERR_USAGE, "'%.80s': expected key=value", assignment);
    snprintf(name, sizeof name, "%.*s", (int)(equals - assignment), assignment);
    if (!set_key(config, trim(name), equals + 1, err)) return false;
    config->is_set[known_key(trim(name)) - keys] = true;
    return true;
}

bool sid2_config_is_set(const sid2_config *config, const char *key)
{
    const key_row *row = known_key(key);
    return row && config->is_set[row - keys];
}

bool sid2_config_is_known(const char *key) { return known_key(key); }

bool sid2_config_is_free(const char *key)
{
    const key_row *row = known_key(key);
    return row && row->is_free;
}

bool sid2_config_uses(const sid2_config *config, const char *key)
{
    if (strcmp(key, "sample.gamma") == 0) return sid2_solver_of(config)->noise;
    if (strcmp(key, "sample.guidance_rule") == 0) return sid2_config_guides(config);
    if (strncmp(key, "sample.apg_", 11) == 0)
        return sid2_config_guides(config) && config->sample_guidance_rule == SID2_GUIDANCE_apg;
    if (strcmp(key, "train.decay_start") == 0) return config->train_decay != SID2_DECAY_constant;
    if (strcmp(key, "sample.rho") == 0) return config->sample_grid == SID2_GRID_rho;
    return known_key(key) != NULL;
}

bool sid2_config_get(const sid2_config *config, const char *name, char *value, size_t size, sid2_error *err)
{
    const key_row *key = find_key(name, err);
    char text[TEXT_SIZE];
    if (!key) return false;
    format_value(key, config, text);
    if (strlen(text) >= size)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: value is longer than the buffer", name);
    return strcpy(value, text), true;
}

const char *sid2_config_text(const sid2_config *config, const char *key, char text[TEXT_SIZE])
{
    format_value(known_key(key), config, text);
    return text;
}

const sid2_config_key *sid2_config_key_at(int index)
{
    static const sid2_config_key shown[] = {
#define SECTION(section, help)
#define KEY(section, name, type, accepts, value, help) {#section "." #name, value, help, accepts},
#include "config.def"
    };
    return index >= 0 && index < SID2_KEY_COUNT ? &shown[index] : NULL;
}

const sid2_config_word *sid2_config_word_at(int index)
{
    return index >= 0 && index < (int)(sizeof explained / sizeof explained[0]) ? &explained[index] : NULL;
}

/* ---- Files ---- */

typedef struct reader {
    sid2_config *config;
    bool given[SID2_KEY_COUNT];
    int count; /* of keys given */
    sid2_error error;
    bool failed;
} reader;

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
    reader *r = user;
    char full[128];
    if (r->failed) return 0; /* libinih may go on */
    snprintf(full, sizeof full, "%s%s%s", section, *section ? "." : "", name);
    const key_row *key = find_key(full, &r->error);
    bool *given = key ? &r->given[key - keys] : NULL;
    if (given && *given) sid2_fail(&r->error, SID2_ERR_USAGE, "%s is given twice", full);
    r->failed = !given || *given || !set_key(r->config, full, value, &r->error);
    if (given) *given = true;
    r->count++;
    return !r->failed;
}

/* `result` is libinih's: 0, or the line of the first error, or negative. Nothing changes on failure. */
static bool finish(sid2_config *config, const reader *r, int result, const char *path, sid2_error *err)
{
    if (r->failed) return sid2_fail(err, r->error.code, "%s:%d: %s", path, result, r->error.message);
    if (result > 0)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s:%d: expected [section] or key = value", path, result);
    if (result < 0) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    *config = *r->config;
    return true;
}

/* Without these nobody knows what the weights mean. Keys that came later are what they were before. */
static bool complete(const reader *r, const char *path, sid2_error *err)
{
    for (int i = 0; i < SID2_KEY_COUNT; i++) {
        const key_row *key = &keys[i];
        bool needed = strcmp(key->section, "model") == 0 || strcmp(key->section, "schedule") == 0;
        if (!needed || r->given[i]) continue;
        if (!key->older)
            return sid2_fail(err, SID2_ERR_FORMAT,
                             "%s: %s is missing: the file is cut short or not of a checkpoint", path,
                             key->name);
        parse_value(key, key->older, (char *)r->config + key->offset);
    }
    return true;
}

char *sid2_config_read_text(const char *path, sid2_error *err)
{
    size_t size;
    char *text = (char *)sid2_file_read(path, MAX_FILE, &size, err);
    for (size_t i = 0; text && i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c >= ' ' && c != 127) || sid2_is_space((char)c)) continue;
        sid2_fail(err, SID2_ERR_FORMAT, "%s: not a text file, so no configuration", path);
        free(text);
        return NULL;
    }
    return text;
}

#define SEAL "; xxh3_128 "
enum { SEAL_SIZE = sizeof SEAL - 1, DIGEST_SIZE = 32 };

/* What sid2 writes begins with a digest of all lines that follow. What people write has none. */
static bool check_seal(const char *path, const char *text, sid2_error *err)
{
    char digest[DIGEST_SIZE + 1];
    if (strncmp(text, SEAL, SEAL_SIZE) != 0) return true;
    const char *rest = strchr(text, '\n');
    if (!rest) rest = "\n";
    sid2_digest_bytes(rest + 1, strlen(rest + 1), digest);
    return strncmp(text + SEAL_SIZE, digest, DIGEST_SIZE) == 0 ||
           sid2_fail(
               err, SID2_ERR_FORMAT,
               "%s:1: not the digest of what follows: damaged, or edited; after an edit remove this line",
               path);
}

static bool load(sid2_config *config, const char *path, bool whole, sid2_error *err)
{
    char *text = sid2_config_read_text(path, err);
    if (!text) return false;
    sid2_config fresh = *config;
    reader r = {.config = &fresh};
    bool ok = check_seal(path, text, err);
    int result = ok ? ini_parse_string(text, on_pair, &r) : 0;
    free(text);
    if (ok && !result && !r.count)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: no configuration: it sets no key", path);
    return ok && (result || !whole || complete(&r, path, err)) && finish(config, &r, result, path, err);
}

bool sid2_config_load(sid2_config *config, const char *path, sid2_error *err)
{
    return load(config, path, false, err);
}

bool sid2_config_load_whole(sid2_config *config, const char *path, sid2_error *err)
{
    return load(config, path, true, err);
}

const char *sid2_preset_name(int index)
{
    for (int i = 0; i <= index; i++)
        if (!sid2_presets[i].name) return NULL;
    return index < 0 ? NULL : sid2_presets[index].name;
}

bool sid2_config_preset(sid2_config *config, const char *name_or_path, sid2_error *err)
{
    char advice[400];
    const char *text = sid2_text_find(sid2_presets, name_or_path, "presets", advice);
    if (text) {
        sid2_config fresh = *config;
        reader r = {.config = &fresh};
        int result = ini_parse_string(text, on_pair, &r);
        return finish(config, &r, result, name_or_path, err);
    }
    sid2_kind kind;
    if (!sid2_look(name_or_path, &kind, err)) return false;
    if (kind == SID2_ABSENT)
        return sid2_fail(err, SID2_ERR_USAGE, "no preset or file '%.80s'%s", name_or_path, advice);
    return sid2_config_load(config, name_or_path, err);
}

static void print_all(FILE *stream, const sid2_config *config)
{
    for (int i = 0, s = -1; i < SID2_KEY_COUNT; i++) {
        if (s < 0 || strcmp(sections[s].name, keys[i].section) != 0) {
            s++;
            fprintf(stream, "%s; %s\n[%s]\n", s ? "\n" : "", sections[s].help, sections[s].name);
        }
        char text[TEXT_SIZE];
        format_value(&keys[i], config, text);
        fprintf(stream, "; %s\n%s = %s\n", keys[i].help, strchr(keys[i].name, '.') + 1, text);
    }
}

bool sid2_config_save(const sid2_config *config, const char *path, sid2_error *err)
{
    char *text = NULL, digest[DIGEST_SIZE + 1];
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    bool ok = stream != NULL;
    if (ok) {
        print_all(stream, config);
        ok = !ferror(stream);
        ok = !fclose(stream) && ok && text;
    }
    if (!ok) {
        free(text);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    }
    sid2_digest_bytes(text, size, digest);
    sid2_atomic_file file;
    ok = sid2_atomic_open(&file, path, err);
    if (ok) {
        fprintf(file.stream, SEAL "%s of all that follows\n%s", digest, text);
        ok = sid2_atomic_commit(&file, err);
    }
    free(text);
    return ok;
}

/* ---- Checks between keys ---- */

int sid2_config_levels(const sid2_config *config) { return config->model_channels.count; }

int64_t sid2_config_depth(const sid2_config *config, int level)
{
    return config->model_depth.item[config->model_depth.count == 1 ? 0 : level];
}

double sid2_config_dropout(const sid2_config *config, int level)
{
    return config->model_dropout.item[config->model_dropout.count == 1 ? 0 : level];
}

sid2_shape sid2_config_images(const sid2_config *c, int64_t count)
{
    return sid2_shape_of(count * c->model_frames, c->model_image_size.height, c->model_image_size.width,
                         c->model_image_channels);
}

sid2_shape sid2_config_clips(const sid2_config *c, int64_t count)
{
    if (c->model_frames == 1) return sid2_config_images(c, count);
    return sid2_shape_of(count, c->model_frames, c->model_image_size.height, c->model_image_size.width,
                         c->model_image_channels);
}

size_t sid2_config_image_bytes(const sid2_config *c)
{
    return (size_t)sid2_shape_count(sid2_config_images(c, 1));
}

double sid2_config_image_side(const sid2_config *c)
{
    return sqrt((double)(c->model_image_size.height * c->model_image_size.width));
}

sid2_dtype sid2_config_dtype(int precision)
{
    return precision == SID2_PRECISION_f32   ? SID2_F32
           : precision == SID2_PRECISION_f16 ? SID2_F16
                                             : SID2_BF16;
}

void sid2_config_settle_train(sid2_config *c, const sid2_device *device)
{
    const sid2_device_info *info = sid2_device_describe(device);
    bool bf16 = info->fast == SID2_BF16; /* f16 has too few exponents for gradients */
    if (c->train_precision == SID2_PRECISION_auto)
        c->train_precision = bf16 ? SID2_PRECISION_bf16 : SID2_PRECISION_f32;
    if (c->train_arena == SID2_ARENA_AUTO) c->train_arena = info->arena ? info->arena : SID2_ARENA;
}

void sid2_config_settle_like(sid2_config *c, const sid2_config *before)
{
    if (c->train_precision == SID2_PRECISION_auto) c->train_precision = before->train_precision;
    if (c->train_arena == SID2_ARENA_AUTO) c->train_arena = before->train_arena;
}

void sid2_config_settle_sample(sid2_config *c, const sid2_device *device)
{
    const sid2_device_info *info = sid2_device_describe(device);
    int asked = c->sample_precision;
    bool has = asked == SID2_PRECISION_f32 || (asked == SID2_PRECISION_bf16 && info->bf16) ||
               (asked == SID2_PRECISION_f16 && info->f16);
    if (has) return;
    c->sample_precision = info->fast_sample == SID2_BF16  ? SID2_PRECISION_bf16
                          : info->fast_sample == SID2_F16 ? SID2_PRECISION_f16
                                                          : SID2_PRECISION_f32;
}

int sid2_config_image_height(const sid2_config *config) { return (int)config->model_image_size.height; }
int sid2_config_image_width(const sid2_config *config) { return (int)config->model_image_size.width; }
int sid2_config_image_size(const sid2_config *config)
{
    int height = sid2_config_image_height(config), width = sid2_config_image_width(config);
    return height > width ? height : width;
}
int sid2_config_image_channels(const sid2_config *config) { return (int)config->model_image_channels; }
int sid2_config_frames(const sid2_config *config) { return (int)config->model_frames; }
int sid2_config_given(const sid2_config *config) { return (int)config->model_given; }
int sid2_config_classes(const sid2_config *config) { return (int)config->model_classes; }

bool sid2_config_check(const sid2_config *c, sid2_error *err)
{
    int levels = sid2_config_levels(c);
    if (c->model_blocks.count != levels)
        return sid2_fail(err, SID2_ERR_USAGE, "model.blocks: %d entries, but model.channels has %d levels",
                         c->model_blocks.count, levels);
    if (c->model_image_channels != 1 && c->model_image_channels != 3)
        return sid2_fail(err, SID2_ERR_USAGE, "model.image_channels = %d: pictures have 1 or 3",
                         (int)c->model_image_channels);
    if (c->model_depth.count != 1 && c->model_depth.count != levels - 1)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "model.depth: %d entries; expected 1 or %d, one for each level but the last",
                         c->model_depth.count, levels - 1);
    if (c->model_dropout.count != 1 && c->model_dropout.count != levels)
        return sid2_fail(err, SID2_ERR_USAGE, "model.dropout: %d entries; expected 1 or %d",
                         c->model_dropout.count, levels);
    int64_t step = c->model_patch << (levels - 1);
    if (c->model_image_size.height % step || c->model_image_size.width % step) {
        char size[TEXT_SIZE];
        format_value(known_key("model.image_size"), c, size);
        return sid2_fail(
            err, SID2_ERR_USAGE,
            "model.image_size = %s: height and width must be a multiple of %d (model.patch and %d halvings)",
            size, (int)step, levels - 1);
    }
    for (int i = 0; i < levels; i++) {
        bool transformer = c->model_blocks.item[i] == SID2_BLOCK_transformer;
        if (transformer && c->model_channels.item[i] % c->model_head_dim)
            return sid2_fail(err, SID2_ERR_USAGE,
                             "model.head_dim = %d: does not divide the %d channels of level %d",
                             (int)c->model_head_dim, (int)c->model_channels.item[i], i);
        if (transformer && c->model_head_dim % 4)
            return sid2_fail(err, SID2_ERR_USAGE, "model.head_dim = %d: must be a multiple of 4",
                             (int)c->model_head_dim);
    }
    if (c->model_given >= c->model_frames)
        return sid2_fail(err, SID2_ERR_USAGE, "model.given = %d: must be below model.frames = %d",
                         (int)c->model_given, (int)c->model_frames);
    if (c->model_waves % 2)
        return sid2_fail(err, SID2_ERR_USAGE, "model.waves = %d: must be even, a sine for each cosine",
                         (int)c->model_waves);
    if (c->schedule_logsnr_min >= c->schedule_logsnr_max)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "schedule.logsnr_min = %g: must be below schedule.logsnr_max = %g",
                         c->schedule_logsnr_min, c->schedule_logsnr_max);
    if (c->schedule_high && c->schedule_low > 16 * c->schedule_high)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "schedule.low = %d: too far above schedule.high = %d, logSNR would rise with time",
                         (int)c->schedule_low, (int)c->schedule_high);
    int64_t side = c->model_image_size.height < c->model_image_size.width ? c->model_image_size.height
                                                                          : c->model_image_size.width;
    if (c->train_translate >= side)
        return sid2_fail(err, SID2_ERR_USAGE, "train.translate = %d: must be below the images' %d pixels",
                         (int)c->train_translate, (int)side);
    int64_t lanes = c->train_lanes ? c->train_lanes : 1, lane = c->train_batch / lanes;
    if (lanes & (lanes - 1) || c->train_batch % lanes)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "train.lanes = %d: must be a power of two that divides train.batch = %d", (int)lanes,
                         (int)c->train_batch);
    if (c->train_microbatch && lane % c->train_microbatch)
        return sid2_fail(err, SID2_ERR_USAGE, "train.microbatch = %d: must divide %s of %d images",
                         (int)c->train_microbatch, lanes > 1 ? "a lane" : "train.batch", (int)lane);
    if (c->distill_first > c->distill_k)
        return sid2_fail(err, SID2_ERR_USAGE, "distill.first = %d: must be at most distill.k = %d",
                         (int)c->distill_first, (int)c->distill_k);
    if (c->distill_k && c->distill_guidance != 1 && !c->model_classes)
        return sid2_fail(
            err, SID2_ERR_USAGE,
            "distill.guidance = %g: a model without classes cannot be guided by itself; set it to 1",
            c->distill_guidance);
    if (c->sample_guidance_rule == SID2_GUIDANCE_cfgpp && c->sample_sampler != SID2_SAMPLER_ddim)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "sample.guidance_rule = cfgpp: is for sample.sampler = ddim alone");
    if (c->sample_guidance_rule == SID2_GUIDANCE_cfgpp && c->sample_guidance > 1)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "sample.guidance = %g: sample.guidance_rule = cfgpp wants weights from 0 to 1",
                         c->sample_guidance);
    return true;
}

bool sid2_config_guides(const sid2_config *c)
{
    return c->sample_guidance_rule == SID2_GUIDANCE_cfgpp || c->sample_guidance != 1;
}

bool sid2_config_check_guidance(const sid2_config *c, sid2_error *err)
{
    if (!sid2_config_guides(c)) return true;
    if (c->sample_guide_without != SID2_WITHOUT_class && !c->model_given)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "sample.guide_without: a model that goes on from no frames (model.given = 0) has no "
                         "history to leave out");
    return c->model_classes || c->sample_guide_without == SID2_WITHOUT_history ||
           sid2_fail(
               err, SID2_ERR_USAGE,
               "sample.guidance = %g: a model without classes cannot be guided by itself%s; set it to 1",
               c->sample_guidance, c->model_given ? ", but for sample.guide_without=history" : "");
}
