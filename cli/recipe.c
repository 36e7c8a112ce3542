#include "cli.h"

#include "classes.h"
#include "recipe.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Texts that are keys of the configuration, by the names they have in files. */
static const struct {
    const char *text, *key, *option;
} settings[] = {
    {"Steps", "sample.steps", "steps"},
    {"Sampler", "sample.sampler", "sampler"},
    {"Gamma", "sample.gamma", NULL},
    {"Grid", "sample.grid", "grid"},
    {"Rho", "sample.rho", NULL},
    {"Guidance", "sample.guidance", "guidance"},
    {"Guidance rule", "sample.guidance_rule", "guidance-rule"},
    {"APG radius", "sample.apg_radius", NULL},
    {"APG momentum", "sample.apg_momentum", NULL},
    {"APG parallel", "sample.apg_parallel", NULL},
    {"Interval", "sample.interval", "interval"},
    {"Precision", "sample.precision", NULL},
};
enum { SETTINGS = sizeof settings / sizeof settings[0], MOST_TEXTS = 160 };

static bool is_setting(const char *key)
{
    bool found = strcmp(key, "sample.batch") == 0; /* which changes no picture */
    for (int i = 0; i < SETTINGS && !found; i++) found = strcmp(key, settings[i].key) == 0;
    return found;
}

/* A key beside those that the request set: what it changes is not known here, so it is told. */
static const char *set_key(const sid2_config *config, int *index)
{
    for (const sid2_config_key *row; (row = sid2_config_key_at(*index));) {
        ++*index;
        if (sid2_config_is_set(config, row->name) && !is_setting(row->name)) return row->name;
    }
    return NULL;
}

/* ---- To texts ---- */

typedef struct text_list {
    sid2_png_text *item;
    size_t count;
    bool failed;
} text_list;

/* An empty value is left away. */
static void add(text_list *list, const char *key, const char *value)
{
    if (list->failed || !*value || list->count == MOST_TEXTS) return;
    sid2_png_text *to = &list->item[list->count++];
    to->key = strdup(key);
    to->value = strdup(value);
    list->failed = !to->key || !to->value;
    if (to->value) sid2_plain_line(to->value);
}

static void add_number(text_list *list, const char *key, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    add(list, key, text);
}

/* A value of the line, in quotes where it holds what divides the line. */
static void add_quoted(FILE *line, const char *key, const char *value)
{
    bool plain = !strpbrk(value, ",:\"\\");
    sid2_text_print(line, ", %s: %s", key, plain ? "" : "\"");
    for (; *value; value++) {
        if (!plain && strchr("\"\\", *value)) fputc('\\', line);
        fputc(*value, line);
    }
    if (!plain) fputc('"', line);
}

static const char *base_name(const char *path, char text[256])
{
    size_t size = strlen(path);
    while (size && path[size - 1] == '/') size--;
    size_t start = size;
    while (start && path[start - 1] != '/') start--;
    snprintf(text, 256, "%.*s", (int)(size - start), path + start);
    return text;
}

/* The line that the web interfaces of other models write and that galleries read: what was asked for, then the settings
 * under the names they have there. */
static void add_parameters(text_list *list, const recipe *r, const shown *s)
{
    char value[256], classes[SID2_CLASSES_LIST], *text = NULL;
    size_t size;
    FILE *line = open_memstream(&text, &size);
    if (!line) {
        list->failed = true;
        return;
    }
    bool labelled = s->labels[0] >= 0;
    if (labelled)
        sid2_text_print(line, "%s%s\n", r->names ? "" : "class ",
                        sid2_classes_list(r->names, s->labels, s->count, ", ", classes));
    sid2_text_print(line, "Steps: %s", config_text(r->config, "sample.steps", value));
    add_quoted(line, "Sampler", config_text(r->config, "sample.sampler", value));
    add_quoted(line, "CFG scale", config_text(r->config, "sample.guidance", value));
    sid2_text_print(line, ", Seed: %" PRIu64 ", Size: %dx%d, Model hash: %.10s", s->first_seed, s->width,
                    s->height, r->digest);
    add_quoted(line, "Model", base_name(r->model, value));
    add_quoted(line, "Version", "sid2 " SID2_VERSION);
    bool ok = !ferror(line);
    if (fclose(line) || !ok || list->count == MOST_TEXTS) {
        free(text);
        list->failed = true;
        return;
    }
    sid2_png_text *to = &list->item[list->count++];
    to->key = strdup("parameters");
    to->value = text;
    char *end = labelled ? strrchr(text, '\n') : NULL;
    if (end) *end = 0; /* two lines, and no more */
    sid2_plain_line(text);
    if (end) {
        *end = '\n';
        sid2_plain_line(end + 1);
    }
    if (!to->key) list->failed = true;
}

