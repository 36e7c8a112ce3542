/* sid2 help --markdown, --man, --completion, --operators: documents from the tables that the program parses
 * with, so that none can say anything else than the program does. */
#include "cli.h"

#include "op.h"

#include <stdio.h>
#include <string.h>

/* Hands the tables of all commands to `printer`. */
static void each_table(void (*printer)(const option_table *table))
{
    options_printer = printer;
    for (int i = 0; commands[i].name; i++) {
        char name[16], help[] = "--help";
        snprintf(name, sizeof name, "%s", commands[i].name);
        commands[i].run(2, (char *[]){name, help, NULL});
    }
    options_printer = NULL;
}

/* `text` with a backslash before each of `special`. */
static void print_escaped(const char *text, const char *special)
{
    for (; *text; text++) {
        if (strchr(special, *text)) putchar('\\');
        putchar(*text);
    }
}

/* ---- docs/options.md ---- */

static void print_markdown(const option_table *table)
{
    printf("\n## sid2 %s\n\n%s.\n\n    ", table->command, table->summary);
    print_usage(table);
    printf("\n| | |\n|---|---|\n");
    for (int i = 0; i < table->count; i++) {
        const option_row *row = &table->rows[i];
        printf("| `%s%s%s%s` | ", is_positional(row) ? "" : "--", row->name, row->argument ? " " : "",
               row->argument ? row->argument : "");
        print_escaped(row->help, "|");
        printf(" |\n");
    }
    if (table->details) printf("\n```\n%s\n```\n", table->details);
}

static void print_reference(void)
{
    puts(
        "# Options\n\nMade by `sid2 help --markdown`; every line comes from the tables that the program "
        "itself parses with.");
    each_table(print_markdown);
    puts(
        "\n## Configuration keys\n\nFor `--set key=value` and for files given to `--preset`.\n\n| key | "
        "default | |\n|---|---|---|");
    const sid2_config_key *key;
    for (int i = 0; (key = sid2_config_key_at(i)); i++)
        printf("| `%s` | `%s` | %s |\n", key->name, key->default_value, key->help);
    puts("\nThe words of some of them:\n\n| key | word | |\n|---|---|---|");
    const sid2_config_word *word;
    for (int i = 0; (word = sid2_config_word_at(i)); i++)
        printf("| `%s` | `%s` | %s |\n", word->key, word->word, word->help);
}

/* ---- docs/operators.md ---- */

static void print_operators(void)
{
    puts(
        "# Operators\n\nMade by `sid2 help --operators` from `core/op.def`, whose opening comment explains "
        "the conventions. "
        "`?`: may be absent;\n`=`: output 0 may overwrite this input; `&`: added to output 0; `+`: added to "
        "what is there; "
        "`*`: one for the whole batch.\n");
    puts("| operator | inputs | outputs | attributes | what it computes |\n|---|---|---|---|---|");
    for (int op = 0; op < SID2_OP_COUNT; op++) {
        sid2_op_info info = sid2_op_describe((sid2_op)op);
        printf("| `%s` | %s | %s | %s | `%s` |\n", info.name, info.inputs, info.outputs, info.attributes,
               info.formula);
    }
}

/* ---- The manual page ---- */

/* As running text of troff: no line of it is a request. */
static void print_troff(const char *text)
{
    bool first = true;
    for (; *text; text++) {
        if (first && (*text == '.' || *text == '\'')) printf("\\&");
        if (*text == '\\')
            printf("\\e");
        else if (*text == '-')
            printf("\\-");
        else
            putchar(*text);
        first = *text == '\n';
    }
}

static void print_man_table(const option_table *table)
{
    printf(".SS \"sid2 %s\"\n", table->command);
    print_troff(table->summary);
    puts(".");
    for (int i = 0; i < table->count; i++) {
        const option_row *row = &table->rows[i];
        printf(".TP\n%s", is_positional(row) ? ".I " : ".BI \"\\-\\-");
        print_troff(row->name);
        if (!is_positional(row)) putchar('"');
        if (row->argument) printf(" \" %s\"", row->argument);
        putchar('\n');
        print_troff(row->help);
        putchar('\n');
    }
    if (!table->details) return;
    puts(".PP\n.nf");
    print_troff(table->details);
    puts("\n.fi");
}

static void print_man(void)
{
    puts(".TH SID2 1 \"\" \"sid2 " SID2_VERSION
         "\" \"User Commands\"\n"
         ".SH NAME\nsid2 \\- train image diffusion models on pixels, and sample from them\n"
         ".SH SYNOPSIS\n.B sid2\n.I COMMAND\n.RI [ options ]\n"
         ".SH DESCRIPTION\n"
         "An engine for SiD2 (Simpler Diffusion). Every command explains itself with\n.BR \\-\\-help .\n"
         ".SH COMMANDS");
    each_table(print_man_table);
    puts(".SH CONFIGURATION KEYS\nFor\n.B \\-\\-set\nand for files given to\n.BR \\-\\-preset .");
    const sid2_config_key *key;
    for (int i = 0; (key = sid2_config_key_at(i)); i++) {
        printf(".TP\n.BR %s \" (%s)\"\n", key->name, key->default_value);
        print_troff(key->help);
        putchar('\n');
    }
    puts(
        ".SH EXIT STATUS\n0: done. 1: something failed, or was stopped. 2: the request was wrong. One line "
        "says what.\n"
        ".SH FILES\n.TP\n.I ~/.cache/sid2\ncompiled shaders and tuned block sizes, by device");
}

/* ---- Completion for shells ---- */

