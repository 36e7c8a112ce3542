/* Class names: kept, compared, and found as people write them. */
#include "classes.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "file.h"
#include "json.h"
#include "text.h"

enum { MAX_FILE = 64 << 20, MAX_LABELS = 1000000, SHOWN = 40 /* bytes of a name in messages */ };

struct sid2_classes {
    int count;
    char **name;         /* NFC */
    char **folded;       /* without case */
    const char **sorted; /* the names by their bytes */
};

/* ---- Text ---- */

/* NFC of UTF-8, to be freed; NULL without memory. */
static char *normal(const char *text)
{
    char *proper = sid2_text_utf8(text), *composed = proper ? sid2_text_nfc(proper) : NULL;
    free(proper);
    return composed;
}

/* A name for a message: its beginning, whole characters. */
static int shown(const char *name)
{
    size_t length = strlen(name);
    if (length <= SHOWN) return (int)length;
    for (length = SHOWN; ((unsigned char)name[length] & 0xc0) == 0x80;) length--;
    return (int)length;
}

/* ---- Names ---- */

static bool out_of_memory(sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for names of classes");
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

sid2_classes *sid2_classes_create(const char *const *names, int count, sid2_error *err)
{
    sid2_classes *c = calloc(1, sizeof *c);
    if (!c) return out_of_memory(err), NULL;
    c->count = count;
    c->name = calloc((size_t)count + 1, sizeof *c->name);
    c->folded = calloc((size_t)count + 1, sizeof *c->folded);
    c->sorted = calloc((size_t)count + 1, sizeof *c->sorted);
    bool ok = c->name && c->folded && c->sorted;
    for (int i = 0; ok && i < count; i++) {
        ok = (c->name[i] = normal(names[i])) && (c->folded[i] = sid2_text_fold(c->name[i]));
        c->sorted[i] = c->name[i];
    }
    if (ok) {
        qsort(c->sorted, (size_t)count, sizeof *c->sorted, by_bytes);
        return c;
    }
    sid2_classes_destroy(c);
    return out_of_memory(err), NULL;
}

sid2_classes *sid2_classes_clone(const sid2_classes *c, sid2_error *err)
{
    return sid2_classes_create((const char *const *)c->name, c->count, err);
}

void sid2_classes_destroy(sid2_classes *c)
{
    if (!c) return;
    for (int i = 0; c->name && i < c->count; i++) free(c->name[i]);
    for (int i = 0; c->folded && i < c->count; i++) free(c->folded[i]);
    free(c->name);
    free(c->folded);
    free(c->sorted);
    free(c);
}

int sid2_classes_count(const sid2_classes *c) { return c ? c->count : 0; }

const char *sid2_classes_name(const sid2_classes *c, int label)
{
    return c && label >= 0 && label < c->count ? c->name[label] : NULL;
}

/* ---- Files ---- */

static bool from_json(sid2_classes **classes, const json_t *list, const char *path, sid2_error *err)
{
    size_t count = json_array_size(list), i;
    json_t *item;
    bool ok = json_is_array(list) && count <= MAX_LABELS;
    json_array_foreach(list, i, item) ok = ok && json_is_string(item);
    if (!ok) return sid2_fail(err, SID2_ERR_FORMAT, "%s: a list of names is expected", path);
    const char **names = calloc(count + 1, sizeof *names);
    if (!names) return out_of_memory(err);
    json_array_foreach(list, i, item) names[i] = json_string_value(item);
    *classes = sid2_classes_create(names, (int)count, err);
    free(names);
    return *classes != NULL;
}

bool sid2_classes_load(sid2_classes **classes, const char *path, sid2_error *err)
{
    sid2_kind kind;
    size_t size;
    *classes = NULL;
    if (!sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT) return true;
    uint8_t *text = sid2_file_read(path, MAX_FILE, &size, err);
    if (!text) return false;
    json_t *list = sid2_json_parse(text, size, 0, path, err);
    free(text);
    bool ok = list && from_json(classes, list, path, err);
    json_decref(list);
    return ok;
}

bool sid2_classes_save(const sid2_classes *c, const char *path, sid2_error *err)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (int i = 0; ok && i < c->count; i++) ok = !json_array_append_new(list, json_string(c->name[i]));
    char *text = ok ? json_dumps(list, JSON_INDENT(1)) : NULL;
    ok = text ? sid2_file_write(path, text, strlen(text), err) : out_of_memory(err);
    free(text);
    json_decref(list);
    return ok;
}

