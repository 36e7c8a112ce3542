#include "print.h"

#include "base.h"
#include "text.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#undef fprintf

/* One conversion: "%-12.3f", with what stands for each star. */
typedef struct conversion {
    char text[32];
    int stars, star[2];
    int longs;     /* l: 1, ll and j: 2, z and t: 3 */
    int precision; /* of a string; -1: whole */
    char kind;
} conversion;

/* Reads one from `format`, which stands behind the '%'; what follows it. */
static const char *parse(conversion *c, const char *format, va_list *arguments)
{
    const char *start = format - 1;
    *c = (conversion){.precision = -1};
    for (; *format && strchr("-+ #0123456789.*hlzjt", *format); format++) {
        if (*format == '.') c->precision = (int)strtol(format + 1, NULL, 10);
        if (*format == 'l') c->longs++;
        if (*format == 'j') c->longs = 2;
        if (*format == 'z' || *format == 't') c->longs = 3;
        if (*format != '*' || c->stars == 2) continue;
        c->star[c->stars++] = va_arg(*arguments, int);
        if (format[-1] == '.') c->precision = c->star[c->stars - 1];
    }
    c->kind = *format;
    if (*format) format++;
    size_t length = (size_t)(format - start);
    if (length >= sizeof c->text) length = sizeof c->text - 1;
    memcpy(c->text, start, length);
    return format;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#define PRINT(value)                                                                                         \
    (c->stars == 0   ? fprintf(stream, c->text, value)                                                       \
     : c->stars == 1 ? fprintf(stream, c->text, c->star[0], value)                                           \
                     : fprintf(stream, c->text, c->star[0], c->star[1], value))

/* Needs no memory for texts as long as a path, so that what is said does not depend on it. */
static int print_string(FILE *stream, const conversion *c, const char *text)
{
    char place[4096], *longer = NULL, *plain = place;
    if (!text) text = "(null)";
    size_t size = c->precision >= 0 ? strnlen(text, (size_t)c->precision) : strlen(text);
    if (size >= sizeof place && (longer = malloc(size + 1))) plain = longer;
    if (plain == place && size >= sizeof place) size = sizeof place - 1;
    memcpy(plain, text, size);
    plain[size] = 0;
    int length = PRINT(sid2_plain_line(plain));
    free(longer);
    return length;
}

/* NOLINTBEGIN(bugprone-branch-clone): the branches differ in the type that is read */
static int print_one(FILE *stream, const conversion *c, va_list *arguments)
{
    switch (c->kind) {
    case 's': return print_string(stream, c, va_arg(*arguments, const char *));
    case 'd':
    case 'i':
        if (c->longs == 0) return PRINT(va_arg(*arguments, int));
        if (c->longs == 1) return PRINT(va_arg(*arguments, long));
        return c->longs == 2 ? PRINT(va_arg(*arguments, long long)) : PRINT(va_arg(*arguments, ptrdiff_t));
    case 'u':
    case 'x':
        if (c->longs == 0) return PRINT(va_arg(*arguments, unsigned));
        if (c->longs == 1) return PRINT(va_arg(*arguments, unsigned long));
        return c->longs == 2 ? PRINT(va_arg(*arguments, unsigned long long))
                             : PRINT(va_arg(*arguments, size_t));
    case 'c': return PRINT(va_arg(*arguments, int));
    case '%': return fputc('%', stream) == EOF ? -1 : 1;
    default: return PRINT(va_arg(*arguments, double));
    }
}
/* NOLINTEND(bugprone-branch-clone) */
#pragma GCC diagnostic pop

int print_to(FILE *stream, const char *format, ...)
{
    int length = 0;
    va_list arguments;
    va_start(arguments, format);
    flockfile(stream);
    while (*format) {
        size_t plain = strcspn(format, "%");
        length += (int)fwrite(format, 1, plain, stream);
        format += plain;
        if (!*format) break;
        conversion c;
        format = parse(&c, format + 1, &arguments);
        length += print_one(stream, &c, &arguments);
    }
    funlockfile(stream);
    va_end(arguments);
    return length;
}

/* ---- Lines of a plan ---- */

void print_field(FILE *stream, const char *label, const char *format, ...)
{
    enum { WIDTH = 80, INDENT = 9 };
    char text[8192];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sid2_plain_line(text);
    print_to(stream, "%-*s", INDENT - 1, label);
    int column = INDENT - 1;
    for (const char *word = text; *word;) {
        size_t size = strcspn(word, " ");
        const char *next = word + size + (word[size] == ' '), *dots = "";
        int columns = sid2_text_columns(word, size);
        if (column >= INDENT && column + 1 + columns > WIDTH)
            print_to(stream, "\n%*s", INDENT - 1, ""), column = INDENT - 1;
        for (; column + 1 + (*dots ? 3 : 0) + columns > WIDTH; columns = sid2_text_columns(word, size)) {
            do word++, size--;
            while (((unsigned char)*word & 0xc0) == 0x80);
            dots = "...";
        }
        print_to(stream, " %s%.*s", dots, (int)size, word);
        column += 1 + (*dots ? 3 : 0) + columns;
        word = next;
    }
    fputc('\n', stream);
}

/* ---- For a shell ---- */

/* $'...' says any byte, and printed plain it stays what it is; bash, zsh and POSIX of 2024 know it. */
static void write_escaped(const char *text, char *quoted)
{
    quoted += sprintf(quoted, "$'");
    for (; *text; text++) {
        bool plain = *text >= ' ' && *text < 127 && *text != '\'' && *text != '\\';
        quoted += sprintf(quoted, plain ? "%c" : "\\%03o", plain ? *text : (unsigned char)*text);
    }
    strcpy(quoted, "'");
}

const char *shell_word(const char *text, char quoted[SHELL_WORD])
{
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-";
    char plain[4096];
    if (strlen(text) >= sizeof plain) return strcpy(quoted, "..."); /* no system takes it for a path */
    if (text[0] && !text[strspn(text, safe)]) return strcpy(quoted, text);
    if (strcmp(sid2_plain_line(strcpy(plain, text)), text) != 0) {
        write_escaped(text, quoted);
        return quoted;
    }
    char *end = quoted;
    *end++ = '\'';
    for (const char *c = text; *c; c++) {
        if (*c == '\'') end += sprintf(end, "'\\'");
        *end++ = *c;
    }
    strcpy(end, "'");
    return quoted;
}

const char *shell_path(const char *path, char quoted[SHELL_WORD])
{
    char here[4096];
    if (path[0] != '-' || strlen(path) > sizeof here - 3) return shell_word(path, quoted);
    snprintf(here, sizeof here, "./%s", path);
    return shell_word(here, quoted);
}
