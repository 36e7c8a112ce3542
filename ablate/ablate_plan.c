/* Plans: a file becomes rows of configurations, and every complaint has its line. */
#include "ablate_plan.h"

#include "file.h"
#include "text.h"

#include <sid2/checkpoint.h>
#include <sid2/model.h>

#include <ini.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const sid2_text_row sid2_ablate_plans[]; /* of ablate/plans/, made by the build */

enum { OF_EACH = -3, OF_PLAN = -2, OF_ALL = -1, MAX_SETTINGS = 1024, MAX_LINE = 199 /* libinih's */ };

typedef struct setting {
    int row; /* or OF_ALL, OF_EACH */
    int line;
    char text[256]; /* "key=value"; of OF_EACH "key=value | value" */
} setting;

typedef struct reader {
    sid2_ablate_plan *plan;
    const char *rest; /* of the text */
    int line;         /* that was handed out last */
    bool fresh;       /* a section began there, of which no key has come yet */
    char section[64]; /* its head, for messages */
    int section_line;
    int row; /* that keys go to */
    setting *settings;
    int count;
    char equal[16], seeds[256];
    sid2_error *err;
    bool failed;
} reader;

static bool refuse(reader *r, int line, const char *message, const char *name)
{
    if (!r->failed)
        sid2_fail(r->err, SID2_ERR_USAGE, "%s:%d: %s%s%s%s", r->plan->name, line, message, *name ? " '" : "",
                  name, *name ? "'" : "");
    r->failed = true;
    return false;
}

static void check_section(reader *r)
{
    if (r->fresh) refuse(r, r->section_line, "nothing is set in", r->section);
    r->fresh = false;
}

/* As fgets, a line of the text without what indents it: that would make it part of the line before. */
static char *next_line(char *line, int size, void *user)
{
    reader *r = user;
    if (!*r->rest || r->failed) return NULL;
    while (*r->rest == ' ' || *r->rest == '\t') r->rest++;
    size_t length = strcspn(r->rest, "\n"), whole = length + (r->rest[length] == '\n');
    r->line++;
    if (whole >= (size_t)size) return refuse(r, r->line, "a line is longer than 198 bytes", ""), NULL;
    memcpy(line, r->rest, whole);
    line[whole] = 0;
    r->rest += whole;
    if (*line == '[') {
        check_section(r);
        r->fresh = true;
        r->section_line = r->line;
        snprintf(r->section, sizeof r->section, "%.*s", (int)strcspn(line, "\r\n"), line);
    }
    return line;
}

/* ---- Sections ---- */

#define ROW_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-"

static bool begin_row(reader *r, const char *name)
{
    sid2_ablate_plan *plan = r->plan;
    size_t length = strspn(name, ROW_LETTERS);
    if (!length || name[length] || strchr(".-", name[0]) || length >= sizeof plan->row[0].name)
        return refuse(r, r->section_line,
                      "a row's name has 1 to 39 letters, digits and . _ + - and begins with no . or -, not",
                      name);
    for (int i = 0; i < plan->rows; i++)
        if (strcmp(plan->row[i].name, name) == 0)
            return refuse(r, r->section_line, "there are two rows called", name);
    if (plan->rows == SID2_ABLATE_ROWS) return refuse(r, r->section_line, "a plan has at most 256 rows", "");
    r->row = plan->rows++;
    plan->row[r->row].line = r->section_line;
    snprintf(plan->row[r->row].name, sizeof plan->row[0].name, "%s", name);
    return true;
}

static bool begin_section(reader *r, const char *section)
{
    r->fresh = false;
    if (strncmp(section, "row ", 4) == 0) return begin_row(r, section + 4);
    if (strcmp(section, "plan") == 0)
        r->row = OF_PLAN;
    else if (strcmp(section, "all") == 0)
        r->row = OF_ALL;
    else if (strcmp(section, "each") == 0)
        r->row = OF_EACH;
    else
        return refuse(r, r->section_line, "expected [plan], [all], [row NAME] or [each], not", section);
    return true;
}

static bool set_word(reader *r, char *word, size_t size, const char *value)
{
    if (strlen(value) >= size) return refuse(r, r->line, "too long:", value);
    if (*word) return refuse(r, r->line, "given twice, also as", value);
    strcpy(word, value);
    return true;
}

