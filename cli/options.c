#include "options.h"

#include "print.h"
#include "text.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void (*options_printer)(const option_table *table);

enum { LINE_WIDTH = 96, HELP_COLUMN = 26, MAX_OPTIONS = 40 };

bool is_positional(const option_row *row)
{
    return row->kind == OPTION_POSITIONAL || row->kind == OPTION_OPTIONAL || row->kind == OPTION_WORDS;
}

int report_usage(const char *command, const char *format, ...)
{
    char message[480];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    fprintf(stderr, "sid2%s%s: %s (see sid2%s%s --help)\n", command[0] ? " " : "", command, message,
            command[0] ? " " : "", command);
    return 2;
}

int report_error(const char *command, const sid2_error *err)
{
    fprintf(stderr, "sid2 %s: %s\n", command, err->message);
    return err->code == SID2_ERR_USAGE ? 2 : 1;
}

/* ---- Help ---- */

/* Wraps `text` behind a column that the cursor has reached or passed. */
static void print_wrapped(const char *text, int column, int cursor)
{
    if (cursor > column - 2) putchar('\n'), cursor = 0;
    while (*text) {
        printf("%*s", column - cursor, "");
        size_t room = (size_t)(LINE_WIDTH - column), length = strcspn(text, "\n");
        if (length > room) {
            length = room;
            while (length > 1 && text[length] != ' ') length--;
        }
        printf("%.*s\n", (int)length, text);
        text += length;
        while (*text == ' ' || *text == '\n') text++;
        cursor = 0;
    }
}

void print_usage(const option_table *table)
{
    printf("sid2 %s", table->command);
    bool any = false;
    for (int i = 0; i < table->count; i++) {
        const option_row *row = &table->rows[i];
        if (row->kind == OPTION_POSITIONAL)
            printf(" %s", row->name);
        else if (row->kind == OPTION_OPTIONAL)
            printf(" [%s]", row->name);
        else if (row->kind == OPTION_WORDS)
            printf(" %s...", row->name);
        else
            any = true;
    }
    printf("%s\n", any ? " [options]" : "");
}

static void print_keys(void)
{
    const sid2_config_key *key;
    printf("\nConfiguration keys, for --set and files, with their defaults:\n\n");
    for (int i = 0; (key = sid2_config_key_at(i)); i++)
        print_wrapped(key->help, HELP_COLUMN + 14, printf("  %s=%s", key->name, key->default_value));
}

static void print_help(const option_table *table)
{
    printf("Usage: ");
    print_usage(table);
    printf("\n%s.\n\n", table->summary);
    for (int i = 0; i < table->count; i++) {
        const option_row *row = &table->rows[i];
        int cursor = is_positional(row) ? printf("  %s", row->name)
                                        : printf("  --%s%s%s", row->name, row->argument ? " " : "",
                                                 row->argument ? row->argument : "");
        print_wrapped(row->help, HELP_COLUMN, cursor);
    }
    print_wrapped("print this and exit", HELP_COLUMN, printf("  --help"));
    if (table->details) printf("\n%s\n", table->details);
    if (strcmp(table->command, "train") == 0) print_keys();
}

/* ---- Values ---- */

static bool parse_bytes(const char *text, size_t *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    double number = strtod(text, &end);
    if (end == text || !(number > 0)) return false;
    while (*end == ' ') end++;
    const char *unit = *end ? strchr(units, *end >= 'a' && *end <= 'z' ? *end - 32 : *end) : NULL;
    if (unit) {
        /* As everywhere with memory, K is 1024; "KB" too, since nobody who types it means 1000. */
        for (const char *u = units; u <= unit; u++) number *= 1024;
        end++;
        if (*end == 'i') end++;
    }
    if (*end == 'B' || *end == 'b') end++;
    if (*end || number < 1 || number >= 9e18) return false;
    return *bytes = (size_t)number, true;
}

static bool add_assignment(assignments *set, const char *key, const char *value)
{
    if (set->count == (int)(sizeof set->item / sizeof set->item[0])) return false;
    char *item = set->item[set->count];
    int length = key ? snprintf(item, sizeof set->item[0], "%s=%s", key, value)
                     : snprintf(item, sizeof set->item[0], "%s", value);
    if (length < 0 || (size_t)length >= sizeof set->item[0]) return false;
    return set->count++, true;
}

/* What an option wants, for the message; NULL when the value was good. */
static const char *take_value(const option_row *row, const char *value)
{
    char *end;
    errno = 0;
    switch (row->kind) {
    case OPTION_FLAG: *(bool *)row->target = true; return NULL;
    case OPTION_INT: {
        long long number = strtoll(value, &end, 10);
        if (end == value || *end || errno || number < 0) return "a whole number, 0 or more";
        *(int64_t *)row->target = number;
        return NULL;
    }
    case OPTION_REAL: {
        double number = strtod(value, &end);
        if (end == value || *end || !isfinite(number) || number < 0) return "a number, 0 or more";
        *(double *)row->target = number;
        return NULL;
    }
    case OPTION_BYTES: return parse_bytes(value, row->target) ? NULL : "a size such as 8GiB or 500M";
    case OPTION_KEY:
        if (!*value) return "a value that is not empty";
        return add_assignment(row->target, row->key, value) ? NULL : "a shorter value";
    case OPTION_SET:
        if (!strchr(value, '=')) return "key=value";
        return add_assignment(row->target, NULL, value) ? NULL : "fewer or shorter settings";
    case OPTION_WORDS: {
        word_list *words = row->target;
        if (!*value) return "words that are not empty";
        words->item[words->count++] = value;
        return NULL;
    }
    default:
        if (!*value) return "a word that is not empty";
        *(const char **)row->target = value;
        return NULL;
    }
}

