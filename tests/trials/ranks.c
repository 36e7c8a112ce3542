/* Several ranks train, and one of them is killed: at an exchange, before a write or a rename of any of them, at any time. Another
 * number of ranks goes on. */
#include "trials.h"

#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef enum moment_kind { AT_EXCHANGE, AT_WRITE, AT_RENAME, AT_TIME, MOMENTS } moment_kind;
static const char *const moment_names[MOMENTS] = {"exchange", "write", "rename", "millisecond"};

/* Before the n-th call of this kind on the run's files, whichever rank makes it; number -1 counts them. */
typedef struct watched {
    call_kind kind;
    int number, seen;
} watched;

static void before(void *user, call *c)
{
    watched *w = user;
    if (c->kind == w->kind && w->seen++ == w->number) c->signal = SIGKILL;
}

static void run_watched(trials *t, const command *c, watched *w, outcome *o)
{
    run_traced(t, c, &(tracer){.root = trial_folder(t), .before = before, .user = w}, DEADLINE, o);
}

/* With a module that does something at the n-th exchange of a rank. */
static void run_faulty(trials *t, const command *c, const char *fault, outcome *o)
{
    setenv("SID2_FAULT_MPI", t->mpi, 1);
    setenv("SID2_MPI", t->fault_mpi, 1);
    setenv("SID2_FAULT", fault, 1);
    run_command(t, c, NULL, DEADLINE, o);
    unsetenv("SID2_MPI");
}

static bool leads_to(int process, const char *link, const char *to)
{
    char path[64], target[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%d/%s", process, link);
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = 0;
    return strcmp(target, to) == 0;
}

/* Some rank that is at work here; 0: none. */
static pid_t find_rank(trials *t, const char *program)
{
    pid_t found[64];
    uint64_t count = 0;
    DIR *all = opendir("/proc");
    for (struct dirent *entry; all && (entry = readdir(all));) {
        int process = atoi(entry->d_name);
        if (process > 0 && count < 64 && leads_to(process, "exe", program) &&
            leads_to(process, "cwd", t->work))
            found[count++] = process;
    }
    if (all) closedir(all);
    return count ? found[draw(t, count)] : 0;
}

static void run_and_kill(trials *t, const command *c, int milliseconds, outcome *o)
{
    char program[PATH_MAX];
    if (!realpath(t->sid2, program)) give_up("%s is not there", t->sid2);
    pid_t launcher = start_command(t, c, NULL, 0, false);
    nanosleep(&(struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000L}, NULL);
    pid_t rank = find_rank(t, program);
    if (rank) kill(rank, SIGKILL);
    finish_command(t, launcher, 0, DEADLINE, o);
}

/* Of each kind, in an undisturbed training by so many ranks. */
static int moments[8][MOMENTS];

static void count_moments(trials *t, int ranks)
{
    static outcome o;
    int *m = moments[ranks];
    if (m[AT_TIME]) return;
    t->ranks = ranks;
    begin_trial(t, FROM_ZIP, true);
    command c = train_command(t, run_folder(t), FROM_ZIP, LAST, 1);
    double began = now();
    run_faulty(t, &c, "0 0 counted", &o);
    m[AT_TIME] = (int)(1000 * (now() - began));
    const char *said = strstr(o.err, "exchanges: ");
    if (o.code || !said) give_up("%d undisturbed ranks: exit code %d: %s", ranks, o.code, o.err);
    m[AT_EXCHANGE] = atoi(said + strlen("exchanges: "));
    for (moment_kind k = AT_WRITE; k <= AT_RENAME; k++) {
        watched w = {k == AT_WRITE ? CALL_WRITE : CALL_RENAME, -1, 0};
        begin_trial(t, FROM_ZIP, true);
        c = train_command(t, run_folder(t), FROM_ZIP, LAST, 1);
        run_watched(t, &c, &w, &o);
        m[k] = w.seen;
    }
    t->ranks = 1;
}

static void try_moment(trials *t, int ranks, moment_kind kind, int number)
{
    static const int others[] = {1, 2, 4};
    static outcome o;
    int next = others[draw(t, 3)], killed = (int)draw(t, (uint64_t)ranks);
    if (next == ranks) next = ranks == 2 ? 4 : 2;
    begin_trial(t, FROM_ZIP, true);
    t->ranks = ranks;
    command c = train_command(t, run_folder(t), FROM_ZIP, LAST, 1 + number % 2);
    watched w = {kind == AT_WRITE ? CALL_WRITE : CALL_RENAME, number, 0};
    if (kind == AT_EXCHANGE)
        run_faulty(t, &c, text("%d %d killed", killed, number + 1), &o);
    else if (kind == AT_TIME)
        run_and_kill(t, &c, number, &o);
    else
        run_watched(t, &c, &w, &o);
    int line = last_line_step(run_folder(t)), least = line - 1 > FIRST ? line - 1 : FIRST;
    const char *problem = o.code == TIMED_OUT ? "hangs" : judge_left(t, FROM_ZIP, least);
    t->ranks = next;
    if (!problem) problem = judge_retry(t, FROM_ZIP, least);
    t->ranks = 1;
    count_case(t, problem, "%d ranks, one killed at %s %d (rank %d, where it is an exchange), resumed by %d",
               ranks, moment_names[kind], number + 1, killed, next);
}

/* The long form: every exchange, write and rename of two ranks, then 200 moments of two or four. */
void try_ranks(trials *t)
{
    if (!*t->mpiexec) {
        snprintf(t->note, sizeof t->note, "left out: no MPI here, or a sanitizer");
        return;
    }
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    for (int kind = AT_EXCHANGE; t->all && kind <= AT_RENAME; kind++) {
        count_moments(t, 2);
        for (int n = t->share - 1; n < moments[2][kind]; n += t->shares)
            try_moment(t, 2, (moment_kind)kind, n);
    }
    for (int i = t->share - 1; i < (t->all ? 200 : MOMENTS); i += t->shares) {
        int ranks = t->all && draw(t, 2) ? 4 : 2, kind = i % MOMENTS;
        count_moments(t, ranks);
        try_moment(t, ranks, (moment_kind)kind, (int)draw(t, (uint64_t)moments[ranks][kind]));
    }
    snprintf(t->note, sizeof t->note, "of 2 ranks %d exchanges, %d writes, %d renames",
             moments[2][AT_EXCHANGE], moments[2][AT_WRITE], moments[2][AT_RENAME]);
}
