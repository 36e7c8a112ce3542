#include "host.h"

#include "cgroup.h"
#include "text.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool read = fgets(line, (int)size, file) != NULL;
    fclose(file);
    return read;
}

void sid2_cpu_host_name(char *name, size_t size)
{
    struct utsname machine;
    snprintf(name, size, "%s", uname(&machine) == 0 ? machine.machine : "CPU");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file) return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !value) continue;
        value += 1 + strspn(value + 1, " ");
        size_t length = strlen(value);
        while (length > 0 && sid2_is_space(value[length - 1])) length--;
        if (length > 0) snprintf(name, size, "%.*s", (int)length, value);
        break;
    }
    fclose(file);
}

/* Whether an earlier thread of `cpu`'s core is in the set already. The list reads "0,64" or "0-1". */
static bool core_counted(int cpu, const cpu_set_t *set)
{
    char path[96], line[256];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    if (!read_line(path, line, sizeof line)) return false;
    for (char *at = line; *at >= '0' && *at <= '9';) {
        long first = strtol(at, &at, 10), last = first;
        if (*at == '-') last = strtol(at + 1, &at, 10);
        for (long i = first; i <= last && i < cpu; i++)
            if (CPU_ISSET((size_t)i, set)) return true;
        if (*at == ',') at++;
    }
    return false;
}

int sid2_cpu_host_threads(void)
{
    cpu_set_t set;
    int threads = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            threads += CPU_ISSET((size_t)cpu, &set) && !core_counted(cpu, &set);
    else
        threads = get_nprocs();

    double cores = sid2_cgroup_read("").cores;
    if (cores > 0 && cores < threads) threads = (int)cores;
    return threads > 0 ? threads : 1;
}

typedef struct crowd {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool leave;
} crowd;

static void *stand_by(void *data)
{
    crowd *c = data;
    pthread_mutex_lock(&c->lock);
    while (!c->leave) pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* There is no asking but by trying. */
int sid2_cpu_host_startable(int wanted)
{
    enum { SMALL_STACK = 1 << 16 };
    crowd c = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    pthread_t *threads = calloc((size_t)wanted + 1, sizeof *threads);
    pthread_attr_t attributes;
    sigset_t all, before; /* signals are for the application's own threads */
    int started = 0;
    if (!threads || pthread_attr_init(&attributes)) return free(threads), wanted;
    pthread_attr_setstacksize(&attributes, SMALL_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < wanted && pthread_create(&threads[started], &attributes, stand_by, &c) == 0) started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    pthread_mutex_lock(&c.lock);
    c.leave = true;
    pthread_cond_broadcast(&c.changed);
    pthread_mutex_unlock(&c.lock);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    free(threads);
    return started;
}

size_t sid2_cpu_host_memory(void)
{
    struct sysinfo system;
    uint64_t bytes = sysinfo(&system) == 0 ? (uint64_t)system.totalram * system.mem_unit : 0;
    uint64_t limit = sid2_cgroup_read("").memory;
    if (limit > 0 && (bytes == 0 || limit < bytes)) bytes = limit;
    return (size_t)bytes;
}

bool sid2_cpu_host_has(const char *feature)
{
#if defined(__x86_64__)
    enum { EAX, EBX, ECX, EDX, YMM = 0x6, ZMM = 0xe6, TILES = 0x60006 };
    static const struct {
        const char *name;
        unsigned leaf, subleaf, reg, bit, state; /* state: of registers that the kernel must save */
    } features[] = {
        {"f16c", 1, 0, ECX, 29, YMM},
        {"avx512bf16", 7, 1, EAX, 5, ZMM},
        {"amx-bf16", 7, 0, EDX, 22, TILES},
    };
    unsigned r[4], state, unused;
    if (!__get_cpuid(1, &r[EAX], &r[EBX], &r[ECX], &r[EDX]) || !(r[ECX] & bit_OSXSAVE)) return false;
    __asm__("xgetbv" : "=a"(state), "=d"(unused) : "c"(0));
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        if (strcmp(features[i].name, feature) != 0) continue;
        return (state & features[i].state) == features[i].state &&
               __get_cpuid_count(features[i].leaf, features[i].subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX]) &&
               r[features[i].reg] >> features[i].bit & 1;
    }
#endif
    (void)feature;
    return false;
}
