/* Preloaded: the n-th allocation within main() fails. TORTURE_FAIL=N names it, counted from 1 (0: none); with TORTURE_LASTING=1
 * later ones fail too. At the end TORTURE_COUNT, a file, gets how many there were; at the failure it gets the
 * libraries on the stack. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

/* glibc's own, under names that no library shadows. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static _Atomic long count;
static long fails;
static int lasting, report = -1;
static _Atomic int within_main;
static _Thread_local int within;
static int (*program)(int, char **, char **);

static int begin(int argc, char **argv, char **environment)
{
    const char *number = getenv("TORTURE_FAIL"), *path = getenv("TORTURE_COUNT");
    void *warm[4];
    lasting = getenv("TORTURE_LASTING") != NULL;
    report = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    backtrace(warm, 4); /* loads what it needs */
    fails = number ? atol(number) : 0;
    within_main = 1;
    int code = program(argc, argv, environment);
    within_main = 0;
    if (report >= 0) dprintf(report, "count %ld\n", atomic_load(&count));
    return code;
}

typedef int start_function(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                           void (*)(void), void *);
EXPORTED start_function __libc_start_main;
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
    void *real = dlsym(RTLD_NEXT, "__libc_start_main");
    start_function *start;
    memcpy(&start, &real, sizeof start);
    program = main;
    return start(begin, argc, argv, init, fini, rtld_fini, stack_end);
}

static void tell(void)
{
    void *frame[48];
    int frames = backtrace(frame, 48);
    for (int i = 2; i < frames && report >= 0; i++) {
        Dl_info info;
        if (dladdr(frame[i], &info) && info.dli_fname)
            dprintf(report, "%s+0x%tx %s\n", info.dli_fname, (char *)frame[i] - (char *)info.dli_fbase,
                    info.dli_sname ? info.dli_sname : "");
    }
}

static int is_refused(void)
{
    if (!within_main || within) return 0;
    long number = atomic_fetch_add(&count, 1) + 1;
    if (!fails || number < fails || (number > fails && !lasting)) return 0;
    within = 1;
    if (number == fails) tell();
    within = 0;
    errno = ENOMEM;
    return 1;
}

EXPORTED void *malloc(size_t size) { return is_refused() ? NULL : __libc_malloc(size); }
EXPORTED void *calloc(size_t number, size_t size)
{
    return is_refused() ? NULL : __libc_calloc(number, size);
}
EXPORTED void *realloc(void *block, size_t size) { return is_refused() ? NULL : __libc_realloc(block, size); }
EXPORTED void *memalign(size_t alignment, size_t size)
{
    return is_refused() ? NULL : __libc_memalign(alignment, size);
}
EXPORTED void *mmap(void *place, size_t size, int protection, int flags, int file, off_t offset)
{
    if (is_refused()) return MAP_FAILED;
    long address = syscall(SYS_mmap, place, size, protection, flags, file, offset);
    return (void *)address; /* -1 is MAP_FAILED */
}
EXPORTED void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
EXPORTED int posix_memalign(void **block, size_t alignment, size_t size)
{
    void *made = memalign(alignment, size);
    if (!made) return ENOMEM;
    *block = made;
    return 0;
}
