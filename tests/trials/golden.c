/* Same seeds, same bits. */
#include "trials.h"

#include <stdio.h>
#include <string.h>

static void compare(trials *t, const char *program, int threads, const char *what)
{
    static outcome o;
    command c = make_command(program, NULL);
    forget_texts();
    run_command(t, &c, text("OMP_NUM_THREADS=%d", threads), 600, &o);
    const char *line = strchr(o.err, '\n');
    count_case(t, o.code ? text("%.*s", (int)(line ? line - o.err : 0), o.err) : NULL,
               "digests of %s, %d threads", what, threads);
}

void try_golden(trials *t)
{
    char program[4096];
    snprintf(program, sizeof program, "%s/test_digest", t->tests);
    for (int threads = 1; threads <= 8; threads *= 2) compare(t, program, threads, "this build");
}
