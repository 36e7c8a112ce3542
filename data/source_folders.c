/* Pictures by class: the first folder that tells them apart is the class, whatever holds the folders. */
#include "source.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

/* The folders right below `root` ("" or "photos/"), and how many pictures lie beside them. */
typedef struct level {
    sid2_list folders;     /* sorted, each once */
    int64_t with_pictures; /* of them */
    int64_t direct;
} level;

static bool push_first(sid2_list *names, const char *below, const char *slash, sid2_error *err)
{
    size_t length = (size_t)(slash - below);
    const char *last = names->count ? names->name[names->count - 1] : "";
    if (strlen(last) == length && !strncmp(last, below, length)) return true;
    char *copy = strndup(below, length);
    bool ok =
        copy ? sid2_list_push(names, copy, err) : sid2_fail(err, SID2_ERR_MEMORY, "no memory for a name");
    free(copy);
    return ok;
}

static bool look(level *l, const sid2_files *files, const char *root, sid2_error *err)
{
    size_t first = strlen(root);
    bool ok = true;
    *l = (level){0};
    for (int64_t i = 0; ok && i < files->count; i++) {
        const char *name = files->entry[i].name;
        if (strncmp(name, root, first) != 0 || !sid2_is_picture_name(name)) continue;
        const char *slash = strchr(name + first, '/');
        if (slash)
            ok = push_first(&l->folders, name + first, slash, err);
        else
            l->direct++;
    }
    l->with_pictures = (int64_t)l->folders.count;
    for (size_t i = 0; ok && i < files->folders.count; i++) {
        const char *name = files->folders.name[i];
        if (strncmp(name, root, first) == 0 && name[first])
            ok = push_first(&l->folders, name + first, strchrnul(name + first, '/'), err);
    }
    sid2_list_sort(&l->folders);
    if (!ok) sid2_list_free(&l->folders);
    return ok;
}

static const char *const splits[] = {"train",      "training", "val",     "valid",
                                     "validation", "test",     "testing", "eval"};
enum { TRAINING_SPLITS = 2, SPLITS = sizeof splits / sizeof *splits };

static int split_of(const char *name)
{
    int i = 0;
    while (i < SPLITS && !sid2_text_equal(name, splits[i])) i++;
    return i;
}

/* The folder to train on where all folders are splits that hold classes; else NULL. */
static const char *training_split(const sid2_files *files, const char *root, const level *l)
{
    const char *found = NULL;
    for (size_t i = 0; i < l->folders.count; i++) {
        int split = split_of(l->folders.name[i]);
        if (split == SPLITS) return NULL;
        if (split < TRAINING_SPLITS) found = l->folders.name[i];
    }
    size_t first = strlen(root);
    for (int64_t i = 0; found && i < files->count; i++) {
        const char *name = files->entry[i].name;
        if (strncmp(name, root, first) != 0 || !sid2_is_picture_name(name)) continue;
        const char *slash = strchr(name + first, '/');
        if (slash && !strchr(slash + 1, '/')) return NULL; /* pictures right within: classes of that name */
    }
    return found;
}

/* Goes into a folder that holds all the others ("compress folder" makes one), or into the split to train on. The
 * level where that ends, and its root, which the caller frees. */
static bool descend(level *l, char **root, const sid2_files *files, sid2_error *err)
{
    *root = strdup("");
    if (!*root) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", files->path);
    if (!look(l, files, *root, err)) return false;
    while (!l->direct && l->with_pictures) {
        const char *into = l->folders.count == 1 ? l->folders.name[0] : training_split(files, *root, l);
        if (!into) break;
        level below;
        char *path = malloc(strlen(*root) + strlen(into) + 2);
        if (!path) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", files->path);
        stpcpy(stpcpy(stpcpy(path, *root), into), "/");
        if (!look(&below, files, path, err)) {
            free(path);
            return false;
        }
        bool holds_classes = below.with_pictures > (below.direct ? 1 : 0);
        level *unused = holds_classes ? l : &below;
        sid2_list_free(&unused->folders);
        if (!holds_classes) {
            free(path);
            break;
        }
        *l = below;
        free(*root);
        *root = path;
    }
    return true;
}

static bool classify(sid2_source *source, const char *root, const sid2_list *classes, sid2_error *err)
{
    const sid2_files *files = source->files;
    size_t first = strlen(root);
    bool ok = true;
    for (int64_t i = 0; ok && i < files->count; i++) {
        const sid2_entry *e = &files->entry[i];
        const char *below = e->name + first;
        bool inside = !strncmp(e->name, root, first);
        const char *slash = inside ? strchr(below, '/') : NULL;
        const char *top = strchrnul(e->name, '/');
        if (!sid2_is_picture_name(e->name))
            ok = sid2_source_lose(source, SID2_LOST_KIND, e, err);
        else if (!inside || (!slash && classes->count))
            ok = sid2_source_lose(source, inside || !*top ? SID2_LOST_OUTSIDE : SID2_LOST_SPLIT, e, err);
        else
            ok = sid2_source_add_picture(
                source, e, slash ? (int32_t)sid2_list_find(classes, below, (size_t)(slash - below)) : 0, err);
    }
    return ok;
}

/* ImageNet's folders are called "n01440764". */
static bool is_imagenet(const sid2_list *classes)
{
    for (size_t i = 0; i < classes->count; i++) {
        const char *name = classes->name[i];
        if (name[0] != 'n' || strspn(name + 1, "0123456789") != 8 || name[9]) return false;
    }
    return classes->count > 0;
}

static bool open_folders(sid2_source *source, sid2_error *err)
{
    if (source->files->choice) return true;
    level l = {0};
    char *root = NULL;
    static const char *const all[] = {"images"};
    bool ok = descend(&l, &root, source->files, err);
    const sid2_list *classes = &l.folders;
    if (ok && (l.direct || l.with_pictures)) {
        sid2_source_of_pictures(source);
        source->is_photos = !is_imagenet(classes);
        int64_t count = (int64_t)classes->count;
        ok = (count ? sid2_source_name_classes(source, count, (const char *const *)classes->name, count, err)
                    : sid2_source_name_classes(source, 1, all, 1, err)) &&
             classify(source, root, classes, err);
    }
    if (ok && !source->load)
        for (int64_t i = 0; ok && i < source->files->count && !sid2_files_hold_tars(source->files); i++)
            ok = sid2_source_lose(source, SID2_LOST_KIND, &source->files->entry[i], err);
    sid2_list_free(&l.folders);
    free(root);
    return ok;
}

const sid2_format sid2_format_folders = {.what = "a folder, zip or tar of images by class",
                                         .open = open_folders};
