/* Power cuts. A training's calls on files are recorded, with what they write; then folders are built that a cut
 * could leave, and the training is started again in each.
 *
 * What the disk promises (less than most file systems do, and no more than POSIX):
 *     - what a file holds is kept up to its last fsync. Of what was written since, everything may be kept, nothing,
 *       a beginning, or any blocks of 4096 bytes, the others zero; a file's size may be on the disk before its bytes.
 *     - a change of a folder (a name made, renamed, removed) is kept from the next fsync of that folder on; of a
 *       renaming from folder to folder, the one that receives. fsync of a file keeps its bytes, not its name.
 *     - of later changes each may be kept or lost on its own, in any order, but for what follows from another: a
 *       name is renamed or removed only where it is there, a folder that is not empty stays, what lies in a lost
 *       folder is lost. A renaming is kept or lost as a whole.
 *     - nothing that comes after the cut is kept. */
#include "trials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST_CHANGES = 4096, MOST_NODES = 1024, BLOCK = 4096, ROOT = 0 };

typedef enum change_kind { MADE, REMOVED, RENAMED, EXCHANGED, WRITTEN, CUT, FLUSHED } change_kind;

typedef struct change {
    change_kind kind;
    int node;            /* which file or folder */
    int folder, folder2; /* where its name is; where it comes to be */
    char *name, *name2;
    uint64_t offset; /* written; of a cut: the new size */
    uint8_t *bytes;
    size_t size;
} change;

typedef struct entry {
    int folder, node;
    const char *name;
} entry;

typedef struct content {
    uint8_t *bytes;
    size_t size;
} content;

/* A folder tree, at some time. */
typedef struct tree {
    entry entries[MOST_NODES];
    int count;
} tree;

static change changes[MOST_CHANGES];
static int change_count;
static bool is_folder[MOST_NODES];
static int node_count;
static int saved[MOST_CHANGES + 1]; /* by changes made: the newest step whose save had returned */
static tree start, live;            /* before the recording; during it */
static content start_content[MOST_NODES];
static const char *root;
static char strange[256]; /* a call that is not modelled */

/* ---- A tree ---- */

static int find_entry(const tree *t, int folder, const char *name)
{
    for (int i = 0; i < t->count; i++)
        if (t->entries[i].folder == folder && strcmp(t->entries[i].name, name) == 0) return i;
    return -1;
}

static bool is_empty(const tree *t, int folder)
{
    for (int i = 0; i < t->count; i++)
        if (t->entries[i].folder == folder) return false;
    return true;
}

static void add_entry(tree *t, int folder, const char *name, int node)
{
    if (t->count == MOST_NODES) give_up("too many files");
    t->entries[t->count++] = (entry){folder, node, name};
}

/* False where the tree does not have what the change starts from. */
static bool change_tree(tree *t, const change *c)
{
    int at = find_entry(t, c->folder, c->name), to;
    if (c->kind == MADE) {
        if (at >= 0) return false;
        add_entry(t, c->folder, c->name, c->node);
        return true;
    }
    if (at < 0 || t->entries[at].node != c->node) return false;
    if (c->kind == REMOVED) {
        if (!is_empty(t, c->node)) return false;
        t->entries[at] = t->entries[--t->count];
        return true;
    }
    to = find_entry(t, c->folder2, c->name2);
    if (c->kind == EXCHANGED) {
        if (to < 0) return false;
        int node = t->entries[to].node;
        t->entries[to].node = c->node;
        t->entries[at].node = node;
        return true;
    }
    if (to >= 0 && to != at) {
        if (!is_empty(t, t->entries[to].node)) return false;
        t->entries[to] = t->entries[--t->count];
        at = find_entry(t, c->folder, c->name);
    }
    t->entries[at].folder = c->folder2;
    t->entries[at].name = c->name2;
    return true;
}

/* The node that a path below the root leads to, or -1; and the folder and name of its last part. */
static int look_up(const char *path, int *folder, const char **name)
{
    int node = ROOT;
    const char *part = path + strlen(root);
    *folder = -1;
    *name = "";
    while (*part) {
        part++;
        size_t length = strcspn(part, "/");
        const char *one = strndup(part, length);
        *folder = node;
        *name = one;
        part += length;
        int at = node < 0 ? -1 : find_entry(&live, node, one);
        node = at < 0 ? -1 : live.entries[at].node;
        if (node < 0 && *part) return *folder = -1;
    }
    return node;
}

