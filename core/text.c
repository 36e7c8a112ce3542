#include "text.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* The calling thread computes in the C locale from here to `leave`. The C locale is a constant of the C
 * library: making and freeing it allocates nothing. */
typedef struct locales {
    locale_t plain, before;
} locales;

static locales enter(void)
{
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return (locales){plain, plain ? uselocale(plain) : (locale_t)0};
}

static void leave(locales l)
{
    if (!l.plain) return;
    uselocale(l.before);
    freelocale(l.plain);
}

double sid2_text_real(const char *text, char **end)
{
    locales l = enter();
    double number = strtod(text, end);
    leave(l);
    return number;
}

int sid2_text_vformat(char *text, size_t size, const char *format, va_list arguments)
{
    locales l = enter();
    int length = vsnprintf(text, size, format, arguments);
    leave(l);
    return length;
}

int sid2_text_format(char *text, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = sid2_text_vformat(text, size, format, arguments);
    va_end(arguments);
    return length;
}

int sid2_text_print(FILE *stream, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    locales l = enter();
    int length = vfprintf(stream, format, arguments);
    leave(l);
    va_end(arguments);
    return length;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c; }

bool sid2_text_begins(const char *text, const char *start, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (lower(text[i]) != lower(start[i])) return false;
        if (!text[i]) return true;
    }
    return true;
}

bool sid2_text_equal(const char *a, const char *b) { return sid2_text_begins(a, b, SIZE_MAX); }

bool sid2_text_ends(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && sid2_text_equal(text + length - tail, end);
}

/* `text` itself where that is no UTF-8. */
static char *unicode_map(const char *text, utf8proc_option_t how)
{
    utf8proc_uint8_t *result = NULL;
    utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)text, 0, &result,
                                           UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE | how);
    if (length >= 0) return (char *)result;
    return length == UTF8PROC_ERROR_NOMEM ? NULL : strdup(text);
}

char *sid2_text_nfc(const char *text) { return unicode_map(text, 0); }

char *sid2_text_fold(const char *text) { return unicode_map(text, UTF8PROC_CASEFOLD); }

char *sid2_text_utf8(const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    size_t length = strlen(text), used = 0;
    char *copy = malloc(3 * length + 1);
    for (size_t i = 0; copy && i < length;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t bytes =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(length - i), &code);
        size_t kept = bytes > 0 ? (size_t)bytes : 3;
        memcpy(copy + used, bytes > 0 ? text + i : replacement, kept);
        used += kept;
        i += bytes > 0 ? kept : 1;
    }
    if (copy) copy[used] = 0;
    return copy;
}

int sid2_text_columns(const char *text, size_t size)
{
    int columns = 0;
    for (size_t i = 0; i < size;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t bytes =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(size - i), &code);
        columns += bytes > 0 ? utf8proc_charwidth(code) : 1;
        i += bytes > 0 ? (size_t)bytes : 1;
    }
    return columns;
}

bool sid2_is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* ---- As people read them ---- */

const char *sid2_text_time(double seconds, char text[32])
{
    if (!(seconds < 1e8)) return strcpy(text, "-");
    long s = lround(seconds);
    if (s >= 3600)
        snprintf(text, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, 32, "%ld:%02ld", s / 60, s % 60);
    return text;
}

static const char *text_scaled(double number, double base, const char *const units[5], char text[32])
{
    int unit = 0;
    while (unit < 4 && number >= base) number /= base, unit++;
    sid2_text_format(text, 32, unit && number < 99.95 ? "%.1f%s%s" : "%.0f%s%s", number,
                     units[unit][0] ? " " : "", units[unit]);
    return text;
}

const char *sid2_text_bytes(double bytes, char text[32])
{
    return text_scaled(bytes, 1024, (const char *const[]){"B", "KiB", "MiB", "GiB", "TiB"}, text);
}

const char *sid2_text_rate(double rate, char text[32])
{
    sid2_text_format(text, 32, rate < 100 ? "%.3g" : "%.0f", rate);
    return text;
}

const char *sid2_text_count(double number, char text[32])
{
    return text_scaled(number, 1000, (const char *const[]){"", "K", "M", "G", "T"}, text);
}

/* Edits (insert, delete, replace, swap neighbours) from one word to another. */
static int edit_distance(const char *a, const char *b)
{
    enum { LIMIT = 48 };
    int rows[3][LIMIT + 1], lb = (int)strnlen(b, LIMIT);
    int *before = rows[0], *above = rows[1], *row = rows[2];
    for (int j = 0; j <= lb; j++) above[j] = before[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        row[0] = i;
        for (int j = 1; j <= lb; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) best = above[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
        int *spare = before;
        before = above, above = row, row = spare;
    }
    return above[lb];
}

bool sid2_text_nearer(const char *word, const char *known, int *least)
{
    size_t a = strlen(word), b = strlen(known);
    if (a > b + 2 || b > a + 2) return false;
    int distance = edit_distance(word, known);
    if (distance > 2 || 3 * distance > (int)strnlen(word, 6) || distance >= *least) return false;
    *least = distance;
    return true;
}

const char *sid2_text_find(const sid2_text_row *table, const char *name, const char *kinds, char advice[400])
{
    char list[256] = "";
    const char *nearest = NULL;
    int least = SID2_TEXT_FAR;
    for (const sid2_text_row *p = table; p->name; p++) {
        if (strcmp(p->name, name) == 0) return p->text;
        if (sid2_text_nearer(name, p->name, &least)) nearest = p->name;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", p->name);
    }
    snprintf(advice, 400, "%s%s%s; %s: %s", nearest ? "; did you mean '" : "", nearest ? nearest : "",
             nearest ? "'" : "", kinds, list);
    return NULL;
}
