/* sid2 report: runs as one HTML page. */
#include "cli.h"

#include "file.h"

#include <stdio.h>

int command_report(int argc, char **argv)
{
    word_list runs = {.count = 0};
    const char *out = NULL;
    const option_row rows[] = {
        {OPTION_WORDS, "RUN", NULL, &runs,
         "folders that sid2 train wrote; several are shown beside each other", NULL},
        {OPTION_TEXT, "out", "x.html", &out,
         "where to (RUN/report.html; of several the first one's comparison.html)", NULL},
    };
    int code = options_parse(
        &(option_table){"report", "One self-contained HTML page about training runs", NULL, rows, 2}, argc,
        argv);
    if (code != OPTIONS_RUN) return code;
    sid2_error err = {0};
    char page[4096];
    const char *name = runs.count > 1 ? "comparison" : "report";
    bool ok =
        (out ? sid2_path(page, &err, "%s", out) : sid2_path(page, &err, "%s/%s.html", runs.item[0], name)) &&
        sid2_run_compare(runs.item, runs.count, page, &err);
    if (ok) printf("%s\n", page);
    return ok ? 0 : report_error("report", &err);
}