static int new_node(bool folder)
{
    if (node_count == MOST_NODES) give_up("too many files");
    is_folder[node_count] = folder;
    return node_count++;
}

/* ---- Recording ---- */

static void add_start(void *user, const char *name)
{
    (void)user;
    char path[4096];
    for (const char *end = name; *end;) {
        end += strcspn(end + (*end == '/'), "/") + (*end == '/');
        snprintf(path, sizeof path, "%s/%.*s", root, (int)(end - name), name);
        int folder;
        const char *last;
        if (look_up(path, &folder, &last) >= 0) continue;
        int node = new_node(*end);
        add_entry(&live, folder, last, node);
        if (!*end) start_content[node].bytes = read_whole(path, &start_content[node].size);
    }
}

static change *add_change(change_kind kind, int node, int folder, const char *name)
{
    if (change_count == MOST_CHANGES) give_up("too many changes");
    change *c = &changes[change_count++];
    *c = (change){.kind = kind, .node = node, .folder = folder, .name = (char *)name};
    saved[change_count] = saved[change_count - 1];
    return c;
}

static bool below(const char *path)
{
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (!path[length] || path[length] == '/');
}

/* What matters of a descriptor: where it writes. */
static uint64_t write_offset(const call *c, bool *appends)
{
    char path[64], line[128];
    unsigned long long position = 0;
    unsigned flags = 0;
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", c->thread, (int)c->argument[0]);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "pos: %llu", &position), sscanf(line, "flags: %o", &flags);
    if (file) fclose(file);
    *appends = flags & O_APPEND;
    return c->number == SYS_pwrite64 ? c->argument[3] : position;
}

typedef struct written {
    uint64_t offset;
    bool appends;
} written;
static written pending[1 << 10]; /* by thread, of the call that goes on */

static void before(void *user, call *c)
{
    (void)user;
    c->wants_result = c->kind == CALL_OPEN || c->kind == CALL_WRITE || c->kind == CALL_SYNC ||
                      c->kind == CALL_RENAME || c->kind == CALL_LINK || c->kind == CALL_UNLINK ||
                      c->kind == CALL_MKDIR || c->kind == CALL_TRUNCATE;
    written *w = &pending[c->thread & 1023];
    if (c->kind == CALL_WRITE) w->offset = write_offset(c, &w->appends);
}

static size_t live_size(int node)
{
    size_t size = start_content[node].size;
    for (int i = 0; i < change_count; i++) {
        if (changes[i].node != node) continue;
        if (changes[i].kind == CUT) size = changes[i].offset;
        if (changes[i].kind == WRITTEN && changes[i].offset + changes[i].size > size)
            size = changes[i].offset + changes[i].size;
    }
    return size;
}

/* A line of stats.jsonl about a step is written once the save before has returned. */
static void note_saved(const call *c, const change *written_now)
{
    size_t length = strlen(c->path);
    int step;
    if (length < 12 || strcmp(c->path + length - 12, "/stats.jsonl") != 0) return;
    if (sscanf((const char *)written_now->bytes, "{\"step\": %d,", &step) == 1 &&
        step - 1 > saved[change_count])
        saved[change_count] = step - 1;
}

static void after(void *user, call *c)
{
    (void)user;
    int folder, folder2;
    const char *name, *name2;
    if (c->result < 0 || !below(c->path)) return;
    int node = look_up(c->path, &folder, &name);
    switch (c->kind) {
    case CALL_OPEN: {
        uint64_t flags = c->number == SYS_openat ? c->argument[2] : c->argument[1];
        if (node < 0 && folder >= 0)
            change_tree(&live, add_change(MADE, new_node(false), folder, name));
        else if (node >= 0 && (flags & O_TRUNC))
            add_change(CUT, node, 0, NULL);
        break;
    }
    case CALL_WRITE: {
        written *w = &pending[c->thread & 1023];
        if (node < 0 || !c->result) break;
        if (c->number != SYS_write && c->number != SYS_pwrite64) {
            snprintf(strange, sizeof strange, "writev of %.200s", c->path);
            break;
        }
        uint64_t offset = w->appends ? live_size(node) : w->offset;
        change *made = add_change(WRITTEN, node, 0, NULL);
        made->size = (size_t)c->result;
        made->bytes = calloc(made->size + 1, 1);
        made->offset = offset;
        read_memory(c->thread, c->argument[1], made->bytes, made->size);
        note_saved(c, made);
        break;
    }
    case CALL_TRUNCATE:
        if (node >= 0 && c->number == SYS_ftruncate) add_change(CUT, node, 0, NULL)->offset = c->argument[1];
        if (c->number != SYS_ftruncate) snprintf(strange, sizeof strange, "fallocate of %.200s", c->path);
        break;
    case CALL_SYNC:
        if (node >= 0) add_change(FLUSHED, node, 0, NULL);
        break;
    case CALL_MKDIR:
        if (node < 0 && folder >= 0) change_tree(&live, add_change(MADE, new_node(true), folder, name));
        break;
    case CALL_UNLINK:
        if (node >= 0) change_tree(&live, add_change(REMOVED, node, folder, name));
        break;
    case CALL_RENAME: {
        bool exchanges = c->number == SYS_renameat2 && (c->argument[4] & 2);
        if (node < 0 || !below(c->path2)) break;
        look_up(c->path2, &folder2, &name2);
        change *made = add_change(exchanges ? EXCHANGED : RENAMED, node, folder, name);
        made->folder2 = folder2;
        made->name2 = (char *)name2;
        change_tree(&live, made);
        break;
    }
    case CALL_LINK: snprintf(strange, sizeof strange, "link of %.200s", c->path); break;
    default: break;
    }
}

