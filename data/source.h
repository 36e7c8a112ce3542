/* Inside data/: where samples come from. Each format of data set fills one `source` from the files there are, and
 * describes its samples; dataset.c makes of what it loads samples of one shape. */
#ifndef SID2_SOURCE_H
#define SID2_SOURCE_H

#include "dataset.h"
#include "digest.h"
#include "files.h"

#define SID2_MAX_CLASSES 65536

/* One sample as it lies there. */
typedef struct sid2_sample {
    sid2_sample_type type; /* without zeros */
    void *values;          /* from malloc */
    int32_t orientation;   /* of a picture, see sid2_image */
} sid2_sample;

typedef struct sid2_source {
    const char *kind;
    sid2_files
        *files; /* where it comes from, the source's own; it counts what is left out. NULL: elsewhere */
    sid2_sample_type type; /* of every sample; an extent of 0 differs from one to the other */
    int64_t count, room;
    int32_t *labels; /* count */
    int32_t *run,
        *video; /* count, of frames: the run of those that follow one another, from 0 on, and the video that it is
                             of; NULL: pictures */
    bool bt709;               /* of y4m, see sid2_dataset_options */
    int32_t rate[2];          /* of frames: so many in so many seconds; 0, 0: not known */
    const sid2_entry **entry; /* count, the samples' files; NULL: samples have numbers only */
    int32_t classes;
    char **class_names; /* classes; NFC */
    bool is_cheap;      /* loading costs next to nothing, so decoded copies are not worth keeping */
    bool is_digits;     /* MNIST's margin convention */
    bool is_photos;     /* people's own rather than a published set: shown upright */
    void *state;        /* the format's own */

    /* Loads sample `index` as it is, thread-safe. */
    bool (*load)(struct sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err);
    /* Adds to a digest what tells the samples' bytes from others, and decodes none; what cannot be read adds nothing.
     * NULL: the pixels of some must do. */
    bool (*tell)(const struct sid2_source *source, sid2_digest *stream, sid2_error *err);
    /* What messages call sample `index`; the caller frees. NULL: its entry's name, or its number. */
    char *(*name)(const struct sid2_source *source, int64_t index);
    void (*close)(struct sid2_source *source); /* frees `state`, complete or not, even NULL */
} sid2_source;

/* Recognises what lies at `path`, together with the ranks of a group, as sid2_files_open does. On failure nothing needs
 * closing. */
bool sid2_source_open(sid2_source *source, const char *path, sid2_group *group, sid2_error *err);
void sid2_source_close(sid2_source *source);

/* The same of what holds videos: samples are frames (source_clips.c). *frames: of a clip; where it is below 0, it becomes an
 * npz's own number, else SID2_CLIP_FRAMES. */
bool sid2_source_open_clips(sid2_source *source, const char *path, int32_t *frames, sid2_group *group,
                            sid2_error *err);

/* As sid2_dataset_clip_name, of a clip's first frame. */
char *sid2_source_clip_name(const sid2_source *source, int64_t frame);
/* As sid2_dataset_read_beside, of a frame of such a source. */
uint8_t *sid2_source_read_beside(const sid2_source *source, int64_t frame, const char *name, size_t *size,
                                 int64_t *first, sid2_error *err);

typedef struct sid2_format {
    const char *what; /* as messages and help list it */
    /* Fills `source` from its files; where these are of another format, `load` stays NULL and all else as it was. On
     * failure the caller closes what has been filled in. */
    bool (*open)(sid2_source *source, sid2_error *err);
} sid2_format;

#define FORMAT(word) extern const sid2_format sid2_format_##word;
#include "formats.def"

/* ---- Helpers that formats share ---- */

/* u8 [rows, columns, channels] of any extents. */
extern const sid2_sample_type sid2_picture_type;
/* Gives the picture away: `image` is empty then. */
sid2_sample sid2_sample_of_picture(sid2_image *image);

/* A source of picture files, to which they are added one by one. One that holds no picture for all that can be seen
 * without decoding is counted and left out. */
void sid2_source_of_pictures(sid2_source *source);
bool sid2_source_add_picture(sid2_source *source, const sid2_entry *entry, int32_t label, sid2_error *err);
bool sid2_source_lose(sid2_source *source, sid2_reason reason, const sid2_entry *entry, sid2_error *err);

/* `tell` of what comes from files: their names, sizes and checksums; where no checksums are known, as many whole files,
 * evenly spread, as are soon read. */
bool sid2_source_tell(const sid2_source *source, sid2_digest *stream, sid2_error *err);

/* What cannot be read now may be read a moment later (a network drive, a disk that tries again); to leave it out at once
 * would make another data set of it. Whether to try again after that error, having waited; *attempt begins at 0. */
bool sid2_source_try_again(int *attempt, const sid2_error *cause);

/* Names of classes 0 to count - 1: those given as far as they reach (NULL: not given), else numbers. */
bool sid2_source_name_classes(sid2_source *source, int64_t count, const char *const *names, int64_t known,
                              sid2_error *err);
/* What x.cls or x.json beside x.jpg says of its class, empty where neither does. */
enum { SID2_LONGEST_LABEL = 256 };
bool sid2_webdataset_label(char text[SID2_LONGEST_LABEL], sid2_files *files, const sid2_entry *entry,
                           sid2_error *err);
/* labels[texts->count], which are there, and the classes' names. Where all texts are numbers, and `numbers`, these are the
 * classes; else the texts are their names, sorted. */
bool sid2_source_label(sid2_source *source, const sid2_list *texts, bool numbers, sid2_error *err);
/* labels[count] from an npz's array of whole numbers (NULL: all 0), and the classes, `all` where there is none. */
bool sid2_source_read_labels(sid2_source *source, const sid2_entry *entry, int64_t count, const char *all,
                             sid2_error *err);

#endif
