/* The vocabulary of libsid2: version, errors, element types, shapes.
 *
 * What holds for the whole library, unless a declaration says otherwise:
 *
 * - A function that can fail returns false (or NULL) and fills the sid2_error that it was given last. That may
 *   be NULL where the caller does not care. Nothing prints, exits, aborts, or keeps state beside the handles.
 * - A handle is used from one thread at a time; different handles from any threads. Handles made on a
 *   sid2_device belong to its thread.
 * - Strings are UTF-8 and copied where they are kept; paths are bytes as the system takes them. A `const`
 *   pointer that a function returns is the library's and lives as long as the handle it came from.
 * - Options begin with `struct_size`: SID2_INIT sets it and all defaults, which are zeros. Later versions add
 *   members at the end, and take the shorter structures of programs that were built before. Structures that
 *   the library hands out behind a const pointer grow at the end too. The others never change. */
#ifndef SID2_BASE_H
#define SID2_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef SID2_API
#define SID2_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version ---- docs/library.md says what may change when. */
#define SID2_VERSION_MAJOR 0
#define SID2_VERSION_MINOR 1
#define SID2_VERSION_PATCH 0
#define SID2_VERSION       "0.1.0"
/* Of the library that runs, which may be a later one than the header's. */
SID2_API const char *sid2_version(void);

/* ---- Errors ---- */
typedef enum sid2_code {
    SID2_OK = 0,
    SID2_ERR_USAGE,       /* the request itself is wrong: unknown key, class out of range */
    SID2_ERR_IO,          /* the system refused: missing file, full disk */
    SID2_ERR_FORMAT,      /* a file's content is not what it should be */
    SID2_ERR_MEMORY,      /* not enough memory, host or device */
    SID2_ERR_UNSUPPORTED, /* valid, but this build or device cannot do it */
    SID2_ERR_DEVICE,      /* a device failed */
    SID2_ERR_CANCELLED,   /* stopped on request */
    SID2_ERR_INTERNAL,    /* a bug in sid2 */
    SID2_ERR_LOST,        /* a device is gone: close it with all that is on it; one opened afresh may work */
} sid2_code;

/* Written on failure only. `message` is one line without a line end, control characters or colour; it names
 * the thing at fault and the cause. */
typedef struct sid2_error {
    sid2_code code;
    char message[480];
} sid2_error;

/* ---- Options ---- NULL in their place means the defaults. */
#ifdef __cplusplus
#define SID2_INIT(type)                                                                                      \
    ([] {                                                                                                    \
        type value = type();                                                                                 \
        value.struct_size = sizeof(type);                                                                    \
        return value;                                                                                        \
    }())
#else
#define SID2_INIT(type) ((type){.struct_size = sizeof(type)})
#endif

/* ---- Element types ---- */
typedef enum sid2_dtype {
    SID2_F32,
    SID2_BF16,
    SID2_F16,
    SID2_F64, /* reference device only: the arbiter of gradients */
    SID2_U8,
    SID2_I32,
    SID2_U32,
    SID2_DTYPE_COUNT
} sid2_dtype;

SID2_API size_t sid2_dtype_size(sid2_dtype dtype);      /* bytes per element */
SID2_API const char *sid2_dtype_name(sid2_dtype dtype); /* "f32", "bf16", ... */

/* ---- Shapes ---- */
#define SID2_MAX_RANK 5

typedef struct sid2_shape {
    int rank;
    int64_t dim[SID2_MAX_RANK]; /* row-major: the last dimension is contiguous */
} sid2_shape;

#ifdef __cplusplus
}
#endif

#endif
