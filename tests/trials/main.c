/* tests/torture: see the help. */
#include "trials.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static const struct kind {
    const char *name, *promise, *how;
    trial_function *run;
    bool traces;
} kinds[] = {
    {"kills", "A killed training goes on from its last checkpoint, to the weights it would have had.",
     "SIGKILL before each call on files, and at any time; a checkpoint a step; resumed", try_kills, true},
    {"crashes", "A power cut costs nothing that was saved.",
     "folders that a cut could leave after each recorded change of a disk that forgets what was not flushed; "
     "resumed",
     try_crashes, true},
    {"calls", "A failing disk gives one line and exit code 1, or the same result. Nothing old is lost.",
     "the n-th open, read, write, fsync, close, rename, unlink, mkdir, readdir, stat, truncate, mmap or "
     "flock fails, "
     "once or for good, or does half of it; in training and in twelve other commands; then again, "
     "undisturbed",
     try_calls, true},
    {"allocations", "Without memory: one line, exit code 1, nothing lost.",
     "the n-th allocation of the program or of a library fails, once or for good; in training and in twelve "
     "other commands; these within a small address space",
     try_allocations, false},
    {"flips", "A flipped bit is seen, or has no effect.",
     "bits of every file of a run, then a training; bits of pictures, then data inspect", try_flips, false},
    {"signals", "A signal stops a training in order: saved, exit code 75, gone on with to the same weights.",
     "INT, TERM, HUP, USR1, USR2, XCPU and QUIT before each call on files", try_signals, true},
    {"pipes", "What is no file is not read as one: no hang, one line.",
     "a pipe, /dev/zero, a folder, a socket or a link to nothing in the place of each file", try_fifos,
     false},
    {"readers", "A run can be read while it trains.",
     "sample, info, eval, export and report of a run that saves every step and keeps one checkpoint",
     try_readers, false},
    {"golden", "Same seeds, same bits: compilers, optimisation, threads, sanitizers.",
     "the committed digests (tests/test_digest.c) on the reference device, GCC and clang, -O0 and -O2, "
     "sanitizers, 1 to 8 "
     "threads; the fast one's own loops of each instruction set; the fast device the same for any number of "
     "threads without oneDNN, and twice with it",
     try_golden, false},
    {"soak", "A long training needs no more memory than a short one.",
     "resident memory, descriptors and threads of a training at two times", try_soak, false},
    {"ranks",
     "Of several processes that train as one, one is killed: the others do not hang, and any number goes on.",
     "SIGKILL of a rank at the n-th exchange, before the n-th write and rename of any, and at any time; "
     "resumed by one, two or four",
     try_ranks, true},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct figures {
    long tried, failed;
    double seconds;
    char note[512];
    bool skipped;
} figures;

/* What this call was asked for, and how far it has come. */
static struct session {
    trials t;
    const char *only, *sum; /* --only; the file that sums calls up, or NULL */
    bool table;
    double wanted, began, before; /* minutes; a time; minutes of earlier calls */
    long round, kind, calls;      /* where the next call goes on; calls before */
    figures found[KINDS];         /* all calls together */
    double kind_began, saved;     /* times */
} session = {.t = {.sid2 = TRIALS_SID2,
                   .starve = TRIALS_STARVE,
                   .tests = TRIALS_TESTS,
                   .source = TRIALS_SOURCE,
                   .mpiexec = TRIALS_MPIEXEC,
                   .mpi = TRIALS_MPI,
                   .fault_mpi = TRIALS_FAULT_MPI,
                   .share = 1,
                   .shares = 1,
                   .seed = 1}};
static figures *const found = session.found;
static volatile sig_atomic_t stopped;

static void stop(int number) { stopped = number; }

static double minutes_so_far(void) { return session.before + (now() - session.began) / 60; }

/* ---- What calls add up to ---- */

/* The file of --sum, whole or as it was. */
static void save_sum(void)
{
    session.saved = now();
    if (!session.sum) return;
    char path[4096];
    snprintf(path, sizeof path, "%s.tmp", session.sum);
    FILE *file = fopen(path, "w");
    if (!file) give_up("%s: %s", path, strerror(errno));
    fprintf(file, "seed %llu calls %ld round %ld kind %ld minutes %.2f\n", (unsigned long long)session.t.seed,
            session.calls + 1, session.round, session.kind, minutes_so_far());
    for (int i = 0; i < KINDS; i++)
        fprintf(file, "%s %ld %ld %.1f %s\n", kinds[i].name, found[i].tried, found[i].failed,
                found[i].seconds, found[i].note);
    bool failed = ferror(file);
    if (fclose(file) || failed || rename(path, session.sum)) give_up("%s: %s", session.sum, strerror(errno));
}

static void load_sum(void)
{
    FILE *file = session.sum ? fopen(session.sum, "r") : NULL;
    if (!file && session.sum && errno != ENOENT) give_up("%s: %s", session.sum, strerror(errno));
    if (!file) return;
    char line[1024], name[32];
    unsigned long long seed;
    if (!fgets(line, sizeof line, file) ||
        sscanf(line, "seed %llu calls %ld round %ld kind %ld minutes %lf", &seed, &session.calls,
               &session.round, &session.kind, &session.before) != 5)
        give_up("%s: no sum of tests/torture", session.sum);
    session.t.seed = seed;
    while (fgets(line, sizeof line, file)) {
        figures f = {0};
        int at = 0;
        line[strcspn(line, "\n")] = 0;
        sscanf(line, "%31s %ld %ld %lf %n", name, &f.tried, &f.failed, &f.seconds, &at);
        snprintf(f.note, sizeof f.note, "%s", line + at);
        for (int i = 0; at && i < KINDS; i++)
            if (strcmp(kinds[i].name, name) == 0) found[i] = f;
    }
    fclose(file);
}

/* Adds what the kind under way has tried since this was called last. */
static void add_figures(void)
{
    trials *t = &session.t;
    figures *f = &found[session.kind];
    f->tried += t->tried;
    f->seconds += now() - session.kind_began;
    if (t->note[0]) memcpy(f->note, t->note, sizeof t->note);
    t->tried = 0;
    session.kind_began = now();
}

static void tell(void)
{
    const figures *f = &found[session.kind];
    printf("%-12s %5ld tried, %5ld held, %4.0f s%s%s\n", kinds[session.kind].name, f->tried,
           f->tried - f->failed, f->seconds, f->note[0] ? "; " : "", f->note);
    fflush(stdout);
}

static _Noreturn void finish(void);

void count_case(trials *t, const char *problem, const char *format, ...)
{
    char what[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (stopped) { /* the case may have ended for that */
        add_figures();
        tell();
        finish();
    }
    t->tried++;
    if (!problem && now() < session.saved + 60) return;
    add_figures();
    save_sum();
    if (!problem) return;
    found[session.kind].failed++;
    printf("%s: %s -> %s\n", t->kind, what, problem);
    if (t->keep) {
        const char *kept = text("%s/failed-%s-%ld", t->work, t->kind, found[session.kind].failed);
        if (exists(trial_folder(t))) copy_all(trial_folder(t), kept);
        printf("    kept in %s\n", kept);
    }
    fflush(stdout);
}

/* ---- The table ---- */

static void first_line(const char *shell, char *to, size_t size)
{
    FILE *pipe = popen(shell, "r");
    if (!pipe || !fgets(to, (int)size, pipe)) snprintf(to, size, "?");
    if (pipe) pclose(pipe);
    to[strcspn(to, "\n")] = 0;
}

/* Makes the table in docs/reliability.md anew, and the line below it; what else stands there stays. */
static void write_table(const trials *t)
{
    static const char first[] = "| promise |", after[] = "`tests/torture` takes";
    char path[4096], date[32], version[128], processor[128];
    struct utsname system;
    time_t today = time(NULL);
    size_t size;
    snprintf(path, sizeof path, "%s/docs/reliability.md", t->source);
    char *page = (char *)read_whole(path, &size), *table = page ? strstr(page, first) : NULL;
    const char *rest = table ? strstr(table, after) : NULL;
    if (!rest) give_up("%s: no table to replace", path);
    FILE *file = fopen(path, "w");
    if (!file) give_up("%s: %s", path, strerror(errno));
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&today));
    first_line(text("%s --version", t->sid2), version, sizeof version);
    first_line("sed -n 's/^model name.*: //p' /proc/cpuinfo", processor, sizeof processor);
    uname(&system);
    fprintf(file, "%.*s%s how it was tried | cases | held |\n|---|---|---:|---:|\n", (int)(table - page),
            page, first);
    for (int i = 0; i < KINDS; i++) {
        if (found[i].skipped && !found[i].tried) continue;
        fprintf(file, "| %s | %s%s%s | %ld | %s%ld%s |\n", kinds[i].promise, kinds[i].how,
                found[i].note[0] ? "; " : "", found[i].note, found[i].tried, found[i].failed ? "**" : "",
                found[i].tried - found[i].failed, found[i].failed ? "**" : "");
    }
    fprintf(file, "\n%s; Linux %s, %s, %s; seed %llu, %.0f minutes, calls: %ld.\n\n%s", date, system.release,
            processor, version, (unsigned long long)t->seed, ceil(minutes_so_far()), session.calls + 1, rest);
    if (fclose(file)) give_up("%s: %s", path, strerror(errno));
    free(page);
    printf("%s\n", path);
}

