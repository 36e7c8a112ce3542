/* Data sets: numbered, labelled pictures of one size, whatever they come from.
 *
 *   by class     pictures at any depth in a folder, zip or tar (also compressed): the first folder that tells them apart
 *                is the class, sorted by name. Folders around the classes are passed through; of train, val and test
 *                folders that hold classes the first is taken
 *   EDM          dataset.json in any of these holds {"labels": [[name, class], ...]} or {"labels": null}
 *   WebDataset   tars, a folder of them, or shard-{000..099}.tar: x.cls or x.json says the class of x.jpg
 *   CIFAR        the binary version of CIFAR-10 and -100: files, their folder or the one above, the tar they come in
 *   MNIST        *-images-idx3-ubyte[.gz], or a folder with one at any depth; labels from *-labels-idx1-ubyte[.gz] beside
 *   npz          u8 pictures [N, height, width, channels] in arr_0, images, x_train or train_images; labels in arr_1,
 *                labels, y_train or train_labels
 *
 * Or clips, where options say how many frames one has; each is then what is called a picture below:
 *
 *   frames       videos as folders of pictures in the order of their numbers, in a folder, zip or tar; also x.0001.jpg,
 *                x.0002.jpg, ... with x.cls or x.json, as WebDataset's shards have it; a class is the first folder above all
 *   y4m          YUV4MPEG2 of 8 bits, a file or a folder or tar of them
 *   strips       PNGs of square frames side by side
 *   npz          u8 clips [N, frames, height, width, channels] in arr_0, videos or clips; labels in arr_1 or labels
 *
 * Pictures are PNG, JPEG or WebP. What is left out is counted (sid2_dataset_loss), and a class keeps its number whether
 * or not it has pictures. Pictures are centre-cropped to the size asked for; 28x28 MNIST at size 32 is padded with two
 * pixels of zeros instead, as usual. */
#ifndef SID2_DATA_H
#define SID2_DATA_H

#include <sid2/classes.h>
#include <sid2/image.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sid2_dataset sid2_dataset;

/* What one sample is: its element type, and its shape with channels last. A picture is u8 [rows, columns,
 * channels], a clip u8 [frames, rows, columns, channels]. */
typedef struct sid2_sample_type {
    sid2_dtype dtype;
    sid2_shape shape;
} sid2_sample_type;

/* What sid2_dataset_open takes, as messages list it; `text` is returned. */
SID2_API const char *sid2_dataset_formats(char text[256]);

/* Held-out pictures are chosen by a hash of their number, so both parts are the same in every run. Of clips all of a video
 * are held out or none. */
typedef enum sid2_part { SID2_PART_ALL, SID2_PART_TRAIN, SID2_PART_HELDOUT } sid2_part;

/* Whether pictures are turned as their EXIF asks. AUTO: photos sorted into folders are; published sets (EDM, WebDataset,
 * ImageNet's folders) are not, as published evaluations have them. */
typedef enum sid2_upright { SID2_UPRIGHT_AUTO, SID2_UPRIGHT_YES, SID2_UPRIGHT_NO } sid2_upright;

/* Zero means the default everywhere. */
typedef struct sid2_dataset_options {
    size_t struct_size;
    int32_t size;     /* side in pixels of square ones; 0: 32 */
    int32_t channels; /* 1 or 3, converted as needed; 0: 3 */
    sid2_part part;
    double holdout; /* below 1: fraction held out; else: number of pictures, or of videos */
    size_t
        cache_bytes; /* decoded pictures are kept: in memory where all fit into this, else in a scratch file in
                           $TMPDIR or else /var/tmp, where that has room; 0: 1 GiB; 1: never */
    sid2_upright upright;

    /* Told once about each picture that turns out to be broken. May be called from any thread that gets pictures, one
     * call at a time. May be NULL. */
    void (*on_skip)(void *user, const char *name, const char *reason);
    void *user;
    int32_t height, width; /* in pixels; 0: size */
    int32_t frames;        /* of a clip; 0: pictures; below 0: as many as an npz's clips have, else 16 */
    int32_t stride;        /* of a video's frames a clip has every so many; 0: 1 */
    bool bt709;            /* y4m does not say its matrix: BT.709, else BT.601 */
    int32_t hop;           /* frames from a clip's first to the next one's; 0: clips share none */
    int32_t windows;       /* clips of a video, evenly spread over it, instead of hop; 0: by hop */
    int32_t
        crops; /* FVD's protocol: each clip so many times, cropped from one end of its longer side to the other (1:
                              in the middle) and resized bilinearly; 0: as pictures are. Nothing is cached of more than one */
} sid2_dataset_options;

