/* A page of HTML in one file, with the report's looks and its script. */
#ifndef SID2_PAGE_H
#define SID2_PAGE_H

#include "chart.h"

/* Up to the heading, which is what the page is of, with commas between. */
void sid2_page_begin(FILE *page, const char *const *of, int count);
void sid2_page_end(FILE *page);

#endif
