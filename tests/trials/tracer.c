/* A process under ptrace. A seccomp filter stops it at calls that concern files, and at no others, so that the
 * training itself runs at full speed; what glibc calls within itself is seen as well, which a preloaded library
 * would miss. */
#include "trials.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const call_names[CALL_KINDS] = {"open",   "read",     "write",  "fsync", "close",
                                            "rename", "link",     "unlink", "mkdir", "list",
                                            "stat",   "truncate", "mmap",   "flock"};

/* ---- The calls. Where their paths are: `folder` the argument of a folder's descriptor (NONE: the working
 * folder), `name` that of the name (NONE: the descriptor alone). ---- */

enum { NONE = -1 };
static const struct {
    long number;
    call_kind kind;
    int folder, name, folder2, name2;
} calls[] = {
#ifdef SYS_open
    {SYS_open, CALL_OPEN, NONE, 0, NONE, NONE},
    {SYS_creat, CALL_OPEN, NONE, 0, NONE, NONE},
    {SYS_rename, CALL_RENAME, NONE, 0, NONE, 1},
    {SYS_link, CALL_LINK, NONE, 0, NONE, 1},
    {SYS_unlink, CALL_UNLINK, NONE, 0, NONE, NONE},
    {SYS_rmdir, CALL_UNLINK, NONE, 0, NONE, NONE},
    {SYS_mkdir, CALL_MKDIR, NONE, 0, NONE, NONE},
    {SYS_stat, CALL_STAT, NONE, 0, NONE, NONE},
    {SYS_lstat, CALL_STAT, NONE, 0, NONE, NONE},
    {SYS_access, CALL_STAT, NONE, 0, NONE, NONE},
#endif
#ifdef SYS_renameat
    {SYS_renameat, CALL_RENAME, 0, 1, 2, 3},
#endif
    {SYS_openat, CALL_OPEN, 0, 1, NONE, NONE},
    {SYS_read, CALL_READ, 0, NONE, NONE, NONE},
    {SYS_pread64, CALL_READ, 0, NONE, NONE, NONE},
    {SYS_readv, CALL_READ, 0, NONE, NONE, NONE},
    {SYS_write, CALL_WRITE, 0, NONE, NONE, NONE},
    {SYS_pwrite64, CALL_WRITE, 0, NONE, NONE, NONE},
    {SYS_writev, CALL_WRITE, 0, NONE, NONE, NONE},
    {SYS_fsync, CALL_SYNC, 0, NONE, NONE, NONE},
    {SYS_fdatasync, CALL_SYNC, 0, NONE, NONE, NONE},
    {SYS_close, CALL_CLOSE, 0, NONE, NONE, NONE},
    {SYS_renameat2, CALL_RENAME, 0, 1, 2, 3},
    {SYS_linkat, CALL_LINK, 0, 1, 2, 3},
    {SYS_unlinkat, CALL_UNLINK, 0, 1, NONE, NONE},
    {SYS_mkdirat, CALL_MKDIR, 0, 1, NONE, NONE},
    {SYS_getdents64, CALL_LIST, 0, NONE, NONE, NONE},
    {SYS_fstat, CALL_STAT, 0, NONE, NONE, NONE},
    {SYS_newfstatat, CALL_STAT, 0, 1, NONE, NONE},
    {SYS_statx, CALL_STAT, 0, 1, NONE, NONE},
    {SYS_faccessat, CALL_STAT, 0, 1, NONE, NONE},
    {SYS_faccessat2, CALL_STAT, 0, 1, NONE, NONE},
    {SYS_ftruncate, CALL_TRUNCATE, 0, NONE, NONE, NONE},
    {SYS_fallocate, CALL_TRUNCATE, 0, NONE, NONE, NONE},
    {SYS_mmap, CALL_MAP, 4, NONE, NONE, NONE},
    {SYS_flock, CALL_LOCK, 0, NONE, NONE, NONE},
};
enum { CALL_COUNT = sizeof calls / sizeof *calls };

/* ---- Registers ---- */

