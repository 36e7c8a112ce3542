/* sid2 train: images in, a run out. */
#include "train.h"

#include "propose.h"
#include "ranks.h"
#include "scaling.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define PRESET_MISSING "--preset is missing: a preset's name (sid2 --help lists them) or a file"

/* A configuration to train: a preset or that of the run which goes on, then --set. */
static sid2_config *choose_config(const training *t, sid2_error *err)
{
    const char *preset = t->preset, *out = t->options.path;
    char checkpoint[4096];
    sid2_config *config = sid2_config_create();
    if (!config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    bool ok = sid2_run_examine(out, checkpoint, err);
    if (ok && preset)
        ok = sid2_config_preset(config, preset, err);
    else if (ok && checkpoint[0])
        ok = sid2_checkpoint_config(out, config, err);
    else if (ok)
        ok = sid2_fail(err, SID2_ERR_USAGE, PRESET_MISSING ", or with --data alone a proposal");
    if (ok && options_apply(config, &t->set, err)) return config;
    sid2_config_destroy(config);
    return NULL;
}

/* ---- What it shows ---- */

/* Who is told, and what shows it. */
typedef struct listener {
    const char *command;
    progress bar;
    ranks ranks;
    const sid2_config *config;
} listener;

static void print_ranks(const sid2_run_plan *plan)
{
    char bytes[32];
    const sid2_memory_report *m = plan->memory;
    print_field(stderr, "ranks",
                "%d, through %s: %d lane%s each, Adam and EMA in %d parts; %s a step on the wire from each",
                plan->ranks, plan->transport, m->own, m->own == 1 ? "" : "s", plan->ranks,
                sid2_text_bytes(plan->sent, bytes));
    if (plan->fast)
        print_field(stderr, "", "summed as %s does (--fast-reduce): the bits depend on the number of ranks",
                    plan->transport);
}

/* By the scaling model, where it knows the GPU. */
static void print_expected(const listener *l, const sid2_run_plan *plan)
{
    char rate[32], wire[256];
    sid2_cluster cluster;
    sid2_rank_work work;
    if (!sid2_cluster_of_device(&cluster, plan->device)) return;
    if (l->ranks.place.local_ranks) cluster.node = l->ranks.place.local_ranks;
    if (!sid2_rank_work_of(l->config, &cluster, plan->ranks, &work, NULL)) return;
    bool low = strcmp(config_text(l->config, "train.wire", wire), "bf16") == 0;
    sid2_sum sum = plan->fast ? SID2_SUM_LIBRARY : low ? SID2_SUM_BF16 : SID2_SUM_F32;
    sid2_step_time step = sid2_scaling_step(&work, &cluster, sum, true);
    double seconds = sid2_step_seconds(&step);
    print_field(stderr, "expected", "%s images/s, %.1f %% of %d times one; sid2 plan says why",
                sid2_text_rate((double)plan->batch / seconds, rate),
                100 * sid2_scaling_alone(&work, &cluster) / plan->ranks / seconds, plan->ranks);
}

static void print_student(const listener *l)
{
    char interval[256], guided[320] = "";
    int64_t k = config_int(l->config, "distill.k");
    double guidance = config_real(l->config, "distill.guidance");
    if (guidance != 1)
        snprintf(guided, sizeof guided, ", the teacher guided by %g at logSNR %s", guidance,
                 config_text(l->config, "distill.interval", interval));
    if (k) print_field(stderr, "student", "of %d step%s%s", (int)k, k == 1 ? "" : "s", guided);
}

static void print_plan(const listener *l, const sid2_run_plan *plan)
{
    char a[32], b[32], c[32], d[32], lanes[320];
    const sid2_memory_report *m = plan->memory;
    const char *teacher = config_int(l->config, "distill.k") ? "teacher" : "weights";
    if (plan->checkpoint) print_field(stderr, plan->resumes ? "resuming" : teacher, "%s", plan->checkpoint);
    print_student(l);
    print_field(stderr, "device", "%s", plan->device);
    print_field(stderr, "data", "%" PRId64 " images, %d classes, %s: %s", plan->images, plan->classes,
                plan->data_kind, plan->data);
    print_field(stderr, "pictures", "%s", plan->pictures);
    if (plan->turning) print_field(stderr, "", "%s", plan->turning);
    if (plan->ranks > 1) print_ranks(plan);
    print_field(stderr, "memory", "%s%s: weights, gradients, Adam and EMA %s; activations %s; workspace %s",
                plan->ranks > 1 ? "each rank " : "",
                sid2_text_bytes((double)(m->state + m->arena + m->workspace), a),
                sid2_text_bytes((double)m->state, b), sid2_text_bytes((double)m->arena, c),
                sid2_text_bytes((double)m->workspace, d));
    char recomputed[96] = "";
    if (m->recomputed_segments)
        snprintf(recomputed, sizeof recomputed, "; %d of %d blocks computed twice to save memory",
                 m->recomputed_segments, m->segments);
    if (plan->ranks > 1) print_expected(l, plan);
    print_field(stderr, "step", "%s%s", lanes_text("lane", m, plan->batch, lanes), recomputed);
}

static void print_line(progress *bar, const char *kind, const char *text)
{
    progress_clear(bar);
    fprintf(stderr, "%s%s\n", kind, text);
}

/* Told five times a second, said once. */
static void show_pause(progress *bar, const char *run, uint64_t step)
{
    if (bar->paused == step) return;
    bar->paused = step;
    progress_clear(bar);
    char quoted[SHELL_WORD];
    fprintf(stderr, "paused at step %" PRIu64 ", saved; sid2 pause --continue %s goes on\n", step,
            shell_path(run, quoted));
}

/* Of the ranks that do not speak, what only they know. */
static void whisper(const listener *l, const sid2_run_event *event)
{
    char name[96];
    if (event->kind == SID2_RUN_WARNING) fprintf(stderr, "%s%s\n", ranks_name(&l->ranks, name), event->text);
}

static bool on_event(void *user, const sid2_run_event *event)
{
    listener *l = user;
    progress *bar = &l->bar;
    if (!ranks_speak(&l->ranks)) return whisper(l, event), !interrupted();
    const sid2_run_progress *p = event->progress;
    char left[32], rate[32], waits[32] = "";
    switch (event->kind) {
    case SID2_RUN_PREPARING: progress_wait(bar, "preparing the device"); break;
    case SID2_RUN_PLANNED:
        progress_clear(bar);
        print_plan(l, event->plan);
        break;
    case SID2_RUN_CHANGED: print_line(bar, "changed  ", event->text); break;
    case SID2_RUN_WARNING: print_line(bar, "", event->text); break;
    case SID2_RUN_STEP:
        if (isfinite(p->waits)) snprintf(waits, sizeof waits, ", %.0f %% waiting", 100 * p->waits);
        progress_show(bar, p->fraction, "step %" PRIu64 "/%" PRIu64 ", loss %.4f, %s images/s%s, %s left",
                      p->step, p->steps, p->loss, sid2_text_rate(p->images_per_s, rate), waits,
                      sid2_text_time(p->seconds_left, left));
        break;
    case SID2_RUN_SAMPLING:
        progress_show(bar, p->fraction, "drawing samples: %.0f %%", 100 * p->sampled);
        break;
    case SID2_RUN_MEASURING:
        progress_show(bar, p->fraction, "held-out loss: %.0f %%", 100 * p->measured);
        break;
    case SID2_RUN_MEASURED:
        progress_clear(bar);
        fprintf(stderr, "step %" PRIu64 ": held-out loss %.4f%s\n", p->step, p->heldout,
                p->best_step == p->step ? ", the best so far" : "");
        break;
    case SID2_RUN_PAUSED: show_pause(bar, event->plan->path, p->step); break;
    case SID2_RUN_CONTINUED: print_line(bar, "", "going on"); break;
    case SID2_RUN_SAMPLED:
    case SID2_RUN_SAVED: break;
    }
    return !interrupted();
}

static int tell_end(const sid2_run_progress *p, const char *out)
{
    char spent[32], quoted[SHELL_WORD];
    const char *word = shell_path(out, quoted);
    bool whole = p->step >= p->steps;
    if (p->first_step >= p->steps) {
        printf("%s is complete at step %" PRIu64 "; --set train.steps=%" PRIu64 " goes on\n", out, p->step,
               2 * p->step);
        return 0;
    }
    printf("%s at step %" PRIu64 " of %" PRIu64 ", loss %.4f, %s of training: %s\n",
           whole ? "done" : "stopped", p->step, p->steps, p->loss, sid2_text_time(p->seconds, spent), out);
    if (!whole)
        puts("the same command goes on from here");
    else
        printf("sid2 sample %s --out samples.png    makes images\nsid2 report %s    shows the run\n", word,
               word);
    return whole || !p->stopped ? 0 : EXIT_AGAIN;
}

/* All ranks have the same end. */
static int finish(const listener *l, bool ok, const sid2_run *run, const char *out, const sid2_error *err)
{
    if (!ok) return ranks_report(&l->ranks, l->command, err);
    const sid2_run_progress *p = sid2_run_where(run);
    if (ranks_speak(&l->ranks)) return tell_end(p, out);
    return p->step >= p->steps || !p->stopped ? 0 : EXIT_AGAIN;
}

/* A device that was lost is opened again, once: the run goes on from its last checkpoint. */
static bool train_on(sid2_run *run, const device_choice *on, listener *l, sid2_error *err)
{
    progress *bar = &l->bar;
    if (l->ranks.group) return sid2_run_train(run, l->ranks.device, err);
    sid2_device *device = open_device(on, err);
    bool ok = device && sid2_run_train(run, device, err);
    if (device && !ok && err->code == SID2_ERR_LOST && !interrupted()) {
        char id[64];
        device_choice same = *on;
        snprintf(id, sizeof id, "%s", sid2_device_describe(device)->id);
        same.id = id;
        print_line(bar, "", err->message);
        print_line(bar, "opening it again: ", id);
        sid2_device_close(device);
        device = open_device(&same, err);
        ok = device && sid2_run_train(run, device, err);
    }
    sid2_device_close(device);
    return ok;
}

bool training_resumes(const training *t)
{
    char checkpoint[4096];
    return t->options.path && sid2_run_examine(t->options.path, checkpoint, NULL) && checkpoint[0];
}

int training_run(training *t, const sid2_place *place)
{
    listener l = {.command = t->command, .ranks.place = *place};
    sid2_run_options *options = &t->options;
    sid2_error err = {0};
    sid2_run *run = NULL;
    interrupt_install();
    if (!options->path) return report_usage(t->command, "--out is missing: a folder for the run");
    if (!ranks_join(&l.ranks, &t->on, &err))
        return ranks_leave(&l.ranks, ranks_report(&l.ranks, t->command, &err), &err);
    progress_begin(&l.bar);
    options->callback = on_event;
    options->user = &l;
    options->seconds = 60 * t->minutes;
    options->group = l.ranks.group;
    sid2_config *config = t->choose(t, &err);
    options->config = l.config = config;
    bool ok = sid2_group_concur(l.ranks.group, config, &err) && (run = sid2_run_open(options, &err)) &&
              train_on(run, &t->on, &l, &err);
    progress_clear(&l.bar);
    int code = finish(&l, ok, run, options->path, &err);
    sid2_run_close(run);
    sid2_config_destroy(config);
    return ranks_leave(&l.ranks, code, &err);
}

/* ---- Without a preset ---- */

/* Nothing is trained, so that the exit code is that of a request that lacks something. */
static int propose(const training *t)
{
    sid2_error err = {0};
    const sid2_run_options *options = &t->options;
    const char *preset = propose_preset(options->data, &t->on, options->memory, t->minutes, &err);
    if (!preset) return report_error("train", &err);
    printf("\nsid2 train --preset %s --data %s --out %s\n", preset, options->data,
           options->path ? options->path : "runs/mine");
    sid2_fail(&err, SID2_ERR_USAGE, PRESET_MISSING "; %s is proposed", preset);
    return report_error("train", &err);
}

int command_train(int argc, char **argv)
{
    char formats[256];
    training t = {.command = "train", .choose = choose_config, .options = sid2_with(sid2_run_options)};
    const option_row rows[] = {
        {OPTION_TEXT, "preset", "NAME", &t.preset,
         "a preset's name, or a configuration file; without one, presets are measured and one is proposed",
         NULL},
        {OPTION_TEXT, "data", "PATH", &t.options.data, sid2_dataset_formats(formats), NULL},
        {OPTION_TEXT, "from", "CHECKPOINT", &t.options.from,
         "start from these weights, also to another patch size", NULL},
        OPTIONS_TRAINING(t),
    };
    const option_table table = {"train", "Train a model on images; the same command again resumes",
                                TRAINING_CODES, rows, sizeof rows / sizeof rows[0]};
    int code = options_parse(&table, argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_place place = {0};
    code = launch_ranks(&t.started, t.on.id, argc, argv, &place);
    if (code != LAUNCH_NOT) return code;
    if (!t.preset && t.options.data && !training_resumes(&t)) return interrupt_install(), propose(&t);
    return training_run(&t, &place);
}
