#include "cgroup.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096, LINE_SIZE = 8192 };

static bool read_line(char line[LINE_SIZE], const char *folder, const char *name)
{
    char path[2 * PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool read = fgets(line, LINE_SIZE, file) != NULL;
    fclose(file);
    return read;
}

/* Whether `word` is one of those in a list with commas. */
static bool lists(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *end; list; list = end ? end + 1 : NULL) {
        if (strncmp(list, word, length) == 0 && (!list[length] || strchr(",\n", list[length]))) return true;
        end = strchr(list, ',');
    }
    return false;
}

/* The group of a controller as /proc/self/cgroup says it, "" where there is none: "4:cpu,cpuacct:/a/b" of version 1; of
 * version 2 (controller NULL), "0::/a/b". */
static void find_group(const char *root, const char *controller, char group[PATH_SIZE])
{
    char path[PATH_SIZE], line[LINE_SIZE];
    group[0] = 0;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "r");
    while (file && !group[0] && fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':'), *name = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!name) continue;
        *name = 0;
        bool ours = controller ? lists(controllers + 1, controller) : !controllers[1];
        if (ours) snprintf(group, PATH_SIZE, "%.*s", (int)strcspn(name + 1, "\n"), name + 1);
    }
    if (file) fclose(file);
}

/* Where that hierarchy is mounted, and which of its groups is seen there: "/" or a container's. */
static bool find_mount(const char *root, const char *controller, char place[PATH_SIZE], char top[PATH_SIZE])
{
    char path[PATH_SIZE], line[LINE_SIZE], seen[PATH_SIZE], at[PATH_SIZE], type[32], options[PATH_SIZE];
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(path, "r");
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        const char *rest = strstr(line, " - ");
        if (!rest || sscanf(line, "%*s %*s %*s %4095s %4095s", seen, at) != 2 ||
            sscanf(rest + 3, "%31s %*s %4095s", type, options) != 2)
            continue;
        found = controller ? strcmp(type, "cgroup") == 0 && lists(options, controller)
                           : strcmp(type, "cgroup2") == 0;
        if (!found) continue;
        snprintf(place, PATH_SIZE, "%.2000s%.2000s", root, at);
        snprintf(top, PATH_SIZE, "%s", strcmp(seen, "/") == 0 ? "" : seen);
    }
    if (file) fclose(file);
    return found;
}

static void take_cores(sid2_cgroup_limits *limits, double quota, double period)
{
    double cores = quota > 0 && period > 0 ? quota / period : 0;
    if (cores > 0 && (limits->cores == 0 || cores < limits->cores)) limits->cores = cores;
}

static void take_memory(sid2_cgroup_limits *limits, const char *folder, const char *name)
{
    char line[LINE_SIZE];
    uint64_t bytes = read_line(line, folder, name) ? strtoull(line, NULL, 10) : 0; /* 0 for "max" */
    if (bytes > 0 && (limits->memory == 0 || bytes < limits->memory)) limits->memory = bytes;
}

static void read_group(sid2_cgroup_limits *limits, const char *folder)
{
    char line[LINE_SIZE];
    long long quota, period;
    if (read_line(line, folder, "cpu.max") &&
        sscanf(line, "%lld %lld", &quota, &period) == 2) /* not of "max" */
        take_cores(limits, (double)quota, (double)period);
    if (read_line(line, folder, "cpu.cfs_quota_us")) { /* -1: none */
        quota = atoll(line);
        if (read_line(line, folder, "cpu.cfs_period_us"))
            take_cores(limits, (double)quota, (double)atoll(line));
    }
    take_memory(limits, folder, "memory.max");
    take_memory(limits, folder, "memory.high");
    take_memory(limits, folder, "memory.limit_in_bytes");
}

/* From the process's group up to what is mounted. */
static void read_hierarchy(sid2_cgroup_limits *limits, const char *root, const char *controller)
{
    char group[PATH_SIZE], place[PATH_SIZE], top[PATH_SIZE], folder[2 * PATH_SIZE];
    if (!find_mount(root, controller, place, top)) return;
    find_group(root, controller, group);
    size_t above = strlen(top), least = strlen(place);
    bool inside = strncmp(group, top, above) == 0 && (group[above] == '/' || !group[above]);
    snprintf(folder, sizeof folder, "%s%s", place, inside && !strstr(group, "/..") ? group + above : "");
    for (char *end = folder + strlen(folder); end >= folder + least; end--) {
        if (*end && *end != '/') continue;
        *end = 0;
        read_group(limits, folder);
    }
}

sid2_cgroup_limits sid2_cgroup_read(const char *root)
{
    sid2_cgroup_limits limits = {0};
    read_hierarchy(&limits, root, NULL);
    read_hierarchy(&limits, root, "cpu");
    read_hierarchy(&limits, root, "memory");
    return limits;
}