/* Fails on a path that is missing, empty, without pictures, or damaged as a whole, and when no picture is
 * readable. */
SID2_API sid2_dataset *sid2_dataset_open(const char *path, const sid2_dataset_options *options,
                                         sid2_error *err);
SID2_API void sid2_dataset_close(sid2_dataset *dataset);

SID2_API int64_t sid2_dataset_count(const sid2_dataset *dataset); /* pictures in the part chosen */
SID2_API int32_t sid2_dataset_classes(const sid2_dataset *dataset);
/* In Unicode's NFC, whatever form the folder or archive has it in; "?" where there is no such class. */
SID2_API const char *sid2_dataset_class_name(const sid2_dataset *dataset, int32_t label);
/* All of them, the caller's to destroy. */
SID2_API sid2_classes *sid2_dataset_names(const sid2_dataset *dataset, sid2_error *err);
/* What the pictures are, of all parts: 32 hexadecimal digits of their order, labels, names and contents. Of contents it
 * takes what costs seconds at most: the checksums in an archive; of a folder all sizes (of more than 65,536 pictures some)
 * and as many whole files, evenly spread, as make 256 MiB; else pixels. */
SID2_API bool sid2_dataset_digest(const sid2_dataset *dataset, char digest[33], sid2_error *err);
SID2_API sid2_sample_type
sid2_dataset_type(const sid2_dataset *dataset);                  /* of what sid2_dataset_get writes */
SID2_API int32_t sid2_dataset_size(const sid2_dataset *dataset); /* the longer side */
SID2_API int32_t sid2_dataset_channels(const sid2_dataset *dataset);
SID2_API const char *sid2_dataset_kind(const sid2_dataset *dataset); /* "zip", ... for messages */
/* What becomes of the rotation that pictures' EXIF asks for, in words; NULL: these have no EXIF. */
SID2_API const char *sid2_dataset_turning(const sid2_dataset *dataset);
SID2_API int64_t sid2_dataset_broken(const sid2_dataset *dataset); /* broken pictures met so far */
/* A line about what is left out of the whole set, one for each reason ("6 files of other kinds: .webp 4, .heic 2"), safe
 * to print; NULL past the last. Broken pictures are counted as they are met. The caller frees. Thread-safe. */
SID2_API char *sid2_dataset_loss(sid2_dataset *dataset, int number);
/* A line about classes of which there are no pictures; NULL: of all there are, or no memory. The caller frees. */
SID2_API char *sid2_dataset_empty_classes(const sid2_dataset *dataset);

SID2_API int32_t sid2_dataset_label(const sid2_dataset *dataset, int64_t index);
/* The picture's own name: its path in the folder or archive, or its number. The caller frees. */
SID2_API char *sid2_dataset_name(const sid2_dataset *dataset, int64_t index);

/* Writes picture `index` to `pixels`, height x width x channels, mirrored if `flip`, and its label (may be
 * NULL). For a broken one the next good one stands in, label and all. Thread-safe. */
SID2_API bool sid2_dataset_get(sid2_dataset *dataset, int64_t index, bool flip, uint8_t *pixels,
                               int32_t *label, sid2_error *err);

/* ---- Loaders ----
 * A stream of shuffled batches, decoded ahead by threads of its own so that a training step never waits.
 *
 * Sample n of the stream is picture shuffle(seed, n / count, n % count): a pure function, for any batch
 * size and number of threads. Resuming at sample n continues the very same stream. Epochs run on across
 * the borders of batches. */
typedef struct sid2_loader sid2_loader;