/* ---- */

static int help(void)
{
    puts(
        "Usage: tests/torture [options]\n\n"
        "Tries sid2's promises about what it keeps: see docs/reliability.md. SIGINT, SIGTERM and SIGHUP end "
        "it\n"
        "in order: sums and table are written, exit code 75 where all held.\n\n"
        "  --seed N        other cases (1)\n"
        "  --minutes M     go on with further seeds for so long (one round, about a minute)\n"
        "  --hours H       the same; from one on, cases are enumerated rather than drawn\n"
        "  --only KIND     one kind, or several with commas between\n"
        "  --keep          keep the folders of what did not hold, and say where\n"
        "  --sum FILE      add to what earlier calls have counted in FILE, and go on where they ended\n"
        "  --share I/N     of the enumerated cases of ranks the I-th of N shares, for several calls at once\n"
        "  --table         write docs/reliability.md\n"
        "  --sid2 PATH     another program than that of the build\n\nKinds:");
    for (int i = 0; i < KINDS; i++) printf("  %-15s %s\n", kinds[i].name, kinds[i].promise);
    return 2;
}

static bool is_wanted(const char *only, const char *name)
{
    size_t length = strlen(name);
    for (const char *word = only; word; word = strchr(word, ',') ? strchr(word, ',') + 1 : NULL)
        if (strncmp(word, name, length) == 0 && (!word[length] || word[length] == ',')) return true;
    return !only;
}

