/* Configuration: every key round-trips, bad input is named, presets describe. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"

static sid2_error err;

static void refused(sid2_config *config, const char *assignment, const char *expected_in_message)
{
    memset(&err, 0, sizeof err);
    if (sid2_config_set(config, assignment, &err)) fail_msg("'%s' was accepted", assignment);
    assert_int_equal(err.code, SID2_ERR_USAGE);
    if (!strstr(err.message, expected_in_message))
        fail_msg("'%s' gave \"%s\", which lacks \"%s\"", assignment, err.message, expected_in_message);
    assert_null(strchr(err.message, '\n'));
}

static void accepted(sid2_config *config, const char *assignment, const char *key, const char *text)
{
    char value[256];
    if (!sid2_config_set(config, assignment, &err)) fail_msg("%s", err.message);
    if (!sid2_config_get(config, key, value, sizeof value, &err)) fail_msg("%s", err.message);
    assert_string_equal(value, text);
}

static void values_are_read_and_shown(void **state)
{
    (void)state;
    sid2_config *c = sid2_config_create();
    accepted(c, "model.channels=32,64,128", "model.channels", "32,64,128");
    accepted(c, " model.channels = 16 , 8 ", "model.channels", "16,8");
    accepted(c, "model.image_size=96x160", "model.image_size", "96x160");
    assert_int_equal(sid2_config_image_height(c), 96);
    assert_int_equal(sid2_config_image_width(c), 160);
    accepted(c, "model.image_size = 64 X 64", "model.image_size", "64");
    static const char *const sizes[] = {"",        "x",        "64x",   "x64", "64x2",
                                        "5000x64", "64x64x64", "64,64", "auto"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char setting[64];
        snprintf(setting, sizeof setting, "model.image_size=%s", sizes[i]);
        refused(c, setting, "expected HEIGHTxWIDTH or one number for both, each of 4..4096");
    }
    accepted(c, "model.blocks=transformer", "model.blocks", "transformer");
    accepted(c, "model.dropout=0,0.1", "model.dropout", "0,0.1");
    accepted(c, "train.learning_rate=3e-4", "train.learning_rate", "0.0003");
    accepted(c, "train.eps=1e-12", "train.eps", "1e-12");
    accepted(c, "loss.bias=auto", "loss.bias", "auto");
    accepted(c, "loss.bias=-1.5", "loss.bias", "-1.5");
    accepted(c, "schedule.high=auto", "schedule.high", "auto");
    accepted(c, "train.microbatch=8", "train.microbatch", "8");
    accepted(c, "train.flip=false", "train.flip", "no");
    accepted(c, "model.parallel=1", "model.parallel", "yes");
    accepted(c, "model.qk_norm=rms", "model.qk_norm", "rms");
    accepted(c, "sample.interval=none", "sample.interval", "none");
    accepted(c, "sample.interval=always", "sample.interval", "always");
    accepted(c, "sample.interval=-3.7, 0.5", "sample.interval", "-3.7,0.5");
    accepted(c, "model.updown_kernel=3", "model.updown_kernel", "3");
    accepted(c, "train.seed=9223372036854775807", "train.seed", "9223372036854775807");
    sid2_config_destroy(c);
}

static void bad_input_is_named(void **state)
{
    (void)state;
    sid2_config *c = sid2_config_create();
    refused(c, "model.chanels=32", "did you mean 'model.channels'");
    refused(c, "learning_rate=1", "did you mean 'train.learning_rate'");
    refused(c, "nonsense.altogether.q=1", "unknown key 'nonsense.altogether.q'");
    refused(c, "train.nope=1", "`sid2 help train` lists all");
    refused(c, "no assignment", "expected key=value");
    refused(c, "=3", "unknown key ''");
    refused(c, "model.patch=0", "1..64");
    refused(c, "model.patch=2x", "model.patch");
    refused(c, "model.patch=", "model.patch");
    refused(c, "model.patch=auto", "model.patch");
    refused(c, "model.patch=99999999999999999999999", "model.patch");
    refused(c, "model.updown_kernel=2", "1|3");
    refused(c, "model.channels=32,,64", "a list");
    refused(c, "model.channels=", "a list");
    refused(c, "model.channels=1,2,3,4,5,6,7,8,9", "at most 8");
    refused(c, "model.blocks=res,conv", "res|transformer");
    refused(c, "train.learning_rate=nan", "train.learning_rate");
    refused(c, "train.learning_rate=-1", "train.learning_rate");
    refused(c, "train.flip=maybe", "yes|no");
    refused(c, "loss.weighting=mse", "sigmoid");
    refused(c, "sample.interval=3", "sample.interval");
    refused(c, "sample.interval=3,1", "sample.interval");
    refused(c, "sample.interval=1,2,3", "sample.interval");
    refused(c, "sample.sampler=DDPM", "ddpm");
    char *longest = malloc(5000);
    memset(longest, '1', 4999);
    longest[4999] = 0;
    memcpy(longest, "model.patch=", 12);
    refused(c, longest, "model.patch");
    memset(longest, 'k', 4998);
    longest[4998] = '=';
    refused(c, longest, "expected key=value");
    free(longest);
    /* A refused value leaves the old one, also half-way through a list. */
    accepted(c, "model.channels=5,6", "model.channels", "5,6");
    refused(c, "model.channels=7,x", "model.channels");
    char value[64], tiny[4];
    assert_true(sid2_config_get(c, "model.channels", value, sizeof value, &err));
    assert_string_equal(value, "5,6");
    assert_false(sid2_config_get(c, "sample.sampler", tiny, sizeof tiny, &err));
    sid2_config_destroy(c);
}

