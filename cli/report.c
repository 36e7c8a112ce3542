/* sid2 report: a run as one HTML page. */
#include "cli.h"

#include "file.h"

#include <stdio.h>

int command_report(int argc, char **argv)
{
    const char *path = NULL, *out = NULL;
    const option_row rows[] = {
        {OPTION_POSITIONAL, "RUN", NULL, &path, "the folder that sid2 train wrote", NULL},
        {OPTION_TEXT, "out", "x.html", &out, "where to (RUN/report.html)", NULL},
    };
    int code = options_parse(
        &(option_table){"report", "One self-contained HTML page about a training run", NULL, rows, 2}, argc,
        argv);
    if (code != OPTIONS_RUN) return code;
    sid2_error err = {0};
    char page[4096];
    bool ok = (out ? sid2_path(page, &err, "%s", out) : sid2_path(page, &err, "%s/report.html", path)) &&
              sid2_run_report(path, page, &err);
    if (ok) printf("%s\n", page);
    return ok ? 0 : report_error("report", &err);
}
