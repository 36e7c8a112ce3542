/* Checkpoints, byte for byte. */
#ifndef SID2_TEST_CHECKPOINT_SUPPORT_H
#define SID2_TEST_CHECKPOINT_SUPPORT_H

#include "file.h"
#include "model_support.h"

static char folder[64]; /* of this test's checkpoints */

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sid2-checkpoints-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int drop_folder(void **state)
{
    (void)state;
    return sid2_remove_tree(folder, NULL) ? 0 : -1;
}

static inline void same_checkpoint(const char *a, const char *b)
{
    sid2_list names;
    must(sid2_list_folder(&names, a, NULL, &err));
    assert_true(names.count >= 5);
    for (size_t i = 0; i < names.count; i++) {
        size_t size[2];
        uint8_t *one = sid2_file_read(path_in(a, names.name[i]), 0, &size[0], &err),
                *other = sid2_file_read(path_in(b, names.name[i]), 0, &size[1], &err);
        must(one && other);
        if (size[0] != size[1] || memcmp(one, other, size[0]) != 0)
            fail_msg("%s of %s and %s differ", names.name[i], a, b);
        free(one);
        free(other);
    }
    sid2_list_free(&names);
}

#endif