/* ---- Telling ---- */

const char *sid2_classes_list(const sid2_classes *c, const int32_t *labels, size_t count,
                              const char *separator, char text[SID2_CLASSES_LIST])
{
    bool one = count > 1 && memcmp(labels, labels + 1, (count - 1) * sizeof *labels) == 0, full = false;
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < (one ? 1 : count) && !full; i++) {
        char number[16];
        const char *name = sid2_classes_name(c, labels[i]), *between = used ? separator : "";
        if (labels[i] < 0) continue;
        snprintf(number, sizeof number, "%d", labels[i]);
        if (!name) name = number;
        full = used + strlen(between) + strlen(name) + strlen(separator) + sizeof "..." > SID2_CLASSES_LIST;
        used += (size_t)snprintf(text + used, SID2_CLASSES_LIST - used, "%s%s", between, full ? "..." : name);
    }
    return text;
}

/* ---- Comparing ---- */

static bool has(const sid2_classes *c, const char *name)
{
    return bsearch(&name, c->sorted, (size_t)c->count, sizeof *c->sorted, by_bytes) != NULL;
}

/* "; gone: 'a', 'b' and 3 more": names of one that the other lacks. */
static void add_missing(char *text, const char *what, const sid2_classes *of, const sid2_classes *in)
{
    int missing = 0;
    size_t used = strlen(text);
    for (int i = 0; i < of->count; i++) {
        if (has(in, of->name[i]) || missing++ > 1) continue;
        used += (size_t)snprintf(text + used, SID2_CLASSES_TEXT - used, "%s%s'%.*s'",
                                 missing > 1 ? ", "
                                 : used      ? "; "
                                             : "",
                                 missing > 1 ? "" : what, shown(of->name[i]), of->name[i]);
    }
    if (missing > 2) snprintf(text + used, SID2_CLASSES_TEXT - used, " and %d more", missing - 2);
}

bool sid2_classes_differ(const sid2_classes *before, const sid2_classes *now, char text[SID2_CLASSES_TEXT])
{
    text[0] = 0;
    if (!before || !now) return false; /* nothing to compare */
    int i = 0;
    while (i < before->count && i < now->count && strcmp(before->name[i], now->name[i]) == 0) i++;
    if (i == before->count && i == now->count) return false;
    add_missing(text, "gone: ", before, now);
    add_missing(text, "new: ", now, before);
    if (!text[0] && i < before->count && i < now->count)
        snprintf(text, SID2_CLASSES_TEXT, "another order: number %d was '%.*s' and is '%.*s'", i,
                 shown(before->name[i]), before->name[i], shown(now->name[i]), now->name[i]);
    if (!text[0]) snprintf(text, SID2_CLASSES_TEXT, "%d names, not %d", now->count, before->count);
    return true;
}

/* ---- Finding ---- */

typedef struct search {
    const sid2_classes *classes;
    int labels;
    int32_t *found;
    size_t count, room;
} search;

/* What one item of a list may mean. */
typedef struct meaning {
    int named, name; /* how many labels have this name, the first of them */
    bool is_range;   /* of numbers */
    uint64_t low, high;
} meaning;

static void count_equal(char *const *names, int count, const char *name, meaning *m)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0 && m->named++ == 0) m->name = i;
}

