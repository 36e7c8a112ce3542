/* Inside data/: where samples come from. Each format of data set fills one `source`, which describes its samples;
 * dataset.c makes of what it loads samples of one shape. */
#ifndef SID2_SOURCE_H
#define SID2_SOURCE_H

#include "dataset.h"
#include "digest.h"

#define SID2_MAX_CLASSES 65536

/* One sample as it lies there. */
typedef struct sid2_sample {
    sid2_sample_type type; /* without zeros */
    void *values;          /* from malloc */
    bool is_turned;        /* a picture, see sid2_image */
} sid2_sample;

typedef struct sid2_source {
    const char *kind;
    sid2_sample_type type; /* of every sample; an extent of 0 differs from one to the other */
    int64_t count;
    int32_t *labels; /* count */
    char **names;    /* count; NULL: samples have numbers only */
    int32_t classes;
    char **class_names; /* classes */
    bool is_cheap;      /* loading costs next to nothing, so decoded copies are not worth keeping */
    bool is_digits;     /* MNIST's margin convention */
    void *state;        /* the format's own */

    /* Loads sample `index` as it is, thread-safe. */
    bool (*load)(struct sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err);
    /* Adds to a digest what tells the pictures' bytes from others, and decodes none; what cannot be read adds nothing.
     * NULL: the pixels of some must do. */
    bool (*tell)(const struct sid2_source *source, sid2_digest *stream, sid2_error *err);
    void (*close)(struct sid2_source *source); /* frees `state`, complete or not, even NULL */
} sid2_source;

/* Recognises what lies at `path`. On failure nothing needs closing. */
bool sid2_source_open(sid2_source *source, const char *path, const sid2_dataset_options *options,
                      sid2_error *err);
void sid2_source_close(sid2_source *source);

typedef struct sid2_names {
    char **item;
    int64_t count, room;
} sid2_names;

/* What a format is asked to open. */
typedef struct sid2_location {
    const char *path;
    sid2_names members; /* of a folder: the names that the format's `is_member` knows, sorted */
} sid2_location;

typedef struct sid2_format {
    const char *what; /* as messages and help list it: "a zip" */
    /* Whether a file is of this format, by its path and its first bytes (zeros past its end). NULL: no file is. */
    bool (*is_file)(const char *path, const uint8_t start[4]);
    /* Whether a folder that holds this name is. NULL: no name makes it so. */
    bool (*is_member)(const char *name);
    bool any_folder; /* takes folders that are of no other format */
    /* On failure the caller closes what has been filled in. */
    bool (*open)(sid2_source *source, const sid2_location *at, const sid2_dataset_options *options,
                 sid2_error *err);
} sid2_format;

#define FORMAT(word) extern const sid2_format sid2_format_##word;
#include "formats.def"

/* ---- Helpers that formats share ---- */

/* u8 [rows, columns, channels] of any extents. */
extern const sid2_sample_type sid2_picture_type;
/* Gives the picture away: `image` is empty then. */
sid2_sample sid2_sample_of_picture(sid2_image *image);

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