static void record(trials *t, bool resumes, int keep)
{
    static outcome o;
    while (change_count) free(changes[--change_count].bytes);
    for (int i = 0; i < node_count; i++) free(start_content[i].bytes);
    memset(start_content, 0, sizeof start_content);
    live.count = node_count = 0;
    saved[0] = resumes ? FIRST : 0;
    begin_trial(t, FROM_ZIP, resumes);
    free((char *)root);
    root = strdup(trial_folder(t));
    new_node(true);
    each_file(root, add_start, NULL);
    start = live;
    command c = train_command(t, run_folder(t), FROM_ZIP, LAST, keep);
    run_traced(t, &c, &(tracer){.root = root, .before = before, .after = after}, DEADLINE, &o);
    if (o.code) give_up("an undisturbed training fails: %s", o.err);
    add_change(FLUSHED, -1, 0, NULL);
    saved[change_count] = LAST; /* it has ended */
}

/* ---- Cutting ---- */

typedef enum manner {
    ALL_KEPT,   /* as if it had been killed */
    ALL_LOST,   /* everything that was not flushed */
    BYTES_ZERO, /* names kept, bytes that were not flushed are zero */
    BYTES_CUT,  /* ... or end early */
    BYTES_LOST, /* ... or are not there */
    NAMES_LOST, /* bytes kept, names that were not flushed not */
    ANY,        /* each as it falls */
    MANNERS
} manner;
static const char *const manner_names[MANNERS] = {"all kept",        "all lost that was not flushed",
                                                  "bytes zero",      "bytes cut short",
                                                  "bytes not there", "names lost",
                                                  "each as it falls"};

static void replay(content *c, int node, int from, int to)
{
    for (int i = from; i < to; i++) {
        const change *now = &changes[i];
        size_t size = c->size;
        if (now->node != node || (now->kind != WRITTEN && now->kind != CUT)) continue;
        if (now->kind == CUT) size = now->offset;
        if (now->kind == WRITTEN && now->offset + now->size > size) size = now->offset + now->size;
        c->bytes = realloc(c->bytes, size + 1);
        if (size > c->size) memset(c->bytes + c->size, 0, size - c->size);
        c->size = size;
        if (now->kind == WRITTEN) memcpy(c->bytes + now->offset, now->bytes, now->size);
    }
}

