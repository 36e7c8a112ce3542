#include "census.h"

#include "file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

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

/* ---- One folder ---- */

enum { TOKEN = 32 };

static bool leave_token(const char *file, char token[TOKEN + 1], sid2_error *err)
{
    uint8_t random[TOKEN / 2];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return sid2_fail(err, SID2_ERR_IO, "the system has no random numbers");
    for (size_t i = 0; i < sizeof random; i++) snprintf(token + 2 * i, 3, "%02x", random[i]);
    return sid2_file_write(file, token, TOKEN, err);
}

static bool sees_token(const char *file, const char *token)
{
    size_t size = 0;
    uint8_t *text = sid2_file_read(file, 4096, &size, NULL);
    bool same = text && size == TOKEN && memcmp(text, token, TOKEN) == 0;
    free(text);
    return same;
}

static bool look_for_token(const char *file, const char *token, const char *folder, double seconds,
                           sid2_error *err)
{
    const struct timespec moment = {.tv_nsec = 100000000};
    double began = sid2_clock();
    while (!sees_token(file, token)) {
        if (sid2_clock() - began > seconds)
            return sid2_fail(
                err, SID2_ERR_USAGE,
                "%.100s is not the folder that rank 0 sees there: all ranks need one that they share",
                folder);
        nanosleep(&moment, NULL);
    }
    return true;
}

bool sid2_census_folder(sid2_group *group, const char *path, double seconds, sid2_error *err)
{
    char file[4096], token[TOKEN + 1] = "";
    bool first = sid2_group_rank(group) == 0;
    bool ok = sid2_path(file, err, "%s/.sid2-ranks", path) && (!first || leave_token(file, token, err));
    ok = sid2_group_concur(group, ok, err) && sid2_group_share(group, token, sizeof token, err) &&
         sid2_group_concur(group, look_for_token(file, token, path, seconds, err), err);
    if (first && token[0]) remove(file);
    return ok;
}
