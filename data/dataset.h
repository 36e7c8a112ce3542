/* Data sets: numbered, labelled, square pictures of one size, whatever they come from.
 *
 *   folder       PNG and JPEG at any depth; the first-level folder is the class (sorted by name)
 *   *.zip        EDM layout: dataset.json holds {"labels": [[name, class], ...]} or {"labels": null};
 *                without dataset.json the first-level folders are the classes
 *   CIFAR-10     data_batch_*.bin, or a folder of them
 *   MNIST        *-images-idx3-ubyte[.gz], or a folder with one; labels from *-labels-idx1-ubyte[.gz] beside
 *
 * Pictures are centre-cropped (resize.h) to the size asked for; 28x28 MNIST at size 32 is padded with two
 * pixels of zeros instead, as usual. */
#ifndef SID2_DATASET_H
#define SID2_DATASET_H

#include "image.h"

typedef struct sid2_dataset sid2_dataset;

/* Held-out pictures are chosen by a hash of their number, so both parts are the same in every run. */
typedef enum sid2_part { SID2_PART_ALL, SID2_PART_TRAIN, SID2_PART_HELDOUT } sid2_part;

/* Zero means the default everywhere. */
typedef struct sid2_dataset_options {
    int32_t size;     /* side in pixels; 0: 32 */
    int32_t channels; /* 1 or 3, converted as needed; 0: 3 */
    sid2_part part;
    double holdout;     /* below 1: fraction held out; else: number of pictures */
    size_t cache_bytes; /* decoded pictures are kept when all fit into this; 0: 1 GiB; 1: never */

    /* Told once about each picture left out: broken, or outside every class. May be called from any
     * thread that gets pictures, one call at a time. May be NULL. */
    void (*on_skip)(void *user, const char *name, const char *reason);
    void *user;
} sid2_dataset_options;

/* Fails on a path that is missing, empty, without pictures, or damaged as a whole, and when no picture is
 * readable. */
sid2_dataset *sid2_dataset_open(const char *path, sid2_dataset_options options, sid2_error *err);
void sid2_dataset_close(sid2_dataset *dataset);

int64_t sid2_dataset_count(const sid2_dataset *dataset); /* pictures in the part chosen */
int32_t sid2_dataset_classes(const sid2_dataset *dataset);
const char *sid2_dataset_class_name(const sid2_dataset *dataset, int32_t label);
int32_t sid2_dataset_size(const sid2_dataset *dataset);
int32_t sid2_dataset_channels(const sid2_dataset *dataset);
const char *sid2_dataset_kind(const sid2_dataset *dataset); /* "zip", ... for messages */
int64_t sid2_dataset_broken(const sid2_dataset *dataset);   /* broken pictures met so far */

int32_t sid2_dataset_label(const sid2_dataset *dataset, int64_t index);
/* The picture's own name: its path in the folder or archive, or its number. The caller frees. */
char *sid2_dataset_name(const sid2_dataset *dataset, int64_t index);

/* Writes picture `index` to `pixels`, size x size x channels, mirrored if `flip`, and its label (may be
 * NULL). For a broken one the next good one stands in, label and all. Thread-safe. */
bool sid2_dataset_get(sid2_dataset *dataset, int64_t index, bool flip, uint8_t *pixels, int32_t *label,
                      sid2_error *err);

/* What looking at a data set finds of a picture. */
typedef struct sid2_finding {
    bool is_readable; /* else reported as broken, and `pixels` mean nothing */
    bool is_turned;   /* its EXIF rotation is ignored */
    int32_t label;
} sid2_finding;

/* Decodes picture `index` itself: past the cache, and no other stands in. Fails only where memory does. */
bool sid2_dataset_inspect(sid2_dataset *dataset, int64_t index, uint8_t *pixels, sid2_finding *finding,
                          sid2_error *err);

#endif
