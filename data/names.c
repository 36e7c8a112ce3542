#include "names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool sid2_names_push(sid2_names *names, const char *name, sid2_error *err)
{
    if (names->count == names->room) {
        int64_t room = 2 * names->room + 64;
        char **grown = realloc(names->item, (size_t)room * sizeof *grown);
        if (!grown) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for %lld names", (long long)room);
        names->item = grown;
        names->room = room;
    }
    char *copy = strdup(name);
    if (!copy) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a name");
    names->item[names->count++] = copy;
    return true;
}

void sid2_names_free(sid2_names *names)
{
    for (int64_t i = 0; i < names->count; i++) free(names->item[i]);
    free(names->item);
    *names = (sid2_names){0};
}

char *sid2_path_join(const char *folder, const char *name)
{
    char *path = malloc(strlen(folder) + strlen(name) + 2);
    if (path) sprintf(path, "%s/%s", folder, name);
    return path;
}
