/* sid2: one program, one subcommand a file. This one finds it. */
#include "cli.h"

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const command_row commands[] = {
    {"train", "train a model on images; the same command again resumes", command_train},
    {"distill", "train a student that makes a teacher's images in few steps", command_distill},
    {"sample", "make images with a trained model", command_sample},
    {"view", "look at what a model makes, on a page in the browser", command_view},
    {"status", "how runs stand, also while they are trained", command_status},
    {"pause", "have a training wait, its device's memory free, and go on", command_pause},
    {"info", "a model's layers, size, cost and memory", command_info},
    {"plan", "what training on several GPUs would give", command_plan},
    {"eval", "held-out loss of checkpoints by noise level; FID and its kin", command_eval},
    {"ablate", "train rows of settings beside each other and compare them", command_ablate},
    {"export", "a checkpoint's weights alone, small enough to give away", command_export},
    {"report", "one HTML page about a training run", command_report},
    {"data", "generate pictures, or look at a data set", command_data},
    {"devices", "what this machine can compute on", command_devices},
    {"check", "whether a device computes right", command_check},
    {"tune", "find and keep the fastest block sizes of a GPU", command_tune},
    {"bench", "speed by operator, or beside PyTorch", command_bench},
    {0},
};

static void print_help(void)
{
    puts("sid2 " SID2_VERSION
         ": train SiD2 diffusion models on pixels, and sample from them\n\n"
         "Usage: sid2 COMMAND [options]     sid2 COMMAND --help\n");
    for (int i = 0; commands[i].name; i++) printf("  %-10s%s\n", commands[i].name, commands[i].help);
    printf("\nPresets:");
    for (int i = 0; sid2_preset_name(i); i++) printf(" %s", sid2_preset_name(i));
    puts(
        "\n\nExit codes: 0 done, 1 failed, 2 the request was wrong, 75 a training stopped by a signal and "
        "saved.\n"
        "\nFirst steps:\n"
        "  sid2 sample checkpoints/fashion-mnist --seeds 0-63 --out samples.png\n"
        "  sid2 train --preset fashion-mnist --data YOUR-IMAGES --out runs/mine");
}

/* On a closed descriptor, the next file opened would get what is printed. */
static void occupy_standard_streams(void)
{
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++)
        if (fcntl(descriptor, F_GETFD) < 0 && open("/dev/null", O_RDWR) != descriptor) _exit(1);
}

/* The exit code, given a command's: output that was lost is a failure, except where the reader has gone away. */
static int check_output(int code)
{
    bool whole = !fflush(stdout) && !ferror(stdout);
    if (whole || code) return code;
    int cause = sid2_write_failure(stdout);
    if (cause == EPIPE) return code;
    fprintf(stderr, "sid2: standard output: %s\n",
            cause ? strerror(cause) : "an earlier write failed (disk full?)");
    return 1;
}

static int run(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return print_help(), argc < 2 ? 2 : 0;
    if (strcmp(argv[1], "--version") == 0) {
        puts("sid2 " SID2_VERSION " (" SID2_BUILD ")");
        return 0;
    }
    if (strcmp(argv[1], "help") == 0) {
        int code = argc > 2 ? print_manual(argv[2], argc > 3 ? argv[3] : "") : -1;
        if (code >= 0) return code;
        if (argc == 2) return print_help(), 0;
        static char help[] = "--help"; /* "help X" is "X --help" */
        memmove(argv + 1, argv + 2, (size_t)(argc - 2) * sizeof *argv);
        argv[argc - 1] = help;
    }
    const char *nearest = NULL;
    for (int i = 0, least = SID2_TEXT_FAR; commands[i].name; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
        if (sid2_text_nearer(argv[1], commands[i].name, &least)) nearest = commands[i].name;
    }
    if (nearest) return report_usage("", "unknown command '%s'; did you mean '%s'?", argv[1], nearest);
    return report_usage("", "unknown command '%s'", argv[1]);
}

int main(int argc, char **argv)
{
    occupy_standard_streams();
    signal(SIGPIPE, SIG_IGN); /* a reader that went away, a limit on files: errors like any other */
    signal(SIGXFSZ, SIG_IGN);
    atexit(
        sid2_atomic_abandon); /* a library that ends the program (OpenMP, without threads) leaves nothing behind */
    setlinebuf(stdout);
    return check_output(run(argc, argv));
}
