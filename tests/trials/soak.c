/* A training that goes on: what it holds now, and what it holds later. */
#include "trials.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct held {
    long kib;
    int descriptors, threads;
} held;

static int count_names(const char *folder)
{
    int count = 0;
    DIR *listing = opendir(folder);
    while (listing && readdir(listing)) count++;
    if (listing) closedir(listing);
    return count;
}

static held look(pid_t process)
{
    held h = {0};
    char line[256];
    FILE *file = fopen(text("/proc/%d/status", process), "re");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "VmRSS: %ld", &h.kib), sscanf(line, "Threads: %d", &h.threads);
    if (file) fclose(file);
    h.descriptors = count_names(text("/proc/%d/fd", process));
    return h;
}

static void wait_seconds(double seconds)
{
    nanosleep(&(struct timespec){(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))}, NULL);
}

void try_soak(trials *t)
{
    static outcome o;
    if (!t->starve) { /* sanitizers keep what is freed */
        snprintf(t->note, sizeof t->note, "not in a sanitized build");
        return;
    }
    double whole = t->all ? 600 : 5;
    begin_trial(t, FROM_ZIP, true);
    command c = train_command(t, run_folder(t), FROM_ZIP, 100000000, 2);
    pid_t process = start_command(t, &c, NULL, 1, false);
    wait_seconds(0.4 * whole);
    held early = look(process);
    wait_seconds(0.6 * whole);
    held late = look(process);
    kill(process, SIGTERM);
    finish_command(t, process, 1, DEADLINE, &o);
    const char *problem = NULL;
    if (!early.kib || !late.kib) problem = text("ended: %s", last_complaint(&o));
    if (!problem && late.kib > early.kib + early.kib / 20 + 1024)
        problem = text("%ld KiB, then %ld KiB", early.kib, late.kib);
    if (!problem && (late.descriptors > early.descriptors + 8 || late.threads > early.threads))
        problem = text("%d descriptors and %d threads, then %d and %d", early.descriptors, early.threads,
                       late.descriptors, late.threads);
    count_case(t, problem, "a training of %.0f s", whole);
    snprintf(t->note, sizeof t->note, "%.1f MiB after %.0f s, %.1f MiB after %.0f s",
             (double)early.kib / 1024, 0.4 * whole, (double)late.kib / 1024, whole);
}