static bool set_of_plan(reader *r, const char *name, const char *value)
{
    sid2_ablate_plan *plan = r->plan;
    if (strcmp(name, "title") == 0) return set_word(r, plan->title, sizeof plan->title, value);
    if (strcmp(name, "preset") == 0) return set_word(r, plan->preset, sizeof plan->preset, value);
    if (strcmp(name, "axis") == 0)
        return set_word(r, plan->axis, sizeof plan->axis, value) &&
               (sid2_config_is_known(value) || strcmp(value, SID2_ABLATE_EVALUATIONS) == 0 ||
                refuse(r, r->line, "unknown key", value));
    if (strcmp(name, "seeds") == 0) return set_word(r, r->seeds, sizeof r->seeds, value);
    if (strcmp(name, "equal") == 0)
        return set_word(r, r->equal, sizeof r->equal, value) &&
               (strcmp(value, "images") == 0 || strcmp(value, "operations") == 0 ||
                refuse(r, r->line, "equal should be images or operations, not", value));
    if (strcmp(name, "samples") != 0)
        return refuse(r, r->line, "[plan] has title, preset, seeds, equal, samples, axis and no", name);
    char *end;
    long count = strtol(value, &end, 10);
    if (end == value || *end || count < 0 || count > 1000000)
        return refuse(r, r->line, "samples should be a number up to 1000000, not", value);
    plan->samples = count;
    return true;
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
    reader *r = user;
    if (r->failed) return 0; /* libinih may go on */
    if (!*section) return refuse(r, r->line, "expected [plan], [all], [row NAME] or [each] before", name);
    if (r->fresh && !begin_section(r, section)) return 0;
    if (r->row == OF_PLAN) return set_of_plan(r, name, value);
    if (r->row >= 0 && strcmp(name, "checkpoint") == 0)
        return set_word(r, r->plan->row[r->row].checkpoint, sizeof r->plan->row->checkpoint, value);
    if (r->row >= 0 && strcmp(name, "guide") == 0)
        return set_word(r, r->plan->row[r->row].guide, sizeof r->plan->row->guide, value);
    if (r->count == MAX_SETTINGS) return refuse(r, r->line, "a plan sets at most 1024 keys", "");
    setting *s = &r->settings[r->count++];
    *s = (setting){.row = r->row, .line = r->line};
    if (strcmp(name, "train.seed") == 0) return refuse(r, r->line, "seeds are [plan]'s, not a key's:", name);
    if (r->row != OF_ALL && strcmp(name, "train.steps") == 0)
        return refuse(r, r->line, "how long a row trains follows from [all] and 'equal', not from", name);
    int length = snprintf(s->text, sizeof s->text, "%s=%s", name, value);
    return length < (int)sizeof s->text || refuse(r, r->line, "too long:", name);
}

/* ---- [each] ---- */

/* Of "key=a | b"; a key may hold bars, too, until it is found to be none. */
static int values_in(const char *text)
{
    int count = 1;
    for (text = strchr(text, '='); *text; text++) count += *text == '|';
    return count;
}

/* Value number `k` of "key=a | b", and with it "key=b". */
static const char *pick(const char *text, int k, char assignment[256])
{
    const char *value = strchr(text, '=') + 1;
    int key = (int)(value - text);
    while (k--) value = strchr(value, '|') + 1;
    while (sid2_is_space(*value)) value++;
    size_t length = strcspn(value, "|");
    while (length && sid2_is_space(value[length - 1])) length--;
    snprintf(assignment, 256, "%.*s%.*s", key, text, (int)length, value);
    return assignment + key;
}

static bool same_key(const char *text, const char *other)
{
    size_t length = strcspn(text, "=");
    return strncmp(text, other, length) == 0 && (other[length] == '=' || !other[length]);
}

/* Of how many values of that setting the row takes each; 0: the setting is not [each]'s, or not for that row. */
static int values_for(const reader *r, const sid2_ablate_row *row, const setting *s)
{
    if (s->row != OF_EACH || row->checkpoint[0]) return 0;
    for (int i = 0; i < r->count; i++)
        if (r->settings[i].row == row->section && same_key(s->text, r->settings[i].text)) return 0;
    return values_in(s->text);
}

static int combinations_for(const reader *r, const sid2_ablate_row *row)
{
    int count = 1;
    for (int i = 0; i < r->count; i++) {
        int values = values_for(r, row, &r->settings[i]);
        if (values && (count *= values) > SID2_ABLATE_ROWS) break;
    }
    return count;
}

