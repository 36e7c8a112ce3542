/* WebDataset: tars in which files that share a name up to its first '.' are one sample. "x.cls" holds the class of
 * "x.jpg", or "x.json" does. */
#include "json.h"
#include "source.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LABEL = 1 << 20 };

/* One file of the sample that `entry` is of, by its ending; NULL: it has none. */
static const sid2_entry *companion(const sid2_files *files, const sid2_entry *entry, const char *ending)
{
    const char *dot = strchrnul(sid2_base_name(entry->name), '.');
    return sid2_files_beside(files, entry, (size_t)(dot - entry->name), ending);
}

/* A sample's first picture stands for it. */
static bool is_further(const sid2_files *files, const sid2_entry *entry)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".webp"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const sid2_entry *first = companion(files, entry, endings[i]);
        if (first) return first != entry && strcmp(first->name, entry->name) != 0;
    }
    return false;
}

/* The label in a sample's JSON; `text` stays as it is where there is none. */
static void take_json(char text[SID2_LONGEST_LABEL], const json_t *json)
{
    static const char *const keys[] = {"cls", "label", "class", "class_id"};
    const json_t *found = json_is_object(json) ? NULL : json;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !found; i++) found = json_object_get(json, keys[i]);
    if (json_is_integer(found))
        snprintf(text, SID2_LONGEST_LABEL, "%lld", (long long)json_integer_value(found));
    else if (json_is_string(found))
        snprintf(text, SID2_LONGEST_LABEL, "%s", json_string_value(found));
}

bool sid2_webdataset_label(char text[SID2_LONGEST_LABEL], sid2_files *files, const sid2_entry *entry,
                           sid2_error *err)
{
    text[0] = 0;
    const sid2_entry *plain = companion(files, entry, ".cls"), *json = companion(files, entry, ".json");
    if (!plain && !json) return true;
    size_t size;
    char *bytes = (char *)files->read(files, plain ? plain : json, MOST_LABEL, &size, err);
    if (!bytes) return false;
    bool ok = true;
    if (plain) {
        size_t first = 0;
        while (size && sid2_is_space(bytes[size - 1])) size--;
        while (first < size && sid2_is_space(bytes[first])) first++;
        snprintf(text, SID2_LONGEST_LABEL, "%.*s", (int)(size - first), bytes + first);
    } else {
        json_t *value = sid2_json_parse(bytes, size, JSON_DECODE_ANY, json->name, err);
        ok = value != NULL;
        if (ok) take_json(text, value);
        json_decref(value);
    }
    free(bytes);
    return ok;
}

/* ---- Labels, once all are known ---- */

/* Labels are numbers of classes if all are numbers, else names of classes. */
static bool are_numbers(const sid2_list *labels)
{
    for (size_t i = 0; i < labels->count; i++) {
        const char *text = labels->name[i];
        if (strspn(text, "0123456789") != strlen(text) || strlen(text) > 9) return false;
    }
    return true;
}

static bool number(sid2_source *source, const sid2_list *labels, sid2_error *err)
{
    int64_t classes = 0;
    for (size_t i = 0; i < labels->count; i++) {
        long value = strtol(labels->name[i], NULL, 10);
        source->labels[i] = (int32_t)value;
        if (value >= classes) classes = value + 1;
    }
    return sid2_source_name_classes(source, classes, NULL, 0, err);
}

static bool name(sid2_source *source, const sid2_list *labels, sid2_error *err)
{
    sid2_list classes = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < labels->count; i++) ok = sid2_list_push(&classes, labels->name[i], err);
    sid2_list_sort(&classes);
    for (size_t i = 0; ok && i < labels->count; i++)
        source->labels[i] = (int32_t)sid2_list_find(&classes, labels->name[i], strlen(labels->name[i]));
    ok = ok && sid2_source_name_classes(source, (int64_t)classes.count, (const char *const *)classes.name,
                                        (int64_t)classes.count, err);
    sid2_list_free(&classes);
    return ok;
}

bool sid2_source_label(sid2_source *source, const sid2_list *texts, bool numbers, sid2_error *err)
{
    return numbers && are_numbers(texts) ? number(source, texts, err) : name(source, texts, err);
}

static bool add_sample(sid2_source *source, sid2_list *labels, const sid2_entry *entry, sid2_error *err)
{
    char text[SID2_LONGEST_LABEL];
    if (is_further(source->files, entry)) return sid2_source_lose(source, SID2_LOST_EXTRA, entry, err);
    if (!sid2_webdataset_label(text, source->files, entry, err)) return false;
    if (!text[0]) return sid2_source_lose(source, SID2_LOST_UNLABELLED, entry, err);
    int64_t before = source->count;
    if (!sid2_source_add_picture(source, entry, 0, err)) return false;
    char *composed = source->count > before ? sid2_text_nfc(text) : NULL;
    bool ok = source->count == before ||
              (composed ? sid2_list_push(labels, composed, err)
                        : sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", source->files->path));
    free(composed);
    return ok;
}

/* Whether the first picture that has a companion is labelled by it. */
static bool has_labels(sid2_files *files)
{
    enum { TRIES = 16 };
    int tries = 0;
    char text[SID2_LONGEST_LABEL];
    for (int64_t i = 0; i < files->count && tries < TRIES; i++) {
        const sid2_entry *e = &files->entry[i];
        if (!sid2_is_picture_name(e->name) || !(companion(files, e, ".cls") || companion(files, e, ".json")))
            continue;
        if (sid2_webdataset_label(text, files, e, NULL) && text[0]) return true;
        tries++;
    }
    return false;
}

static bool open_shards(sid2_source *source, sid2_error *err)
{
    sid2_files *files = source->files;
    if (strcmp(files->kind, "tar") != 0 || !has_labels(files)) return true;
    sid2_source_of_pictures(source);
    source->kind = "WebDataset";
    sid2_list labels = {0};
    bool ok = true;
    for (int64_t i = 0; ok && i < files->count; i++) {
        const sid2_entry *e = &files->entry[i];
        if (sid2_is_picture_name(e->name))
            ok = add_sample(source, &labels, e, err);
        else if (!sid2_text_ends(e->name, ".cls") && !sid2_text_ends(e->name, ".json"))
            ok = sid2_source_lose(source, SID2_LOST_KIND, e, err);
    }
    if (ok && labels.count) ok = sid2_source_label(source, &labels, true, err);
    sid2_list_free(&labels);
    return ok;
}

const sid2_format sid2_format_webdataset = {.what = "WebDataset shards (x-{000..099}.tar)",
                                            .open = open_shards};
