/* Same seeds, same bits: small trainings and samples on the reference device against tests/golden/digests.txt.
 *
 * A line is a case, a digest of what it leaves, and the norm of that, which other processors must meet within
 * rounding: there a compiler may fuse multiplications and additions. A change that is meant is written anew by
 * `test_digest --write`, and named in the CHANGELOG. `test_digest DEVICE THREADS` prints what another device of
 * the CPU's gives.
 *
 * tests/golden/digests_fast.txt: one digest of all cases on the fast device's own loops for each instruction set,
 * whatever the compiler and the number of threads (cpu/fast.h says why). A change that is meant is the line that a
 * failure prints. */
#include <unistd.h>

#include "file.h"
#include "isa_backend.h"
#include "model_support.h"

enum { BATCH = 8, IMAGES = 4, BYTES = 64, CLASSES = 3, MAX_LINES = 64 };

typedef struct line {
    char name[64], digest[17];
    double norm;
} line;

static line found[MAX_LINES];
static int found_count;
static sid2_device *device;
static char folder[64] = "/tmp/sid2-digest-XXXXXX";

/* FNV-1a over bytes, and the root of the sum of squares of what they hold. */
static void note(const char *test, const char *what, const void *bytes, size_t size, double squares)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++) hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3;
    assert_true(found_count < MAX_LINES);
    line *l = &found[found_count++];
    snprintf(l->name, sizeof l->name, "%s/%s", test, what);
    snprintf(l->digest, sizeof l->digest, "%016llx", (unsigned long long)hash);
    l->norm = sqrt(squares);
}

/* The tensors of a file, all f32, behind a header of text. */
static void note_file(const char *test, const char *directory, const char *name)
{
    char path[256];
    size_t size;
    uint64_t header;
    double squares = 0;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    uint8_t *bytes = sid2_file_read(path, 1 << 24, &size, &err);
    must(bytes);
    memcpy(&header, bytes, sizeof header);
    for (size_t at = 8 + header; at < size; at += sizeof(float)) {
        float value;
        memcpy(&value, bytes + at, sizeof value);
        squares += (double)value * value;
    }
    note(test, name, bytes + 8 + header, size - 8 - header, squares);
    free(bytes);
}

static void train(sid2_trainer *t, int bytes, int steps)
{
    static uint8_t pixels[BATCH * 4 * BYTES];
    int32_t labels[BATCH];
    for (int i = 0; i < steps; i++) {
        make_images(pixels, labels, BATCH, bytes, CLASSES, sid2_trainer_images(t));
        labels[i] = -1;
        must(sid2_trainer_step(t, pixels, labels, &err));
    }
}

static void draw(const char *test, const sid2_config *config, const char *checkpoint, bool ema)
{
    static const uint64_t seeds[IMAGES] = {0, 1, 1ull << 40, 3};
    int32_t labels[IMAGES] = {0, 2, -1, 1};
    uint8_t pixels[IMAGES * BYTES];
    double squares = 0;
    sid2_sampler *s = sid2_sampler_create(device, config, 0, &err);
    must(s);
    must(sid2_sampler_load(s, checkpoint, ema, &err));
    must(sid2_sampler_run(s, seeds, labels, IMAGES, pixels, NULL, NULL, &err));
    for (int i = 0; i < IMAGES * BYTES; i++) squares += (double)pixels[i] * pixels[i];
    note(test, ema ? "pictures" : "pictures of the weights", pixels, sizeof pixels, squares);
    sid2_sampler_destroy(s);
}

/* Trains, resumes, samples; what it leaves is noted. */
static void run_case(const char *test, sid2_config *config, const char *from)
{
    char half[128], whole[128];
    snprintf(half, sizeof half, "%s/%s-half", folder, test);
    snprintf(whole, sizeof whole, "%s/%s", folder, test);
    int bytes = sid2_config_image_height(config) * sid2_config_image_width(config);
    sid2_trainer *first = sid2_trainer_create(device, config, 0, &err), *second;
    must(first);
    if (from) must(sid2_trainer_warm_start(first, from, &err));
    train(first, bytes, 2);
    must(sid2_trainer_save(first, half, &err));
    sid2_trainer_destroy(first);
    second = sid2_trainer_create(device, config, 0, &err);
    must(second);
    must(sid2_trainer_resume(second, half, &err));
    train(second, bytes, 2);
    must(sid2_trainer_save(second, whole, &err));
    sid2_trainer_destroy(second);
    note_file(test, whole, "ema.safetensors");
    note_file(test, whole, "weights.safetensors");
    note_file(test, whole, "optimizer.safetensors");
    if (bytes == BYTES) {
        draw(test, config, whole, true);
        draw(test, config, whole, false);
    }
    sid2_config_destroy(config);
}