static bool look_for_name(const sid2_classes *c, const char *text, meaning *m, sid2_error *err)
{
    if (!c) return true;
    char *exact = normal(text), *folded = exact ? sid2_text_fold(exact) : NULL;
    bool ok = (exact && folded) || out_of_memory(err);
    if (ok) count_equal(c->name, c->count, exact, m);
    if (ok && !m->named) count_equal(c->folded, c->count, folded, m);
    free(exact);
    free(folded);
    return ok;
}

static bool parse_number(const char **at, uint64_t *number)
{
    char *end;
    if (**at < '0' || **at > '9') return false;
    errno = 0;
    *number = strtoull(*at, &end, 10);
    *at = end;
    return !errno;
}

static void look_for_range(const char *text, meaning *m)
{
    bool ok = parse_number(&text, &m->low);
    m->high = m->low;
    if (ok && *text == '-') text++, ok = parse_number(&text, &m->high);
    m->is_range = ok && !*text;
}

/* "0 'cat', 1 'dog' and 8 more", as far as there is room. */
static void list_names(const search *s, char *text, size_t size)
{
    size_t used = 0;
    int count = sid2_classes_count(s->classes);
    text[0] = 0;
    if (count < s->labels) used = (size_t)snprintf(text, size, "numbers 0 to %d", s->labels - 1);
    for (int i = 0; i < count; i++) {
        if (used + SHOWN + 40 > size) {
            snprintf(text + used, size - used, " and %d more", count - i);
            return;
        }
        used += (size_t)snprintf(text + used, size - used, "%s%d '%.*s'", used ? ", " : "", i,
                                 shown(s->classes->name[i]), s->classes->name[i]);
    }
}

/* Why an item means no label, or several. */
static bool refuse(const search *s, const char *item, const meaning *m, sid2_error *err)
{
    char list[300];
    const sid2_classes *c = s->classes;
    int length = shown(item);
    if (!err) return false; /* nobody to tell which there are */
    list_names(s, list, sizeof list);
    if (m->is_range && m->low > m->high)
        return sid2_fail(err, SID2_ERR_USAGE, "class '%.*s': a range is reversed", length, item);
    if (m->is_range)
        return sid2_fail(err, SID2_ERR_USAGE, "class %.*s is out of range: there are %s", length, item, list);
    const char *nearest = NULL;
    for (int i = 0, least = SID2_TEXT_FAR; i < sid2_classes_count(c); i++)
        if (sid2_text_nearer(item, c->name[i], &least)) nearest = c->name[i];
    if (nearest)
        return sid2_fail(err, SID2_ERR_USAGE, "no class '%.*s'; did you mean '%.*s'? There are %s", length,
                         item, shown(nearest), nearest, list);
    return sid2_fail(err, SID2_ERR_USAGE, "no class '%.*s'; there are %s", length, item, list);
}

static bool refuse_several(const search *s, const char *item, const meaning *m, sid2_error *err)
{
    const sid2_classes *c = s->classes;
    int length = shown(item), first = m->name, other = first;
    if (m->named == 1)
        return sid2_fail(
            err, SID2_ERR_USAGE,
            "class '%.*s' may be the class of that name, number %d, or a number: say name:%.*s or "
            "number:%.*s",
            length, item, first, length, item, length, item);
    do other++;
    while (other < c->count - 1 && strcmp(c->folded[other], c->folded[first]) != 0);
    return sid2_fail(err, SID2_ERR_USAGE,
                     "class '%.*s' is ambiguous, %d classes match it: number:%d '%.*s', number:%d '%.*s'%s",
                     length, item, m->named, first, shown(c->name[first]), c->name[first], other,
                     shown(c->name[other]), c->name[other], m->named > 2 ? ", ..." : "");
}

