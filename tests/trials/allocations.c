/* The n-th allocation fails, in the program or in a library that it calls. */
#include "trials.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long within_onednn;

static char *report_path(const trials *t) { return text("%s/allocations", t->work); }

static void run_starved(const trials *t, const command *c, long fails, bool lasting, outcome *o)
{
    command all =
        make_command("/usr/bin/env", text("LD_PRELOAD=%s", t->starve), text("TORTURE_FAIL=%ld", fails),
                     text("TORTURE_COUNT=%s", report_path(t)), NULL);
    if (lasting) add_words(&all, "TORTURE_LASTING=1", NULL);
    for (int i = 0; i < c->count; i++) add_words(&all, c->word[i], NULL);
    run_command(t, &all, NULL, DEADLINE, o);
}

static long counted(const trials *t)
{
    size_t size;
    char *report = (char *)read_whole(report_path(t), &size),
         *line = report ? strstr(report, "count ") : NULL;
    long count = line ? atol(line + 6) : 0;
    free(report);
    return count;
}

/* A place in the program as "function line", where addr2line knows. */
static const char *place(const trials *t, const char *frame)
{
    char function[256] = "", line[256] = "";
    const char *offset = strrchr(frame, '+');
    FILE *pipe = offset ? popen(text("addr2line -fse %s %s 2>/dev/null", t->sid2, offset + 1), "r") : NULL;
    if (pipe && (!fgets(function, sizeof function, pipe) || !fgets(line, sizeof line, pipe))) function[0] = 0;
    if (pipe) pclose(pipe);
    function[strcspn(function, "\n")] = line[strcspn(line, "\n ")] = 0;
    return function[0] && function[0] != '?' ? text("%s(%s)", function, line) : frame;
}

/* Who asked: the first frames. */
static const char *who(const trials *t)
{
    size_t size;
    char *report = (char *)read_whole(report_path(t), &size), *line = report;
    const char *all = "";
    for (int i = 0; i < 6 && line && *line && strncmp(line, "count", 5) != 0; i++) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        const char *name = strrchr(line, '/');
        name = name ? name + 1 : line;
        all = text("%s %s", all, strncmp(name, "sid2+", 5) == 0 ? place(t, name) : name);
        line = end ? end + 1 : NULL;
    }
    free(report);
    return all;
}

/* Counts and tells an end that sid2 cannot prevent: oneDNN uses what it could not allocate before it throws anything (what it
 * throws is caught, cpu/guard.h). False where it was none. */
static bool count_other(const trials *t, const char *what, long number)
{
    size_t size;
    char *report = (char *)read_whole(report_path(t), &size);
    bool is_other = report && strstr(report, "libdnnl");
    free(report);
    if (!is_other) return false;
    within_onednn++;
    printf("%s: %s, allocation %ld: ended within oneDNN:%s\n", t->kind, what, number, who(t));
    return true;
}

static void starve_training(trials *t, source_kind from, int cases)
{
    static outcome o;
    begin_trial(t, from, true);
    command c = train_command(t, run_folder(t), from, LAST, 2);
    run_starved(t, &c, 0, false, &o);
    long count = counted(t);
    count_case(t, judge_end(t, from, &o, FIRST), "train, nothing fails");
    for (int i = 0; i < cases; i++) {
        long number = 1 + (long)draw(t, (uint64_t)count);
        bool lasting = draw(t, 4) == 0;
        begin_trial(t, from, true);
        c = train_command(t, run_folder(t), from, LAST, 2);
        run_starved(t, &c, number, lasting, &o);
        const char *problem = judge_end(t, from, &o, FIRST), *left = judge_left(t, from, FIRST);
        if (!problem || count_other(t, "train", number)) problem = left;
        if (!problem) problem = judge_retry(t, from, FIRST);
        const char *asked = problem ? who(t) : "";
        count_case(t, problem, "train, %s: allocation %ld of %ld%s,%s", from == FROM_ZIP ? "zip" : "folder",
                   number, count, lasting ? " and later ones" : "", asked);
    }
}

static void starve_job(trials *t, int which, int cases)
{
    static outcome o;
    job jobs[MOST_JOBS];
    begin_trial(t, FROM_ZIP, true);
    list_jobs(t, jobs);
    const job *j = &jobs[which];
    run_starved(t, &j->command, 0, false, &o);
    long count = counted(t);
    uint64_t want = hash_job(j, &o);
    count_case(t, o.code ? last_complaint(&o) : NULL, "%s, nothing fails", j->name);
    for (int i = 0; i < cases; i++) {
        long number = 1 + (long)draw(t, (uint64_t)count);
        begin_trial(t, FROM_ZIP, true);
        list_jobs(t, jobs);
        run_starved(t, &j->command, number, false, &o);
        const char *problem = judge_job(j, &o, want);
        if (problem && count_other(t, j->name, number)) problem = NULL;
        if (!problem) problem = judge_left(t, FROM_ZIP, FIRST);
        count_case(t, problem, "%s: allocation %ld of %ld,%s", j->name, number, count, problem ? who(t) : "");
    }
}

/* Within an address space of so many KiB, as ulimit -v, some batch systems and full machines have it. */
static void confine_job(trials *t, int which, int cases)
{
    static outcome o;
    job jobs[MOST_JOBS];
    begin_trial(t, FROM_ZIP, true);
    list_jobs(t, jobs);
    const job *j = &jobs[which];
    run_command(t, &j->command, NULL, DEADLINE, &o);
    uint64_t want = hash_job(j, &o);
    for (int i = 0; i < cases; i++) {
        long kib = 100000 + (long)draw(t, 150000);
        begin_trial(t, FROM_ZIP, true);
        list_jobs(t, jobs);
        command c = make_command("/bin/sh", "-c", text("ulimit -v %ld; exec \"$@\"", kib), "sh", NULL);
        for (int k = 0; k < j->command.count; k++) add_words(&c, j->command.word[k], NULL);
        run_command(t, &c, NULL, DEADLINE, &o);
        if (o.code == 127) continue; /* libraries had no room */
        const char *problem = judge_job(j, &o, want);
        if (!problem) problem = judge_left(t, FROM_ZIP, FIRST);
        count_case(t, problem, "%s within %ld KiB", j->name, kib);
    }
}

void try_allocations(trials *t)
{
    job jobs[MOST_JOBS];
    if (!t->starve) {
        snprintf(t->note, sizeof t->note, "not in a sanitized build");
        return;
    }
    begin_trial(t, FROM_FOLDER, true);
    begin_trial(t, FROM_ZIP, true);
    int count = list_jobs(t, jobs);
    starve_training(t, FROM_ZIP, 8);
    starve_training(t, FROM_FOLDER, 4);
    for (int i = 0; i < count; i++) starve_job(t, i, 2), confine_job(t, i, 2);
    snprintf(t->note, sizeof t->note, "of them %ld ended within oneDNN", within_onednn);
}
