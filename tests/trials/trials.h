/* Trials of sid2's promises, from outside: the program is killed, cut off, lied to by the system, starved, fed
 * with damaged files, and what it leaves is judged.
 *
 *     main.c     options, the table of kinds, docs/reliability.md
 *     base.c     random numbers, texts, files and folders, processes
 *     tracer.c   a process under ptrace: its calls on files are seen, made to fail, used as a clock
 *     train.c    the training that most kinds disturb, and the judge of what is left of it
 *     disk.c     a disk that forgets: which folders a power cut may leave
 *     ranks.c    several processes that train as one, and one of them is killed
 *     ...        a kind each
 *
 * Everything is drawn from --seed, so that a line about a failure is enough to see it again. What fails here
 * for the harness's own reasons (a full disk) ends it. */
#ifndef SID2_TRIALS_H
#define SID2_TRIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- A session ---- */

typedef struct trials {
    const char *sid2, *starve,
        *tests;         /* the program; the library that lets allocations fail; tests' folder */
    const char *source; /* of sid2 */
    const char *mpiexec, *mpi, *fault_mpi; /* its modules for that one, and around that; "": there is none */
    char work[256];                        /* everything lies here */
    uint64_t seed, random;
    bool all;           /* the long form: enumerate rather than sample */
    int share, shares;  /* of that only every shares-th case, from this one on */
    bool builds, built; /* make others to compare with; they were made */
    bool keep;
    int ranks; /* that train_command starts; 0, 1: the program alone */

    const char *kind; /* what is being tried */
    long tried;       /* since they were last added up */
    char note[512];   /* for the table, behind the figure */
} trials;

/* A round of a kind: some seconds of cases. */
typedef void trial_function(trials *t);
trial_function try_kills, try_crashes, try_calls, try_allocations, try_flips, try_signals, try_fifos,
    try_readers, try_golden, try_soak, try_ranks;

/* Counts a case; one that does not hold is told, with what to do to see it again, and its folder is kept
 * with --keep. `problem`: NULL where it held. */
void count_case(trials *t, const char *problem, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- base.c ---- */

_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));
double now(void);
uint64_t draw(trials *t, uint64_t below);

/* Text that lasts until the next trial begins. */
char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
void forget_texts(void);

bool exists(const char *path);
/* NULL where it is not there. A zero byte follows. The caller frees. */
uint8_t *read_whole(const char *path, size_t *size);
void write_whole(const char *path, const void *bytes, size_t size);
void make_folder(const char *path);
void remove_all(const char *path);
void copy_all(const char *from, const char *to); /* `to` is made anew */
/* Calls back for every file below, in the order of their names; paths relative to the folder. */
typedef void file_function(void *user, const char *name);
void each_file(const char *folder, file_function *tell, void *user);
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size);
enum { HASH_BEGIN = 1 };
uint64_t hash_folder(const char *folder); /* names and contents */
typedef struct hashing {
    const char *folder;
    uint64_t hash;
} hashing;

typedef struct command {
    const char *word[64];
    int count;
} command;
/* Words, ended by NULL. The first is the program. */
command make_command(const char *word, ...) __attribute__((sentinel));
void add_words(command *c, ...) __attribute__((sentinel));
const char *command_text(const command *c);

enum { TIMED_OUT = -1, DEADLINE = 60, OUTPUT_SIZE = 1 << 16 };
typedef struct outcome {
    int code; /* of exit; 128 + signal; or TIMED_OUT */
    char out[OUTPUT_SIZE], err[OUTPUT_SIZE];
} outcome;

/* Runs in the work folder. `environment`: "NAME=VALUE" or NULL. */
void run_command(const trials *t, const command *c, const char *environment, double deadline, outcome *o);
/* The same in two parts. */
pid_t start_command(const trials *t, const command *c, const char *environment, int slot, bool traced);
void finish_command(const trials *t, pid_t process, int slot, double deadline, outcome *o);
void read_outcome(const trials *t, int slot, int status, outcome *o);
/* Lines that begin with "sid2", as each error does. */
int count_complaints(const outcome *o);
const char *last_complaint(const outcome *o);

/* ---- tracer.c ---- */

typedef enum call_kind {
    CALL_OPEN,
    CALL_READ,
    CALL_WRITE,
    CALL_SYNC,
    CALL_CLOSE,
    CALL_RENAME,
    CALL_LINK,
    CALL_UNLINK,
    CALL_MKDIR,
    CALL_LIST,
    CALL_STAT,
    CALL_TRUNCATE,
    CALL_MAP,
    CALL_LOCK,
    CALL_KINDS
} call_kind;
extern const char *const call_names[CALL_KINDS];

typedef struct call {
    pid_t thread;
    long number;
    call_kind kind;
    uint64_t argument[6];
    int path_at, path2_at;        /* argument of a name, or -1 */
    char path[4096], path2[4096]; /* in full; "" where there is none */
    bool is_rmdir, creates;       /* unlink, open */
    int64_t result;               /* in `after` */
    /* What `before` may ask for. */
    int error;         /* the call is not made and fails so */
    uint64_t at_most;  /* shortens a read or write; 0: no */
    bool wants_result; /* `after` is called */
    int signal;        /* sent to the process that calls before the call */
} call;

typedef struct tracer {
    const char *root; /* calls on what lies below are seen */
    void (*before)(void *user, call *c);
    void (*after)(void *user, call *c);
    void *user;
} tracer;

bool can_trace(void);
void run_traced(const trials *t, const command *c, tracer *how, double deadline, outcome *o);
void read_memory(pid_t thread, uint64_t address, void *to, size_t size);

/* ---- train.c ---- */

enum { FIRST = 2, LAST = 4 }; /* steps: where a disturbed training begins, and where it ends */
typedef enum source_kind { FROM_ZIP, FROM_FOLDER } source_kind;

const char *data_of(const trials *t, source_kind from);
const char *trial_folder(const trials *t); /* WORK/t */
const char *run_folder(const trials *t);   /* WORK/t/run */
command train_command(const trials *t, const char *run, source_kind from, int steps, int keep);
/* The run as it is at FIRST, or nothing, with things of other people beside and in it. */
void begin_trial(const trials *t, source_kind from, bool resumes);
/* What is wrong with the run after a disturbed training, or NULL. `least`: a step that must not be lost. */
const char *judge_left(const trials *t, source_kind from, int least);
const char *judge_end(const trials *t, source_kind from, const outcome *o, int least);
/* An undisturbed `train` afterwards. */
const char *judge_retry(const trials *t, source_kind from, int least);
int last_line_step(const char *run); /* of stats.jsonl; 0: none */
int resumed_step(const outcome *o);  /* 0: from the beginning */

/* Every other command, with what it makes. */
typedef struct job {
    const char *name;
    command command;
    const char *makes; /* a path, or NULL: only what it prints counts */
} job;
enum { MOST_JOBS = 24 };
int list_jobs(const trials *t, job jobs[MOST_JOBS]);
/* The hash of what it printed and made. */
uint64_t hash_job(const job *j, const outcome *o);
/* What is wrong with how it ended: the same result as `want`, or one line and an exit code of 1. */
const char *judge_job(const job *j, const outcome *o, uint64_t want);

#endif