static void find_all(const sid2_backend *backend, const char *id, int threads)
{
    char coarse[128];
    found_count = 0;
    device = sid2_backends_open(&backend, 1, id, &(sid2_device_options){.threads = threads}, &err);
    must(device);
    run_case("f32", TINY("sample.guidance=2", "train.lanes=1"), NULL);
    run_case("bf16",
             TINY("train.precision=bf16", "train.lanes=1", "sample.precision=bf16", "model.dropout=0.1",
                  "model.qk_norm=layer", "train.ema_rampup=yes", "sample.sampler=ddim", "train.seed=7"),
             NULL);
    run_case("block",
             TINY("model.skip=block", "model.depth=2", "train.microbatch=8", "train.clip=0.1",
                  "loss.weighting=edm_monotonic", "schedule.kind=shifted", "sample.sampler=dpm2m"),
             NULL);
    run_case("coarse", TINY("model.image_size=16", "model.patch=4", "train.lanes=1"), NULL);
    snprintf(coarse, sizeof coarse, "%s/coarse", folder);
    run_case("fine", TINY("model.image_size=16", "model.patch=2", "train.lanes=1"), coarse);
    run_case("lanes", TINY("train.microbatch=auto"), NULL);
    run_case("lanes bf16", TINY("train.precision=bf16", "train.lanes=4", "train.microbatch=1"), NULL);
    sid2_device_close(device);
}

static const char *golden_path(void) { return SID2_SOURCE_DIR "/tests/golden/digests.txt"; }

static void bits_are_as_before(void **state)
{
    (void)state;
    find_all(&sid2_backend_cpu, "reference", 0);
    FILE *file = fopen(golden_path(), "r");
    assert_non_null(file);
    char text[256];
    int next = 0, different = 0;
    while (fgets(text, sizeof text, file)) {
        line want;
        assert_int_equal(sscanf(text, "%63[^:]: %16s %lf", want.name, want.digest, &want.norm), 3);
        assert_true(next < found_count);
        const line *got = &found[next++];
        assert_string_equal(got->name, want.name);
        if (!(fabs(got->norm - want.norm) <= 1e-3 * want.norm))
            fail_msg("%s: norm %.9g, was %.9g", want.name, got->norm, want.norm);
#ifdef __x86_64__
        if (strcmp(got->digest, want.digest) == 0) continue;
        print_error("%s: other bits than before (norm %.9g, was %.9g)\n", want.name, got->norm, want.norm);
        different++;
#endif
    }
    fclose(file);
    assert_int_equal(next, found_count);
    assert_int_equal(different, 0);
}

/* One digest of all that was found. */
static uint64_t whole_digest(void)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (int i = 0; i < found_count; i++)
        for (const char *c = found[i].digest; *c; c++) hash = (hash ^ (uint8_t)*c) * 0x100000001b3;
    return hash;
}

/* The digest in the line of tests/golden/digests_fast.txt with this name; false where there is none. */
static bool committed(const char *name, char digest[17])
{
    char text[256], label[64];
    bool there = false;
    FILE *file = fopen(SID2_SOURCE_DIR "/tests/golden/digests_fast.txt", "r");
    assert_non_null(file);
    while (!there && fgets(text, sizeof text, file))
        there = sscanf(text, "%63[^:]: %16s", label, digest) == 2 && strcmp(label, name) == 0;
    fclose(file);
    return there;
}

static void instruction_sets_are_as_before(void **state)
{
    (void)state;
    static const int threads[] = {1, 3, 8};
    int different = 0;
    for (int i = 0; sid2_cpu_isas[i]; i++) {
        const char *name = sid2_cpu_isas[i]->name;
        if (!sid2_cpu_isas[i]->usable()) continue;
        char id[16], got[17], want[17];
        snprintf(id, sizeof id, "isa:%d", i);
        for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
            find_all(&bare, id, threads[t]);
            snprintf(got, sizeof got, "%016llx", (unsigned long long)whole_digest());
            if (t == 0 && !committed(name, want)) {
                print_message("%s: %s (no line)\n", name, got);
                memcpy(want, got, sizeof want);
            }
            if (strcmp(got, want) == 0) continue;
            print_error("%s: %s (on %d threads, not %s)\n", name, got, threads[t], want);
            different++;
        }
    }
    assert_int_equal(different, 0);
}

static bool write_all(FILE *file)
{
    for (int i = 0; file && i < found_count; i++)
        fprintf(file, "%s: %s %.9g\n", found[i].name, found[i].digest, found[i].norm);
    return file && !fclose(file);
}

int main(int argc, char **argv)
{
    must(mkdtemp(folder));
    const struct CMUnitTest tests[] = {cmocka_unit_test(bits_are_as_before),
                                       cmocka_unit_test(instruction_sets_are_as_before)};
    int failures;
    if (argc == 2 && strcmp(argv[1], "--write") == 0) {
        find_all(&sid2_backend_cpu, "reference", 0);
        failures = !write_all(fopen(golden_path(), "w"));
    } else if (argc == 3) {
        find_all(&sid2_backend_cpu, argv[1], atoi(argv[2]));
        failures = !write_all(stdout);
    } else {
        failures = cmocka_run_group_tests(tests, NULL, NULL);
    }
    return sid2_remove_tree(folder, &err) ? failures : 1;
}