/* "..., 2 threads, ..." without them: the same picture has the same texts. */
static const char *without_threads(const char *name, char text[256])
{
    size_t used = 0;
    text[0] = 0;
    for (const char *part = name; part; part = strchr(part, ',') ? strchr(part, ',') + 1 : NULL) {
        size_t length = strcspn(part, ",");
        bool threads = length > 7 && (strncmp(part + length - 7, " thread", 7) == 0 ||
                                      strncmp(part + length - 8, " threads", 8) == 0);
        if (!threads)
            used += (size_t)snprintf(text + used, 256 - used, "%s%.*s", used ? "," : "", (int)length, part);
    }
    return text;
}

bool recipe_texts(const recipe *r, const shown *s, sid2_png_text **texts, size_t *count, sid2_error *err)
{
    char value[256], classes[SID2_CLASSES_LIST];
    text_list list = {.item = calloc(MOST_TEXTS, sizeof *list.item)};
    *texts = NULL;
    *count = 0;
    if (!list.item) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a picture's texts");
    add(&list, "Software", "sid2 " SID2_VERSION);
    add(&list, "Model", r->model);
    add(&list, "Checkpoint", r->digest);
    add(&list, "Weights", r->raw ? "raw" : "EMA");
    if (r->guide) {
        add(&list, "Guide", r->guide);
        add(&list, "Guide checkpoint", r->guide_digest);
    }
    add(&list, "Seed", s->seeds);
    add(&list, "Class", sid2_classes_list(NULL, s->labels, s->count, " ", classes));
    if (r->names) add(&list, "Class name", sid2_classes_list(r->names, s->labels, s->count, ", ", classes));
    if (s->count > 1 && s->classes) add(&list, "Classes", s->classes);
    if (s->columns) add_number(&list, "Columns", s->columns);
    for (int i = 0; i < SETTINGS; i++)
        if (sid2_config_uses(r->config, settings[i].key))
            add(&list, settings[i].text, config_text(r->config, settings[i].key, value));
    const char *key;
    for (int i = 0; (key = set_key(r->config, &i));) add(&list, key, config_text(r->config, key, value));
    if (s->channels != sid2_config_image_channels(r->config)) add_number(&list, "Channels", s->channels);
    if (s->quality) add_number(&list, "Quality", s->quality);
    if (s->frames) add_number(&list, "Frames", s->frames);
    if (r->given) {
        add(&list, "Given", r->given);
        add(&list, "Given frames", s->given_digest);
        if (s->given_first) add_number(&list, "Given from", (int64_t)s->given_first);
    }
    add(&list, "Device", r->device->id);
    add(&list, "Device name", without_threads(r->device->name, value));
    add_parameters(&list, r, s);
    if (list.failed) {
        sid2_png_text_free(list.item, list.count);
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a picture's texts");
    }
    *texts = list.item;
    *count = list.count;
    return true;
}

/* ---- From texts ---- */

static const char *value_of(const sid2_png_text *texts, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(texts[i].key, key) == 0) return texts[i].value;
    return NULL;
}

static int64_t number_of(const recipe_found *found, const char *key)
{
    const char *value = value_of(found->texts, found->count, key);
    int64_t number = value ? strtoll(value, NULL, 10) : 0;
    return number < 0 ? 0 : number;
}

static bool assign(assignments *set, const char *key, const char *value)
{
    if (set->count == (int)(sizeof set->item / sizeof set->item[0])) return false;
    char *to = set->item[set->count++];
    return snprintf(to, sizeof set->item[0], "%s=%s", key, value) < (int)sizeof set->item[0];
}

static bool is_key(const char *text)
{
    const sid2_config_key *row;
    for (int i = 0; (row = sid2_config_key_at(i)); i++)
        if (strcmp(text, row->name) == 0) return !is_setting(text);
    return false;
}