/* Calls `use` with what a combination takes of each line of [each], the last line's values changing first. */
static bool each_of(const reader *r, sid2_ablate_row *row,
                    bool (*use)(const reader *r, sid2_ablate_row *row, const setting *s,
                                const char *assignment, const char *value, sid2_error *err),
                    sid2_error *err)
{
    int left = combinations_for(r, row), choice = row->choice;
    for (int i = 0; i < r->count; i++) {
        const setting *s = &r->settings[i];
        int values = values_for(r, row, s);
        char assignment[256];
        if (!values) continue;
        left /= values;
        const char *value = pick(s->text, choice / left, assignment);
        choice %= left;
        if (!use(r, row, s, assignment, value, err)) return false;
    }
    return true;
}

bool sid2_ablate_plan_by_evaluations(const sid2_ablate_plan *plan)
{
    return strcmp(plan->axis, SID2_ABLATE_EVALUATIONS) == 0;
}

const char *sid2_ablate_plan_axis_key(const sid2_ablate_plan *plan)
{
    return sid2_ablate_plan_by_evaluations(plan) ? "sample.steps" : plan->axis;
}

static bool is_axis(const sid2_ablate_plan *plan, const setting *s)
{
    return same_key(s->text, sid2_ablate_plan_axis_key(plan));
}

static bool add_name(const reader *r, sid2_ablate_row *row, const setting *s, const char *assignment,
                     const char *value, sid2_error *err)
{
    (void)assignment;
    size_t of_curve = strlen(row->curve);
    if (!is_axis(r->plan, s)) snprintf(row->curve + of_curve, sizeof row->curve - of_curve, "-%s", value);
    size_t used = strlen(row->name), length = strlen(value), room = sizeof row->name - used;
    if (!length || value[strspn(value, ROW_LETTERS)])
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s:%d: the value '%.80s' is to be in rows' names, and cannot be", r->plan->name,
                         s->line, value);
    return snprintf(row->name + used, room, "-%s", value) < (int)room ||
           sid2_fail(err, SID2_ERR_USAGE, "%s:%d: the name of a row is longer than %d letters: %s-%s",
                     r->plan->name, s->line, (int)sizeof row->name - 1, row->name, value);
}

/* Every row once for each combination. */
static bool multiply(reader *r)
{
    sid2_ablate_plan *plan = r->plan;
    int sections = plan->rows, rows = 0, each_line = 0;
    for (int i = 0; i < r->count; i++) {
        if (r->settings[i].row != OF_EACH) continue;
        each_line = r->settings[i].line;
        plan->each_of_axis |= is_axis(plan, &r->settings[i]);
    }
    for (int i = 0; i < sections; i++) {
        plan->row[i].section = i;
        strcpy(plan->row[i].curve, plan->row[i].name);
        rows += combinations_for(r, &plan->row[i]);
        if (rows > SID2_ABLATE_ROWS) return refuse(r, each_line, "a plan has at most 256 rows", "");
    }
    plan->rows = rows;
    for (int i = sections; i-- > 0;) { /* from the last, so that none lies on one that is still to be read */
        const sid2_ablate_row row = plan->row[i];
        for (int choice = combinations_for(r, &row); choice-- > 0;) {
            plan->row[--rows] = row;
            plan->row[rows].choice = choice;
        }
    }
    rows = plan->rows;
    for (int i = 0; i < rows; i++)
        if (!each_of(r, &plan->row[i], add_name, r->err)) return false;
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(plan->row[i].name, plan->row[k].name) == 0)
                return refuse(r, plan->row[i].line, "there are two rows called", plan->row[i].name);
    return true;
}

static bool read_seeds(sid2_ablate_plan *plan, const char *text, sid2_error *err)
{
    plan->seeds = 0;
    for (const char *at = text;; at++) {
        char *end;
        while (sid2_is_space(*at)) at++;
        unsigned long long seed = strtoull(at, &end, 10);
        bool known = false;
        for (int i = 0; i < plan->seeds; i++) known |= plan->seed[i] == seed;
        if (end == at || *at == '-' || seed > INT64_MAX || known || plan->seeds == SID2_ABLATE_SEEDS)
            return sid2_fail(err, SID2_ERR_USAGE,
                             "%s: seeds '%.80s': expected different numbers, at most 32, with commas between",
                             plan->name, text);
        plan->seed[plan->seeds++] = seed;
        at = end;
        while (sid2_is_space(*at)) at++;
        if (!*at) return true;
        if (*at != ',') at = ","; /* behind which no number follows */
    }
}