typedef struct sid2_loader_options {
    size_t struct_size;
    int32_t batch;
    uint64_t seed;
    uint64_t first_sample; /* where the stream begins: 0, or the point of resume */
    int32_t threads;       /* 0: one for each processor, at most 8 */
    int32_t depth;         /* batches held ready; 0: 4 */
    bool flip;             /* mirror half of them, drawn by sample number */
    /* Move them by up to so many pixels up or down and left or right, all as likely, drawn by sample number; what comes in
     * mirrors the picture at its edge. Below both sides. */
    int32_t translate;
    int32_t part, parts; /* of each batch only part number `part` of so many equal ones; 0 parts: all */
} sid2_loader_options;

typedef struct sid2_batch {
    const uint8_t
        *pixels; /* batch x height x width x channels: samples of the data set's type; of a part, fewer */
    const int32_t *labels; /* batch */
    uint64_t first_sample; /* of them; the others follow one by one */
} sid2_batch;

/* Borrows the data set, which must outlive the loader. */
SID2_API sid2_loader *sid2_loader_open(sid2_dataset *dataset, const sid2_loader_options *options,
                                       sid2_error *err);
SID2_API void sid2_loader_close(sid2_loader *loader);

/* The next batch; its memory is the loader's and holds until the next call. One thread at a time. */
SID2_API const sid2_batch *sid2_loader_next(sid2_loader *loader, sid2_error *err);
SID2_API double
sid2_loader_waited(const sid2_loader *loader); /* seconds sid2_loader_next has spent waiting */

/* ---- Packing ----
 * A data set decoded, cropped and resized once: a zip in EDM layout of what sid2_dataset_get gives, which other programs
 * read as well. Broken pictures are left out, and told of by on_skip. */
typedef struct sid2_pack_options {
    size_t struct_size;
    int32_t threads; /* 0: one for each processor that this process may use */
    /* Told of now and then by the thread that called; false ends the packing with SID2_ERR_CANCELLED. May be NULL. */
    bool (*progress)(void *user, int64_t done, int64_t total);
    void *user;
} sid2_pack_options;

/* The zip appears complete or not at all, and replaces nothing. What is done so far stays in `path`.part: packing the same
 * pictures in the same way again goes on from there. */
SID2_API bool sid2_dataset_pack(sid2_dataset *dataset, const char *path, const sid2_pack_options *options,
                                sid2_error *err);

/* ---- Generated pictures ----
 * Generated, labelled pictures: enough to watch a model learn without any data at hand.
 *
 * Ten classes of small scenes. Picture `index` is a pure function of (seed, index) at any size; its label
 * is index modulo the number of classes. */
#define SID2_SYNTH_CLASSES  10
#define SID2_SYNTH_MAX_SIZE 4096

SID2_API const char *sid2_synth_class_name(int32_t label);
SID2_API int32_t sid2_synth_label(uint64_t index);
SID2_API int32_t sid2_synth_classes(int64_t count); /* of the first `count` pictures */

/* Writes size x size x 3 to `pixels`. Thread-safe. */
SID2_API bool sid2_synth_render(uint64_t seed, uint64_t index, int32_t size, uint8_t *pixels,
                                sid2_error *err);

/* Writes pictures 0 .. count-1 as PNG: a zip in EDM layout if `path` ends in ".zip", else a new folder with
 * one sub-folder for each class that occurs. It appears complete or not at all, and replaces nothing. `stop`
 * (may be NULL) is asked before each picture; once true, the writing ends with SID2_ERR_CANCELLED. */
SID2_API bool sid2_synth_write(const char *path, int64_t count, int32_t size, uint64_t seed,
                               bool (*stop)(void), sid2_error *err);

/* Moving shapes: clips 0 .. count-1 of one to three circles, crosses, squares or triangles that bounce off the edges, to a
 * tar, if `path` ends so, else a zip: a folder of frames CLASS/NUMBER for each, with clip.json, which says where the shapes'
 * centres are exactly. Clip `index` is a pure function of (seed, index); its label is index modulo the four classes. As
 * sid2_synth_write otherwise. */
SID2_API bool sid2_synth_write_clips(const char *path, int64_t count, int32_t frames, int32_t size,
                                     uint64_t seed, bool (*stop)(void), sid2_error *err);

#ifdef __cplusplus
}
#endif

#endif