bool recipe_read(recipe_found *found, const char *path, sid2_error *err)
{
    *found = (recipe_found){0};
    if (!sid2_image_read_text(path, &found->texts, &found->count, err)) return false;
#define VALUE(key) value_of(found->texts, found->count, key)
    found->model = VALUE("Model");
    found->digest = VALUE("Checkpoint");
    found->seeds = VALUE("Seed");
    found->guide = VALUE("Guide");
    found->guide_digest = VALUE("Guide checkpoint");
    if (!found->guide_digest) found->guide_digest = "";
    if (!found->digest || !found->seeds)
        return sid2_fail(err, SID2_ERR_FORMAT,
                         "%s: it does not say how it was made: the texts that sid2 sample writes are %s",
                         path, found->count ? "not among its own" : "missing");
    const char *weights = VALUE("Weights"), *label = VALUE("Class");
    found->raw = weights && strcmp(weights, "raw") == 0;
    found->columns = number_of(found, "Columns");
    found->channels = number_of(found, "Channels");
    found->quality = number_of(found, "Quality");
    found->frames = number_of(found, "Frames");
    found->given = VALUE("Given");
    found->given_first = number_of(found, "Given from");
    found->classes = VALUE("Classes");
    if (!found->columns && label && !strchr(label, ' ')) { /* one picture's, whatever its name was */
        snprintf(found->number, sizeof found->number, "number:%.20s", label);
        found->classes = found->number;
    }
    bool ok = true;
    for (int i = 0; i < SETTINGS; i++)
        if (VALUE(settings[i].text)) ok &= assign(&found->set, settings[i].key, VALUE(settings[i].text));
#undef VALUE
    for (size_t i = 0; i < found->count; i++)
        if (is_key(found->texts[i].key))
            ok &= assign(&found->set, found->texts[i].key, found->texts[i].value);
    return ok || sid2_fail(err, SID2_ERR_FORMAT, "%s: its texts are longer than sid2 writes them", path);
}

void recipe_free(recipe_found *found)
{
    sid2_png_text_free(found->texts, found->count);
    *found = (recipe_found){0};
}

void recipe_differences(const recipe_found *found, const sid2_png_text *texts, size_t count, char text[1024])
{
    size_t used = 0;
    text[0] = 0;
    for (int side = 0; side < 2; side++) { /* what was said, then what is said only now */
        const sid2_png_text *from = side ? texts : found->texts;
        for (size_t i = 0, n = side ? count : found->count; i < n && used < 900; i++) {
            const char *key = from[i].key;
            const char *was = value_of(found->texts, found->count, key), *is = value_of(texts, count, key);
            bool same = was && is ? strcmp(was, is) == 0 : strcmp(key, "parameters") == 0;
            if (same || (side && was) || strcmp(key, "parameters") == 0 || strcmp(key, "Model") == 0 ||
                strcmp(key, "Guide") == 0 || strcmp(key, "Given") == 0)
                continue;
            used += (size_t)snprintf(text + used, 1024 - used, "%s%.80s was %.80s and is %.80s",
                                     used ? "; " : "", key, was ? was : "not set", is ? is : "not set");
        }
    }
}

/* ---- As a command ---- */

static void add_option(FILE *to, const char *name, const char *value)
{
    char quoted[SHELL_WORD];
    sid2_text_print(to, " --%s %s", name, shell_word(value, quoted));
}

static void add_key(FILE *to, const sid2_config *config, const char *key)
{
    char value[256], assignment[512];
    snprintf(assignment, sizeof assignment, "%s=%s", key, config_text(config, key, value));
    add_option(to, "set", assignment);
}

char *recipe_command(const recipe *r, const shown *s, const char *out)
{
    char value[256], label[16], quoted[SHELL_WORD], *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    if (!to) return NULL;
    sid2_text_print(to, "sid2 sample %s", shell_path(r->model, quoted));
    add_option(to, "seeds", s->seeds);
    const char *name = sid2_classes_name(r->names, s->labels[0]);
    int32_t *again = NULL;
    size_t count = 0;
    if (name && strlen(name) < 256)
        again = sid2_classes_parse(r->names, sid2_config_classes(r->config), name, &count, NULL);
    snprintf(label, sizeof label, "%d", (int)s->labels[0]);
    if (s->labels[0] >= 0) /* by name, where that is short and clear */
        add_option(to, "class", again && count == 1 && again[0] == s->labels[0] ? name : label);
    free(again);
    for (int i = 0; i < SETTINGS; i++) {
        if (!sid2_config_is_set(r->config, settings[i].key)) continue;
        if (settings[i].option)
            add_option(to, settings[i].option, config_text(r->config, settings[i].key, value));
        else
            add_key(to, r->config, settings[i].key);
    }
    const char *key;
    for (int i = 0; (key = set_key(r->config, &i));) add_key(to, r->config, key);
    if (r->raw) fputs(" --raw", to);
    if (r->guide) sid2_text_print(to, " --guide %s", shell_path(r->guide, quoted));
    add_option(to, "device", r->device->id);
    if (r->threads) sid2_text_print(to, " --threads %" PRId64, r->threads);
    add_option(to, "out", out);
    bool ok = !ferror(to);
    if (!fclose(to) && ok) return text;
    free(text);
    return NULL;
}
