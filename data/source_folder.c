/* A tree of PNG and JPEG files; the first-level folder is the class. */
#include "digest.h"
#include "file.h"
#include "source.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The folders above the one being read, so that a symbolic link cannot lead round in a circle. */
typedef struct ancestor {
    const struct ancestor *parent;
    dev_t device;
    ino_t inode;
} ancestor;

static bool is_ancestor(const ancestor *folder, const struct stat *status)
{
    for (; folder; folder = folder->parent)
        if (folder->device == status->st_dev && folder->inode == status->st_ino) return true;
    return false;
}

/* Adds the pictures below root/relative (relative may be ""). */
static bool collect(sid2_names *names, const char *root, const char *relative, const ancestor *parent,
                    sid2_error *err)
{
    char *path = relative[0] ? sid2_path_join(root, relative) : strdup(root);
    if (!path) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", root);
    struct stat status;
    DIR *folder = opendir(path);
    if (!folder || fstat(dirfd(folder), &status)) {
        sid2_fail(err, SID2_ERR_IO, "%s: %s", path, strerror(errno));
        if (folder) closedir(folder);
        free(path);
        return false;
    }
    ancestor self = {parent, status.st_dev, status.st_ino};
    bool ok = true;
    while (ok) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno) ok = sid2_fail(err, SID2_ERR_IO, "%s: %s", path, strerror(errno));
            break;
        }
        if (entry->d_name[0] == '.') continue;
        bool is_folder = entry->d_type == DT_DIR, is_file = entry->d_type == DT_REG;
        if (!is_folder && !is_file) { /* a link, or a file system that does not tell */
            if (fstatat(dirfd(folder), entry->d_name, &status, 0)) {
                if (errno == ENOENT || errno == ELOOP) continue; /* a link to nothing */
                ok = sid2_fail(err, SID2_ERR_IO, "%s/%s: %s", path, entry->d_name, strerror(errno));
                break;
            }
            is_folder = S_ISDIR(status.st_mode) && !is_ancestor(&self, &status);
            is_file = S_ISREG(status.st_mode);
        }
        if (!is_folder && !(is_file && sid2_is_picture_name(entry->d_name))) continue;
        char *child = relative[0] ? sid2_path_join(relative, entry->d_name) : strdup(entry->d_name);
        ok = child ? is_folder ? collect(names, root, child, &self, err) : sid2_names_push(names, child, err)
                   : sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
        free(child);
    }
    closedir(folder);
    free(path);
    return ok;
}

static bool load(sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err)
{
    const char *name = source->names[index];
    sid2_image image;
    char *path = sid2_path_join(source->state, name);
    if (!path) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", name);
    size_t size;
    uint8_t *bytes = sid2_file_read(path, SID2_IMAGE_MAX_FILE, &size, err);
    free(path);
    bool ok = bytes && sid2_image_decode(&image, bytes, size, name, err);
    free(bytes);
    if (ok) *sample = sid2_sample_of_picture(&image);
    return ok;
}

/* The size of each file, of very many of some; and as many whole files, evenly spread, as are soon read. */
static bool tell(const sid2_source *source, sid2_digest *stream, sid2_error *err)
{
    enum { LOOKED_AT = 1 << 16, READ = 1 << 28 /* bytes */ };
    int64_t step = (source->count + LOOKED_AT - 1) / LOOKED_AT, total = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) step *= 1 + total / READ;
        for (int64_t i = 0; i < source->count; i += step) {
            char *path = sid2_path_join(source->state, source->names[i]);
            if (!path) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", source->names[i]);
            struct stat status = {0};
            size_t size = 0;
            uint8_t *bytes = pass ? sid2_file_read(path, SID2_IMAGE_MAX_FILE, &size, NULL) : NULL;
            if (!pass && stat(path, &status) == 0) total += status.st_size;
            if (bytes) sid2_digest_add(stream, bytes, size);
            if (!pass) sid2_digest_add(stream, &status.st_size, sizeof status.st_size);
            free(bytes);
            free(path);
        }
    }
    return true;
}

static void close_folder(sid2_source *source) { free(source->state); }

static int by_path(const void *a, const void *b)
{
    return sid2_compare_paths(*(char *const *)a, *(char *const *)b);
}

static bool open_tree(sid2_source *source, const sid2_location *at, const sid2_dataset_options *options,
                      sid2_error *err)
{
    const char *path = at->path;
    source->kind = "folder";
    source->type = sid2_picture_type;
    source->load = load;
    source->tell = tell;
    source->close = close_folder;
    source->state = strdup(path);
    if (!source->state) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    sid2_names names = {0};
    bool ok = collect(&names, path, "", NULL, err);
    source->names = names.item;
    source->count = names.count;
    if (!ok) return false;
    if (names.count == 0)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: no PNG or JPEG pictures in this folder or below", path);
    qsort(names.item, (size_t)names.count, sizeof *names.item, by_path);
    return sid2_source_classify(source, 0, err) && sid2_source_drop_unlabelled(source, options);
}

const sid2_format sid2_format_folder = {
    .what = "a folder of images by class", .any_folder = true, .open = open_tree};
