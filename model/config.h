/* The configuration as the model reads it: the rows of config.def as a struct. */
#ifndef SID2_MODEL_CONFIG_H
#define SID2_MODEL_CONFIG_H

#include <sid2/config.h>

#include "base.h"
#include "text.h"

enum { SID2_MAX_LEVELS = 8 };

typedef int64_t sid2_config_INT;  /* 0 for "auto" */
typedef double sid2_config_FLOAT; /* NaN for "auto" */
typedef bool sid2_config_BOOL;
typedef int sid2_config_NAME; /* the word's place in `accepts`; the enums below */
typedef struct sid2_config_INTS {
    int count;
    int64_t item[SID2_MAX_LEVELS];
} sid2_config_INTS;
typedef struct sid2_config_FLOATS {
    int count;
    double item[SID2_MAX_LEVELS];
} sid2_config_FLOATS;
typedef struct sid2_config_NAMES {
    int count;
    int item[SID2_MAX_LEVELS];
} sid2_config_NAMES;
typedef struct sid2_config_INTERVAL {
    double low, high; /* always: all numbers; none: low > high */
} sid2_config_INTERVAL;
typedef struct sid2_config_SIZE {
    int64_t height, width;
} sid2_config_SIZE;

/* Keys by number, in the order of config.def. */
enum {
#define SECTION(section, help)
#define KEY(section, name, ...) SID2_KEY_##section##_##name,
#include "config.def"
    SID2_KEY_COUNT
};

struct sid2_config {
#define SECTION(section, help)
#define KEY(section, name, type, accepts, value, help) sid2_config_##type section##_##name;
#include "config.def"
    /* By key, in this order: whether sid2_config_set has given it; files and presets do not count. */
    bool is_set[SID2_KEY_COUNT];
};

/* The words of keys of type NAME. Each is an enumerator, named after itself: those with nothing but a name are
 * listed here, the others are rows of tables of their own. */
#define SID2_BLOCKS(WORD)             WORD(BLOCK, res) WORD(BLOCK, transformer)
#define SID2_QK_NORMS(WORD)           WORD(QK, layer) WORD(QK, rms) WORD(QK, none)
#define SID2_SKIPS(WORD)              WORD(SKIP, level) WORD(SKIP, block) WORD(SKIP, none)
#define SID2_ACTIVATIONS(WORD)        WORD(ACTIVATION, silu) WORD(ACTIVATION, gelu)
#define SID2_GUIDE_WITHOUTS(WORD)     WORD(WITHOUT, class) WORD(WITHOUT, history) WORD(WITHOUT, both)
#define SID2_UPRIGHTS(WORD)           WORD(TURN, auto) WORD(TURN, yes) WORD(TURN, no)
#define SID2_SNAPSHOTS(WORD)          WORD(SNAPSHOT, auto) WORD(SNAPSHOT, on) WORD(SNAPSHOT, off)
#define SID2_WIRES(WORD)              WORD(WIRE, f32) WORD(WIRE, bf16)
#define SID2_DELTAS(WORD)             WORD(DELTA, random) WORD(DELTA, fixed)
#define SID2_DISTILL_WEIGHTINGS(WORD) WORD(DISTILL_WEIGHTING, loss) WORD(DISTILL_WEIGHTING, flat)
#define SID2_TRAIN_PRECISIONS(WORD)   WORD(PRECISION, auto) WORD(PRECISION, bf16) WORD(PRECISION, f32)
#define SID2_SAMPLE_PRECISIONS(WORD)  SID2_TRAIN_PRECISIONS(WORD) WORD(PRECISION, f16)

#define SID2_ENUMERATOR(set, word) SID2_##set##_##word,
enum { SID2_BLOCKS(SID2_ENUMERATOR) };
enum { SID2_QK_NORMS(SID2_ENUMERATOR) };
enum { SID2_SKIPS(SID2_ENUMERATOR) };
enum { SID2_ACTIVATIONS(SID2_ENUMERATOR) };
enum { SID2_GUIDE_WITHOUTS(SID2_ENUMERATOR) };
enum { SID2_UPRIGHTS(SID2_ENUMERATOR) };
enum { SID2_WIRES(SID2_ENUMERATOR) };
enum { SID2_SNAPSHOTS(SID2_ENUMERATOR) };
enum { SID2_SAMPLE_PRECISIONS(SID2_ENUMERATOR) };
enum { SID2_DELTAS(SID2_ENUMERATOR) };
enum { SID2_DISTILL_WEIGHTINGS(SID2_ENUMERATOR) };
enum {
#define SCHEDULE(word, help) SID2_SCHEDULE_##word,
#include "schedules.def"
};
enum {
#define WEIGHTING(word, help) SID2_WEIGHTING_##word,
#include "weightings.def"
};
enum {
#define DECAY(word, help) SID2_DECAY_##word,
#include "decays.def"
};
enum {
#define SAMPLER(word, evaluations, history, noise, help) SID2_SAMPLER_##word,
#include "samplers.def"
};
enum {
#define GRID(word, help) SID2_GRID_##word,
#include "grids.def"
};
enum {
#define GUIDANCE(word, measured, help) SID2_GUIDANCE_##word,
#include "guidances.def"
};

/* Of a checkpoint: no key of model and schedule may be missing, but for those that came later (config.def). */
bool sid2_config_load_whole(sid2_config *config, const char *path, sid2_error *err);
/* A file's text, the caller's to free. Other bytes than text are refused before anything is made of them. */
char *sid2_config_read_text(const char *path, sid2_error *err);
/* Whether a run that goes on may have another value: the FREE keys of config.def. */
bool sid2_config_is_free(const char *key);
bool sid2_config_is_known(const char *key);
/* A key's value, with which `text` is filled and which is returned. The key must exist. */
const char *sid2_config_text(const sid2_config *config, const char *key, char text[256]);
/* Whether sampling asks a guide, somewhere in sample.interval. */
bool sid2_config_guides(const sid2_config *config);
/* Whether it can be its own guide, by leaving its class out. */
bool sid2_config_check_guidance(const sid2_config *config, sid2_error *err);
int sid2_config_levels(const sid2_config *config);
/* Per-level lists, with one entry standing for all. */
int64_t sid2_config_depth(const sid2_config *config, int level);
double sid2_config_dropout(const sid2_config *config, int level);
/* Batches are counted in clips of model.frames = F images, which lie one after the other, clip by clip; an image is a clip
 * of one. The pixels of `count` clips, a frame at a time: [count F, height, width, channels]. */
sid2_shape sid2_config_images(const sid2_config *config, int64_t count);
/* The same, a clip at a time: [count, F, height, width, channels]; of images as above. */
sid2_shape sid2_config_clips(const sid2_config *config, int64_t count);
size_t sid2_config_image_bytes(const sid2_config *config); /* of one clip, as u8 */
/* The side of a square of as many pixels: what noise levels go by. */
double sid2_config_image_side(const sid2_config *config);
sid2_dtype sid2_config_dtype(int precision); /* auto, before a device is known: bf16 */
enum { SID2_ARENA_AUTO = -1 };               /* train.arena */
/* A run that goes on keeps what it settled when it began, where the configuration leaves that open. */
void sid2_config_settle_like(sid2_config *config, const sid2_config *before);

/* The presets, made from model/presets/ by the build; the last has no name. */
extern const sid2_text_row sid2_presets[];

#endif
