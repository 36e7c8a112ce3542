/* sid2 distill: a teacher in, a student out that needs few steps. */
#include "train.h"

#include <string.h>

/* What the recipe wants to be other than it was with the teacher. */
static const char *const recipe[] = {
    "train.beta1=0",
    "train.beta2=0.99",
    "train.eps=1e-12",
    "train.clip=1",
    "train.decay=linear",
    "train.decay_start=0",
    "train.label_drop=0",
    "train.learning_rate=1e-4",
    "train.steps=20000",
    /* Nobody's but the command line's. */
    "distill.guidance=1",
    "distill.interval=always",
    "distill.weighting=flat",
    /* How well it denoises says nothing of its pictures. */
    "train.eval_every=0",
    /* Of this machine and batch, not the teacher's. */
    "train.precision=auto",
    "train.lanes=auto",
    "train.microbatch=auto",
    "train.arena=auto",
    /* As the student learns to be sampled. */
    "sample.sampler=ddim",
    "sample.grid=uniform",
    "sample.gamma=0",
    "sample.guidance=1",
    "sample.guidance_rule=linear",
    "sample.interval=always",
};

enum { USUAL_STEPS = 8, USUAL_WARMUP = 1000 };

static bool apply_recipe(sid2_config *config, sid2_error *err)
{
    for (size_t i = 0; i < sizeof recipe / sizeof recipe[0]; i++)
        if (!sid2_config_set(config, recipe[i], err)) return false;
    return config_set_int(config, "distill.k", USUAL_STEPS, err);
}

/* What follows from the rest. */
static bool conclude(sid2_config *config, sid2_error *err)
{
    int64_t k = config_int(config, "distill.k"), steps = config_int(config, "train.steps"),
            warmup = steps / 10 < USUAL_WARMUP ? steps / 10 : USUAL_WARMUP;
    static const char *const few[] = {"distill.first", "sample.steps", "train.sample_steps"};
    if (!k) return sid2_fail(err, SID2_ERR_USAGE, "--steps should be 1 to 1000");
    for (int i = 0; i < 3; i++)
        if (!sid2_config_is_set(config, few[i]) && !config_set_int(config, few[i], k, err)) return false;
    return sid2_config_is_set(config, "train.warmup") || config_set_int(config, "train.warmup", warmup, err);
}

static sid2_config *choose_student(const training *t, sid2_error *err)
{
    char teacher[4096];
    bool resumes = training_resumes(t);
    sid2_config *config = sid2_config_create();
    bool ok = config || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (ok && resumes)
        ok = sid2_checkpoint_config(t->options.path, config, err);
    else if (ok)
        ok = sid2_checkpoint_find(t->options.from, teacher, sizeof teacher, err) &&
             sid2_checkpoint_config(teacher, config, err) && apply_recipe(config, err);
    if (ok && options_apply(config, &t->set, err) && (resumes || conclude(config, err))) return config;
    sid2_config_destroy(config);
    return NULL;
}

int command_distill(int argc, char **argv)
{
    char formats[256];
    training t = {.command = "distill", .choose = choose_student, .options = sid2_with(sid2_run_options)};
    const option_row rows[] = {
        {OPTION_POSITIONAL, "TEACHER", NULL, &t.options.from, "a checkpoint's folder, or a run: its newest",
         NULL},
        {OPTION_KEY, "steps", "N", &t.set, "steps that the student samples in (8)", "distill.k"},
        {OPTION_KEY, "guidance", "W", &t.set,
         "guidance weight of the teacher, learnt with the rest (1: none)", "distill.guidance"},
        {OPTION_KEY, "interval", "LOW,HIGH", &t.set, "logSNR between which the teacher is guided (always)",
         "distill.interval"},
        {OPTION_TEXT, "data", "PATH", &t.options.data, sid2_dataset_formats(formats), NULL},
        OPTIONS_TRAINING(t),
    };
    const option_table table = {
        "distill", "Train a student that needs few steps; the same command again resumes",
        "The student begins as its teacher, and a run of it is one as any other. It is sampled without "
        "flags. "
        "Keys of [distill] and [train] say how it learns; docs/distill.md why so. " TRAINING_CODES,
        rows, sizeof rows / sizeof rows[0]};
    int code = options_parse(&table, argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_place place;
    code = launch_ranks(&t.started, t.on.id, argc, argv, &place);
    if (code != LAUNCH_NOT) return code;
    return training_run(&t, &place);
}