static bool parse(reader *r, const char *text)
{
    r->rest = text;
    int result = ini_parse_stream(next_line, r, on_pair, r);
    if (!result) check_section(r);
    if (r->failed) return false;
    if (result > 0) return refuse(r, result, "expected [section] or key = value", "");
    if (result < 0) return sid2_fail(r->err, SID2_ERR_MEMORY, "%s: out of memory", r->plan->name);
    if (!r->plan->rows) return sid2_fail(r->err, SID2_ERR_USAGE, "%s: a plan without rows", r->plan->name);
    if (!multiply(r)) return false;
    r->plan->equal_operations = strcmp(r->equal, "operations") == 0;
    return true;
}

/* ---- Rows ---- */

static bool fail_row(const sid2_ablate_plan *plan, const sid2_ablate_row *row, int line,
                     const sid2_error *cause, sid2_error *err)
{
    return sid2_fail(err, cause->code, "%s:%d: row %s: %s", plan->name, line, row->name, cause->message);
}

bool sid2_ablate_plan_measures(const char *key) { return strncmp(key, "eval.", 5) == 0; }

bool sid2_ablate_plan_samples_only(const char *key)
{
    return strncmp(key, "sample.", 7) == 0 || sid2_ablate_plan_measures(key);
}

/* Whether what is said of all rows counts for this one. Nothing can say how a checkpoint was trained, and a row's own one
 * says itself how it is sampled. */
static bool counts_for(const sid2_ablate_row *row, bool trained, const char *assignment)
{
    return row->checkpoint[0] ? sid2_ablate_plan_measures(assignment)
                              : !trained || sid2_ablate_plan_samples_only(assignment);
}

static bool set_of_row(const reader *r, sid2_ablate_row *row, const setting *s, const char *assignment,
                       sid2_error *err)
{
    sid2_error cause = {0};
    if (row->checkpoint[0] && !sid2_ablate_plan_samples_only(assignment))
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s:%d: row %s is trained already: only keys of sampling and measuring (sample., "
                         "eval.) can be set",
                         r->plan->name, s->line, row->name);
    return sid2_config_set(row->config, assignment, &cause) || fail_row(r->plan, row, s->line, &cause, err);
}

static bool set_value(const reader *r, sid2_ablate_row *row, const setting *s, const char *assignment,
                      const char *value, sid2_error *err)
{
    (void)value;
    return set_of_row(r, row, s, assignment, err);
}

/* Into a configuration that is new. */
static bool take_checkpoint(sid2_config *config, const char *path, sid2_error *err)
{
    char checkpoint[4096];
    int hold = -1;
    bool ok = sid2_checkpoint_hold(path, checkpoint, sizeof checkpoint, &hold, err) &&
              sid2_checkpoint_config(checkpoint, config, err);
    sid2_checkpoint_release(hold);
    return ok;
}

static bool begin_config(const reader *r, sid2_ablate_row *row, const sid2_ablate_plan_options *o,
                         sid2_error *err)
{
    sid2_error cause = {0};
    if (!(row->config = sid2_config_create()))
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", r->plan->name);
    if (row->checkpoint[0])
        return take_checkpoint(row->config, row->checkpoint, &cause) ||
               fail_row(r->plan, row, row->line, &cause, err);
    return o->checkpoint ? take_checkpoint(row->config, o->checkpoint, err)
                         : sid2_config_preset(row->config, r->plan->preset, err);
}

static bool configure(const reader *r, int index, const sid2_ablate_plan_options *o, sid2_error *err)
{
    const sid2_ablate_plan *plan = r->plan;
    sid2_ablate_row *row = &r->plan->row[index];
    sid2_error cause = {0};
    if (!begin_config(r, row, o, err)) return false;
    for (int i = 0; i < r->count; i++) {
        const setting *s = &r->settings[i];
        if (s->row == OF_ALL && counts_for(row, o->checkpoint, s->text) &&
            !sid2_config_set(row->config, s->text, &cause))
            return fail_row(plan, row, s->line, &cause, err);
    }
    for (int i = 0; i < o->set_count; i++)
        if ((!row->checkpoint[0] || counts_for(row, true, o->set[i])) &&
            !sid2_config_set(row->config, o->set[i], err))
            return false;
    for (int i = 0; i < r->count; i++)
        if (r->settings[i].row == row->section &&
            !set_of_row(r, row, &r->settings[i], r->settings[i].text, err))
            return false;
    return each_of(r, row, set_value, err) &&
           (sid2_config_check(row->config, &cause) || fail_row(plan, row, row->line, &cause, err));
}

