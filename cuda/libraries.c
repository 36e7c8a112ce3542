#include "libraries.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Libraries refer to each other by name; what is loaded already satisfies them wherever it came from. */
static void *open_at(const char *folder, const char *name)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name);
    return length < (int)sizeof path ? dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) : NULL;
}

static void *open_packages(const char *folder, const char *name)
{
    char pattern[4096];
    glob_t found = {0};
    void *library = NULL;
    int length = snprintf(pattern, sizeof pattern, "%s/nvidia/*/lib", folder);
    if (length < (int)sizeof pattern && glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && !library; i++) library = open_at(found.gl_pathv[i], name);
    globfree(&found);
    return library;
}

static void *open_listed(const char *folders, const char *name)
{
    void *library = NULL;
    while (folders && *folders && !library) {
        char folder[4096];
        size_t length = strcspn(folders, ":");
        if (length && length < sizeof folder) {
            memcpy(folder, folders, length);
            folder[length] = 0;
            library = open_at(folder, name);
            if (!library) library = open_packages(folder, name);
        }
        folders += length + (folders[length] == ':');
    }
    return library;
}

static void *open_library(const char *name)
{
    const char *folders = getenv("SID2_CUDA_LIBRARIES");
    if (folders && !strcmp(folders, "none")) return NULL;
    void *library = open_listed(folders, name);
    if (!library) library = open_at("", name);
    if (!library) library = open_at("/usr/local/cuda/lib64", name);
    return library;
}

/* Fills one pointer of a table; the first name that is missing is reported. */
static void find(void *library, const char *name, void *pointer, const char **missing)
{
    void *address = dlsym(library, name);
    memcpy(pointer, &address, sizeof address);
    if (!address && !*missing) *missing = name;
}
#define FIND(name) find(library, #name, &table->name, &missing);

static bool fail(char *why, size_t size, const char *what, const char *problem)
{
    snprintf(why, size, "%s %s", what, problem);
    return false;
}

/* What the libraries open by name when a kernel wants it, and so would not find in Python's packages; of CUDA
 * 13 or 12, as they are. Absence matters only then. */
static void open_compilers(void)
{
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvJitLink.so.13",
                                        "libnvJitLink.so.12"};
    for (int i = 0; i < 4; i++) open_library(names[i]);
}

bool sid2_cublaslt_load(sid2_cublaslt *table, char *why, size_t size)
{
    *table = (sid2_cublaslt){0};
    const char *missing = NULL;
    open_compilers();
    void *library = open_library("libcublasLt.so.13");
    if (!library) library = open_library("libcublasLt.so.12");
    if (!library) return fail(why, size, "libcublasLt.so.13 (or .12)", "not found");
    SID2_CUBLASLT_FUNCTIONS(FIND)
    return !missing || fail(why, size, "libcublasLt lacks", missing);
}

const char *sid2_cublaslt_version(const sid2_cublaslt *lt, char text[32])
{
    /* 130100 or 120905: major * 10000 + minor * 100 + patch */
    unsigned version = (unsigned)lt->cublasLtGetVersion();
    snprintf(text, 32, "cublasLt %u.%u.%u", version / 10000, version / 100 % 100, version % 100);
    return text;
}

bool sid2_nccl_load(sid2_nccl_functions *table, char *why, size_t size)
{
    *table = (sid2_nccl_functions){0};
    const char *missing = NULL;
    void *library = open_library("libnccl.so.2");
    if (!library) return fail(why, size, "libnccl.so.2", "not found");
    SID2_NCCL_FUNCTIONS(FIND)
    return !missing || fail(why, size, "libnccl.so.2 lacks", missing);
}

#if SID2_HAVE_CUDNN
bool sid2_cudnn_load(sid2_cudnn *table, char *why, size_t size)
{
    *table = (sid2_cudnn){0};
    const char *missing = NULL;
    open_compilers();
    if (!open_library("libcublasLt.so.13")) open_library("libcublasLt.so.12");
    void *library = open_library("libcudnn.so.9");
    if (!library) return fail(why, size, "libcudnn.so.9", "not found");
    SID2_CUDNN_FUNCTIONS(FIND)
    return !missing || fail(why, size, "libcudnn.so.9 lacks", missing);
}

const char *sid2_cudnn_version(const sid2_cudnn *cudnn, char text[32])
{
    unsigned version = (unsigned)cudnn->cudnnGetVersion();
    snprintf(text, 32, "cuDNN %u.%u.%u", version / 10000, version / 100 % 100, version % 100);
    return text;
}
#else
bool sid2_cudnn_load(sid2_cudnn *table, char *why, size_t size)
{
    *table = (sid2_cudnn){0};
    return fail(why, size, "cuDNN", "was not there when sid2 was built");
}

const char *sid2_cudnn_version(const sid2_cudnn *cudnn, char text[32])
{
    (void)cudnn;
    text[0] = 0;
    return text;
}
#endif