/* ---- Parsing ---- */

static int report_unknown(const option_table *table, const char *given)
{
    char name[64];
    const char *nearest = NULL, *bare = given + strspn(given, "-");
    snprintf(name, sizeof name, "%.*s", (int)strcspn(bare, "="), bare);
    for (int i = 0, least = SID2_TEXT_FAR; i < table->count; i++)
        if (!is_positional(&table->rows[i]) && sid2_text_nearer(name, table->rows[i].name, &least))
            nearest = table->rows[i].name;
    if (nearest)
        return report_usage(table->command, "unknown option '%s'; did you mean '--%s'?", given, nearest);
    return report_usage(table->command, "unknown option '%s'", given);
}

int options_parse(const option_table *table, int argc, char **argv)
{
    struct option rows[MAX_OPTIONS + 2] = {0};
    int places[MAX_OPTIONS + 2], count = 0;
    for (int i = 0; i < table->count && count < MAX_OPTIONS; i++) {
        const option_row *row = &table->rows[i];
        if (is_positional(row)) continue;
        places[count] = i;
        rows[count++] = (struct option){
            .name = row->name, .has_arg = row->kind == OPTION_FLAG ? no_argument : required_argument};
    }
    rows[count] = (struct option){.name = "help", .val = 'h'};
    const char *positional[MAX_WORDS];
    int positional_count = 0, index, letter;
    optind = 1;
    opterr = 0;
    /* "-": positionals come in order, as option 1, so that options may stand behind them. */
    while ((letter = getopt_long(argc, argv, "-:h", rows, &index)) != -1) {
        if (letter == 'h') return options_printer ? options_printer(table) : print_help(table), 0;
        if (letter == 1) {
            if (positional_count == MAX_WORDS)
                return report_usage(table->command, "too many arguments: '%s'", optarg);
            positional[positional_count++] = optarg;
        } else if (letter == ':') {
            return report_usage(table->command, "%s needs a value", argv[optind - 1]);
        } else if (letter == '?') {
            return report_unknown(table, argv[optind - 1]);
        } else {
            const option_row *row = &table->rows[places[index]];
            const char *wants = take_value(row, optarg);
            if (wants)
                return report_usage(table->command, "--%s '%s' should be %s", row->name, optarg, wants);
        }
    }
    while (optind < argc && positional_count < MAX_WORDS) positional[positional_count++] = argv[optind++];
    if (optind < argc) return report_usage(table->command, "too many arguments: '%s'", argv[optind]);
    int taken = 0;
    for (int i = 0; i < table->count; i++) {
        const option_row *row = &table->rows[i];
        if (!is_positional(row)) continue;
        if (taken < positional_count) {
            do {
                if (take_value(row, positional[taken++]))
                    return report_usage(table->command, "%s is empty", row->name);
            } while (row->kind == OPTION_WORDS && taken < positional_count);
        } else if (row->kind != OPTION_OPTIONAL) {
            return report_usage(table->command, "%s is missing", row->name);
        }
    }
    if (taken < positional_count)
        return report_usage(table->command, "unexpected argument '%s'", positional[taken]);
    return OPTIONS_RUN;
}

bool makes_images(const sid2_config *config, const char *checkpoint, sid2_error *err)
{
    return sid2_config_frames(config) == 1 ||
           sid2_fail(err, SID2_ERR_USAGE,
                     "%s makes clips; of these sid2 sample makes files, which sid2 eval fvd and sid2 eval "
                     "motion judge",
                     checkpoint);
}

bool options_apply(sid2_config *config, const assignments *set, sid2_error *err)
{
    for (int i = 0; i < set->count; i++)
        if (!sid2_config_set(config, set->item[i], err)) return false;
    return true;
}

/* The number at *at, which moves behind it; else why there is none ("": no digits). */
static const char *take_number(const char **at, uint64_t *number)
{
    char *end;
    if (**at == '-') return "a number is negative";
    if (**at < '0' || **at > '9') return "";
    errno = 0;
    *number = strtoull(*at, &end, 10);
    *at = end;
    return errno ? "a number is 2^64 or more" : NULL;
}

uint64_t *parse_ranges(const char *option, const char *text, size_t limit, size_t *count, sid2_error *err)
{
    uint64_t *numbers = NULL;
    size_t capacity = 0;
    *count = 0;
    for (const char *at = text;; at++) {
        uint64_t first, last;
        const char *wrong = take_number(&at, &first);
        last = first;
        if (!wrong && *at == '-') at++, wrong = take_number(&at, &last);
        if (!wrong && last < first) wrong = "a range is reversed";
        if (!wrong && *at && *at != ',') wrong = "";
        if (wrong) {
            free(numbers);
            return sid2_fail(err, SID2_ERR_USAGE,
                             "--%s '%.60s' should be numbers and ranges, such as 3 or 0-5,9%s%s", option,
                             text, *wrong ? ": " : "", wrong),
                   NULL;
        }
        if (last - first >= limit - *count) {
            free(numbers);
            return sid2_fail(err, SID2_ERR_USAGE, "--%s '%.60s' names more than %zu numbers", option, text,
                             limit),
                   NULL;
        }
        size_t wanted = *count + (size_t)(last - first) + 1;
        if (wanted > capacity) {
            capacity = wanted * 2;
            uint64_t *grown = realloc(numbers, capacity * sizeof *numbers);
            if (!grown) {
                free(numbers);
                return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %zu numbers", wanted), NULL;
            }
            numbers = grown;
        }
        for (uint64_t n = first;; n++) {
            numbers[(*count)++] = n;
            if (n == last) break;
        }
        if (!*at) return numbers;
    }
}
