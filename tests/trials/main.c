/* tests/torture: see the help. */
#include "trials.h"

#include <errno.h>
#include <math.h>
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
     "once or for good, or does half of it; in training and in ten other commands; then again, undisturbed",
     try_calls, true},
    {"allocations", "Without memory: one line, exit code 1, nothing lost.",
     "the n-th allocation of the program or of a library fails, once or for good; in training and in ten "
     "other commands",
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
     "threads; its own loops of each instruction set (one digest a compiler's version), on any number of "
     "threads; the "
     "fast device the same for any number of threads without oneDNN, and twice with it",
     try_golden, false},
    {"soak", "A long training needs no more memory than a short one.",
     "resident memory, descriptors and threads of a training at two times", try_soak, false},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct figures {
    long tried, failed;
    double seconds;
    char note[512];
    bool skipped;
} figures;
static figures found[KINDS];

void count_case(trials *t, const char *problem, const char *format, ...)
{
    char what[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    t->tried++;
    if (!problem) return;
    t->failed++;
    printf("%s: %s -> %s\n", t->kind, what, problem);
    if (t->keep) {
        const char *kept = text("%s/failed-%s-%ld", t->work, t->kind, t->failed);
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

static void write_table(const trials *t, double minutes)
{
    char path[4096], date[32], version[128], processor[128];
    struct utsname system;
    time_t today = time(NULL);
    snprintf(path, sizeof path, "%s/docs/reliability.md", t->source);
    FILE *file = fopen(path, "w");
    if (!file) give_up("%s: %s", path, strerror(errno));
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&today));
    first_line(text("%s --version", t->sid2), version, sizeof version);
    first_line("sed -n 's/^model name.*: //p' /proc/cpuinfo", processor, sizeof processor);
    uname(&system);
    fputs(
        "# Reliability: what is promised, and what was tried\n\n"
        "Made by `tests/torture --table`; another run with the same `--seed` tries the same cases.\n\n"
        "| promise | how it was tried | cases | held |\n|---|---|---:|---:|\n",
        file);
    for (int i = 0; i < KINDS; i++) {
        if (found[i].skipped) continue;
        fprintf(file, "| %s | %s%s%s | %ld | %s%ld%s |\n", kinds[i].promise, kinds[i].how,
                found[i].note[0] ? "; " : "", found[i].note, found[i].tried, found[i].failed ? "**" : "",
                found[i].tried - found[i].failed, found[i].failed ? "**" : "");
    }
    fprintf(file, "\n%s; Linux %s, %s, %s; seed %llu, %.0f minutes.\n\n", date, system.release, processor,
            version, (unsigned long long)t->seed, ceil(minutes));
    fputs(
        "`tests/torture` takes about a minute, `tests/torture --minutes M` or `--hours H` as long as it is "
        "told: more\n"
        "cases from further seeds, from an hour on every one that can be named (each cut, each call, each "
        "bit of small\n"
        "files). `--only KIND` is one row: ",
        file);
    for (int i = 0; i < KINDS; i++) fprintf(file, "%s%s", kinds[i].name, i + 1 < KINDS ? ", " : ".\n\n");
    fputs(
        "- A *case* holds if all that the promise says is so: the exit code, the number of lines, every "
        "tensor of the\n"
        "  last checkpoint bit for bit, the history of steps, the files of other people beside and among the "
        "run's.\n"
        "- The disk that forgets is described at the top of `tests/trials/disk.c`: bytes are sure once their "
        "file is\n"
        "  flushed, names once their folder is; anything else may be there, partly there or not, in any "
        "order.\n"
        "- The fast device's own loops have a digest for each instruction set and compiler version "
        "(`tests/golden/digests_fast.txt`).\n"
        "  GCC 12 and clang 14 agree where there is no fused multiply-add (SSE2), and differ where there is, "
        "most "
        "likely in which\n"
        "  products they fuse. A version without a line is held to the same bits on any number of threads.\n"
        "- A crash within oneDNN or OpenSSL without memory is counted apart: it is not the program that does "
        "not look.\n\n"
        "Elsewhere: every fallible Vulkan function fails at each of its calls (`tests/test_vk_failures.c`), "
        "and a\n"
        "training goes on after a device lost at any of three steps (`tests/test_vk_lost.c`), as does `sid2 "
        "train` by itself,\n"
        "once, to the same weights (`tests/test_vk_reopen.sh`, by a loader that loses the device); every "
        "reader of\n"
        "foreign bytes is fuzzed ([fuzzed.md](fuzzed.md): how often); threads under ThreadSanitizer "
        "(`-DSID2_SANITIZE=thread`).\n"
        "No shader leaves its buffers in 10 random cases of each operator and type, with the shaders for CPU "
        "drivers and those for\n"
        "GPUs (`tests/test_vk_bounds.c`): all memory begins as a signalling NaN, bindings span whole "
        "buffers, so that no driver\n"
        "drops what strays, and guards lie around every tensor (512 bytes in scratch, 128 elements "
        "elsewhere, 64 KiB past each\n"
        "buffer's end). A stray write changes a guard, a stray read that counts makes the result NaN; "
        "shaders made to stray by\n"
        "an element, a part or thousands of elements are all caught. What it cannot see is a read whose "
        "value is dropped, and a\n"
        "write beyond the guards on either side. GPU-assisted validation says nothing of it: layers 1.3.239 "
        "on lavapipe 22.3.6\n"
        "are silent at a write out of bounds that was made for them to find.\n",
        file);
    if (fclose(file)) give_up("%s: %s", path, strerror(errno));
    printf("%s\n", path);
}

/* ---- */

static int help(void)
{
    puts(
        "Usage: tests/torture [options]\n\n"
        "Tries sid2's promises about what it keeps: see docs/reliability.md.\n\n"
        "  --seed N        other cases (1)\n"
        "  --minutes M     go on with further seeds for so long (one round, about a minute)\n"
        "  --hours H       the same; from one on, cases are enumerated rather than drawn\n"
        "  --only KIND     one kind, or several with commas between\n"
        "  --keep          keep the folders of what did not hold, and say where\n"
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

int main(int argc, char **argv)
{
    trials t = {.sid2 = TRIALS_SID2,
                .starve = TRIALS_STARVE,
                .tests = TRIALS_TESTS,
                .source = TRIALS_SOURCE,
                .seed = 1};
    const char *only = NULL;
    double minutes = 0;
    bool table = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--keep") == 0)
            t.keep = true;
        else if (strcmp(argv[i], "--table") == 0)
            table = true;
        else if (!value)
            return help();
        else if (strcmp(argv[i], "--seed") == 0)
            t.seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--minutes") == 0)
            minutes = atof(argv[++i]);
        else if (strcmp(argv[i], "--hours") == 0)
            minutes = 60 * atof(argv[++i]);
        else if (strcmp(argv[i], "--only") == 0)
            only = argv[++i];
        else if (strcmp(argv[i], "--sid2") == 0)
            t.sid2 = argv[++i];
        else
            return help();
    }
    check_names(only);
    t.all = minutes >= 60;
    t.builds = minutes >= 5;
    if (!*t.starve) t.starve = NULL;
    const char *place = getenv("TMPDIR");
    snprintf(t.work, sizeof t.work, "%s/sid2-torture-XXXXXX", place ? place : "/tmp");
    if (!mkdtemp(t.work)) give_up("%s: %s", t.work, strerror(errno));
    bool traceable = can_trace();
    double began = now(), end = began + 60 * minutes;
    for (int round = 0; round == 0 || now() < end; round++) {
        for (int i = 0; i < KINDS && (round == 0 || now() < end); i++) {
            if (!is_wanted(only, kinds[i].name)) {
                found[i].skipped = true;
                continue;
            }
            if (kinds[i].traces && !traceable) {
                found[i].skipped = true;
                if (!round) printf("%-12s left out: processes cannot be traced here\n", kinds[i].name);
                continue;
            }
            double kind_began = now();
            t.kind = kinds[i].name;
            t.random = t.seed + (uint64_t)round + ((uint64_t)i << 32);
            t.tried = t.failed = 0;
            t.note[0] = 0;
            kinds[i].run(&t);
            found[i].tried += t.tried;
            found[i].failed += t.failed;
            found[i].seconds += now() - kind_began;
            memcpy(found[i].note, t.note, sizeof t.note);
            printf("%-12s %5ld tried, %5ld held, %4.0f s%s%s\n", kinds[i].name, found[i].tried,
                   found[i].tried - found[i].failed, found[i].seconds, t.note[0] ? "; " : "", t.note);
            fflush(stdout);
        }
    }
    if (table) write_table(&t, (now() - began) / 60);
    long failed = 0;
    for (int i = 0; i < KINDS; i++) failed += found[i].failed;
    if (!t.keep || !failed) remove_all(t.work);
    return failed ? 1 : 0;
}
