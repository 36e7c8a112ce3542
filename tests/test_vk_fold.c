/* Specialisation constants folded into SPIR-V (vk/fold.c). That the results compute the same is what the
 * operator tests on SwiftShader show; here, that nothing is left to specialise, and what single operations
 * come to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fold.h"
#include "modules.h"

enum { VALUES = 40 };

static const VkSpecializationInfo *constants(const uint32_t *values)
{
    static VkSpecializationMapEntry map[VALUES];
    static VkSpecializationInfo info;
    for (uint32_t i = 0; i < VALUES; i++) map[i] = (VkSpecializationMapEntry){i, 4 * i, 4};
    info = (VkSpecializationInfo){VALUES, map, 4 * VALUES, values};
    return &info;
}

static bool is_special(const uint32_t *in)
{
    uint32_t opcode = in[0] & 0xffff;
    return (opcode >= 48 && opcode <= 52) || (opcode == 71 && in[2] == 1); /* OpSpecConstant..., SpecId */
}

static void test_nothing_is_left(void **state)
{
    (void)state;
    uint32_t values[VALUES];
    for (uint32_t i = 0; i < VALUES; i++) values[i] = i % 5;
    for (const sid2_vk_module *m = sid2_vk_modules; m->name; m++) {
        size_t bytes = m->bytes;
        uint32_t *words = sid2_vk_fold(m->words, &bytes, constants(values));
        if (!words) fail_msg("%s cannot be folded", m->name);
        for (size_t at = 5; at < bytes / 4; at += words[at] >> 16) {
            assert_true(words[at] >> 16 > 0 && at + (words[at] >> 16) <= bytes / 4);
            if (is_special(words + at))
                fail_msg("%s: a specialisation constant is left at word %zu", m->name, at);
        }
        free(words);
    }
}

enum { INT = 1, BOOL, A, B, RESULT, BOUND };

#define OP(words, opcode) ((words) << 16 | (opcode))

/* An operation's result for 7 and 3: A is 100 unless given, and given as 7. */
static uint32_t result_of(uint32_t operation, uint32_t type)
{
    /* clang-format off */
    const uint32_t module[] = {
        0x07230203, 0x00010300, 0, BOUND, 0,
        OP(4, 71), A, 1, 0, /* OpDecorate A SpecId 0 */
        OP(4, 21), INT, 32, 0, /* OpTypeInt */
        OP(2, 20), BOOL, /* OpTypeBool */
        OP(4, 50), INT, A, 100, /* OpSpecConstant */
        OP(4, 43), INT, B, 3, /* OpConstant */
        OP(6, 52), type, RESULT, operation, A, B, /* OpSpecConstantOp */
    };
    /* clang-format on */
    const uint32_t values[VALUES] = {7};
    size_t bytes = sizeof module;
    uint32_t *words = sid2_vk_fold(module, &bytes, constants(values));
    assert_non_null(words);
    uint32_t kept = bytes / 4 - (type == BOOL ? 3 : 4);
    assert_int_equal(words[kept + 1], type);
    assert_int_equal(words[kept + 2], RESULT);
    uint32_t result = type == BOOL ? (words[kept] & 0xffff) == 41 : words[kept + 3];
    free(words);
    return result;
}

static void test_operations(void **state)
{
    (void)state;
    assert_int_equal(result_of(128, INT), 10);
    assert_int_equal(result_of(132, INT), 21);
    assert_int_equal(result_of(134, INT), 2);
    assert_int_equal(result_of(130, INT), 4);
    assert_int_equal(result_of(137, INT), 1);
    assert_int_equal(result_of(170, BOOL), false);
    assert_int_equal(result_of(171, BOOL), true);
    assert_int_equal(result_of(172, BOOL), true);
}

static void test_what_is_not_known_is_left_to_the_driver(void **state)
{
    (void)state;
    const uint32_t values[VALUES] = {0};
    const uint32_t module[] = {
        0x07230203,
        0x00010300,
        0,
        4,
        0,
        OP(4, 43),
        1,
        2,
        9,
        OP(5, 52),
        1,
        3,
        126 /* SNegate */,
        2
    };
    size_t bytes = sizeof module;
    assert_null(sid2_vk_fold(module, &bytes, constants(values)));
    bytes = 8 * sizeof *module; /* cut off within an instruction */
    assert_null(sid2_vk_fold(module, &bytes, constants(values)));
    bytes = 9 * sizeof *module; /* and behind it */
    uint32_t *words = sid2_vk_fold(module, &bytes, constants(values));
    assert_non_null(words);
    free(words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_left),
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_what_is_not_known_is_left_to_the_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
