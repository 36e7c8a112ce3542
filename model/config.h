/* The configuration as the model reads it: the rows of config.def as a struct. */
#ifndef SID2_CONFIG_H
#define SID2_CONFIG_H

#include "sid2.h"

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

enum {
#define SECTION(section, help)
#define KEY(section, name, type, accepts, value, help) SID2_KEY_##section##_##name,
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

enum { SID2_BLOCK_RES, SID2_BLOCK_TRANSFORMER };
enum { SID2_QK_LAYER, SID2_QK_RMS, SID2_QK_NONE };
enum { SID2_SKIP_LEVEL, SID2_SKIP_BLOCK, SID2_SKIP_NONE };
enum { SID2_ACTIVATION_SILU, SID2_ACTIVATION_GELU };
enum { SID2_SCHEDULE_INTERPOLATED, SID2_SCHEDULE_SHIFTED, SID2_SCHEDULE_COSINE };
enum {
    SID2_WEIGHTING_SIGMOID,
    SID2_WEIGHTING_ELBO,
    SID2_WEIGHTING_EDM,
    SID2_WEIGHTING_EDM_MONOTONIC,
    SID2_WEIGHTING_V_COSINE,
    SID2_WEIGHTING_SNR_TRUNCATED,
    SID2_WEIGHTING_MIN_SNR,
};
enum { SID2_PRECISION_AUTO, SID2_PRECISION_BF16, SID2_PRECISION_F32, SID2_PRECISION_F16 };
enum { SID2_SAMPLER_DDPM, SID2_SAMPLER_DDIM, SID2_SAMPLER_DPM2M };

/* Of a checkpoint: no key of model and schedule may be missing. */
bool sid2_config_load_whole(sid2_config *config, const char *path, sid2_error *err);
int sid2_config_levels(const sid2_config *config);
/* Per-level lists, with one entry standing for all. */
int64_t sid2_config_depth(const sid2_config *config, int level);
double sid2_config_dropout(const sid2_config *config, int level);
sid2_dtype sid2_config_dtype(int precision); /* auto, before a device is known: bf16 */

/* The presets, made from model/presets/ by the build; the last has no name. */
typedef struct sid2_preset {
    const char *name, *text;
} sid2_preset;
extern const sid2_preset sid2_presets[];

#endif