#if defined __x86_64__
typedef struct user_regs_struct registers;
static const uint32_t architecture = AUDIT_ARCH_X86_64;
static long call_number(const registers *r) { return (long)r->orig_rax; }
static void get_arguments(const registers *r, uint64_t to[6])
{
    to[0] = r->rdi, to[1] = r->rsi, to[2] = r->rdx, to[3] = r->r10, to[4] = r->r8, to[5] = r->r9;
}
static void set_count(registers *r, uint64_t count) { r->rdx = count; }
static int64_t get_result(const registers *r) { return (int64_t)r->rax; }
static void skip_call(pid_t thread, registers *r, int64_t result)
{
    (void)thread;
    r->orig_rax = (uint64_t)-1;
    r->rax = (uint64_t)result;
}
#elif defined __aarch64__
typedef struct user_regs_struct registers;
static const uint32_t architecture = AUDIT_ARCH_AARCH64;
static long call_number(const registers *r) { return (long)r->regs[8]; }
static void get_arguments(const registers *r, uint64_t to[6]) { memcpy(to, r->regs, 6 * sizeof *to); }
static void set_count(registers *r, uint64_t count) { r->regs[2] = count; }
static int64_t get_result(const registers *r) { return (int64_t)r->regs[0]; }
static void skip_call(pid_t thread, registers *r, int64_t result)
{
    int none = -1;
    ptrace(PTRACE_SETREGSET, thread, (void *)NT_ARM_SYSTEM_CALL, &(struct iovec){&none, sizeof none});
    r->regs[0] = (uint64_t)result;
}
#else
#error "the tracer knows the registers of x86-64 and AArch64 only"
#endif

static bool get_registers(pid_t thread, registers *r)
{
    return !ptrace(PTRACE_GETREGSET, thread, (void *)NT_PRSTATUS, &(struct iovec){r, sizeof *r});
}

static void set_registers(pid_t thread, registers *r)
{
    ptrace(PTRACE_SETREGSET, thread, (void *)NT_PRSTATUS, &(struct iovec){r, sizeof *r});
}

/* ---- The traced side ---- */

void begin_tracing(void);
void begin_tracing(void)
{
    struct sock_filter filter[CALL_COUNT + 6];
    int n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 0, CALL_COUNT + 1);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALL_COUNT; i++)
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i].number,
                                                   (uint8_t)(CALL_COUNT - i), 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    struct sock_fprog program = {(unsigned short)n, filter};
    if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(125);
    raise(SIGSTOP);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(124);
}

/* ---- The tracing side ---- */

void read_memory(pid_t thread, uint64_t address, void *to, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", thread);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || pread(file, to, size, (off_t)address) != (ssize_t)size)
        give_up("cannot read the memory of process %d", thread);
    close(file);
}

static void read_name(pid_t thread, uint64_t address, char name[4096])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", thread);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    name[0] = 0;
    ssize_t got = file < 0 ? -1 : pread(file, name, 4095, (off_t)address);
    if (got < 0) got = file < 0 ? 0 : pread(file, name, 4096 - (address & 4095), (off_t)address);
    name[got < 0 ? 0 : got < 4095 ? got : 4095] = 0;
    if (file >= 0) close(file);
}

static void read_link(char to[4096], const char *format, pid_t thread, int number)
{
    char path[64];
    snprintf(path, sizeof path, format, thread, number);
    ssize_t length = readlink(path, to, 4095);
    to[length < 0 ? 0 : length] = 0;
}

/* The path in full, without "." and "..". */
static void resolve(pid_t thread, int folder, const char *name, char path[4096])
{
    static char whole[8300];
    char base[4096] = "";
    if (name[0] != '/') {
        if (folder == AT_FDCWD)
            read_link(base, "/proc/%d/cwd", thread, 0);
        else
            read_link(base, "/proc/%d/fd/%d", thread, folder);
    }
    snprintf(whole, sizeof whole, "%s/%s", base, name);
    size_t length = 0;
    path[0] = 0;
    for (char *state, *part = strtok_r(whole, "/", &state); part; part = strtok_r(NULL, "/", &state)) {
        if (strcmp(part, ".") == 0) continue;
        if (strcmp(part, "..") == 0) {
            while (length && path[--length] != '/') {
            }
            path[length] = 0;
            continue;
        }
        if (length + strlen(part) + 2 > 4096) return;
        length += (size_t)sprintf(path + length, "/%s", part);
    }
}

static void find_path(const call *c, int folder, int name, char path[4096])
{
    char text[4096] = "";
    int base = folder == NONE ? AT_FDCWD : (int)c->argument[folder];
    path[0] = 0;
    if (name == NONE && folder == NONE) return;
    if (name != NONE) read_name(c->thread, c->argument[name], text);
    if (name == NONE && base < 0) return; /* no file, as of anonymous memory */
    resolve(c->thread, base, text, path);
}

