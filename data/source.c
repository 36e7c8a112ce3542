#include "source.h"

#include "file.h"

#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool sid2_names_push(sid2_names *names, const char *name, sid2_error *err)
{
    if (names->count == names->room) {
        int64_t room = 2 * names->room + 64;
        char **grown = realloc(names->item, (size_t)room * sizeof *grown);
        if (!grown) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for %lld names", (long long)room);
        names->item = grown;
        names->room = room;
    }
    char *copy = strdup(name);
    if (!copy) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a name");
    names->item[names->count++] = copy;
    return true;
}

void sid2_names_free(sid2_names *names)
{
    for (int64_t i = 0; i < names->count; i++) free(names->item[i]);
    free(names->item);
    *names = (sid2_names){0};
}

char *sid2_path_join(const char *folder, const char *name)
{
    char *path = malloc(strlen(folder) + strlen(name) + 2);
    if (path) sprintf(path, "%s/%s", folder, name);
    return path;
}

bool sid2_is_picture_name(const char *name)
{
    const char *base = strrchr(name, '/');
    base = base ? base + 1 : name;
    const char *dot = strrchr(base, '.');
    return dot && dot != base && base[0] != '.' &&
           (sid2_text_equal(dot, ".png") || sid2_text_equal(dot, ".jpg") || sid2_text_equal(dot, ".jpeg"));
}

int sid2_compare_paths(const char *a, const char *b)
{
    for (; *a && *a == *b; a++) b++;
    int left = *a == '/' ? 1 : (unsigned char)*a, right = *b == '/' ? 1 : (unsigned char)*b;
    return left - right;
}

bool sid2_source_classify(sid2_source *source, size_t first, sid2_error *err)
{
    sid2_names classes = {0};
    bool has_folders = false;
    for (int64_t i = 0; i < source->count && !has_folders; i++)
        has_folders = strchr(source->names[i] + first, '/') != NULL;
    source->labels = malloc((size_t)source->count * sizeof *source->labels);
    bool ok = source->labels || sid2_fail(err, SID2_ERR_MEMORY, "no memory for labels");
    if (ok && !has_folders) ok = sid2_names_push(&classes, "images", err);
    for (int64_t i = 0; i < source->count && ok; i++) {
        char *slash = strchr(source->names[i] + first, '/');
        source->labels[i] = has_folders ? -1 : 0;
        if (!slash) continue;
        *slash = 0; /* paths are sorted, so a class's pictures follow one another */
        if (!classes.count || strcmp(classes.item[classes.count - 1], source->names[i] + first))
            ok = sid2_names_push(&classes, source->names[i] + first, err);
        *slash = '/';
        source->labels[i] = (int32_t)classes.count - 1;
        if (ok && classes.count > SID2_MAX_CLASSES)
            ok = sid2_fail(err, SID2_ERR_UNSUPPORTED, "more than %d class folders", SID2_MAX_CLASSES);
    }
    source->class_names = classes.item;
    source->classes = (int32_t)classes.count;
    return ok;
}

bool sid2_source_drop_unlabelled(sid2_source *source, const sid2_dataset_options *options)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < source->count; i++) {
        if (source->labels[i] < 0) {
            if (options->on_skip)
                options->on_skip(options->user, sid2_plain_line(source->names[i]),
                                 "outside every class folder");
            free(source->names[i]);
            continue;
        }
        source->names[kept] = source->names[i];
        source->labels[kept++] = source->labels[i];
    }
    source->count = kept;
    return true;
}

bool sid2_source_number_classes(sid2_source *source, int32_t count, sid2_error *err)
{
    sid2_names classes = {0};
    bool ok = true;
    for (int32_t i = 0; i < count && ok; i++) {
        char text[16];
        sprintf(text, "%d", i);
        ok = sid2_names_push(&classes, text, err);
    }
    source->class_names = classes.item;
    source->classes = (int32_t)classes.count;
    return ok;
}

void sid2_source_close(sid2_source *source)
{
    if (source->close) source->close(source);
    for (int64_t i = 0; source->names && i < source->count; i++) free(source->names[i]);
    for (int32_t i = 0; i < source->classes; i++) free(source->class_names[i]);
    free(source->names);
    free(source->class_names);
    free(source->labels);
    *source = (sid2_source){0};
}

