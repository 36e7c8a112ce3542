#include "launch.h"

#include "transports.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_CHILDREN = 64, WORDS = 160 };

/* What was started: mpiexec alone, or the ranks themselves. */
typedef struct crew {
    pid_t child[MOST_CHILDREN];
    int count;
} crew;

/* ---- Starting ---- */

/* In a group of its own, so that what a terminal sends comes from here, once. Where this process dies it ends in order. */
static bool start(crew *c, void (*become)(char *const words[], int ranks), char *const words[], int ranks,
                  sid2_error *err)
{
    pid_t child = fork();
    if (child < 0) return sid2_fail(err, SID2_ERR_IO, "cannot start a process: %s", strerror(errno));
    if (child == 0) {
        int nothing = open("/dev/null", O_RDONLY);
        if (nothing >= 0) dup2(nothing, STDIN_FILENO);
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGUSR1);
        become(words, ranks);
        _exit(EXIT_FAILED);
    }
    c->child[c->count++] = child;
    return true;
}

static void become_rank(char *const words[], int ranks)
{
    (void)ranks;
    execv(words[0], words);
    fprintf(stderr, "sid2: cannot start %s: %s\n", words[0], strerror(errno));
}

/* Of an MPI for which there is a module, the first that is there. Cores are shared out by sid2. */
static void become_mpiexec(char *const words[], int ranks)
{
    static const struct {
        const char *module, *command, *options[3];
    } ways[] = {
        {"mpich", "mpiexec.mpich", {NULL}},
        {"mpich", "mpiexec.hydra", {NULL}},
        {"ompi", "mpiexec.openmpi", {"--oversubscribe", "--bind-to", "none"}},
        {"mpich", "mpiexec", {NULL}},
        {"ompi", "mpiexec", {"--oversubscribe", "--bind-to", "none"}},
    };
    char number[32];
    const char *line[WORDS + 8];
    snprintf(number, sizeof number, "%d", ranks);
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1); /* as whom sid2 runs was not Open MPI's to decide */
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (!sid2_transport_has(ways[i].module)) continue;
        int used = 0;
        line[used++] = ways[i].command;
        for (int o = 0; o < 3 && ways[i].options[o]; o++) line[used++] = ways[i].options[o];
        line[used++] = "-n", line[used++] = number;
        for (int w = 0; (line[used] = words[w]); w++) used++;
        execvp(line[0], (char *const *)(uintptr_t)line);
    }
    fprintf(stderr,
            "sid2: --ranks: there is no mpiexec of an MPI that this sid2 has a module for (Debian, Ubuntu: "
            "mpich)\n");
}

static bool set_number(const char *name, int value, sid2_error *err)
{
    char text[32];
    snprintf(text, sizeof text, "%d", value);
    return !setenv(name, text, 1) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
}

/* The port on which the first of them is found by NCCL: below those that systems hand out, and hardly another job's. */
static bool name_root(sid2_error *err)
{
    char text[32];
    snprintf(text, sizeof text, "127.0.0.1:%d", 20000 + (int)(getpid() % 10000));
    return !setenv("NCCL_COMM_ID", text, 0) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
}

static bool start_ranks(crew *c, int ranks, char *const words[], sid2_error *err)
{
    bool ok =
        name_root(err) && set_number("SID2_RANKS", ranks, err) && set_number("SID2_LOCAL_RANKS", ranks, err);
    for (int r = 0; ok && r < ranks; r++)
        ok = set_number("SID2_RANK", r, err) && set_number("SID2_LOCAL_RANK", r, err) &&
             start(c, become_rank, words, ranks, err);
    return ok;
}

/* ---- Waiting ---- */

/* Batch systems and people stop a training by a signal; every launcher hands SIGUSR1 on to ranks, and not every one the
 * others. A second one is handed on as SIGINT, which the ranks take for impatience. */
static void hand_on(const crew *c, int times)
{
    for (int i = 0; i < c->count; i++)
        if (c->child[i]) kill(c->child[i], times == 1 ? SIGUSR1 : SIGINT);
}

/* A rank that was killed lost no more than what its training can repeat; one that crashed would again. */
static int code_of(int status)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (code <= EXIT_REQUEST || code == EXIT_AGAIN) return code;
    int signal = code > 128 ? code - 128 : code; /* MPICH's gives a rank's signal as it is */
    bool killed = signal == SIGKILL || signal == SIGTERM || signal == SIGINT || signal == SIGHUP;
    return killed ? EXIT_AGAIN : EXIT_FAILED;
}

/* Of several: a failure that will repeat, a wrong request, coming again; in this order. */
static int worse(int a, int b)
{
    static const int order[] = {EXIT_FAILED, EXIT_REQUEST, EXIT_AGAIN};
    for (int i = 0; i < 3; i++)
        if (a == order[i] || b == order[i]) return order[i];
    return 0;
}

