/* Inside data/: where pictures come from. Each kind of data set fills one `source`; dataset.c makes squares
 * of one size out of what it loads. */
#ifndef SID2_SOURCE_H
#define SID2_SOURCE_H

#include "dataset.h"

#define SID2_MAX_CLASSES 65536

typedef struct sid2_source {
    const char *kind;
    int64_t count;
    int32_t *labels; /* count */
    char **names;    /* count; NULL: pictures have numbers only */
    int32_t classes;
    char **class_names; /* classes */
    bool is_cheap;      /* loading costs next to nothing, so decoded copies are not worth keeping */
    bool is_digits;     /* MNIST's margin convention */
    void *state;        /* the kind's own */

    /* Loads picture `index` as it is, thread-safe. */
    bool (*load)(struct sid2_source *source, int64_t index, sid2_image *image, sid2_error *err);
    void (*close)(struct sid2_source *source); /* frees `state`, complete or not, even NULL */
} sid2_source;

/* Recognises what lies at `path`. On failure nothing needs closing. */
bool sid2_source_open(sid2_source *source, const char *path, const sid2_dataset_options *options,
                      sid2_error *err);
void sid2_source_close(sid2_source *source);

/* The kinds. On failure the caller closes what has been filled in. */
bool sid2_source_folder(sid2_source *source, const char *path, const sid2_dataset_options *options,
                        sid2_error *err);
bool sid2_source_zip(sid2_source *source, const char *path, const sid2_dataset_options *options,
                     sid2_error *err);
bool sid2_source_cifar(sid2_source *source, const char *folder, char **files, int64_t file_count,
                       sid2_error *err);
bool sid2_source_idx(sid2_source *source, const char *path, sid2_error *err);

/* ---- Helpers the kinds share ---- */

typedef struct sid2_names {
    char **item;
    int64_t count, room;
} sid2_names;

bool sid2_names_push(sid2_names *names, const char *name, sid2_error *err); /* copies */
void sid2_names_free(sid2_names *names);

/* "folder/name", the caller's to free; NULL without memory. */
char *sid2_path_join(const char *folder, const char *name);

bool sid2_is_picture_name(const char *name);          /* .png, .jpg, .jpeg; not hidden */
int sid2_compare_paths(const char *a, const char *b); /* as if folder by folder: '/' before all others */

/* Fills labels and classes from sorted paths: the class is the first folder. Paths outside every folder,
 * where others are inside one, get label -1. `first` characters at the start are a common prefix to ignore.
 */
bool sid2_source_classify(sid2_source *source, size_t first, sid2_error *err);

/* Leaves out pictures with label -1 and reports them. Always true. */
bool sid2_source_drop_unlabelled(sid2_source *source, const sid2_dataset_options *options);

/* `count` classes called by their numbers. */
bool sid2_source_number_classes(sid2_source *source, int32_t count, sid2_error *err);

#endif
