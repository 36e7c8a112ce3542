/* Configuration: every key round-trips, bad input is named, presets describe. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    refused(c, "train.nope=1", "`sid2 help --markdown` lists all");
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
        {"model.head_dim=48", "model.head_dim"},
        {"model.head_dim=2", "head_dim"},
        {"schedule.logsnr_min=11", "logsnr_min"},
        {"train.microbatch=5", "train.microbatch"},
        {"train.microbatch=128", "train.microbatch"},
        {"schedule.low=4096", "schedule.low"},
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
    accepted(c, "sample.guidance=2", "sample.guidance", "2");
    assert_false(sid2_config_check(c, &err));
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
    sid2_config_key key;
    int keys = 0;
    for (; sid2_config_key_at(keys, &key); keys++) {
        char a[256], b[256];
        assert_true(sid2_config_get(c, key.name, a, sizeof a, &err) &&
                    sid2_config_get(back, key.name, b, sizeof b, &err));
        assert_string_equal(a, b);
        assert_true(strlen(key.help) > 5 &&
                    strlen(key.help) < 190); /* a longer comment line would be split by libinih */
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
}

static void presets_load_and_describe(void **state)
{
    (void)state;
    static const char *const wanted[] = {"imagenet128-1", "imagenet128-2", "imagenet256-1", "imagenet256-2",
                                         "imagenet512-2", "imagenet512-4", "fashion-mnist", "cifar10",
                                         "emoji128",      "quickstart"};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_and_shown), cmocka_unit_test(bad_input_is_named),
        cmocka_unit_test(contradictions_are_found),  cmocka_unit_test(files_round_trip),
        cmocka_unit_test(presets_load_and_describe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