static const char *second_word(const option_table *table)
{
    const char *space = strchr(table->command, ' ');
    return space ? space + 1 : NULL;
}

static void print_part(const option_table *table)
{
    if (second_word(table)) printf(" %s", second_word(table));
}

/* Presets by name, for the shells' word lists. */
static void print_presets(void)
{
    for (int i = 0; sid2_preset_name(i); i++) printf("%s%s", i ? " " : "", sid2_preset_name(i));
}

static void print_bash_table(const option_table *table)
{
    printf("    \"%s%s\"*) options=\"--help", table->command, second_word(table) ? "" : " ");
    for (int i = 0; i < table->count; i++)
        if (!is_positional(&table->rows[i])) printf(" --%s", table->rows[i].name);
    puts("\" ;;");
}

static void print_bash(void)
{
    printf(
        "# bash completion for sid2; made by `sid2 help --completion bash`\n_sid2()\n{\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options=\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        mapfile -t COMPREPLY < <(compgen -W \"help");
    for (int i = 0; commands[i].name; i++) printf(" %s", commands[i].name);
    printf(
        "\" -- \"$word\")\n        return\n    fi\n"
        "    if [ \"$before\" = --preset ]; then\n        mapfile -t COMPREPLY < <(compgen -W \"");
    print_presets();
    printf(
        "\" -- \"$word\")\n        return\n    fi\n"
        "    if [ \"$COMP_CWORD\" -eq 2 ] && [ \"$before\" = data ]; then\n"
        "        mapfile -t COMPREPLY < <(compgen -W \"");
    each_table(print_part);
    puts("\" -- \"$word\")\n        return\n    fi\n    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in");
    each_table(print_bash_table);
    puts(
        "    esac\n"
        "    case $word in -*) mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$word\") ;; esac\n"
        "}\ncomplete -o default -F _sid2 sid2");
}

/* Inside single quotes. */
static void print_quoted(const char *text, const char *special)
{
    for (; *text; text++) {
        if (*text == '\'') {
            printf("'\\''");
            continue;
        }
        if (strchr(special, *text)) putchar('\\');
        putchar(*text);
    }
}

static void print_zsh_table(const option_table *table)
{
    const char *second = second_word(table);
    if (second)
        printf("  %.*s\\ %s*)", (int)strcspn(table->command, " "), table->command, second);
    else
        printf("  %s\\ *)", table->command);
    printf(" _arguments \\\n");
    for (int i = 0; i < table->count; i++) {
        const option_row *row = &table->rows[i];
        if (is_positional(row)) continue;
        printf("    '--%s[", row->name);
        print_quoted(row->help, "[]\\:");
        printf("]");
        if (row->argument && strcmp(row->name, "preset") == 0) {
            printf(":%s:(", row->argument);
            print_presets();
            printf(")");
        } else if (row->argument) {
            printf(":%s:_files", row->argument);
        }
        printf("' \\\n");
    }
    puts("    '--help[print this and exit]' '*:file:_files' ;;");
}

static void print_zsh(void)
{
    puts(
        "#compdef sid2\n# made by `sid2 help --completion zsh`\n"
        "local -a commands\ncommands=(");
    for (int i = 0; commands[i].name; i++) {
        printf("  '%s:", commands[i].name);
        print_quoted(commands[i].help, ":");
        puts("'");
    }
    printf(
        ")\nif (( CURRENT == 2 )); then _describe command commands; return; fi\n"
        "if (( CURRENT == 3 )) && [[ $words[2] == data ]]; then compadd --");
    each_table(print_part);
    puts("; return; fi\ncase \"$words[2] $words[3]\" in");
    each_table(print_zsh_table);
    puts("esac");
}

static void print_fish_table(const option_table *table)
{
    const char *second = second_word(table);
    int first = (int)strcspn(table->command, " ");
    if (second)
        printf(
            "complete -c sid2 -n '__fish_seen_subcommand_from %.*s; and not __fish_seen_subcommand_from %s' "
            "-a %s\n",
            first, table->command, second, second);
    for (int i = 0; i < table->count; i++) {
        const option_row *row = &table->rows[i];
        if (is_positional(row)) continue;
        printf("complete -c sid2 -n '__fish_seen_subcommand_from %.*s", first, table->command);
        if (second) printf("; and __fish_seen_subcommand_from %s", second);
        printf("' -l %s%s", row->name, row->argument ? " -r" : "");
        if (row->argument && strcmp(row->name, "preset") == 0) {
            printf(" -a '");
            print_presets();
            printf("'");
        }
        printf(" -d '");
        print_escaped(row->help, "'\\");
        puts("'");
    }
}

static void print_fish(void)
{
    puts("# made by `sid2 help --completion fish`");
    for (int i = 0; commands[i].name; i++) {
        printf("complete -c sid2 -f -n __fish_use_subcommand -a %s -d '", commands[i].name);
        print_escaped(commands[i].help, "'\\");
        puts("'");
    }
    each_table(print_fish_table);
}

int print_manual(const char *kind, const char *of)
{
    static const struct {
        const char *kind, *of;
        void (*print)(void);
    } documents[] = {
        {"--markdown", "", print_reference},
        {"--operators", "", print_operators},
        {"--man", "", print_man},
        {"--completion", "bash", print_bash},
        {"--completion", "zsh", print_zsh},
        {"--completion", "fish", print_fish},
    };
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++)
        if (strcmp(documents[i].kind, kind) == 0 && strcmp(documents[i].of, of) == 0)
            return documents[i].print(), 0;
    return -1;
}
