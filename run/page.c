#include "page.h"

#include <sid2/base.h>

#include "text.h"

extern const char report_css[], report_js[]; /* report.css and report.js, by the build */

static void write_names(FILE *page, const char *const *of, int count)
{
    for (int i = 0; i < count; i++) {
        if (i) fputs(", ", page);
        sid2_html_text(page, of[i]);
    }
}

void sid2_page_begin(FILE *page, const char *const *of, int count)
{
    fputs(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
        "content='width=device-width'><title>",
        page);
    write_names(page, of, count);
    sid2_text_print(page, "</title><style>%s</style><main><h1>", report_css);
    write_names(page, of, count);
    fputs("</h1>", page);
}

void sid2_page_end(FILE *page)
{
    sid2_text_print(page, "<p class=sub>made by sid2 " SID2_VERSION "</p></main><script>%s</script></html>\n",
                    report_js);
}