static void contradictions_are_found(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"model.image_channels=2", "have 1 or 3"},
        {"model.blocks=res,res", "model.blocks"},
        {"model.depth=1,2,3", "model.depth"},
        {"model.dropout=0,0.1", "model.dropout"},
        {"model.image_size=30", "model.image_size"},
        {"model.image_size=32x30", "32x30: height and width must be a multiple of 4"},
        {"model.image_size=30x32", "30x32: height and width must be a multiple of 4"},
        {"model.head_dim=48", "model.head_dim"},
        {"model.head_dim=2", "head_dim"},
        {"schedule.logsnr_min=11", "logsnr_min"},
        {"train.microbatch=5", "train.microbatch"},
        {"train.microbatch=128", "train.microbatch"},
        {"schedule.low=4096", "schedule.low"},
        {"model.waves=255", "model.waves"},
        {"sample.guidance_rule=cfgpp", "sample.sampler = ddim"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sid2_config *c = sid2_config_create();
        assert_true(sid2_config_check(c, &err));
        accepted(c, "schedule.high=32", "schedule.high", "32");
        bool set = sid2_config_set(c, bad[i][0], &err);
        if (set && sid2_config_check(c, &err)) fail_msg("%s passed", bad[i][0]);
        assert_non_null(strstr(err.message, bad[i][1]));
        sid2_config_destroy(c);
    }
    sid2_config *c = sid2_config_create();
    accepted(c, "model.classes=0", "model.classes", "0");
    assert_true(sid2_config_check(c, &err));
    assert_true(sid2_config_check_guidance(c, &err));
    accepted(c, "sample.guidance=2", "sample.guidance", "2");
    assert_false(sid2_config_check_guidance(c, &err));
    sid2_config_destroy(c);
}

