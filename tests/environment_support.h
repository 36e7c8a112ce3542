/* What a launcher leaves in the environment of a rank. */
#ifndef SID2_TEST_ENVIRONMENT_SUPPORT_H
#define SID2_TEST_ENVIRONMENT_SUPPORT_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of these variables those that are in "A=1 B=2", and no others. */
static inline void set_environment(const char *const *variables, size_t count, const char *words)
{
    char text[400], *rest = text;
    for (size_t i = 0; i < count; i++) unsetenv(variables[i]);
    snprintf(text, sizeof text, "%s", words);
    for (char *one; (one = strsep(&rest, " "));)
        if (strchr(one, '=')) {
            *strchr(one, '=') = 0;
            setenv(one, one + strlen(one) + 1, 1);
        }
}

#endif
