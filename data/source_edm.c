/* The layout of StyleGAN, EDM and their kin: dataset.json holds {"labels": [[name, class], ...]}, the names being below
 * the folder that it lies in, or {"labels": null}. */
#include "json.h"
#include "source.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_JSON = 1 << 30 };

typedef struct layout {
    const sid2_entry *dataset, *names; /* dataset.json; names.json beside it or NULL */
    size_t first;                      /* what leads to them in names */
    const sid2_files *files;
} layout;

static int depth_of(const char *name)
{
    int depth = 0;
    for (; *name; name++) depth += *name == '/';
    return depth;
}

/* The highest dataset.json, all folders above it being wrappers. */
static bool find(layout *l, sid2_error *err)
{
    const sid2_entry *second = NULL;
    for (int64_t i = 0; i < l->files->count; i++) {
        const sid2_entry *e = &l->files->entry[i];
        if (strcmp(sid2_base_name(e->name), "dataset.json") != 0) continue;
        int more = l->dataset ? depth_of(e->name) - depth_of(l->dataset->name) : -1;
        if (more < 0) second = NULL;
        if (more < 0) l->dataset = e;
        if (more == 0) second = e;
    }
    if (!l->dataset) return true;
    if (second)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: holds several data sets (%s, %s): give one of them",
                         l->files->path, l->dataset->name, second->name);
    l->first = (size_t)(sid2_base_name(l->dataset->name) - l->dataset->name);
    l->names = sid2_files_beside(l->files, l->dataset, l->first, "names.json");
    return true;
}

static json_t *read_json(sid2_files *files, const sid2_entry *entry, sid2_error *err)
{
    size_t size;
    uint8_t *bytes = files->read(files, entry, MOST_JSON, &size, err);
    json_t *json = bytes ? sid2_json_parse(bytes, size, JSON_REJECT_DUPLICATES, entry->name, err) : NULL;
    free(bytes);
    return json;
}

/* The file that a label is of, however its writer spells the path. */
static const sid2_entry *find_labelled(const layout *l, const char *name, sid2_error *err)
{
    char *clean = sid2_archive_name(name);
    char *composed = clean ? sid2_text_nfc(clean) : NULL;
    const sid2_entry *found = composed ? sid2_files_beside(l->files, l->dataset, l->first, composed) : NULL;
    if (!composed)
        sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", l->files->path);
    else if (!found)
        sid2_fail(err, SID2_ERR_FORMAT, "%s: dataset.json labels %s, which is not in the %s", l->files->path,
                  name, strcmp(l->files->kind, "folder") ? "archive" : "folder");
    free(clean);
    free(composed);
    return found;
}

/* [[name, class], ...] */
static bool read_labels(const layout *l, const json_t *labels, int32_t *of_file, int32_t *classes,
                        sid2_error *err)
{
    size_t i;
    json_t *pair;
    json_array_foreach(labels, i, pair)
    {
        const char *name = json_string_value(json_array_get(pair, 0));
        json_t *label = json_array_get(pair, 1);
        json_int_t value = json_is_integer(label) ? json_integer_value(label) : -1;
        if (!name || json_array_size(pair) != 2 || value < 0 || value >= SID2_MAX_CLASSES)
            return sid2_fail(
                err, SID2_ERR_FORMAT,
                "%s: dataset.json: label %zu%s%s is not a pair of a name and a class from 0 to %d",
                l->files->path, i, name ? ", " : "", name ? name : "", SID2_MAX_CLASSES - 1);
        const sid2_entry *entry = find_labelled(l, name, err);
        if (!entry) return false;
        of_file[entry - l->files->entry] = (int32_t)value;
        if (value >= *classes) *classes = (int32_t)value + 1;
    }
    return true;
}

static bool add_pictures(sid2_source *source, const layout *l, const int32_t *of_file, sid2_error *err)
{
    bool ok = true;
    for (int64_t i = 0; ok && i < l->files->count; i++) {
        const sid2_entry *e = &l->files->entry[i];
        if (e == l->dataset || e == l->names) continue;
        if (!sid2_is_picture_name(e->name))
            ok = sid2_source_lose(source, SID2_LOST_KIND, e, err);
        else if (strncmp(e->name, l->dataset->name, l->first) != 0)
            ok = sid2_source_lose(source, SID2_LOST_OUTSIDE, e, err);
        else if (of_file[i] < 0)
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: dataset.json has no label for %s", l->files->path,
                           e->name);
        else
            ok = sid2_source_add_picture(source, e, of_file[i], err);
    }
    return ok;
}

/* Class names stand in dataset.json as "names", or in names.json as "classes" or "groups". */
static bool name_classes(sid2_source *source, const layout *l, const json_t *dataset, int64_t classes,
                         sid2_error *err)
{
    json_t *beside = l->names ? read_json(source->files, l->names, err) : NULL;
    if (l->names && !beside) return false;
    const json_t *candidates[] = {json_object_get(dataset, "names"), json_object_get(beside, "classes"),
                                  json_object_get(beside, "groups")};
    const json_t *list = NULL;
    for (int i = 0; i < 3 && !list; i++)
        if (json_is_array(candidates[i]) && json_array_size(candidates[i]) >= (size_t)classes)
            list = candidates[i];
    size_t known = json_array_size(list);
    if (list && known < SID2_MAX_CLASSES) classes = (int64_t)known;
    const char **names = calloc((size_t)classes + 1, sizeof *names);
    bool ok = names || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for class names", l->files->path);
    for (size_t i = 0; ok && i < (size_t)classes; i++) names[i] = json_string_value(json_array_get(list, i));
    ok = ok && sid2_source_name_classes(source, classes, names, list ? classes : 0, err);
    free(names);
    json_decref(beside);
    return ok;
}

static bool open_labelled(sid2_source *source, const layout *l, const json_t *dataset, sid2_error *err)
{
    const json_t *labels = json_object_get(dataset, "labels");
    const char *path = l->files->path;
    if (!json_is_array(labels) && !json_is_null(labels))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: dataset.json needs \"labels\", a list or null", path);
    int32_t classes = 1, *of_file = calloc((size_t)l->files->count, sizeof *of_file);
    if (!of_file) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", path);
    for (int64_t i = 0; json_is_array(labels) && i < l->files->count; i++) of_file[i] = -1;
    sid2_source_of_pictures(source);
    bool ok = (json_is_null(labels) || read_labels(l, labels, of_file, &classes, err)) &&
              add_pictures(source, l, of_file, err) && name_classes(source, l, dataset, classes, err);
    free(of_file);
    return ok;
}

/* Other programs have files of this name, too: one without "labels" says nothing of classes. */
static bool open_edm(sid2_source *source, sid2_error *err)
{
    layout l = {.files = source->files};
    if (l.files->choice) return true;
    if (!find(&l, err)) return false;
    if (!l.dataset) return true;
    json_t *dataset = read_json(source->files, l.dataset, err);
    if (!dataset) return false;
    bool ok = !json_object_get(dataset, "labels") || open_labelled(source, &l, dataset, err);
    json_decref(dataset);
    return ok;
}

const sid2_format sid2_format_edm = {.what = "one with dataset.json (EDM)", .open = open_edm};
