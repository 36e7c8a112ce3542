/* Line charts as SVG, for the report. Colours come from the page's style sheet: .s0, .s1, ... by series. */
#ifndef SID2_CHART_H
#define SID2_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct chart_series {
    const char *name;  /* for the legend; NULL: none */
    const char *style; /* class of the line: "raw", "s0" */
    const double *x, *y;
    int count;
} chart_series;

typedef struct chart {
    const char *title, *x_label;
    bool log_y;  /* where all values are positive */
    bool log_x;  /* the same; then real_x does not count */
    bool any_y;  /* else from 0, where log_y is not */
    bool real_x; /* else whole numbers, of which there are no halves, as of steps */
    const chart_series *series;
    int series_count;
} chart;

/* Foreign text as HTML, also within quotes of one stroke. */
void sid2_html_text(FILE *page, const char *text);
/* Bytes within a page, as data: addresses have them. */
void sid2_html_base64(FILE *page, const uint8_t *bytes, size_t size);
/* The look of series number i: eight colours, then the same in dashes, then in dots. */
enum { SID2_CHART_STYLES = 24 };
const char *sid2_chart_style(int i);
void sid2_chart_write(FILE *page, const chart *c);
/* An average over a window that widens with the length of the series, centred. */
void sid2_chart_smooth(const double *y, int count, double *smooth);

#endif
