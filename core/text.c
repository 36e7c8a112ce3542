#include "text.h"

#include <locale.h>
#include <stdlib.h>

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

bool sid2_is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