static content content_at(trials *t, int node, int cut, manner how)
{
    int flushed = 0;
    for (int i = 0; i < cut; i++)
        if (changes[i].kind == FLUSHED && changes[i].node == node) flushed = i;
    content c = {malloc(start_content[node].size + 1), start_content[node].size};
    if (c.size) memcpy(c.bytes, start_content[node].bytes, c.size);
    replay(&c, node, 0, flushed);
    content sure = {memcpy(malloc(c.size + 1), c.bytes, c.size), c.size};
    replay(&c, node, flushed, cut);
    bool same = sure.size == c.size && memcmp(sure.bytes, c.bytes, c.size) == 0;
    if (how == ANY) how = (manner[]){ALL_KEPT, BYTES_ZERO, BYTES_CUT, BYTES_LOST, ANY}[draw(t, 5)];
    if (same || how == ALL_KEPT || how == NAMES_LOST) {
        free(sure.bytes);
        return c;
    }
    if (how == ALL_LOST || how == BYTES_LOST) {
        free(c.bytes);
        return sure;
    }
    if (how == BYTES_CUT) {
        size_t common = 0;
        while (common < sure.size && common < c.size && sure.bytes[common] == c.bytes[common]) common++;
        c.size = common + draw(t, c.size - common + 1);
    } else {
        for (size_t at = 0; at < c.size; at += BLOCK) {
            size_t length = c.size - at < BLOCK ? c.size - at : BLOCK,
                   old = at < sure.size ? sure.size - at : 0;
            if (old > length) old = length;
            if (old == length && memcmp(sure.bytes + at, c.bytes + at, length) == 0) continue;
            if (how == ANY && draw(t, 2)) continue;
            memset(c.bytes + at + old, 0,
                   length - old); /* what was flushed is overwritten in place, or not yet */
            if (old) memcpy(c.bytes + at, sure.bytes + at, old);
        }
    }
    free(sure.bytes);
    return c;
}

static bool is_named_change(const change *c)
{
    return c->kind == MADE || c->kind == REMOVED || c->kind == RENAMED || c->kind == EXCHANGED;
}

static void tree_at(trials *t, int cut, manner how, tree *state)
{
    *state = start;
    for (int i = 0; i < cut; i++) {
        const change *c = &changes[i];
        if (!is_named_change(c)) continue;
        int folder = c->kind == RENAMED || c->kind == EXCHANGED ? c->folder2 : c->folder;
        bool flushed = false;
        for (int k = i + 1; k < cut && !flushed; k++)
            flushed = changes[k].kind == FLUSHED && changes[k].node == folder;
        bool keep = flushed || (how != ALL_LOST && how != NAMES_LOST && (how != ANY || draw(t, 2)));
        if (keep) change_tree(state, c);
    }
}

static void materialise(trials *t, const tree *state, int cut, manner how, int folder, const char *path,
                        int depth)
{
    if (depth > 16) return;
    for (int i = 0; i < state->count; i++) {
        if (state->entries[i].folder != folder) continue;
        char below[4096];
        int node = state->entries[i].node;
        snprintf(below, sizeof below, "%s/%s", path, state->entries[i].name);
        if (is_folder[node]) {
            make_folder(below);
            materialise(t, state, cut, how, node, below, depth + 1);
        } else {
            content c = content_at(t, node, cut, how);
            write_whole(below, c.bytes, c.size);
            free(c.bytes);
        }
    }
}

enum { MOST_SEEN = 1 << 16 };
static uint64_t seen[MOST_SEEN];
static int seen_count;

/* False where the same state was tried before. */
static bool try_cut(trials *t, int cut, manner how, const char *what)
{
    static tree state;
    begin_trial(t, FROM_ZIP, false);
    remove_all(trial_folder(t));
    make_folder(trial_folder(t));
    tree_at(t, cut, how, &state);
    materialise(t, &state, cut, how, ROOT, trial_folder(t), 0);
    uint64_t hash = hash_folder(trial_folder(t)) ^ (uint64_t)saved[cut];
    for (int i = 0; i < seen_count; i++)
        if (seen[i] == hash) return false;
    if (seen_count < MOST_SEEN) seen[seen_count++] = hash;
    if (t->keep) copy_all(trial_folder(t), text("%s/state", t->work));
    const char *problem = judge_retry(t, FROM_ZIP, saved[cut]);
    count_case(t, problem, "%s, cut after change %d of %d, %s; step %d was saved", what, cut, change_count,
               manner_names[how], saved[cut]);
    return true;
}

void try_crashes(trials *t)
{
    for (int form = 0; form < 3; form++) {
        static const char *const what[] = {"a new run, keep=1", "a run that goes on, keep=1",
                                           "a run that goes on, keep=2"};
        record(t, form > 0, form == 2 ? 2 : 1);
        if (strange[0]) give_up("not modelled: %s", strange);
        if (t->all) {
            for (int cut = 1; cut <= change_count; cut++) {
                for (int how = 0; how < MANNERS; how++) try_cut(t, cut, (manner)how, what[form]);
                for (int i = 0; i < 3; i++) try_cut(t, cut, ANY, what[form]);
            }
            continue;
        }
        for (int i = 0, done = 0; i < 100 && done < 10; i++)
            done +=
                try_cut(t, 1 + (int)draw(t, (uint64_t)change_count), (manner)draw(t, MANNERS), what[form]);
    }
}
