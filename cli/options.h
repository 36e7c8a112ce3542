/* Command lines from tables: one row an option gives parsing, checks, --help and docs/options.md. */
#ifndef SID2_CLI_OPTIONS_H
#define SID2_CLI_OPTIONS_H

#include <sid2/sid2.h>

#include "base.h"

/* "key=value" in the order of the command line, applied over a preset or a checkpoint's configuration. */
typedef struct assignments {
    char item[128][256];
    int count;
} assignments;

enum { MAX_WORDS = 64 };
typedef struct word_list {
    const char *item[MAX_WORDS];
    int count;
} word_list;

typedef enum option_kind {
    OPTION_FLAG,       /* bool * */
    OPTION_TEXT,       /* const char **: the word itself */
    OPTION_INT,        /* int64_t *, not negative */
    OPTION_REAL,       /* double *, not negative */
    OPTION_BYTES,      /* size_t *: "8GiB", "800M" */
    OPTION_KEY,        /* assignments *: sets configuration key `key` */
    OPTION_SET,        /* assignments *: "key=value" */
    OPTION_POSITIONAL, /* const char **: required, in the table's order */
    OPTION_OPTIONAL,   /* const char **: a positional that may be absent */
    OPTION_WORDS,      /* word_list *: one positional or more, the last of the table's */
} option_kind;

typedef struct option_row {
    option_kind kind;
    const char *name;     /* "seeds"; of a positional: "CHECKPOINT" */
    const char *argument; /* "LIST"; NULL for flags and positionals */
    void *target;
    const char *help; /* ends with the default in parentheses, where there is one */
    const char *key;  /* OPTION_KEY */
} option_row;

typedef struct option_table {
    const char *command; /* "data synth" */
    const char *summary; /* one sentence, without a full stop */
    const char *details; /* further lines for --help, or NULL */
    const option_row *rows;
    int count;
} option_table;

enum { OPTIONS_RUN = -1 }; /* else the exit code to end with */

/* Parses argv[1..]. Prints --help, or one line about what is wrong. */
int options_parse(const option_table *table, int argc, char **argv);

/* For what knows no clips: USAGE where that is what the checkpoint's model makes. */
bool makes_images(const sid2_config *config, const char *checkpoint, sid2_error *err);

/* A configuration from `base` (a preset's name or file, may be NULL), then the assignments. */
bool options_apply(sid2_config *config, const assignments *set, sid2_error *err);

/* Prints "sid2 COMMAND: message" and gives the exit code: 2 for usage, 1 for everything else. */
int report_error(const char *command, const sid2_error *err);
int report_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "0-63,100", the value of `option` (for messages), to numbers, in order. The caller frees. */
uint64_t *parse_ranges(const char *option, const char *text, size_t limit, size_t *count, sid2_error *err);

/* While set, --help hands the table to it: how documents are made of the tables (cli/manual.c). */
extern void (*options_printer)(const option_table *table);
bool is_positional(const option_row *row);
void print_usage(const option_table *table); /* "sid2 COMMAND [options]" and a line end */

#endif