static char *temporary(const char *text)
{
    static char path[64];
    strcpy(path, "/tmp/sid2-config-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void refused_file(const char *text, const char *expected)
{
    sid2_config *c = sid2_config_create();
    char *path = temporary(text), before[64], after[64];
    sid2_config_get(c, "model.patch", before, sizeof before, NULL);
    assert_false(sid2_config_load(c, path, &err));
    if (!strstr(err.message, expected)) fail_msg("\"%s\" lacks \"%s\"", err.message, expected);
    sid2_config_get(c, "model.patch", after, sizeof after, NULL);
    assert_string_equal(before, after);
    unlink(path);
    sid2_config_destroy(c);
}

static void files_round_trip(void **state)
{
    (void)state;
    sid2_config *c = sid2_config_create(), *back = sid2_config_create();
    accepted(c, "model.channels=8,8,16", "model.channels", "8,8,16");
    accepted(c, "train.learning_rate=0.00012345678901234567", "train.learning_rate",
             "0.00012345678901234567");
    accepted(c, "sample.interval=-1.25,7", "sample.interval", "-1.25,7");
    accepted(c, "loss.weighting=edm_monotonic", "loss.weighting", "edm_monotonic");
    char *path = temporary("");
    assert_true(sid2_config_save(c, path, &err));
    if (!sid2_config_load(back, path, &err)) fail_msg("%s", err.message);
    const sid2_config_key *key;
    int keys = 0;
    for (; (key = sid2_config_key_at(keys)); keys++) {
        char a[256], b[256];
        assert_true(sid2_config_get(c, key->name, a, sizeof a, &err) &&
                    sid2_config_get(back, key->name, b, sizeof b, &err));
        assert_string_equal(a, b);
        assert_true(strlen(key->help) > 5 &&
                    strlen(key->help) < 190); /* a longer comment line would be split by libinih */
    }
    assert_true(keys > 50);
    unlink(path);
    assert_false(sid2_config_save(c, "/dev/null/x.ini", &err));
    assert_false(sid2_config_load(c, "/nonexistent.ini", &err));
    assert_false(sid2_config_load(c, "/tmp", &err));
    sid2_config_destroy(c);
    sid2_config_destroy(back);
    refused_file("[model]\npatch = 2\nnot a pair\n", ":3:");
    refused_file("[model]\npatch = 2\npacth = 2\n",
                 ":3: unknown key 'model.pacth'; did you mean 'model.patch'");
    refused_file("patch = 2\n", "unknown key 'patch'");
    refused_file("[model]\npatch = 65\n", "1..64");
    refused_file("", "sets no key");
    refused_file("; nothing\n[model]\n", "sets no key");
    refused_file("[model]\npatch = 2\n\x1b[31mpatch\n", ": not a text file");
}

/* Bytes that are no text, also where a parser of lines would see empty ones. */
static void bytes_are_no_configuration(void **state)
{
    (void)state;
    static const char png[] = "\x89PNG\r\n\x1a\n", zeros[5] = {0};
    static const struct {
        const char *bytes;
        size_t size;
    } files[] = {{png, sizeof png - 1}, {zeros, sizeof zeros}};
    sid2_config *c = sid2_config_create();
    for (int i = 0; i < 2; i++) {
        char *path = temporary("");
        FILE *file = fopen(path, "wb");
        assert_int_equal(fwrite(files[i].bytes, 1, files[i].size, file), files[i].size);
        fclose(file);
        assert_false(sid2_config_preset(c, path, &err));
        assert_non_null(strstr(err.message, "not a text file, so no configuration"));
        for (const char *at = err.message; *at; at++) assert_in_range((unsigned char)*at, ' ', '~');
        unlink(path);
    }
    sid2_config_destroy(c);
}

/* A checkpoint's file without a line of [model]: refused, unless the key came later; then it is what it was. */
static void checkpoints_from_before(void **state)
{
    (void)state;
    sid2_config *c = sid2_config_create(), *back = sid2_config_create();
    char *path = temporary(""), line[512], text[1 << 14], kept[1 << 14];
    assert_true(sid2_config_save(c, path, &err));
    FILE *file = fopen(path, "r");
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    static const struct {
        const char *line, *key, *older; /* older: NULL where the file is refused */
    } lines[] = {{"waves = ", "model.waves", "256"},
                 {"wave_period = ", "model.wave_period", "10000"},
                 {"class_std = ", "model.class_std", "0.02"},
                 {"patch = ", "model.patch", NULL},
                 {"logsnr_max = ", "schedule.logsnr_max", NULL}};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        kept[0] = 0;
        for (const char *at = text; *at; at += strlen(line)) {
            snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n") + 1, at);
            bool seal = strncmp(line, "; xxh3_128 ", 11) == 0; /* older files have none */
            if (!seal && strncmp(line, lines[i].line, strlen(lines[i].line)) != 0) strcat(kept, line);
        }
        assert_true(strlen(kept) < strlen(text));
        file = fopen(path, "w");
        fputs(kept, file);
        fclose(file);
        /* Not what the configuration happens to hold: what it meant then. */
        accepted(back, "model.waves=64", "model.waves", "64");
        accepted(back, "model.wave_period=99", "model.wave_period", "99");
        accepted(back, "model.class_std=0.5", "model.class_std", "0.5");
        bool ok = sid2_config_load_whole(back, path, &err);
        assert_int_equal(ok, lines[i].older != NULL);
        if (!ok) {
            snprintf(line, sizeof line, "%s is missing", lines[i].key);
            assert_non_null(strstr(err.message, line));
        } else {
            assert_true(sid2_config_get(back, lines[i].key, line, sizeof line, &err));
            assert_string_equal(line, lines[i].older);
        }
        assert_true(sid2_config_load(back, path, &err));
    }
    unlink(path);
    sid2_config_destroy(c);
    sid2_config_destroy(back);
}

/* A key that is found is found at once: only a wrong one is compared with all others, letter by letter. */
static void finding_a_key_is_cheap(void **state)
{
    (void)state;
    enum { TIMES = 2000 };
    char value[64];
    sid2_config *c = sid2_config_create();
    clock_t began = clock();
    for (int i = 0; i < TIMES; i++) assert_true(sid2_config_get(c, "eval.images", value, sizeof value, &err));
    clock_t found = clock() - began;
    began = clock();
    for (int i = 0; i < TIMES; i++)
        assert_false(sid2_config_get(c, "eval.imagines", value, sizeof value, &err));
    assert_true(found * 5 < clock() - began);
    sid2_config_destroy(c);
}

static void what_was_set_is_known(void **state)
{
    (void)state;
    sid2_config *c = sid2_config_create();
    assert_false(sid2_config_is_set(c, "model.classes"));
    accepted(c, " model.classes  =  20 ", "model.classes", "20");
    assert_true(sid2_config_is_set(c, "model.classes"));
    assert_false(sid2_config_is_set(c, "model.patch"));
    refused(c, "model.patch=0", "model.patch");
    assert_true(sid2_config_preset(c, "quickstart", &err));
    assert_false(sid2_config_is_set(c, "model.patch"));
    assert_true(sid2_config_is_set(c, "model.classes"));
    assert_false(sid2_config_is_set(c, "model.nonsense"));
    sid2_config_destroy(c);
}

/* Keys that some samplers and grids have no use for. */
static void what_matters_is_known(void **state)
{
    (void)state;
    sid2_config *c = sid2_config_create();
    assert_true(sid2_config_uses(c, "sample.gamma") && !sid2_config_uses(c, "sample.rho"));
    accepted(c, "sample.sampler=heun", "sample.sampler", "heun");
    accepted(c, "sample.grid=rho", "sample.grid", "rho");
    assert_true(!sid2_config_uses(c, "sample.gamma") && sid2_config_uses(c, "sample.rho"));
    assert_true(sid2_config_uses(c, "sample.steps") && !sid2_config_uses(c, "sample.nonsense"));
    sid2_config_destroy(c);
}

/* Every word that is explained is accepted by its key, and the other way round. */
static void words_are_those_of_their_tables(void **state)
{
    (void)state;
    sid2_config *c = sid2_config_create();
    const sid2_config_word *word;
    const sid2_config_key *key;
    size_t all = 0;
    for (int i = 0; (word = sid2_config_word_at(i)); i++) {
        char assignment[64];
        snprintf(assignment, sizeof assignment, "%s=%s", word->key, word->word);
        accepted(c, assignment, word->key, word->word);
        assert_true(strlen(word->help) > 5);
    }
    for (int k = 0; (key = sid2_config_key_at(k)); k++) {
        size_t words = 0;
        for (int i = 0; (word = sid2_config_word_at(i)); i++)
            if (strcmp(word->key, key->name) == 0) words += strlen(word->word) + 1;
        assert_true(!words || words == strlen(key->accepts) + 1);
        all += words;
    }
    assert_true(all > 0);
    sid2_config_destroy(c);
}

static void presets_load_and_describe(void **state)
{
    (void)state;
    static const char *const wanted[] = {"imagenet128-1",  "imagenet128-2", "imagenet256-1", "imagenet256-2",
                                         "imagenet512-2",  "imagenet512-4", "imagenet64-1",  "imagenet1024-4",
                                         "imagenet1024-8", "fashion-mnist", "cifar10",       "emoji128",
                                         "photos64",       "quickstart"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        bool found = false;
        for (int j = 0; sid2_preset_name(j); j++) found |= strcmp(sid2_preset_name(j), wanted[i]) == 0;
        if (!found) fail_msg("no preset %s", wanted[i]);
    }
    for (int i = 0; sid2_preset_name(i); i++) {
        sid2_config *c = sid2_config_create();
        if (!sid2_config_preset(c, sid2_preset_name(i), &err) || !sid2_config_check(c, &err))
            fail_msg("%s", err.message);
        sid2_config_destroy(c);
    }
    assert_null(sid2_preset_name(-1));
    sid2_config *c = sid2_config_create();
    assert_false(sid2_config_preset(c, "imagenet64", &err));
    assert_non_null(strstr(err.message, "fashion-mnist"));
    sid2_config *copy = sid2_config_clone(c);
    accepted(c, "model.patch=2", "model.patch", "2");
    char value[8];
    assert_true(sid2_config_get(copy, "model.patch", value, sizeof value, &err));
    assert_string_equal(value, "1");
    sid2_config_destroy(copy);
    sid2_config_destroy(c);
}

/* What a checkpoint's numbers mean stays; how it is sampled and evaluated may change. */
static void what_may_change_is_marked(void **state)
{
    (void)state;
    static const struct {
        const char *section;
        bool is_free;
    } whole[] = {
        {"model.", false}, {"schedule.", false}, {"loss.", false}, {"sample.", true}, {"eval.", true}};
    const sid2_config_key *key;
    int seen = 0;
    for (int i = 0; (key = sid2_config_key_at(i)); i++)
        for (size_t k = 0; k < sizeof whole / sizeof *whole; k++) {
            if (strncmp(key->name, whole[k].section, strlen(whole[k].section)) != 0) continue;
            if (sid2_config_is_free(key->name) != whole[k].is_free) fail_msg("%s", key->name);
            seen++;
        }
    assert_true(seen > 30);
    static const char *const free_keys[] = {"train.steps", "train.learning_rate", "train.keep", "data.cache"},
                             *const bound[] = {"train.batch", "train.seed",      "train.beta1",
                                               "train.flip",  "train.precision", "train.holdout",
                                               "data.upright"};
    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
        assert_true(sid2_config_is_free(free_keys[i]));
    for (size_t i = 0; i < sizeof bound / sizeof *bound; i++) assert_false(sid2_config_is_free(bound[i]));
    assert_false(sid2_config_is_free("train.nothing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_and_shown),       cmocka_unit_test(bad_input_is_named),
        cmocka_unit_test(contradictions_are_found),        cmocka_unit_test(files_round_trip),
        cmocka_unit_test(presets_load_and_describe),       cmocka_unit_test(bytes_are_no_configuration),
        cmocka_unit_test(checkpoints_from_before),         cmocka_unit_test(finding_a_key_is_cheap),
        cmocka_unit_test(what_was_set_is_known),           cmocka_unit_test(what_matters_is_known),
        cmocka_unit_test(words_are_those_of_their_tables), cmocka_unit_test(what_may_change_is_marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
