/* sid2 status: how runs stand, also those that are being trained. */
#include "cli.h"

#include "files.h"
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Wide enough for the longest run. */
static int name_width(const word_list *runs)
{
    int width = 3;
    for (int i = 0; i < runs->count; i++)
        if ((int)strlen(runs->item[i]) > width) width = (int)strlen(runs->item[i]);
    return width;
}

/* ---- Ranks ---- */

enum { MOST_SHOWN = 16, LONG = 10 /* seconds, in which a step is noticed */ };

static bool is_unlike(const sid2_rank_status *r) { return r->silent || r->seconds >= LONG; }

static void print_rank(const sid2_rank_status *r, int width)
{
    char waits[16] = "-", memory[32] = "-", lasts[32], silent[32];
    if (isfinite(r->waits)) snprintf(waits, sizeof waits, "%.0f %%", 100 * r->waits);
    if (r->memory) sid2_text_bytes((double)r->memory, memory);
    printf("    %5d  %-*s  %5s  %9s  %s", r->rank, width, r->host[0] ? r->host : "?", waits, memory,
           r->doing[0] ? r->doing : "?");
    if (r->seconds >= LONG) printf(" for %s", sid2_text_time(r->seconds, lasts));
    if (r->seconds >= LONG && r->waits_for[0]) printf(", waits for %s", r->waits_for);
    if (r->silent && isfinite(r->age)) printf("; silent for %s", sid2_text_time(r->age, silent));
    if (r->silent && !isfinite(r->age)) printf("; nothing was heard of it");
    puts("");
}

/* All of a few; of many those that something is the matter with. */
static void print_ranks(const sid2_run_status *s)
{
    int width = 4, shown = 0, left = 0;
    bool few = s->ranks <= MOST_SHOWN;
    for (int i = 0; i < s->ranks; i++)
        if ((int)strlen(s->rank[i].host) > width) width = (int)strlen(s->rank[i].host);
    if (s->ranks) printf("    %5s  %-*s  %5s  %9s  %s\n", "rank", width, "host", "waits", "memory", "does");
    for (int i = 0; i < s->ranks; i++) {
        bool wanted = (few || is_unlike(&s->rank[i])) && shown < MOST_SHOWN;
        if (wanted) print_rank(&s->rank[i], width);
        shown += wanted;
        left += !wanted;
    }
    if (left) printf("    %5s  and %d more; --json has all\n", "", left);
}

static json_t *describe_ranks(const sid2_run_status *s)
{
    json_t *all = json_array();
    for (int i = 0; i < s->ranks; i++) {
        const sid2_rank_status *r = &s->rank[i];
        json_t *one =
            json_pack("{s:i, s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:o, s:b}", "rank", r->rank, "host", r->host,
                      "device", r->device, "doing", r->doing, "waits_for", r->waits_for, "seconds",
                      sid2_json_real(r->seconds), "waits", sid2_json_real(r->waits), "memory",
                      (json_int_t)r->memory, "seconds_since", sid2_json_real(r->age), "silent", r->silent);
        if (json_array_append_new(all, one)) return json_decref(all), NULL;
    }
    return all;
}

static void print_row(const char *run, int width, const sid2_run_status *s)
{
    char step[48], left[32] = "-", rate[32] = "-", loss[32] = "-", age[32];
    snprintf(step, sizeof step, "%" PRIu64 "/%" PRIu64, s->step, s->steps);
    if (isfinite(s->seconds_left)) sid2_text_time(s->seconds_left, left);
    if (isfinite(s->images_per_s)) sid2_text_rate(s->images_per_s, rate);
    if (isfinite(s->loss)) snprintf(loss, sizeof loss, "%.4f", s->loss);
    printf("%-*s  %-9s %15s  %7s %9s %9s  ", width, run, s->state, step, loss, rate, left);
    if (s->checkpoint[0])
        printf("%s, %s ago\n", sid2_base_name(s->checkpoint), sid2_text_time(s->checkpoint_age, age));
    else
        puts("none");
    if (s->message[0]) printf("    %s\n", s->message);
    if (s->alive == SID2_LIFE_UNKNOWN)
        printf(
            "    no locks on this file system: whether a training is at work there is not known; it last "
            "said so "
            "%s ago\n",
            sid2_text_time(s->age, age));
    print_ranks(s);
}

static json_t *describe(const char *run, const sid2_run_status *s)
{
    json_t *alive = s->alive == SID2_LIFE_UNKNOWN ? json_null() : json_boolean(s->alive == SID2_ALIVE);
    return json_pack("{s:s, s:s, s:o, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o}",
                     "run", run, "state", s->state, "alive", alive, "message", s->message, "step",
                     (json_int_t)s->step, "steps", (json_int_t)s->steps, "loss", sid2_json_real(s->loss),
                     "images_per_s", sid2_json_real(s->images_per_s), "seconds", sid2_json_real(s->seconds),
                     "seconds_left", sid2_json_real(s->seconds_left), "heldout", sid2_json_real(s->heldout),
                     "best", sid2_json_real(s->best), "best_step", (json_int_t)s->best_step, "seconds_since",
                     sid2_json_real(s->age), "checkpoint",
                     s->checkpoint[0] ? json_string(s->checkpoint) : json_null(), "checkpoint_age",
                     sid2_json_real(s->checkpoint_age), "ranks", describe_ranks(s));
}

/* Each run that can be looked at is shown, whatever is wrong with others. */
int command_status(int argc, char **argv)
{
    word_list runs = {.count = 0};
    bool as_json = false;
    const option_row rows[] = {
        {OPTION_WORDS, "RUN", NULL, &runs, "folders that sid2 train writes or wrote", NULL},
        {OPTION_FLAG, "json", NULL, &as_json, "print JSON: a list with one entry a run", NULL},
    };
    const option_table table = {
        "status", "Step, loss, speed, time left and last checkpoint of runs, also while they are trained",
        "States: preparing, training, sampling, measuring, paused; complete, stopped, failed; killed: ended "
        "without a word. Where several processes train, a line each: its share of the last minute that it "
        "waited for the others, its "
        "memory, and where it is stuck or silent.",
        rows, sizeof rows / sizeof *rows};
    int code = options_parse(&table, argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_error err = {0};
    json_t *all = json_array();
    int width = name_width(&runs);
    code = 0;
    if (!as_json)
        printf("%-*s  %-9s %15s  %7s %9s %9s  %s\n", width, "run", "state", "step", "loss", "images/s",
               "left", "last checkpoint");
    for (int i = 0; i < runs.count; i++) {
        sid2_run_status *s = sid2_run_look(runs.item[i], &err);
        if (!s)
            code = report_error("status", &err);
        else if (!as_json)
            print_row(runs.item[i], width, s);
        else if (!all || json_array_append_new(all, describe(runs.item[i], s)))
            code = report_error("status", (sid2_fail(&err, SID2_ERR_MEMORY, "out of memory"), &err));
        sid2_run_status_destroy(s);
    }
    if (as_json && !json_print(all, &err)) code = report_error("status", &err);
    json_decref(all);
    return code;
}
