/* Flipped bits in every file of a run and of its data: seen when it is read, or without any effect. And what is no
 * file in a file's place: no hang, one line. */
#include "trials.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST_FILES = 256 };
typedef struct names {
    char *name[MOST_FILES];
    int count;
} names;

static void add_name(void *user, const char *name)
{
    names *n = user;
    if (n->count < MOST_FILES) n->name[n->count++] = text("%s", name);
}

static bool is_foreign(const char *name) { return strstr(name, "mine") || strstr(name, "-best"); }

/* All lines but the flipped one, which is cut out of both; a flipped newline joins or parts lines. */
static const char *lines_lost(const char *before, const char *after, size_t where)
{
    const char *line = before + where;
    while (line > before && line[-1] != '\n') line--;
    const char *rest = strchr(line, '\n'), *second = rest ? strchr(rest + 1, '\n') : NULL;
    if (strncmp(before, after, (size_t)(line - before)) != 0)
        return "lines of stats.jsonl before the flip are gone";
    if (before[where] == '\n') rest = second;
    return rest && !strstr(after, rest) ? "lines of stats.jsonl behind the flip are gone" : NULL;
}

/* A flip in the field's name leaves a line without a digest, whose numbers are as they were. */
static bool in_name_of_digest(const char *before, size_t where)
{
    static const char name[] = "\"xxh3_128\"";
    const char *at = before;
    while ((at = strstr(at, name)) && where >= (size_t)(at - before) + strlen(name)) at++;
    return at && where >= (size_t)(at - before);
}

static const char *judge_flip(trials *t, const char *name, uint8_t *was, size_t where)
{
    static outcome o;
    bool facts = strcmp(name, "run/run.json") == 0;
    char *history = was[0] && strcmp(name, "run/stats.jsonl") == 0 ? strdup((char *)was) : NULL;
    command c = train_command(t, run_folder(t), FROM_ZIP, LAST, 2);
    run_command(t, &c, NULL, DEADLINE, &o);
    const char *problem = o.code == 2 ? NULL : judge_end(t, FROM_ZIP, &o, FIRST);
    if (o.code == 2 && count_complaints(&o) != 1)
        problem = text("%d lines say what is wrong", count_complaints(&o));
    if (history) { /* its own line may be lost, the others not */
        size_t size;
        char *after = (char *)read_whole(text("%s/stats.jsonl", run_folder(t)), &size);
        if (!o.code && problem && strstr(problem, "the line of step")) problem = NULL;
        if (!problem && !strstr(o.err, "stats.jsonl:") && !in_name_of_digest(history, where))
            problem = "not seen";
        if (!problem) problem = after ? lines_lost(history, after, where) : "stats.jsonl is gone";
        free(after);
        free(history);
        return problem;
    }
    if (!problem && !o.code && facts && !in_name_of_digest((char *)was, where)) problem = "not seen";
    if (!problem && o.code && !strstr(o.err, strrchr(name, '/') + 1) && !strstr(o.err, "step-0000000"))
        problem = text("the line does not name the file: %s", last_complaint(&o));
    return problem;
}

static void flip(trials *t, const char *name, uint64_t bit)
{
    size_t size;
    begin_trial(t, FROM_ZIP, true);
    const char *path = text("%s/%s", trial_folder(t), name);
    uint8_t *bytes = read_whole(path, &size);
    if (bytes && size) {
        size_t where = bit / 8 % size;
        uint8_t *was = memcpy(malloc(size + 1), bytes, size + 1);
        bytes[where] ^= (uint8_t)(1 << bit % 8);
        write_whole(path, bytes, size);
        count_case(t, judge_flip(t, name, was, where), "bit %d of byte %zu of %s flipped, then train",
                   (int)(bit % 8), where, name);
        free(was);
    }
    free(bytes);
}

/* Pictures carry checksums of their own: the picture is named and left out, or it is the same picture. */
static void flip_picture(trials *t)
{
    static outcome o;
    names n = {.count = 0};
    begin_trial(t, FROM_FOLDER, false);
    const char *folder = text("%s/flipped", t->work);
    copy_all(data_of(t, FROM_FOLDER), folder);
    command c =
        make_command(t->sid2, "data", "inspect", folder, "--out", text("%s/sheet.png", t->work), NULL);
    run_command(t, &c, NULL, DEADLINE, &o);
    uint64_t want = hash_bytes(HASH_BEGIN, o.out, strlen(o.out));
    each_file(folder, add_name, &n);
    const char *name = n.name[draw(t, (uint64_t)n.count)], *path = text("%s/%s", folder, name);
    size_t size;
    uint8_t *bytes = read_whole(path, &size);
    uint64_t bit = draw(t, 8 * size);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    write_whole(path, bytes, size);
    free(bytes);
    run_command(t, &c, NULL, DEADLINE, &o);
    bool named = strstr(o.err, strrchr(name, '/') + 1),
         same = hash_bytes(HASH_BEGIN, o.out, strlen(o.out)) == want;
    const char *problem = o.code > 1 || o.code < 0 ? text("exit code %d", o.code)
                          : named || same          ? NULL
                                                   : "not seen";
    count_case(t, problem, "bit %d of byte %d of the picture %s flipped, then data inspect", (int)(bit % 8),
               (int)(bit / 8), name);
    remove_all(folder);
}

