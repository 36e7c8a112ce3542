/* A table of short texts: filled cell by cell, written as Markdown or HTML, or read by whoever prints it. */
#ifndef SID2_TABLE_H
#define SID2_TABLE_H

#include "base.h"

#include <stdio.h>

typedef struct sid2_table {
    char title[200];
    int columns, cells, room; /* cells: so far, heads among them */
    char (*cell)[48];
    bool failed; /* no memory: what came after is missing */
} sid2_table;

/* Begins one; columns and their heads come by sid2_table_head before the first cell. */
void sid2_table_begin(sid2_table *table, const char *title);
void sid2_table_head(sid2_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sid2_table_cell(sid2_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sid2_table_free(sid2_table *table);
int sid2_table_rows(const sid2_table *table); /* the heads are row 0 */
const char *sid2_table_at(const sid2_table *table, int row, int column);
void sid2_table_markdown(FILE *file, const sid2_table *table);
void sid2_table_html(FILE *page, const sid2_table *table);

#endif