static bool add(search *s, uint64_t low, uint64_t high, sid2_error *err)
{
    if (high - low >= MAX_LABELS - s->count)
        return sid2_fail(err, SID2_ERR_USAGE, "more than %d classes are named", MAX_LABELS);
    size_t wanted = s->count + (size_t)(high - low) + 1;
    if (wanted > s->room) {
        int32_t *grown = realloc(s->found, 2 * wanted * sizeof *grown);
        if (!grown) return out_of_memory(err);
        s->found = grown;
        s->room = 2 * wanted;
    }
    for (uint64_t label = low; label <= high; label++) s->found[s->count++] = (int32_t)label;
    return true;
}

/* Text of an item behind "name:" or "number:". */
static const char *behind(const char *item, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(item, prefix, length) == 0 ? item + length : NULL;
}

/* What is wanted, and which of its meanings are there. */
static bool look_for(const search *s, const char *item, meaning *m, sid2_error *err)
{
    *m = (meaning){0};
    if (!look_for_name(s->classes, item, m, err)) return false;
    const char *name = m->named ? NULL : behind(item, "name:"), *number = behind(item, "number:");
    if (name) return look_for_name(s->classes, name, m, err);
    look_for_range(number && !m->named ? number : item, m);
    return true;
}

static bool is_there(const search *s, const meaning *m)
{
    return m->is_range && m->low <= m->high && m->high < (uint64_t)s->labels;
}

static bool take(search *s, const char *item, const meaning *m, sid2_error *err)
{
    bool numbers = is_there(s, m),
         same = numbers && m->named && m->low == m->high && m->low == (uint64_t)m->name;
    if (!m->named && !numbers) return refuse(s, item, m, err);
    if (m->named > 1 || (m->named && numbers && !same)) return refuse_several(s, item, m, err);
    if (m->named && m->name >= s->labels) return refuse(s, item, m, err);
    return m->named ? add(s, (uint64_t)m->name, (uint64_t)m->name, err) : add(s, m->low, m->high, err);
}

static int count_commas(const char *text)
{
    int commas = 0;
    for (; (text = strchr(text, ',')); text++) commas++;
    return commas;
}

/* The most commas that a name has, and no more than the list: its item may be so many more of its parts. */
static int most_commas(const sid2_classes *c, const char *list)
{
    int most = 0, there = count_commas(list);
    for (int i = 0; i < sid2_classes_count(c); i++) {
        int commas = count_commas(c->name[i]);
        if (commas > most) most = commas;
    }
    return most < there ? most : there;
}

/* The text of `parts` parts from `at` on, without spaces around it; *next: behind it, NULL at the end. */
static char *cut(const char *at, int parts, const char **next)
{
    const char *end = at + strcspn(at, ",");
    for (int i = 1; i < parts && *end; i++) end += 1 + strcspn(end + 1, ",");
    *next = *end ? end + 1 : NULL;
    while (at < end && sid2_is_space(*at)) at++;
    while (end > at && sid2_is_space(end[-1])) end--;
    return strndup(at, (size_t)(end - at));
}

/* One item: the longest run of parts that is a name, else a single part. */
static bool take_next(search *s, const char **at, int most, sid2_error *err)
{
    bool ok = true, taken = false;
    for (int parts = most + 1; ok && !taken && parts > 0; parts--) {
        const char *next;
        meaning m;
        char *item = cut(*at, parts, &next);
        ok = (item || out_of_memory(err)) && look_for(s, item, &m, err);
        if (ok && (parts == 1 || m.named)) {
            ok = take(s, item, &m, err);
            taken = true;
            *at = next;
        }
        free(item);
    }
    return ok;
}

int32_t *sid2_classes_parse(const sid2_classes *classes, int labels, const char *text, size_t *count,
                            sid2_error *err)
{
    search s = {.classes = classes, .labels = labels};
    int most = most_commas(classes, text);
    bool ok = true;
    for (const char *at = text; ok && at;) ok = take_next(&s, &at, most, err);
    *count = s.count;
    if (ok) return s.found;
    free(s.found);
    return NULL;
}
