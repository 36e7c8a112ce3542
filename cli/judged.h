/* Sets of pictures and clips as the networks that judge see them: features, kept in the user's cache folder so that no picture is looked
 * at twice, and a stopped command goes on. */
#ifndef SID2_CLI_JUDGED_H
#define SID2_CLI_JUDGED_H

#include "cli.h"

#include "frechet.h"
#include "group.h"
#include "judge.h"
#include "metrics.h"

/* The networks there are. */
typedef struct jury_network {
    const char *name, *word, *variable; /* for messages; of file and command; of the environment */
    int64_t features;
} jury_network;
extern const jury_network jury_inception, jury_i3d;

/* What all sets of a command share. Of several ranks each judges a part of a set; rank 0 has the rows, the cache and the
 * word. */
typedef struct jury {
    const jury_network *network;
    const char *weights;         /* a file, or NULL: where it is looked for */
    char path[4096], digest[33]; /* of the weights, once open */
    sid2_device *device;
    sid2_group *group; /* NULL: alone */
    sid2_judge *judge;
    int64_t batch, frames;  /* frames of a clip; 0: not known yet */
    int64_t windows, crops; /* of real clips, see sid2_dataset_options */
    bool spatial, no_cache;
    progress *bar;
} jury;

/* Finds the weights: as given, the network's variable, or its file in the cache folder. One line says how to get them
 * where there are none. */
bool jury_open(jury *j, sid2_error *err);
/* Whether this rank has the rows. */
bool jury_speaks(const jury *j);
void jury_close(jury *j); /* the device stays */

/* What is known of a set: rows, or statistics alone; of ranks that do not speak, neither. */
typedef struct judged {
    char name[4096];
    int64_t count;          /* 0: a file of statistics does not say */
    int32_t height, width;  /* of the pictures; 0: statistics alone */
    float *features;        /* [count, features of the network]; NULL: statistics alone */
    float *classes;         /* [count,1008] probabilities; NULL: the weights have no head */
    sid2_gaussian gaussian; /* of features */
    sid2_gaussian spatial;  /* of sFID's; width 0: none */
} judged;
void judged_free(judged *s);

/* At most `most` pictures (0: all) of a data set, in its order, centre-cropped and resized to height x width (0: squares of
 * the first one's shorter side); or a file of mu and sigma. */
bool judge_data(jury *j, const char *path, int64_t most, int32_t height, int32_t width, int32_t channels,
                judged *s, sid2_error *err);

/* At most `most` clips (0: all) of `path` as a data set of clips, of the jury's number of frames, which the first set decides where there
 * is none; size x size (0: as the first frame is); or a file of mu and sigma. */
bool judge_clips(jury *j, const char *path, int64_t most, int32_t size, judged *s, sid2_error *err);

/* `count` pictures of a checkpoint, as `config` says, of seeds from `seed` on. `what` names it for messages. */
typedef struct sampled {
    const char *directory, *digest;
    const sid2_config *config;
    bool raw;
    size_t memory;
    uint64_t seed;
    int64_t count;
} sampled;
bool judge_samples(jury *j, const sampled *what, judged *s, sid2_error *err);
/* The same of clips, that go on from real clips of `given`, drawn in turn; brought to height x width as FVD's protocol has it. */
bool judge_clip_samples(jury *j, const sampled *what, const char *given, int32_t height, int32_t width,
                        judged *s, sid2_error *err);
/* Whether a path is a run's or a checkpoint's. */
bool judged_is_checkpoint(const char *path, bool *is, sid2_error *err);

#endif
