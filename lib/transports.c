#include "transports.h"

#include "file.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The folder of the program or library that this is part of. */
static bool own_folder(char folder[4096])
{
    Dl_info info;
    ssize_t length = -1;
    if (dladdr((void *)sid2_transport_open, &info) && strchr(info.dli_fname, '/'))
        length = snprintf(folder, 4096, "%s", info.dli_fname);
    if (length < 0 ||
        strstr(folder, ".so") == NULL) { /* the program: its name may be relative to a folder left */
        length = readlink("/proc/self/exe", folder, 4095);
        if (length > 0) folder[length] = 0;
    }
    char *slash = length > 0 && length < 4096 ? strrchr(folder, '/') : NULL;
    if (slash) *slash = 0;
    return slash;
}

static void *open_at(const char *path, char why[400])
{
    void *module = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* Open MPI's own modules want its names */
    if (!module) snprintf(why, 400, "%s", dlerror());
    return module;
}

/* Beside the program, as in a build, or in the folder of modules. */
static void *open_module(const char *name, char why[400])
{
    static const char *const places[] = {"", "/sid2", "/../" SID2_MODULES};
    char folder[4096], path[4096];
    void *module = NULL;
    snprintf(why, 400, "this build has no module for it (libsid2_%s.so)", name);
    for (size_t i = 0; !module && own_folder(folder) && i < sizeof places / sizeof *places; i++)
        if (sid2_path(path, NULL, "%s%s/libsid2_%s.so", folder, places[i], name) && !access(path, F_OK))
            module = open_at(path, why);
    return module;
}

const sid2_transport *sid2_transport_open(const sid2_place *place, sid2_error *err)
{
    bool open_mpi = strcmp(place->launcher, "Open MPI") == 0, mpich = strcmp(place->launcher, "MPICH") == 0;
    const char *given = getenv("SID2_MPI"); /* a module's path */
    char why[400], other[400];
    void *module = given ? open_at(given, why) : open_module(open_mpi ? "ompi" : "mpich", why);
    if (!module && !given && !open_mpi && !mpich) module = open_module("ompi", other);
    const sid2_transport *transport = module ? dlsym(module, "sid2_mpi") : NULL;
    if (!transport)
        sid2_fail(err, SID2_ERR_UNSUPPORTED, "%d ranks, started by %s, have no way to each other: %s",
                  place->ranks, place->launcher, module ? "SID2_MPI is no module of sid2" : why);
    return transport;
}
