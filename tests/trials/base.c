#include "trials.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("tests/torture: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* SplitMix64. */
uint64_t draw(trials *t, uint64_t below)
{
    uint64_t z = t->random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return below ? (z ^ z >> 31) % below : 0;
}

/* ---- Texts ---- */

static char *texts[4096];
static int text_count;

char *text(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (text_count == sizeof texts / sizeof *texts || vasprintf(&texts[text_count], format, arguments) < 0)
        give_up("too many texts");
    va_end(arguments);
    return texts[text_count++];
}

void forget_texts(void)
{
    while (text_count) free(texts[--text_count]);
}

/* ---- Files ---- */

bool exists(const char *path)
{
    struct stat status;
    return !lstat(path, &status);
}

uint8_t *read_whole(const char *path, size_t *size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) || !S_ISREG(status.st_mode)) {
        if (file >= 0) close(file);
        *size = 0;
        return NULL;
    }
    uint8_t *bytes = malloc((size_t)status.st_size + 1);
    ssize_t got = bytes ? read(file, bytes, (size_t)status.st_size) : -1;
    if (got < 0) give_up("%s: %s", path, strerror(errno));
    close(file);
    bytes[ *size = (size_t)got] = 0;
    return bytes;
}

void write_whole(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file))
        give_up("%s: %s", path, strerror(errno));
}

void make_folder(const char *path)
{
    if (mkdir(path, 0777) && errno != EEXIST) give_up("%s: %s", path, strerror(errno));
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

void remove_all(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT)
        give_up("%s: %s", path, strerror(errno));
}

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static void walk(const char *folder, const char *below, file_function *tell, void *user)
{
    char path[8300], name[4096];
    struct dirent **entries;
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", folder, below);
    int count = scandir(path, &entries, not_dots, alphasort);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s%s%s", below, *below ? "/" : "", entries[i]->d_name);
        free(entries[i]);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        if (lstat(path, &status)) continue;
        if (S_ISDIR(status.st_mode))
            walk(folder, name, tell, user);
        else
            tell(user, name);
    }
    if (count >= 0) free(entries);
}

void each_file(const char *folder, file_function *tell, void *user) { walk(folder, "", tell, user); }

static const char *copy_from, *copy_to;

static int copy_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)place;
    char to[4096];
    snprintf(to, sizeof to, "%s%s", copy_to, path + strlen(copy_from));
    if (kind == FTW_D) {
        make_folder(to);
    } else if (S_ISREG(status->st_mode)) {
        size_t size;
        uint8_t *bytes = read_whole(path, &size);
        write_whole(to, bytes, size);
        free(bytes);
    }
    return 0;
}

void copy_all(const char *from, const char *to)
{
    remove_all(to);
    copy_from = from;
    copy_to = to;
    if (nftw(from, copy_one, 16, FTW_PHYS)) give_up("%s: %s", from, strerror(errno));
}

/* FNV-1a in words of eight bytes, mixed. */
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    for (uint64_t word; size; p += sizeof word) {
        size_t take = size < sizeof word ? size : sizeof word;
        word = take;
        memcpy(&word, p, take);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15;
        hash ^= hash >> 29;
        size -= take;
    }
    return hash;
}

static void hash_one(void *user, const char *name)
{
    hashing *h = user;
    char path[4096];
    size_t size;
    snprintf(path, sizeof path, "%s/%s", h->folder, name);
    uint8_t *bytes = read_whole(path, &size);
    h->hash = hash_bytes(hash_bytes(h->hash, name, strlen(name)), bytes ? bytes : (uint8_t *)"", size);
    free(bytes);
}

uint64_t hash_folder(const char *folder)
{
    hashing h = {folder, HASH_BEGIN};
    each_file(folder, hash_one, &h);
    return h.hash;
}

/* ---- Processes ---- */

static void add_word(command *c, const char *word)
{
    if (c->count + 1 == sizeof c->word / sizeof *c->word) give_up("a command of too many words");
    c->word[c->count++] = word;
    c->word[c->count] = NULL;
}

void add_words(command *c, ...)
{
    va_list words;
    va_start(words, c);
    for (const char *word; (word = va_arg(words, const char *));) add_word(c, word);
    va_end(words);
}

command make_command(const char *first, ...)
{
    command c = {0};
    va_list words;
    va_start(words, first);
    add_word(&c, first);
    for (const char *word; (word = va_arg(words, const char *));) add_word(&c, word);
    va_end(words);
    return c;
}

const char *command_text(const command *c)
{
    const char *all = "sid2";
    for (int i = 1; i < c->count; i++) all = text("%s %s", all, c->word[i]);
    return all;
}

static int open_slot(const trials *t, int slot, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s-%d", t->work, name, slot);
    return open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
}

pid_t start_command(const trials *t, const command *c, const char *environment, int slot, bool traced)
{
    pid_t process = fork();
    if (process < 0) give_up("fork: %s", strerror(errno));
    if (process) return process;
    setpgid(0, 0);
    int out = open_slot(t, slot, "out"), err = open_slot(t, slot, "err"), in = open("/dev/null", O_RDONLY);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || chdir(t->work)) _exit(126);
    for (int i = 3; i < 20; i++) close(i);
    if (environment) putenv((char *)environment);
    setenv("XDG_CACHE_HOME", t->work, 1);
    setenv("LC_ALL", "C", 1);
    if (traced) {
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* the leak checker traces, too */
        void begin_tracing(void);
        begin_tracing();
    }
    execv(c->word[0], (char *const *)c->word);
    _exit(127);
}

static void read_slot(const trials *t, int slot, const char *name, char *to)
{
    char path[512];
    size_t size;
    snprintf(path, sizeof path, "%s/%s-%d", t->work, name, slot);
    uint8_t *bytes = read_whole(path, &size);
    if (size >= OUTPUT_SIZE) size = OUTPUT_SIZE - 1;
    if (bytes) memcpy(to, bytes, size);
    to[size] = 0;
    free(bytes);
}

void read_outcome(const trials *t, int slot, int status, outcome *o)
{
    if (o->code != TIMED_OUT) o->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    read_slot(t, slot, "out", o->out);
    read_slot(t, slot, "err", o->err);
}

void finish_command(const trials *t, pid_t process, int slot, double deadline, outcome *o)
{
    int status;
    o->code = 0;
    for (double end = now() + deadline, last = now(), at; waitpid(process, &status, WNOHANG) == 0;
         last = at) {
        at = now();
        if (at - last > 1) end += at - last; /* all was stopped: a suspended machine, a frozen group */
        if (at > end && o->code != TIMED_OUT) {
            o->code = TIMED_OUT;
            kill(-process, SIGKILL);
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    read_outcome(t, slot, status, o);
}

void run_command(const trials *t, const command *c, const char *environment, double deadline, outcome *o)
{
    finish_command(t, start_command(t, c, environment, 0, false), 0, deadline, o);
}

int count_complaints(const outcome *o)
{
    /* The others end the process by themselves where they have no memory. */
    static const char *const begins[] = {"sid2", "libgomp: ", "Fatal Internal Error in libarchive: "};
    int count = 0;
    for (const char *line = o->err; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
            count += strncmp(line, begins[i], strlen(begins[i])) == 0;
    }
    return count;
}

const char *last_complaint(const outcome *o)
{
    const char *end = o->err + strlen(o->err);
    while (end > o->err && end[-1] == '\n') end--;
    const char *line = end;
    while (line > o->err && line[-1] != '\n') line--;
    return text("%.*s", (int)(end - line), line);
}
