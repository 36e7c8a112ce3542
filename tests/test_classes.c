/* Names of classes: found as people write them, kept with a checkpoint, compared. */
#include <unistd.h>

#include "classes.h"
#include "file.h"
#include "model_support.h"

#define A_COMPOSED   "K\xc3\xa4tzchen Mia"
#define A_DECOMPOSED "Ka\xcc\x88tzchen Mia"

static char folder[64] = "/tmp/sid2-classes-XXXXXX";

static sid2_classes *named(const char *const *names, int count)
{
    sid2_classes *classes = sid2_classes_create(names, count, &err);
    must(classes);
    return classes;
}
#define NAMED(...)                                                                                           \
    named((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* The labels as "3 1 4", or the message. */
static const char *parsed(const sid2_classes *classes, int labels, const char *text)
{
    static char result[512];
    size_t count, used = 0;
    int32_t *found = sid2_classes_parse(classes, labels, text, &count, &err);
    if (!found) {
        assert_int_equal(err.code, SID2_ERR_USAGE);
        return err.message;
    }
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(result + used, sizeof result - used, "%s%d", i ? " " : "", found[i]);
    free(found);
    return result;
}
#define means(text, labels) assert_string_equal(parsed(c, count, text), labels)
#define says(text, part)                                                                                     \
    if (!strstr(parsed(c, count, text), part))                                                               \
    fail_msg("'%s': '%s' is not in '%s'", text, part, parsed(c, count, text))

static void names_numbers_and_ranges(void **state)
{
    (void)state;
    sid2_classes *c = NAMED("cat", A_DECOMPOSED,
                            "Stra\xc3\x9f"
                            "e",
                            "red, green", "red", "dog");
    int count = 8; /* two have no name */
    means("dog", "5");
    means("3", "3");
    means("0-2,7", "0 1 2 7");
    means("dog,cat,dog", "5 0 5");
    means(" dog , 1-2 ,cat", "5 1 2 0");
    means(A_COMPOSED, "1");
    means(A_DECOMPOSED, "1");
    means("K\xc3\x84TZCHEN mia", "1");
    means("strasse", "2");
    means("red", "4");
    means("red, green", "3");
    means("cat,red, green,red,6", "0 3 4 6");
    means("name:dog,number:5", "5 5");
    says("dgo", "did you mean 'dog'? There are numbers 0 to 7, 0 'cat'");
    says("8", "class 8 is out of range: there are numbers 0 to 7");
    says("7-8", "out of range");
    says("3-1", "a range is reversed");
    says("-1", "no class '-1'");
    says("dog,,cat", "no class ''");
    says("99999999999999999999", "no class");
    says("name:3", "no class");
    says("\x1b[2J", "no class '?[2J'");
    sid2_classes_destroy(c);
}

static void what_may_mean_two_things_is_refused(void **state)
{
    (void)state;
    sid2_classes *c = NAMED("1", "10", "2", "Dog", "dog", "0-2", "a", "a");
    int count = 8;
    means("10", "1");
    says("1", "may be the class of that name, number 0, or a number: say name:1 or number:1");
    means("name:1,number:1", "0 1");
    says("0-2", "say name:0-2 or number:0-2");
    means("number:0-2,name:0-2", "0 1 2 5");
    means("dog,Dog", "4 3");
    says("DOG", "ambiguous, 2 classes match it: number:3 'Dog', number:4 'dog'");
    says("a", "number:6 'a', number:7 'a'");
    sid2_classes_destroy(c);
}

static void without_names_numbers_do(void **state)
{
    (void)state;
    const sid2_classes *c = NULL;
    int count = 10;
    means("0-2,9", "0 1 2 9");
    says("cat", "no class 'cat'; there are numbers 0 to 9");
    assert_null(sid2_classes_name(c, 0));
    assert_int_equal(sid2_classes_count(c), 0);
}

/* The message has room for some of a thousand. */
static void a_thousand_names(void **state)
{
    (void)state;
    static char text[1000][120];
    const char *names[1000];
    for (int i = 0; i < 1000; i++) {
        snprintf(text[i], sizeof text[i], "%0100d \xc3\xa4 %d", i, i);
        names[i] = text[i];
    }
    sid2_classes *c = named(names, 1000);
    int count = 1000;
    means(text[777], "777");
    says("x", "more");
    assert_null(strchr(parsed(c, count, "x"), '?'));
    sid2_classes_destroy(c);
}

static void lists_are_cut_between_names(void **state)
{
    (void)state;
    int32_t labels[200];
    char text[SID2_CLASSES_LIST];
    sid2_classes *c = NAMED("cat", "d\xc3\xb6g");
    for (int i = 0; i < 200; i++) labels[i] = i % 2;
    assert_string_equal(sid2_classes_list(c, labels, 2, ", ", text), "cat, d\xc3\xb6g");
    assert_string_equal(sid2_classes_list(NULL, labels, 2, " ", text), "0 1");
    assert_string_equal(sid2_classes_list(c, labels, 1, ", ", text), "cat");
    sid2_classes_list(c, labels, 200, ", ", text);
    assert_true(strlen(text) > 200 && strcmp(text + strlen(text) - 5, ", ...") == 0);
    for (int i = 0; i < 200; i++) labels[i] = 1;
    assert_string_equal(sid2_classes_list(c, labels, 200, ", ", text), "d\xc3\xb6g");
    labels[0] = -1;
    assert_string_equal(sid2_classes_list(c, labels, 1, ", ", text), "");
    sid2_classes_destroy(c);
}

static void differences(const sid2_classes *before, sid2_classes *now, const char *expected)
{
    char text[SID2_CLASSES_TEXT];
    assert_true(sid2_classes_differ(before, now, text) == (expected != NULL));
    if (expected && !strstr(text, expected)) fail_msg("'%s' does not say '%s'", text, expected);
    sid2_classes_destroy(now);
}

static void what_changed_is_said(void **state)
{
    (void)state;
    sid2_classes *c = NAMED("a", A_COMPOSED, "b");
    differences(c, NAMED("a", A_DECOMPOSED, "b"), NULL);
    differences(c, NULL, NULL);
    differences(NULL, NAMED("a"), NULL);
    differences(c, NAMED("a", "b"), "gone: '" A_COMPOSED "'");
    differences(c, NAMED("a", A_COMPOSED, "b", "c", "d", "e", "f"), "new: 'c', 'd' and 2 more");
    differences(c, NAMED("a", "x", "b"), "gone: '" A_COMPOSED "'; new: 'x'");
    differences(c, NAMED("b", A_COMPOSED, "a"), "another order: number 0 was 'a' and is 'b'");
    differences(c, NAMED("a", A_COMPOSED, "b", "b"), "4 names, not 3");
    sid2_classes_destroy(c);
}

/* Two lists without a name in common, and a name of nothing but commas, as a file may hold them: neither may take time
 * with the square of its length. */
static void long_lists_are_soon_read(void **state)
{
    (void)state;
    enum { COUNT = 300000, COMMAS = 1 << 20 };
    static char text[2][COUNT][8], commas[COMMAS + 1];
    static const char *names[2][COUNT];
    memset(commas, ',', COMMAS);
    for (int i = 0; i < 2 * COUNT; i++)
        sprintf(text[i / COUNT][i % COUNT], "%c%d", 'a' + i / COUNT, i % COUNT);
    for (int i = 0; i < 2 * COUNT; i++) names[i / COUNT][i % COUNT] = text[i / COUNT][i % COUNT];
    names[1][7] = commas;
    sid2_classes *before = sid2_classes_create(names[0], COUNT, &err),
                 *now = sid2_classes_create(names[1], COUNT, &err);
    must(before && now);
    double began = sid2_clock();
    char said[SID2_CLASSES_TEXT];
    assert_true(sid2_classes_differ(before, now, said));
    assert_non_null(strstr(said, "gone: 'a0', 'a1' and 299998 more; new: 'b0', 'b1' and 299998 more"));
    size_t count;
    int32_t *labels = sid2_classes_parse(now, COUNT, "b3,b5", &count, &err);
    must(labels);
    assert_true(count == 2 && labels[0] == 3 && labels[1] == 5);
    free(labels);
    assert_true(sid2_clock() - began < 20);
    sid2_classes_destroy(before);
    sid2_classes_destroy(now);
}

static void checkpoints_keep_names(void **state)
{
    (void)state;
    sid2_device *device = open_device("reference");
    sid2_config *config = TINY("train.batch=2", "train.microbatch=2");
    sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
    must(t);
    sid2_classes *c = NAMED("cat",
                            "g\xff"
                            "h",
                            "dog\nx"),
                 *many = NAMED("a", "b", "c", "d"), *read;
    assert_false(sid2_trainer_name_classes(t, many, &err));
    assert_non_null(strstr(err.message, "4 names, but model.classes is 3"));
    must(sid2_trainer_name_classes(t, c, &err));
    char saved[96], given[96];
    snprintf(saved, sizeof saved, "%s/step-00000000", folder);
    snprintf(given, sizeof given, "%s/exported", folder);
    must(sid2_trainer_save(t, saved, &err));
    assert_true(sid2_checkpoint_is_own(saved));
    must(sid2_checkpoint_verify(saved, &err));
    must(sid2_checkpoint_export(saved, given, SID2_F16, &err));
    must(sid2_checkpoint_classes(given, &read, &err));
    assert_int_equal(sid2_classes_count(read), 3);
    assert_string_equal(sid2_classes_name(read, 1), "g\xef\xbf\xbdh");
    assert_string_equal(sid2_classes_name(read, 2), "dog\nx");
    sid2_classes_destroy(read);
    sid2_trainer_destroy(t);

    /* A trainer that resumes hands them on. */
    t = sid2_trainer_create(device, config, 0, &err);
    must(t && sid2_trainer_resume(t, saved, &err));
    must(sid2_trainer_save(t, path_in(folder, "again"), &err));
    must(sid2_checkpoint_classes(path_in(folder, "again"), &read, &err));
    assert_string_equal(sid2_classes_name(read, 0), "cat");
    sid2_classes_destroy(read);

    /* Damage is found; and more names than there are classes. */
    must(sid2_file_write(path_in(saved, "classes.json"), "[\"cat\"]", 7, &err));
    assert_false(sid2_trainer_resume(t, saved, &err));
    assert_non_null(strstr(err.message, "classes.json"));
    must(sid2_file_write(path_in(given, "classes.json"), "[\"a\",\"b\",\"c\",\"d\"]", 17, &err));
    assert_false(sid2_checkpoint_verify(given, &err));
    assert_non_null(strstr(err.message, "4 names of 3 classes"));
    must(sid2_file_write(path_in(given, "classes.json"), "{\"a\": 1}", 8, &err));
    assert_false(sid2_checkpoint_classes(given, &read, &err));
    assert_non_null(strstr(err.message, "a list of names is expected"));
    sid2_trainer_destroy(t);
    sid2_classes_destroy(c);
    sid2_classes_destroy(many);
    sid2_config_destroy(config);
    sid2_device_close(device);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return sid2_remove_tree(folder, &err) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_numbers_and_ranges),    cmocka_unit_test(what_may_mean_two_things_is_refused),
        cmocka_unit_test(without_names_numbers_do),    cmocka_unit_test(a_thousand_names),
        cmocka_unit_test(lists_are_cut_between_names), cmocka_unit_test(what_changed_is_said),
        cmocka_unit_test(long_lists_are_soon_read),    cmocka_unit_test(checkpoints_keep_names),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
