#include "census.h"

#include "file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

struct sid2_census {
    FILE *stream; /* lines of it, "name\tvalue" */
    char *text;
    size_t size;
};

sid2_census *sid2_census_create(sid2_error *err)
{
    sid2_census *c = calloc(1, sizeof *c);
    if (c && (c->stream = open_memstream(&c->text, &c->size))) return c;
    free(c);
    return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the census of ranks"), NULL;
}

void sid2_census_destroy(sid2_census *c)
{
    if (!c) return;
    if (c->stream) fclose(c->stream);
    free(c->text);
    free(c);
}

void sid2_census_add(sid2_census *c, const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(c->stream, "%s\t", name);
    vfprintf(c->stream, format, arguments);
    fputc('\n', c->stream);
    va_end(arguments);
}

/* The part of a line that is worth showing. */
static int shown(size_t length, size_t most) { return (int)(length < most ? length : most); }

/* USAGE: the first line that differs. */
static bool compare(const char *own, const char *first, sid2_error *err)
{
    while (*own && *first) {
        size_t length = strcspn(own, "\n"), length0 = strcspn(first, "\n"), name = strcspn(own, "\t");
        if (strncmp(own, first, name + 1) != 0) break; /* a line that the other has not */
        if (length != length0 || memcmp(own, first, length) != 0)
            return sid2_fail(err, SID2_ERR_USAGE, "%.*s is %.*s, rank 0's is %.*s", shown(name, 80), own,
                             shown(length - name - 1, 120), own + name + 1, shown(length0 - name - 1, 120),
                             first + name + 1);
        own += length + 1;
        first += length0 + 1;
    }
    const char *line = *own ? own : first;
    return !*line || sid2_fail(err, SID2_ERR_USAGE, "%s has no %.*s", *own ? "rank 0" : "it",
                               shown(strcspn(line, "\t\n"), 120), line);
}

/* Rank 0's lines to all, to be freed; NULL without an error: a want of memory. */
static bool spread(sid2_census *c, sid2_group *group, char **text, sid2_error *err)
{
    uint64_t size = c->size + 1;
    *text = NULL;
    if (!sid2_group_share(group, &size, sizeof size, err)) return false;
    bool room = (*text = malloc(size)) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (!sid2_group_concur(group, room, err)) return false;
    if (sid2_group_rank(group) == 0) memcpy(*text, c->text, size);
    return sid2_group_share(group, *text, size, err);
}

bool sid2_census_compare(sid2_census *c, sid2_group *group, sid2_error *err)
{
    bool whole =
        (!fflush(c->stream) && !ferror(c->stream)) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    char *first = NULL;
    bool ok = sid2_group_concur(group, whole, err) && spread(c, group, &first, err) &&
              sid2_group_concur(group, compare(c->text, first, err), err);
    free(first);
    return ok;
}

/* ---- One folder ----
 * Rank 0 leaves an empty file in it, under a name that nobody has looked for before: so no other job's is taken for it, and
 * no file system remembers that it was not there. What a kill leaves of it the next start removes (core/file.h). */

enum { MOST_NAME = 96 };

static bool leave_token(const char *folder, char name[MOST_NAME], char path[4096], sid2_error *err)
{
    uint8_t random[16];
    char word[2 * sizeof random + 1];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return sid2_fail(err, SID2_ERR_IO, "the system has no random numbers");
    for (size_t i = 0; i < sizeof random; i++) snprintf(word + 2 * i, 3, "%02x", random[i]);
    snprintf(name, MOST_NAME, ".ranks-%s.sid2-tmp-%ld-0", word, (long)getpid());
    return sid2_path(path, err, "%s/%s", folder, name) && sid2_file_write(path, "", 0, err);
}

static bool look_for_token(const char *folder, const char *name, double seconds, sid2_error *err)
{
    const struct timespec moment = {.tv_nsec = 100000000};
    double began = sid2_clock();
    char path[4096];
    sid2_kind kind;
    if (!sid2_path(path, err, "%s/%s", folder, name)) return false;
    while (!sid2_look(path, &kind, NULL) || kind != SID2_REGULAR) {
        if (sid2_clock() - began > seconds)
            return sid2_fail(
                err, SID2_ERR_USAGE,
                "%.100s is not the folder that rank 0 sees there: all ranks need one that they share",
                folder);
        nanosleep(&moment, NULL);
    }
    return true;
}

bool sid2_census_folder(sid2_group *group, const char *folder, double seconds, sid2_error *err)
{
    char path[4096] = "", name[MOST_NAME] = "";
    bool first = sid2_group_rank(group) == 0, ok = !first || leave_token(folder, name, path, err);
    ok = sid2_group_concur(group, ok, err) && sid2_group_share(group, name, sizeof name, err) &&
         sid2_group_concur(group, look_for_token(folder, name, seconds, err), err);
    if (first && name[0]) remove(path);
    return ok;
}
