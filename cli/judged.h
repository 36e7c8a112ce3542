/* Sets of pictures as the Inception network sees them: features, kept in the user's cache folder so that no picture is looked
 * at twice, and a stopped command goes on. */
#ifndef SID2_CLI_JUDGED_H
#define SID2_CLI_JUDGED_H

#include "cli.h"

#include "frechet.h"
#include "judge.h"
#include "metrics.h"

/* What all sets of a command share. */
typedef struct jury {
    const char *weights;         /* a file, or NULL: where it is looked for */
    char path[4096], digest[33]; /* of the weights, once open */
    sid2_device *device;
    sid2_judge *judge;
    int64_t batch;
    bool spatial, no_cache;
    progress *bar;
} jury;

/* Finds the weights: as given, $SID2_INCEPTION, or inception.safetensors in the cache folder. One line says how to get them
 * where there are none. */
bool jury_open(jury *j, sid2_error *err);
void jury_close(jury *j); /* the device stays */

/* What is known of a set: rows, or statistics alone. */
typedef struct judged {
    char name[4096];
    int64_t count;          /* 0: a file of statistics does not say */
    int32_t height, width;  /* of the pictures; 0: statistics alone */
    float *features;        /* [count,2048]; NULL: statistics alone */
    float *classes;         /* [count,1008] probabilities; NULL: the weights have no head */
    sid2_gaussian gaussian; /* of features */
    sid2_gaussian spatial;  /* of sFID's; width 0: none */
} judged;
void judged_free(judged *s);

/* At most `most` pictures (0: all) of a data set, in its order, centre-cropped and resized to height x width (0: squares of
 * the first one's shorter side); or a file of mu and sigma. */
bool judge_data(jury *j, const char *path, int64_t most, int32_t height, int32_t width, int32_t channels,
                judged *s, sid2_error *err);

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

#endif
