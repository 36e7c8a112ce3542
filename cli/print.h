/* What the program says. Names of files and classes, texts of archives and drivers come from others, and a terminal
 * obeys what it is sent: whatever goes through %s is made plain first (sid2_plain_line), one line that moves no
 * cursor. So that no place can forget it, printf and fprintf mean print_to in this folder; a test looks for what
 * passes it by. */
#ifndef SID2_CLI_PRINT_H
#define SID2_CLI_PRINT_H

#include <stdio.h>

/* As fprintf, of the conversions d i u x c s f e g a % with flags, width, precision and length. */
int print_to(FILE *stream, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "label    text" on lines of at most 80 columns; a word too long for one, such as a path, loses its beginning. */
void print_field(FILE *stream, const char *label, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A text as a shell takes it back, for commands that are to be pasted: in quotes where it needs them; "..." where
 * it has 4096 bytes or more. Returns `quoted`. */
enum { SHELL_WORD = 4 * 4096 + 8 };
const char *shell_word(const char *text, char quoted[SHELL_WORD]);
/* The same of a path, which is none of a command's options, whatever it begins with. */
const char *shell_path(const char *path, char quoted[SHELL_WORD]);

#undef printf
#undef fprintf
#define printf(...)          print_to(stdout, __VA_ARGS__)
#define fprintf(stream, ...) print_to(stream, __VA_ARGS__)

#endif
