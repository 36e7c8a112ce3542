/* Killed at any moment, and told to stop by every signal that systems send. */
#include "trials.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A signal before the n-th call on the run's files; or after some time, for those moments between. */
typedef struct moment {
    int number, seen, signal;
} moment;

static void before(void *user, call *c)
{
    moment *m = user;
    if (m->seen++ == m->number) c->signal = m->signal;
}

static double duration; /* of a training from FIRST to LAST */
static int calls;       /* in it */

static void measure(trials *t)
{
    static outcome o;
    if (calls) return;
    begin_trial(t, FROM_ZIP, true);
    command c = train_command(t, run_folder(t), FROM_ZIP, LAST, 1);
    double began = now();
    run_command(t, &c, NULL, DEADLINE, &o);
    duration = now() - began;
    begin_trial(t, FROM_ZIP, true);
    c = train_command(t, run_folder(t), FROM_ZIP, LAST, 1);
    moment count = {.number = -1};
    run_traced(t, &c, &(tracer){.root = trial_folder(t), .before = before, .user = &count}, DEADLINE, &o);
    calls = count.seen;
}

/* Returns what to say of it. */
static const char *disturb(trials *t, int signal, bool by_call, int keep, outcome *o)
{
    begin_trial(t, FROM_ZIP, true);
    command c = train_command(t, run_folder(t), FROM_ZIP, LAST, keep);
    if (by_call) {
        moment m = {.number = (int)draw(t, (uint64_t)calls), .signal = signal};
        run_traced(t, &c, &(tracer){.root = trial_folder(t), .before = before, .user = &m}, DEADLINE, o);
        return text("SIG%s before call %d on files, keep=%d", sigabbrev_np(signal), m.number + 1, keep);
    }
    double wait = duration * (double)draw(t, 1000) / 1000;
    pid_t process = start_command(t, &c, NULL, 0, false);
    nanosleep(&(struct timespec){(time_t)wait, (long)(1e9 * (wait - (double)(time_t)wait))}, NULL);
    kill(process, signal);
    finish_command(t, process, 0, DEADLINE, o);
    return text("SIG%s after %.0f ms, keep=%d", sigabbrev_np(signal), 1000 * wait, keep);
}

/* The newest checkpoint that must be there: a line is written before its checkpoint. */
static int least_after(const trials *t)
{
    int line = last_line_step(run_folder(t));
    return line - 1 > FIRST ? line - 1 : FIRST;
}

void try_kills(trials *t)
{
    static outcome o;
    measure(t);
    for (int i = 0; i < 16; i++) {
        const char *what = disturb(t, SIGKILL, i % 4 != 3, 1 + i % 2, &o);
        int least = least_after(t);
        const char *problem = o.code == 0 || o.code == 128 + SIGKILL ? NULL : text("exit code %d", o.code);
        if (!problem) problem = judge_left(t, FROM_ZIP, least);
        if (!problem) problem = judge_retry(t, FROM_ZIP, least);
        count_case(t, problem, "train, %s", what);
    }
}

void try_signals(trials *t)
{
    static const int asking[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU, SIGQUIT};
    static outcome o;
    enum { SAVED = 75, ASKING = sizeof asking / sizeof *asking };
    measure(t);
    for (int i = 0; i < 2 * ASKING; i++) {
        const char *what = disturb(t, asking[i % ASKING], true, 2, &o);
        const char *problem = NULL;
        bool complete = strstr(o.out, "done at step") != NULL;
        if (o.code != SAVED && !(o.code == 0 && complete))
            problem = text("exit code %d: %s", o.code, last_complaint(&o));
        if (!problem) problem = judge_left(t, FROM_ZIP, FIRST);
        if (!problem) problem = judge_retry(t, FROM_ZIP, FIRST);
        count_case(t, problem, "train, %s", what);
    }
}
