/* Same seeds, same bits: the committed digests of small trainings and samples (tests/test_digest.c) with every
 * compiler, at every optimisation, on the reference device; the same digests on any number of threads on the fast
 * one, where its products are its own (oneDNN's are the same again on the same number of threads only). */
#include "trials.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOW = 3600 }; /* seconds: a build, beside other work */

static const char *first_complaint(const outcome *o)
{
    const char *text_of = o->err[0] ? o->err : o->out;
    return text("%.*s", (int)strcspn(text_of, "\n"), text_of);
}

static void compare_committed(trials *t, const char *program, int threads, const char *what)
{
    static outcome o;
    command c = make_command(program, NULL);
    run_command(t, &c, text("OMP_NUM_THREADS=%d", threads), SLOW, &o);
    count_case(t, o.code ? first_complaint(&o) : NULL, "the committed digests, %s, %d threads", what,
               threads);
}

/* What the fast device gives on so many threads; 0 where it fails. */
static uint64_t digest_of(trials *t, const char *program, int threads)
{
    static outcome o;
    command c = make_command(program, "cpu", text("%d", threads), NULL);
    run_command(t, &c, NULL, SLOW, &o);
    return o.code ? 0 : hash_bytes(HASH_BEGIN, o.out, strlen(o.out));
}

static void compare_threads(trials *t, const char *program, const char *what)
{
    uint64_t one = digest_of(t, program, 1);
    for (int threads = 2; threads <= 8; threads++)
        count_case(t, one && digest_of(t, program, threads) == one ? NULL : "other bits than on one thread",
                   "the fast device, %s, %d threads", what, threads);
}

/* NULL where the compiler is not here. */
static const char *build(trials *t, const char *name, const char *compiler, const char *options)
{
    static outcome o;
    const char *folder = text("%s/build-%s", t->work, name), *program = text("%s/tests/test_digest", folder);
    command look = make_command("/bin/sh", "-c", text("command -v %s", compiler), NULL);
    run_command(t, &look, NULL, DEADLINE, &o);
    if (o.code) return NULL;
    command make = make_command("/bin/sh", "-c",
                                text("cmake -S %s -B %s -G Ninja -DSID2_CUDA=OFF -DSID2_VULKAN=OFF "
                                     "-DCMAKE_C_COMPILER=%s -DCMAKE_BUILD_TYPE=Trial %s >&2 && "
                                     "cmake --build %s --target test_digest >&2",
                                     t->source, folder, compiler, options, folder),
                                NULL);
    run_command(t, &make, NULL, SLOW, &o);
    if (o.code) give_up("%s cannot be built with %s %s: %s", program, compiler, options, o.err);
    return program;
}

void try_golden(trials *t)
{
    static const struct {
        const char *name, *compiler, *options;
        bool own; /* products of its own */
    } builds[] = {
        {"gcc-O0", "gcc", "-DCMAKE_C_FLAGS_TRIAL=-O0", false},
        {"gcc-O2", "gcc", "-DCMAKE_C_FLAGS_TRIAL=-O2 -DSID2_ONEDNN=OFF", true},
        {"gcc-sanitized", "gcc", "-DCMAKE_C_FLAGS_TRIAL=-O1 -DSID2_SANITIZE=ON", false},
        {"clang-O0", "clang", "-DCMAKE_C_FLAGS_TRIAL=-O0", false},
        {"clang-O2", "clang", "-DCMAKE_C_FLAGS_TRIAL=-O2 -DSID2_ONEDNN=OFF", true},
        {"clang-sanitized", "clang", "-DCMAKE_C_FLAGS_TRIAL=-O1 -DSID2_SANITIZE=ON", false},
    };
    forget_texts();
    const char *program = text("%s/test_digest", t->tests);
    for (int threads = 1; threads <= 8; threads *= 2) compare_committed(t, program, threads, "this build");
    for (int threads = 1; threads <= 2; threads++) {
        uint64_t one = digest_of(t, program, threads);
        count_case(t, one && one == digest_of(t, program, threads) ? NULL : "other bits the second time",
                   "the fast device twice, this build, %d threads", threads);
    }
    if (!t->builds) {
        if (!t->built) snprintf(t->note, sizeof t->note, "this build only");
        return;
    }
    for (size_t i = 0; i < sizeof builds / sizeof *builds; i++) {
        if (!(program = build(t, builds[i].name, builds[i].compiler, builds[i].options))) continue;
        for (int threads = 1; threads <= 8; threads *= 2)
            compare_committed(t, program, threads, builds[i].name);
        if (builds[i].own) compare_threads(t, program, builds[i].name);
        remove_all(text("%s/build-%s", t->work, builds[i].name));
    }
    t->builds = false; /* once is enough */
    t->built = true;
}
