/* What the subcommands share. */
#ifndef SID2_CLI_H
#define SID2_CLI_H

#include "options.h"
#include "print.h"
#include "progress.h"
#include "text.h"

#include <jansson.h>

/* Exit codes, beside 0: done as asked. */
enum {
    EXIT_FAILED = 1,
    EXIT_REQUEST = 2, /* the request was wrong, and nothing was touched */
    EXIT_AGAIN = 75 /* stopped on a signal and saved: the same command goes on (EX_TEMPFAIL of sysexits.h) */
};

/* argv[0] is the subcommand. Each returns the exit code. */
int command_train(int argc, char **argv);
int command_distill(int argc, char **argv);
int command_sample(int argc, char **argv);
int command_view(int argc, char **argv);
int command_info(int argc, char **argv);
int command_plan(int argc, char **argv);
int command_devices(int argc, char **argv);
int command_check(int argc, char **argv);
int command_tune(int argc, char **argv);
int command_data(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_eval(int argc, char **argv);
int command_ablate(int argc, char **argv);
int command_export(int argc, char **argv);
int command_report(int argc, char **argv);
int command_status(int argc, char **argv);
int command_pause(int argc, char **argv);

/* All of them; the last has no name. */
typedef struct command_row {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} command_row;
extern const command_row commands[];

/* `sid2 help --KIND [of]`: documents from the tables that the program itself parses with. -1: no such kind. */
int print_manual(const char *kind, const char *of);

/* Where and how to compute, as the command line says. */
typedef struct device_choice {
    const char *id; /* NULL: auto */
    int64_t threads;
    bool deterministic, tf32;
    const char *fp8; /* large, all; NULL: none */
} device_choice;

sid2_device *open_device(const device_choice *choice, sid2_error *err);

/* The options that every command on a device has. */
#define OPTION_DEVICE(target)                                                                                \
    {                                                                                                        \
        OPTION_TEXT, "device", "NAME", target, "where to compute; see sid2 devices (auto: the fastest)",     \
            NULL                                                                                             \
    }
#define OPTION_DETERMINISTIC(target)                                                                         \
    {                                                                                                        \
        OPTION_FLAG, "deterministic", NULL, target,                                                          \
            "the same bits in every run on the same GPU, also where that is slower", NULL                    \
    }
#define OPTION_TF32(target)                                                                                  \
    {                                                                                                        \
        OPTION_FLAG, "tf32", NULL, target, "f32 products may round their inputs to TF32 (NVIDIA GPUs)", NULL \
    }
/* Of commands that train. */
#define OPTION_FP8(target)                                                                                   \
    {                                                                                                        \
        OPTION_TEXT, "fp8", "WHICH", target,                                                                 \
            "16-bit matrix products in FP8: large (those that gain, by count) or all (NVIDIA GPUs from Ada " \
            "and Hopper on)",                                                                                \
            NULL                                                                                             \
    }
#define OPTION_THREADS(target)                                                                               \
    {                                                                                                        \
        OPTION_INT, "threads", "N", target, "CPU threads (all the process may use)", NULL                    \
    }
#define OPTION_MEMORY(target)                                                                                \
    {                                                                                                        \
        OPTION_BYTES, "memory", "SIZE", target, "limit on device memory, such as 8GiB (none)", NULL          \
    }
#define OPTION_SET_KEY(target)                                                                               \
    {                                                                                                        \
        OPTION_SET, "set", "KEY=VALUE", target, "override a configuration key; may be repeated", NULL        \
    }

/* All of a device_choice. */
#define OPTIONS_DEVICE_CHOICE(on)                                                                            \
    OPTION_DEVICE(&(on).id), OPTION_THREADS(&(on).threads), OPTION_DETERMINISTIC(&(on).deterministic),       \
        OPTION_TF32(&(on).tf32)

/* A configuration's values by type; the key must exist. */
int64_t config_int(const sid2_config *config, const char *key);
double config_real(const sid2_config *config, const char *key);
bool config_yes(const sid2_config *config, const char *key);
const char *config_text(const sid2_config *config, const char *key, char text[256]);
/* Sets one, as KEY=VALUE on the command line does. */
bool config_set(sid2_config *config, const char *key, const char *value, sid2_error *err);
bool config_set_int(sid2_config *config, const char *key, int64_t value, sid2_error *err);
/* How a batch is computed, and why; a part of it is called a `lane` (training) or a `part`: "64 images in 8 lanes on 2
 * cores, 8 at a time". Returns `text`. */
const char *lanes_text(const char *lane, const sid2_memory_report *memory, int64_t batch, char text[320]);
/* The help of an option for a key with words: "a, b or c (key)". */
const char *words_of(const char *key, char text[256]);

/* Whether `path` names a preset; else it should be a file or folder. */
bool is_preset(const char *name);
/* A word of data.upright. */
bool upright_of(const char *word, sid2_upright *upright);
/* For sid2_dataset_options.on_skip: names a picture that is left out. `user`: the progress bar in its way. */
void print_skipped(void *user, const char *name, const char *reason);
/* A result on standard output. NULL, a want of memory, is an error too. */
bool json_print(const json_t *result, sid2_error *err);
/* What the device could not do as well as it should, once it has worked. */
void print_notice(sid2_device *device);

#endif
