/* The n-th call of a kind fails, once or from then on, or reads and writes less than it was asked to. */
#include "trials.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SHORT = -1 }; /* in place of an error */

static const struct {
    call_kind kind;
    int error[6];
} faults[] = {
    {CALL_OPEN, {EIO, EMFILE, EACCES, ENOMEM, ENOSPC, EINTR}},
    {CALL_READ, {EIO, EINTR, SHORT}},
    {CALL_WRITE, {EIO, ENOSPC, EINTR, SHORT}},
    {CALL_SYNC, {EIO, ENOSPC}},
    {CALL_CLOSE, {EIO, ENOSPC, EINTR}},
    {CALL_RENAME, {EIO, ENOSPC, EACCES}},
    {CALL_UNLINK, {EIO, EACCES}},
    {CALL_MKDIR, {EIO, ENOSPC, EACCES}},
    {CALL_LIST, {EIO, ENOMEM}},
    {CALL_STAT, {EIO, EACCES, ENOMEM}},
    {CALL_TRUNCATE, {EIO, EINTR}},
    {CALL_MAP, {ENOMEM, EACCES}},
    {CALL_LOCK, {EIO, ENOLCK, EINTR}},
};
enum { FAULT_KINDS = sizeof faults / sizeof *faults };

typedef struct fault {
    call_kind kind;
    int number; /* counted from 0; -1: none, count only */
    int error;
    bool lasting;
    int seen[CALL_KINDS];
    char path[4096]; /* of the first that failed */
} fault;

static void before(void *user, call *c)
{
    fault *f = user;
    if (strstr(c->path, "/err-")) return; /* where the line goes that is asked for */
    int number = f->seen[c->kind]++;
    if (c->kind != f->kind || f->number < 0 || number < f->number || (number > f->number && !f->lasting))
        return;
    if (!f->path[0]) snprintf(f->path, sizeof f->path, "%s", c->path[0] ? c->path : "memory");
    if (f->error == SHORT)
        c->at_most = c->argument[2] > 1 ? c->argument[2] / 2 : 1;
    else
        c->error = f->error;
}

static void run_faulty(const trials *t, const command *c, fault *f, outcome *o)
{
    tracer how = {.root = t->work, .before = before, .user = f};
    run_traced(t, c, &how, DEADLINE, o);
}

static const char *fault_text(const fault *f)
{
    return text("%s no. %d%s%s: %s", call_names[f->kind], f->number + 1, f->lasting ? " and later ones" : "",
                f->path[0] ? text(" (%s)", f->path) : "",
                f->error == SHORT ? "half" : strerrorname_np(f->error));
}

static int count_errors(int row)
{
    int errors = 0;
    while (errors < 6 && faults[row].error[errors]) errors++;
    return errors;
}

/* One of those that `counted` has met. */
static bool draw_fault(trials *t, const fault *counted, fault *f)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        int row = (int)draw(t, FAULT_KINDS), count = counted->seen[faults[row].kind];
        int error = faults[row].error[draw(t, (uint64_t)count_errors(row))];
        bool lasting = draw(t, 4) == 0 && error != EINTR;
        if (!count) continue;
        *f = (fault){.kind = faults[row].kind,
                     .number = (int)draw(t, (uint64_t)count),
                     .error = error,
                     .lasting = lasting};
        return true;
    }
    return false;
}

/* The one of number `place` among all that `counted` has met. */
static bool find_fault(const fault *counted, int place, fault *f)
{
    for (int row = 0; row < FAULT_KINDS; row++) {
        int errors = count_errors(row), count = 2 * errors * counted->seen[faults[row].kind];
        if (place < count) {
            *f = (fault){.kind = faults[row].kind,
                         .number = place / 2 / errors,
                         .error = faults[row].error[place / 2 % errors],
                         .lasting = place % 2};
            return true;
        }
        place -= count;
    }
    return false;
}

/* The next of `cases` that are drawn, or in the long form of all. */
static bool next_fault(trials *t, const fault *counted, int cases, int done, fault *f)
{
    return t->all ? find_fault(counted, done, f) : done < cases && draw_fault(t, counted, f);
}

static void try_training(trials *t, source_kind from, bool resumes, int cases)
{
    static outcome o;
    fault counted = {.number = -1}, f;
    begin_trial(t, from, resumes);
    command c = train_command(t, run_folder(t), from, LAST, 2);
    run_faulty(t, &c, &counted, &o);
    int least = resumes ? FIRST : 0;
    count_case(t, judge_end(t, from, &o, least), "%s, nothing fails", command_text(&c));
    for (int i = 0; next_fault(t, &counted, cases, i, &f); i++) {
        begin_trial(t, from, resumes);
        c = train_command(t, run_folder(t), from, LAST, 2);
        run_faulty(t, &c, &f, &o);
        const char *problem = judge_end(t, from, &o, least);
        if (!problem) problem = judge_left(t, from, least);
        if (!problem) problem = judge_retry(t, from, least);
        count_case(t, problem, "%s train, %s: %s", resumes ? "resuming" : "first",
                   from == FROM_ZIP ? "zip" : "folder", fault_text(&f));
    }
}

static void try_jobs(trials *t, int cases)
{
    static outcome o;
    job jobs[MOST_JOBS];
    begin_trial(t, FROM_FOLDER, true);
    begin_trial(t, FROM_ZIP, true);
    int count = list_jobs(t, jobs);
    for (int i = 0; i < count; i++) {
        fault counted = {.number = -1}, f;
        begin_trial(t, FROM_ZIP, true);
        list_jobs(t, jobs);
        run_faulty(t, &jobs[i].command, &counted, &o);
        uint64_t want = hash_job(&jobs[i], &o);
        count_case(t, o.code ? last_complaint(&o) : NULL, "%s, nothing fails", jobs[i].name);
        for (int k = 0; next_fault(t, &counted, cases, k, &f); k++) {
            begin_trial(t, FROM_ZIP, true);
            list_jobs(t, jobs);
            run_faulty(t, &jobs[i].command, &f, &o);
            const char *problem = judge_job(&jobs[i], &o, want);
            if (!problem) problem = judge_left(t, FROM_ZIP, FIRST);
            count_case(t, problem, "%s: %s", jobs[i].name, fault_text(&f));
        }
    }
}

void try_calls(trials *t)
{
    try_training(t, FROM_ZIP, true, 12);
    try_training(t, FROM_FOLDER, false, 6);
    try_jobs(t, 2);
}