static bool describe(pid_t thread, const registers *r, call *c)
{
    *c = (call){.thread = thread, .number = call_number(r)};
    int row = 0;
    while (row < CALL_COUNT && calls[row].number != c->number) row++;
    if (row == CALL_COUNT) return false;
    c->kind = calls[row].kind;
    get_arguments(r, c->argument);
    find_path(c, calls[row].folder, calls[row].name, c->path);
    find_path(c, calls[row].folder2, calls[row].name2, c->path2);
#ifdef SYS_open
    if (c->number == SYS_open) c->creates = c->argument[1] & O_CREAT;
    if (c->number == SYS_creat) c->creates = true;
    if (c->number == SYS_rmdir) c->is_rmdir = true;
#endif
    if (c->number == SYS_openat) c->creates = c->argument[2] & O_CREAT;
    if (c->number == SYS_unlinkat) c->is_rmdir = c->argument[2] & AT_REMOVEDIR;
    return true;
}

static bool below(const char *path, const char *root)
{
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (!path[length] || path[length] == '/');
}

enum { MOST_THREADS = 64 };
typedef struct tracing {
    tracer *how;
    call waiting[MOST_THREADS];
} tracing;

static call *find_waiting(tracing *s, pid_t thread)
{
    for (int i = 0; i < MOST_THREADS; i++)
        if (s->waiting[i].thread == thread) return &s->waiting[i];
    return NULL;
}

/* What the thread is told to do next. */
static int at_call(tracing *s, pid_t thread)
{
    static call c;
    registers r;
    if (!get_registers(thread, &r) || !describe(thread, &r, &c)) return PTRACE_CONT;
    bool ours = below(c.path, s->how->root) || (c.path2[0] && below(c.path2, s->how->root));
    if (!ours) return PTRACE_CONT;
    s->how->before(s->how->user, &c);
    if (c.signal) kill(thread, c.signal); /* its process: the traced one, or a child of it */
    if (c.error) skip_call(thread, &r, -c.error);
    if (c.at_most && c.argument[2] > c.at_most) set_count(&r, c.at_most);
    if (c.error || c.at_most) set_registers(thread, &r);
    if (!c.wants_result) return PTRACE_CONT;
    call *waiting = find_waiting(s, 0);
    if (!waiting) give_up("a process of too many threads");
    *waiting = c;
    return PTRACE_SYSCALL;
}

static void at_return(tracing *s, pid_t thread)
{
    registers r;
    call *waiting = find_waiting(s, thread);
    if (!waiting || !get_registers(thread, &r)) return;
    waiting->result = get_result(&r);
    if (s->how->after) s->how->after(s->how->user, waiting);
    waiting->thread = 0;
}

static void on_alarm(int number) { (void)number; } /* waiting ends, once a second */

void run_traced(const trials *t, const command *c, tracer *how, double deadline, outcome *o)
{
    static tracing s;
    memset(&s, 0, sizeof s);
    s.how = how;
    o->code = 0;
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_alarm}, NULL);
    pid_t process = start_command(t, c, NULL, 0, true), thread;
    int status, last = 0;
    if (waitpid(process, &status, __WALL) != process || !WIFSTOPPED(status)) give_up("cannot trace");
    if (ptrace(PTRACE_SETOPTIONS, process, 0,
               PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE |
                   PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC))
        give_up("cannot trace: %s", strerror(errno));
    ptrace(PTRACE_CONT, process, 0, 0);
    const struct itimerval second = {{1, 0}, {1, 0}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &second, NULL);
    double last_at = now(), end = last_at + deadline;
    for (bool running = true; running;) {
        thread = waitpid(-1, &status, __WALL);
        int cause = errno;
        double at = now();
        if (at - last_at > 3) end += at - last_at; /* all was stopped: a suspended machine, a frozen group */
        last_at = at;
        errno = cause;
        if (at > end && o->code != TIMED_OUT) {
            o->code = TIMED_OUT;
            kill(-process, SIGKILL);
        }
        if (thread < 0) {
            running = errno == EINTR;
            continue;
        }
        if (!WIFSTOPPED(status)) {
            call *waiting = find_waiting(&s, thread);
            if (waiting) waiting->thread = 0;
            if (thread == process) last = status;
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16, next = PTRACE_CONT;
        if (event == PTRACE_EVENT_SECCOMP)
            next = at_call(&s, thread);
        else if (signal == (SIGTRAP | 0x80))
            at_return(&s, thread);
        bool ours = event || signal == (SIGTRAP | 0x80) || signal == SIGSTOP;
        ptrace((enum __ptrace_request)next, thread, 0, ours ? 0 : signal);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    read_outcome(t, 0, last, o);
}

bool can_trace(void)
{
    pid_t process = fork();
    int status;
    if (!process) {
        begin_tracing();
        _exit(0);
    }
    if (process < 0 || waitpid(process, &status, __WALL) != process || !WIFSTOPPED(status)) return false;
    kill(process, SIGKILL);
    ptrace(PTRACE_CONT, process, 0, SIGKILL);
    waitpid(process, &status, __WALL);
    return true;
}
