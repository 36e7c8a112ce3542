/* Numbers and names as text, the same in every locale that an application may have set: a point before the
 * decimals, letters of ASCII. All numbers that the library reads or writes pass through here; JSON's do so in
 * jansson, which does the same. */
#ifndef SID2_TEXT_H
#define SID2_TEXT_H

#include "base.h"

#include <stdarg.h>
#include <stdio.h>

/* A text under a name, of tables that the build makes of files (core/embed.cmake); the last has no name. */
typedef struct sid2_text_row {
    const char *name, *text;
} sid2_text_row;

/* The text of that name; NULL: there is none, and `advice` ends a message: "; did you mean 'x'; kinds: x, y, z". */
const char *sid2_text_find(const sid2_text_row *table, const char *name, const char *kinds, char advice[400]);

/* strtod. */
double sid2_text_real(const char *text, char **end);
/* vsnprintf, snprintf, fprintf. */
int sid2_text_vformat(char *text, size_t size, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
int sid2_text_format(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
int sid2_text_print(FILE *stream, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Whether the first `length` characters, or all, are equal but for the case of ASCII letters. */
bool sid2_text_begins(const char *text, const char *start, size_t length);
bool sid2_text_equal(const char *a, const char *b);
/* In either case of ASCII letters. */
bool sid2_text_ends(const char *text, const char *end);
/* The text with equal letters in equal bytes (Unicode's NFC), for macOS writes names in another form than most
 * people type them; what is no UTF-8 stays as it is. The caller frees; NULL without memory. */
char *sid2_text_nfc(const char *text);
/* The same without case, to compare with. */
char *sid2_text_fold(const char *text);
/* With U+FFFD in place of each byte that is no UTF-8. */
char *sid2_text_utf8(const char *text);
/* How many columns of a terminal the first `size` bytes take. */
int sid2_text_columns(const char *text, size_t size);
/* Spaces, tabs, line ends. */
bool sid2_is_space(char c);
/* Whether `word` may be `known` mistyped, by fewer letters than *least, which is that number then; at first
 * SID2_TEXT_FAR. */
enum { SID2_TEXT_FAR = 1000 };
bool sid2_text_nearer(const char *word, const char *known, int *least);

/* ---- Numbers as people read them: each is written to `text`, which is returned ---- */
/* "1:05", "2:03:09"; "-" for what is not finite */
const char *sid2_text_time(double seconds, char text[32]);
/* "512 B", "3.4 MiB" */
const char *sid2_text_bytes(double bytes, char text[32]);
/* Per second: "0.382", "14.7", "1930" */
const char *sid2_text_rate(double rate, char text[32]);
/* "950", "32.7 K", "1.2 M", "3.4 G" */
const char *sid2_text_count(double number, char text[32]);

#endif
