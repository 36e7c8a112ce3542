/* Locales for tests, made on the spot: none need be installed, only the `locales` package's sources. */
#ifndef SID2_TEST_LOCALE_SUPPORT_H
#define SID2_TEST_LOCALE_SUPPORT_H

#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Compiles `name` (de_DE) into `folder` and has the process use it. False where that cannot be done here. */
static inline bool use_locale(const char *folder, const char *name)
{
    char command[512], full[64];
    snprintf(full, sizeof full, "%s.UTF-8", name);
    snprintf(command, sizeof command, "localedef -i %s -f UTF-8 '%s/%s' >/dev/null 2>&1", name, folder, full);
    if (system(command) < 0) return false; /* localedef warns by its exit code: what counts is what loads */
    setenv("LOCPATH", folder, 1);
    return setlocale(LC_ALL, full) != NULL;
}

#endif
