#include "table.h"

#include "chart.h"
#include "text.h"

#include <stdlib.h>

void sid2_table_begin(sid2_table *t, const char *title)
{
    *t = (sid2_table){0};
    snprintf(t->title, sizeof t->title, "%s", title);
}

static void add(sid2_table *t, const char *format, va_list arguments)
{
    if (t->cells == t->room) {
        int room = t->room ? 2 * t->room : 64;
        void *grown = t->failed ? NULL : realloc(t->cell, (size_t)room * sizeof *t->cell);
        t->failed = !grown;
        if (t->failed) return;
        t->cell = grown;
        t->room = room;
    }
    sid2_text_vformat(t->cell[t->cells++], sizeof *t->cell, format, arguments);
}

void sid2_table_head(sid2_table *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(t, format, arguments);
    va_end(arguments);
    t->columns++;
}

void sid2_table_cell(sid2_table *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(t, format, arguments);
    va_end(arguments);
}

void sid2_table_free(sid2_table *t)
{
    free(t->cell);
    *t = (sid2_table){0};
}

int sid2_table_rows(const sid2_table *t) { return t->columns ? t->cells / t->columns : 0; }

const char *sid2_table_at(const sid2_table *t, int row, int column)
{
    return t->cell[row * t->columns + column];
}

void sid2_table_markdown(FILE *file, const sid2_table *t)
{
    fprintf(file, "**%s**\n\n", t->title);
    for (int row = 0; row < sid2_table_rows(t); row++) {
        for (int column = 0; column < t->columns; column++)
            fprintf(file, "%s %s", column ? " |" : "|", sid2_table_at(t, row, column));
        fputs(" |\n", file);
        for (int column = 0; !row && column < t->columns; column++) fputs(column ? "---|" : "|---|", file);
        if (!row) fputc('\n', file);
    }
    fputc('\n', file);
}

void sid2_table_html(FILE *page, const sid2_table *t)
{
    fputs("<h2>", page);
    sid2_html_text(page, t->title);
    fputs("</h2><div class=wide><table class=runs>", page);
    for (int row = 0; row < sid2_table_rows(t); row++) {
        fputs("<tr>", page);
        for (int column = 0; column < t->columns; column++) {
            fputs(row ? "<td>" : "<th>", page);
            sid2_html_text(page, sid2_table_at(t, row, column));
        }
    }
    fputs("</table></div>\n", page);
}