void try_flips(trials *t)
{
    names n = {.count = 0};
    begin_trial(t, FROM_ZIP, true);
    each_file(trial_folder(t), add_name, &n);
    char *kept[MOST_FILES];
    int count = 0;
    for (int i = 0; i < n.count; i++)
        if (strncmp(n.name[i], "run/", 4) == 0 && !is_foreign(n.name[i])) kept[count++] = strdup(n.name[i]);
    for (int i = 0; i < count; i++) {
        struct stat status;
        begin_trial(t, FROM_ZIP, true);
        const char *path = text("%s/%s", trial_folder(t), kept[i]);
        uint64_t bits = stat(path, &status) ? 0 : 8 * (uint64_t)status.st_size;
        bool small = bits <= 8 * 256;
        for (uint64_t k = 0, most = t->all && small ? bits : 2; bits && k < most; k++)
            flip(t, kept[i], t->all && small ? k : draw(t, draw(t, 2) ? bits : bits < 4096 ? bits : 4096));
        free(kept[i]);
    }
    for (int i = 0; i < 4; i++) flip_picture(t);
}

/* ---- In the place of a file ---- */

static const char *const impostors[] = {"a pipe", "/dev/zero", "a folder", "a socket", "a link to nothing"};

static void put_impostor(const char *path, int kind)
{
    remove_all(path);
    int failed = kind == 0   ? mkfifo(path, 0666)
                 : kind == 1 ? symlink("/dev/zero", path)
                 : kind == 2 ? mkdir(path, 0777)
                             : 0;
    if (kind == 3) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int s = socket(AF_UNIX, SOCK_STREAM, 0);
        snprintf(address.sun_path, sizeof address.sun_path, "%s", "/tmp/sid2-torture-socket");
        unlink(address.sun_path);
        failed =
            s < 0 || bind(s, (struct sockaddr *)&address, sizeof address) || rename(address.sun_path, path);
        if (s >= 0) close(s);
    }
    if (kind == 4) failed = symlink("/nowhere/at/all", path);
    if (failed) give_up("cannot make %s in the place of %s", impostors[kind], path);
}

/* 1 or 2, and one line; or the file was of no interest. */
static const char *judge_impostor(const outcome *o)
{
    if (o->code == TIMED_OUT) return "hangs";
    if (o->code > 128) return text("dies of signal %d", o->code - 128);
    int complaints = count_complaints(o);
    return !o->code || complaints == 1
               ? NULL
               : text("%d lines say what is wrong: %s", complaints, last_complaint(o));
}

void try_fifos(trials *t)
{
    static outcome o;
    enum { PATIENCE = 5, KINDS = sizeof impostors / sizeof *impostors };
    char *kept[MOST_FILES];
    names n = {.count = 0};
    int count = 0;
    begin_trial(t, FROM_FOLDER, true);
    begin_trial(t, FROM_ZIP, true);
    each_file(trial_folder(t), add_name, &n);
    for (int i = 0; i < n.count; i++)
        if (strncmp(n.name[i], "run/", 4) == 0 && !is_foreign(n.name[i]) &&
            !strstr(n.name[i], "step-00000001"))
            kept[count++] = strdup(n.name[i]);
    for (int i = 0; i < 2 * count; i++) {
        job jobs[MOST_JOBS];
        const char *name = kept[i / 2];
        int kind = i % 2 ? 1 + (int)draw(t, KINDS - 1) : 0;
        begin_trial(t, FROM_ZIP, true);
        put_impostor(text("%s/%s", trial_folder(t), name), kind);
        command c = train_command(t, run_folder(t), FROM_ZIP, LAST, 2);
        run_command(t, &c, NULL, PATIENCE, &o);
        count_case(t, judge_impostor(&o), "%s in the place of %s, then train", impostors[kind], name);
        begin_trial(t, FROM_ZIP, true);
        put_impostor(text("%s/%s", trial_folder(t), name), kind);
        const job *j = &jobs[(list_jobs(t, jobs), draw(t, 8))];
        run_command(t, &j->command, NULL, PATIENCE, &o);
        count_case(t, judge_impostor(&o), "%s in the place of %s, then %s", impostors[kind], name, j->name);
    }
    while (count) free(kept[--count]);
    for (int kind = 0; kind < KINDS; kind++) {
        if (kind == 2) continue; /* an empty folder is data without pictures */
        begin_trial(t, FROM_ZIP, true);
        const char *place = text("%s/data", trial_folder(t));
        put_impostor(place, kind);
        command c = make_command(t->sid2, "data", "inspect", place, NULL);
        run_command(t, &c, NULL, PATIENCE, &o);
        const char *problem = o.code ? judge_impostor(&o) : "exit code 0";
        count_case(t, problem, "data inspect of %s", impostors[kind]);
        c = make_command(t->sid2, "train", "--preset", place, "--data", data_of(t, FROM_ZIP), "--out",
                         text("%s/new", trial_folder(t)), NULL);
        run_command(t, &c, NULL, PATIENCE, &o);
        problem = o.code ? judge_impostor(&o) : "exit code 0";
        count_case(t, problem, "train --preset %s", impostors[kind]);
    }
}
