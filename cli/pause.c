/* sid2 pause: a training that runs elsewhere waits, or goes on. */
#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Until it has done the step at hand and saved; sampling may come first. */
static bool wait_for(const char *run, progress *bar, sid2_error *err)
{
    const struct timespec moment = {.tv_nsec = 100000000};
    for (;;) {
        sid2_run_status *s = sid2_run_look(run, err);
        if (!s) return false;
        bool waits = strcmp(s->state, "paused") == 0, ended = s->alive == SID2_DEAD;
        uint64_t step = s->step;
        sid2_run_status_destroy(s);
        if (waits) return progress_clear(bar), printf("%s: paused at step %" PRIu64 "\n", run, step), true;
        if (ended) return progress_clear(bar), printf("%s: its training has ended\n", run), true;
        if (interrupted())
            return sid2_fail(err, SID2_ERR_CANCELLED, "%s will pause once its step is done; not waited for",
                             run);
        progress_wait(bar, "waiting for the step at hand");
        nanosleep(&moment, NULL);
    }
}

int command_pause(int argc, char **argv)
{
    word_list runs = {.count = 0};
    bool go_on = false;
    const option_row rows[] = {
        {OPTION_WORDS, "RUN", NULL, &runs, "folders of runs that are being trained", NULL},
        {OPTION_FLAG, "continue", NULL, &go_on, "end the pause", NULL},
    };
    const option_table table = {
        "pause", "Have trainings save, let go of their device's memory and wait, until they are to go on",
        "Returns once they wait. A paused training goes on to the same bits as if it had never waited; "
        "signals and "
        "--minutes end it as ever.",
        rows, sizeof rows / sizeof *rows};
    int code = options_parse(&table, argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_error err = {0};
    progress bar;
    progress_begin(&bar);
    interrupt_install();
    bool ok = true;
    for (int i = 0; ok && i < runs.count; i++) {
        ok = sid2_run_pause(runs.item[i], !go_on, &err);
        if (ok && go_on) printf("%s: goes on\n", runs.item[i]);
    }
    for (int i = 0; ok && !go_on && i < runs.count; i++) ok = wait_for(runs.item[i], &bar, &err);
    progress_clear(&bar);
    return ok ? 0 : report_error("pause", &err);
}