static void check_names(const char *only)
{
    char words[512];
    snprintf(words, sizeof words, "%s", only ? only : "");
    for (char *state, *word = strtok_r(words, ",", &state); word; word = strtok_r(NULL, ",", &state)) {
        int i = 0;
        while (i < KINDS && strcmp(kinds[i].name, word) != 0) i++;
        if (i == KINDS) give_up("no kind is called %s; --help lists them", word);
    }
}

static _Noreturn void finish(void)
{
    save_sum();
    if (session.table) write_table(&session.t);
    long failed = 0;
    for (int i = 0; i < KINDS; i++) failed += found[i].failed;
    if (!session.t.keep || !failed) remove_all(session.t.work);
    if (stopped) printf("stopped by %s after %.1f minutes\n", strsignal(stopped), minutes_so_far());
    exit(failed ? 1 : stopped ? 75 : 0);
}

/* A round of kind number session.kind. */
static void try_kind(bool traceable)
{
    const struct kind *k = &kinds[session.kind];
    trials *t = &session.t;
    found[session.kind].skipped = !is_wanted(session.only, k->name) || (k->traces && !traceable);
    if (found[session.kind].skipped) {
        if (!session.round && is_wanted(session.only, k->name))
            printf("%-12s left out: processes cannot be traced here\n", k->name);
        return;
    }
    session.kind_began = now();
    t->kind = k->name;
    t->random =
        t->seed + (uint64_t)session.round + ((uint64_t)session.kind << 32) + ((uint64_t)session.calls << 48);
    t->tried = 0;
    t->note[0] = 0;
    k->run(t);
    add_figures();
    tell();
}

static bool read_options(int argc, char **argv)
{
    trials *t = &session.t;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--keep") == 0)
            t->keep = true;
        else if (strcmp(argv[i], "--table") == 0)
            session.table = true;
        else if (!value)
            return false;
        else if (strcmp(argv[i], "--seed") == 0)
            t->seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--minutes") == 0)
            session.wanted = atof(argv[++i]);
        else if (strcmp(argv[i], "--hours") == 0)
            session.wanted = 60 * atof(argv[++i]);
        else if (strcmp(argv[i], "--only") == 0)
            session.only = argv[++i];
        else if (strcmp(argv[i], "--sum") == 0)
            session.sum = argv[++i];
        else if (strcmp(argv[i], "--share") == 0 && sscanf(value, "%d/%d", &t->share, &t->shares) == 2 &&
                 t->share > 0 && t->share <= t->shares)
            i++;
        else if (strcmp(argv[i], "--sid2") == 0)
            t->sid2 = argv[++i];
        else
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    trials *t = &session.t;
    if (!read_options(argc, argv)) return help();
    check_names(session.only);
    t->all = session.wanted >= 60;
    t->builds = session.wanted >= 5;
    if (!*t->starve) t->starve = NULL;
    const char *place = getenv("TMPDIR");
    snprintf(t->work, sizeof t->work, "%s/sid2-torture-XXXXXX", place ? place : "/tmp");
    load_sum();
    if (!mkdtemp(t->work)) give_up("%s: %s", t->work, strerror(errno));
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP}; /* a second one kills */
    for (int i = 0; i < 3; i++)
        sigaction(signals[i], &(struct sigaction){.sa_handler = stop, .sa_flags = (int)SA_RESETHAND}, NULL);
    bool traceable = can_trace();
    session.began = session.saved = now();
    long first = session.round; /* which is gone through in any case */
    do {
        try_kind(traceable);
        if (++session.kind == KINDS) session.kind = 0, session.round++;
        save_sum();
    } while (!stopped && (session.round == first || minutes_so_far() < session.wanted));
    finish();
}