static bool reap(crew *c, int *code)
{
    int status;
    pid_t child = waitpid(-1, &status, WNOHANG);
    for (int i = 0; child > 0 && i < c->count; i++)
        if (c->child[i] == child) {
            c->child[i] = 0;
            *code = worse(*code, code_of(status));
            if (WIFSIGNALED(status) && c->count > 1)
                fprintf(stderr, "sid2: rank %d: %s\n", i, strsignal(WTERMSIG(status)));
        }
    return child > 0;
}

static int left(const crew *c)
{
    int count = 0;
    for (int i = 0; i < c->count; i++) count += c->child[i] != 0;
    return count;
}

static void end_all(const crew *c)
{
    for (int i = 0; i < c->count; i++)
        if (c->child[i]) kill(c->child[i], SIGKILL);
}

/* Ranks that one of them has left, failing, wait for it in vain: they get `patience` to see that for themselves. */
static int wait_for_all(crew *c)
{
    const struct timespec moment = {.tv_nsec = 20000000};
    const double patience = 10;
    int code = 0, told = 0;
    double failed = 0;
    while (left(c)) {
        if (interrupts() > told) hand_on(c, ++told);
        if (!reap(c, &code)) nanosleep(&moment, NULL);
        if ((code || told > 1) && !failed) failed = sid2_clock();
        if (failed && sid2_clock() - failed > patience) end_all(c);
    }
    return code;
}

/* ---- Both ---- */

int count_gpus(sid2_error *err)
{
    int count = 0;
    sid2_device_list *list = sid2_devices(NULL, err);
    if (!list) return -1;
    for (int i = 0; i < sid2_device_list_count(list); i++)
        count += strncmp(sid2_device_list_at(list, i)->id, "cuda:", 5) == 0;
    sid2_device_list_destroy(list);
    return count;
}

static bool gpus_wanted(const char *text, int *wanted, sid2_error *err)
{
    char *end;
    int there = count_gpus(err);
    if (there < 0) return false;
    long n = strtol(text, &end, 10);
    bool all = strcmp(text, "all") == 0;
    if (!all && (end == text || *end || n < 1))
        return sid2_fail(err, SID2_ERR_USAGE, "--gpus %s: all, or how many", text);
    if (!there)
        return sid2_fail(err, SID2_ERR_USAGE, "--gpus: there is no CUDA device here; sid2 devices says why");
    if (!all && n > there) return sid2_fail(err, SID2_ERR_USAGE, "--gpus %s: there are %d here", text, there);
    *wanted = all ? there : (int)n;
    return true;
}

static bool count_ranks(const launch_choice *choice, const char *device, int *ranks, sid2_error *err)
{
    if (choice->ranks && choice->gpus)
        return sid2_fail(err, SID2_ERR_USAGE, "--ranks and --gpus: one of them");
    if (choice->gpus && device && strcmp(device, "auto") != 0)
        return sid2_fail(err, SID2_ERR_USAGE, "--gpus chooses the devices: leave out --device");
    *ranks = choice->ranks > MOST_CHILDREN ? MOST_CHILDREN + 1 : (int)choice->ranks;
    if (choice->gpus && !gpus_wanted(choice->gpus, ranks, err)) return false;
    if (*ranks > MOST_CHILDREN)
        return sid2_fail(err, SID2_ERR_USAGE, "at most %d ranks on one machine", MOST_CHILDREN);
    return !(*ranks & (*ranks - 1)) ||
           sid2_fail(err, SID2_ERR_USAGE, "%d ranks: sums in a fixed order need a power of two", *ranks);
}

int launch_ranks(const launch_choice *choice, const char *device, int argc, char **argv, sid2_place *place)
{
    char self[4096], *words[WORDS + 2];
    sid2_error err = {0};
    int ranks = 0;
    if (!sid2_place_find(place, &err)) return report_error(argv[0], &err);
    if (place->ranks > 1 && choice->ranks > 1 && choice->ranks != place->ranks)
        return report_usage(argv[0], "--ranks %lld, but %s started %d", (long long)choice->ranks,
                            place->launcher, place->ranks);
    if (place->ranks > 1) return LAUNCH_NOT;
    if (!count_ranks(choice, device, &ranks, &err)) return report_error(argv[0], &err);
    if (ranks < 2) return LAUNCH_NOT;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0 || argc > WORDS) return report_usage(argv[0], "cannot start ranks: %s", strerror(errno));
    self[length] = 0;
    words[0] = self;
    memcpy(words + 1, argv, ((size_t)argc + 1) * sizeof *words);
    interrupt_relay();
    crew c = {.count = 0};
    if (choice->gpus ? start_ranks(&c, ranks, words, &err) : start(&c, become_mpiexec, words, ranks, &err))
        return wait_for_all(&c);
    end_all(&c);
    wait_for_all(&c);
    return report_error(argv[0], &err);
}
