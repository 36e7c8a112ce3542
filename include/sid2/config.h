/* The configuration: every choice is a key, `section.name = value`. docs/options.md lists all, with what they
 * take and their defaults. */
#ifndef SID2_CONFIG_H
#define SID2_CONFIG_H

#include <sid2/device.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sid2_config sid2_config;

SID2_API sid2_config *sid2_config_create(void); /* all defaults */
SID2_API sid2_config *sid2_config_clone(const sid2_config *config);
SID2_API void sid2_config_destroy(sid2_config *config);
/* A built-in preset by name, or a file by path. Unknown names list what there is. */
SID2_API bool sid2_config_preset(sid2_config *config, const char *name_or_path, sid2_error *err);
SID2_API bool sid2_config_load(sid2_config *config, const char *path, sid2_error *err);
SID2_API bool sid2_config_set(sid2_config *config, const char *assignment, sid2_error *err); /* "key=value" */
/* Whether sid2_config_set has given the key; what files and presets say does not count. */
SID2_API bool sid2_config_is_set(const sid2_config *config, const char *key);
/* Whether what other keys say lets this one matter: sample.gamma and sample.rho do for some samplers and grids. */
SID2_API bool sid2_config_uses(const sid2_config *config, const char *key);
SID2_API bool sid2_config_get(const sid2_config *config, const char *key, char *value, size_t size,
                              sid2_error *err);
SID2_API bool sid2_config_save(const sid2_config *config, const char *path, sid2_error *err);
/* Checks the keys against each other (divisibility, list lengths); every entry point below does so too. */
SID2_API bool sid2_config_check(const sid2_config *config, sid2_error *err);
/* Settles what depends on the device. A precision that is auto becomes the one the device is fastest in (for
 * training, of bf16 and f32), and so does one to sample in that the device does not have; train.arena, what was measured there. */
SID2_API void sid2_config_settle_train(sid2_config *config, const sid2_device *device);
SID2_API void sid2_config_settle_sample(sid2_config *config, const sid2_device *device);
/* All keys in order, for --help and documents; NULL past the last. */
typedef struct sid2_config_key {
    const char *name, *default_value, *help, *accepts;
} sid2_config_key;
SID2_API const sid2_config_key *sid2_config_key_at(int index);
/* The words of keys whose words need an explanation, key by key; NULL past the last. */
typedef struct sid2_config_word {
    const char *key, *word, *help;
} sid2_config_word;
SID2_API const sid2_config_word *sid2_config_word_at(int index);
SID2_API const char *sid2_preset_name(int index); /* NULL past the last */

SID2_API int sid2_config_image_height(const sid2_config *config);
SID2_API int sid2_config_image_width(const sid2_config *config);
SID2_API int sid2_config_image_size(const sid2_config *config); /* the longer of the two */
SID2_API int sid2_config_image_channels(const sid2_config *config);
/* Frames of a clip, 1 of images; how many of them a clip begins with. */
SID2_API int sid2_config_frames(const sid2_config *config);
SID2_API int sid2_config_given(const sid2_config *config);
SID2_API int sid2_config_classes(const sid2_config *config);

#ifdef __cplusplus
}
#endif

#endif
