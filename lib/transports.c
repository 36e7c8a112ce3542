#include "transports.h"

#include "file.h"
#if SID2_HAVE_CUDA
#include "nccl.h"
#endif

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
static bool find_module(const char *name, char path[4096])
{
    static const char *const places[] = {"", "/sid2", ("/../" SID2_MODULES)};
    char folder[4096];
    if (!own_folder(folder)) return false;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (sid2_path(path, NULL, "%s%s/libsid2_%s.so", folder, places[i], name) && !access(path, F_OK))
            return true;
    return false;
}

static void *open_module(const char *name, char why[400])
{
    char path[4096];
    if (find_module(name, path)) return open_at(path, why);
    snprintf(why, 400, "this build has no module for it (libsid2_%s.so)", name);
    return NULL;
}

bool sid2_transport_has(const char *mpi)
{
    char path[4096];
    return find_module(mpi, path);
}

/* The MPI that can join what a launcher started: by what that left in the environment. NULL: none can. */
static const char *mpi_for(const sid2_place *place)
{
    if (strcmp(place->launcher, "Open MPI") == 0 || getenv("PMIX_RANK")) return "ompi";
    if (strcmp(place->launcher, "MPICH") == 0 || getenv("PMI_RANK") || getenv("PMI_FD")) return "mpich";
    return NULL;
}

static const sid2_transport *open_mpi(const sid2_place *place, const char *given, const char *lacks,
                                      sid2_error *err)
{
    const char *mpi = given ? given : mpi_for(place);
    char why[400];
    if (!mpi)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED,
                         "%d ranks, started by %s, which no MPI can join%s: start those on CPUs by mpirun, "
                         "sid2's own "
                         "--ranks, or srun --mpi=pmix (Open MPI) or --mpi=pmi2 (MPICH)",
                         place->ranks, place->launcher, lacks),
               NULL;
    void *module = strchr(mpi, '/') ? open_at(mpi, why) : open_module(mpi, why);
    const sid2_transport *transport = module ? dlsym(module, "sid2_mpi") : NULL;
    if (!transport)
        sid2_fail(err, SID2_ERR_UNSUPPORTED, "%d ranks, started by %s, have no way to each other%s: %s",
                  place->ranks, place->launcher, lacks, module ? "SID2_MPI is no module of sid2" : why);
    return transport;
}

const sid2_transport *sid2_transport_open(const sid2_place *place, const sid2_device *device, sid2_error *err)
{
    const char *given = getenv("SID2_MPI");
    char lacks[240] = "";
#if SID2_HAVE_CUDA
    char why[200];
    if (!given && device && strncmp(sid2_device_describe(device)->id, "cuda:", 5) == 0) {
        if (sid2_nccl_there(why, sizeof why)) return &sid2_nccl_transport;
        snprintf(lacks, sizeof lacks, " (%s)", why);
    }
#else
    (void)device;
#endif
    return open_mpi(place, given, lacks, err);
}