const sid2_sample_type sid2_picture_type = {.dtype = SID2_U8, .shape = {.rank = 3}};

sid2_sample sid2_sample_of_picture(sid2_image *image)
{
    sid2_sample sample = {
        .type = {SID2_U8, {.rank = 3, .dim = {image->height, image->width, image->channels}}},
        .values = image->pixels,
        .is_turned = image->is_turned};
    *image = (sid2_image){0};
    return sample;
}

/* ---- The formats ---- */

static const sid2_format *const formats[] = {
#define FORMAT(word) &sid2_format_##word,
#include "formats.def"
};
enum { FORMAT_COUNT = sizeof formats / sizeof formats[0] };

const char *sid2_dataset_formats(char text[256])
{
    text[0] = 0;
    for (int i = 0; i < FORMAT_COUNT; i++) {
        size_t used = strlen(text);
        snprintf(text + used, 256 - used, "%s%s",
                 i == 0                 ? ""
                 : i + 1 < FORMAT_COUNT ? ", "
                                        : " or ",
                 formats[i]->what);
    }
    return text;
}

/* The names in the folder that each format knows, in order. */
static bool list_members(sid2_names members[FORMAT_COUNT], const char *path, sid2_error *err)
{
    sid2_list list;
    if (!sid2_list_folder(&list, path, NULL, err)) return false;
    bool ok = true;
    for (size_t k = 0; ok && k < list.count; k++)
        for (int i = 0; ok && i < FORMAT_COUNT; i++)
            if (formats[i]->is_member && formats[i]->is_member(list.name[k]))
                ok = sid2_names_push(&members[i], list.name[k], err);
    sid2_list_free(&list);
    return ok;
}

static bool open_folder(sid2_source *source, const char *path, const sid2_dataset_options *options,
                        sid2_error *err)
{
    sid2_names members[FORMAT_COUNT] = {{0}};
    bool ok = list_members(members, path, err);
    int i = 0;
    while (i < FORMAT_COUNT - 1 && !members[i].count && !formats[i]->any_folder) i++;
    ok = ok && formats[i]->open(source, &(sid2_location){path, members[i]}, options, err);
    for (i = 0; i < FORMAT_COUNT; i++) sid2_names_free(&members[i]);
    return ok;
}

static bool open_file(sid2_source *source, const char *path, const sid2_dataset_options *options,
                      sid2_error *err)
{
    uint8_t start[4] = {0};
    size_t size;
    int descriptor = sid2_file_open(path, 0, &size, err);
    if (descriptor < 0) return false;
    bool read = sid2_file_fill(descriptor, start, size < 4 ? size : 4, 0, path, err);
    close(descriptor);
    if (!read) return false;
    if (size == 0) return sid2_fail(err, SID2_ERR_FORMAT, "%s: the file is empty", path);
    for (int i = 0; i < FORMAT_COUNT; i++)
        if (formats[i]->is_file && formats[i]->is_file(path, start))
            return formats[i]->open(source, &(sid2_location){.path = path}, options, err);
    char list[256];
    return sid2_fail(err, SID2_ERR_FORMAT, "%s: not a data set: give %s", path, sid2_dataset_formats(list));
}

static bool compose_class_names(sid2_source *source, sid2_error *err)
{
    for (int32_t i = 0; i < source->classes; i++) {
        char *composed = sid2_text_nfc(source->class_names[i]);
        if (!composed) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for class names");
        free(source->class_names[i]);
        source->class_names[i] = composed;
    }
    return true;
}

bool sid2_source_open(sid2_source *source, const char *path, const sid2_dataset_options *options,
                      sid2_error *err)
{
    *source = (sid2_source){0};
    sid2_kind kind;
    if (!sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT) return sid2_fail(err, SID2_ERR_IO, "%s: %s", path, strerror(ENOENT));
    bool ok =
        kind == SID2_FOLDER ? open_folder(source, path, options, err) : open_file(source, path, options, err);
    ok = ok && compose_class_names(source, err);
    if (!ok) sid2_source_close(source);
    return ok;
}