static bool trains_alike(const sid2_config *a, const sid2_config *b)
{
    const sid2_config_key *key;
    char x[256], y[256];
    for (int i = 0; (key = sid2_config_key_at(i)); i++)
        if (!sid2_ablate_plan_samples_only(key->name) &&
            strcmp(sid2_config_text(a, key->name, x), sid2_config_text(b, key->name, y)) != 0)
            return false;
    return true;
}

/* Steps, so that it has as much as the first row, and what they cost. */
static bool count(sid2_ablate_plan *plan, int index, const sid2_ablate_plan_options *o, sid2_error *err)
{
    sid2_ablate_row *row = &plan->row[index],
                    *first = plan->row; /* of those that have no checkpoint of their own */
    while (first < row && first->checkpoint[0]) first++;
    sid2_error cause = {0};
    sid2_model_info *info = sid2_model_describe(row->config, o->device, 0, &cause);
    if (!info) return fail_row(plan, row, row->line, &cause, err);
    row->pass = 2 * info->multiply_adds;
    row->parameters = info->parameters;
    row->memory = info->train_state_bytes + info->train_arena_bytes;
    sid2_model_info_destroy(info);
    sid2_config *c = row->config;
    double images = (double)first->config->train_steps * (double)first->config->train_batch;
    if (plan->equal_operations) images *= first->pass / row->pass;
    if (row != first && !o->checkpoint && !row->checkpoint[0])
        c->train_steps = (int64_t)fmax(1, round(images / (double)c->train_batch));
    row->operations = 3 * row->pass * (double)c->train_steps * (double)c->train_batch;
    for (row->trained_as = 0; row->trained_as < index; row->trained_as++)
        if (strcmp(plan->row[row->trained_as].checkpoint, row->checkpoint) == 0 &&
            trains_alike(plan->row[row->trained_as].config, c))
            break;
    return row->checkpoint[0] || !o->checkpoint || &plan->row[row->trained_as] == first ||
           sid2_fail(
               err, SID2_ERR_USAGE,
               "%s:%d: row %s is trained otherwise than the first; of a checkpoint only keys of sampling "
               "and measuring (sample., eval.) can be compared",
               plan->name, row->line, row->name);
}

static bool build(reader *r, const sid2_ablate_plan_options *o, sid2_error *err)
{
    sid2_ablate_plan *plan = r->plan;
    if (o->preset) snprintf(plan->preset, sizeof plan->preset, "%s", o->preset);
    for (int i = 0; i < plan->rows; i++)
        if (!plan->preset[0] && !o->checkpoint && !plan->row[i].checkpoint[0])
            return sid2_fail(err, SID2_ERR_USAGE, "%s: [plan] names no preset", plan->name);
    if (o->samples >= 0) plan->samples = o->samples;
    if (!read_seeds(plan, o->seeds ? o->seeds : r->seeds[0] ? r->seeds : "0", err)) return false;
    for (int i = 0; i < plan->rows; i++)
        if (!configure(r, i, o, err) || !count(plan, i, o, err)) return false;
    return true;
}

const char *sid2_ablate_plan_name(int index)
{
    for (int i = 0; i <= index; i++)
        if (!sid2_ablate_plans[i].name) return NULL;
    return sid2_ablate_plans[index].name;
}

bool sid2_ablate_plan_read(sid2_ablate_plan *plan, const char *name_or_path,
                           const sid2_ablate_plan_options *options, sid2_error *err)
{
    char advice[400];
    *plan = (sid2_ablate_plan){0};
    snprintf(plan->name, sizeof plan->name, "%s", name_or_path);
    const char *known = sid2_text_find(sid2_ablate_plans, name_or_path, "plans", advice);
    sid2_kind kind;
    if (!known && !sid2_look(name_or_path, &kind, err)) return false;
    if (!known && kind == SID2_ABSENT)
        return sid2_fail(err, SID2_ERR_USAGE, "no plan or file '%.80s'%s", name_or_path, advice);
    char *text = known ? NULL : sid2_config_read_text(name_or_path, err);
    if (!known && !text) return false;
    reader r = {.plan = plan, .row = OF_PLAN, .err = err, .settings = malloc(MAX_SETTINGS * sizeof(setting))};
    bool ok = r.settings || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", plan->name);
    ok = ok && parse(&r, known ? known : text) && build(&r, options, err);
    free(r.settings);
    free(text);
    return ok;
}

void sid2_ablate_plan_free(sid2_ablate_plan *plan)
{
    for (int i = 0; i < plan->rows; i++) sid2_config_destroy(plan->row[i].config);
    *plan = (sid2_ablate_plan){0};
}
