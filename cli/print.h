/* What the program says. Names of files and classes, texts of archives and drivers come from others, and a terminal
 * obeys what it is sent: whatever goes through %s is made plain first (sid2_plain_line), one line that moves no
 * cursor. So that no place can forget it, printf and fprintf mean print_to in this folder; a test looks for what
 * passes it by. */
#ifndef SID2_CLI_PRINT_H
#define SID2_CLI_PRINT_H

#include <stdio.h>

/* As fprintf, of the conversions d i u x c s f e g a % with flags, width, precision and length. */
int print_to(FILE *stream, const char *format, ...) __attribute__((format(printf, 2, 3)));

#undef printf
#undef fprintf
#define printf(...)          print_to(stdout, __VA_ARGS__)
#define fprintf(stream, ...) print_to(stream, __VA_ARGS__)

#endif
