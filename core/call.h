/* Calls: a graph's nodes with all decided that can be decided before anything runs.
 *
 *     graph, plan, buffers ─► sid2_steps_bind ─► sid2_steps_prepare: a kernel for each ─► run, run, ...
 *
 * A backend has tables of kernels, best first. A call goes to the first table that computes in its types, has its
 * operator, and whose `prepare` does not pass it on. So a fast library may take what it likes, and what an operator
 * lacks on a device is known up front. C and C++. */
#ifndef SID2_CALL_H
#define SID2_CALL_H

#include "plan.h"

/* A tensor where it lies on a device. */
typedef struct sid2_operand {
    void *data; /* the first element; where memory has no addresses, its handle. NULL: absent */
    sid2_dtype dtype;
    sid2_dtype low_dtype;
    sid2_shape shape;
    size_t offset; /* bytes from `data`: 0 where memory has addresses */
    void *low;     /* of a parameter: the same numbers in the compute type, low_dtype, where both are kept */
    const uint64_t *version; /* counts writes to the buffer that it lies in; NULL in the arena */
} sid2_operand;

typedef struct sid2_call {
    sid2_op op;
    const sid2_attr *attr;
    sid2_operand in[SID2_MAX_INPUTS], out[SID2_MAX_OUTPUTS];
    const void *target; /* what kernels may know of the device: the backend's own */
    int threads;        /* to compute with, where that is the caller's to say */
    int64_t grain;      /* elements of a loop for which it is not worth to wake other threads */
    void *scratch;      /* scratch_bytes, aligned as tensors are, shared by all calls: nothing stays in it */
    size_t scratch_bytes; /* set by prepare */
    void *state;          /* prepare's own */
    sid2_error *error;    /* where run says what went wrong */
} sid2_call;

/* One operator, one way. */
typedef struct sid2_kernel {
    void (*run)(sid2_call *call); /* NULL: not there. Computes, or has the device compute in its own order */
    /* Sets scratch_bytes and state; SID2_ERR_UNSUPPORTED passes the call on. NULL: nothing to prepare. */
    bool (*prepare)(sid2_call *call, sid2_error *err);
    void (*release)(sid2_call *call);       /* of state; may be NULL */
    size_t (*owned)(const sid2_call *call); /* bytes that state holds; may be NULL */
} sid2_kernel;

#define SID2_TYPE_BIT(dtype) (1u << (dtype))

typedef struct sid2_kernel_table {
    unsigned types; /* SID2_TYPE_BIT of each floating type that it computes in, of any mix of them */
    const sid2_kernel *kernels; /* [SID2_OP_COUNT] */
} sid2_kernel_table;

enum { SID2_MAX_TABLES = 5 };

/* What a device computes with. */
typedef struct sid2_kernels {
    const sid2_kernel_table *tables[SID2_MAX_TABLES + 1]; /* best first, NULL past the last */
    const void *target;                                   /* given to each call, as are threads and grain */
    int threads;
    int64_t grain;
} sid2_kernels;

/* Whether some table has the operator in the type. */
bool sid2_kernels_have(const sid2_kernels *kernels, sid2_op op, sid2_dtype compute);

typedef struct sid2_step {
    sid2_call call;
    const sid2_kernel *kernel;
} sid2_step;

/* A graph's nodes as calls, in sections: what lies between two of the graph's stops. */
typedef struct sid2_steps {
    sid2_step *item; /* by node; NULL once they are no more needed */
    int32_t count;
    int32_t section_end[SID2_MAX_STOPS + 1]; /* rising; the last one is `count` */
    int section_count;                       /* at least 1 */
    size_t scratch_bytes;                    /* of the call that wants most */
    size_t owned;                            /* bytes that kernels hold */
    sid2_error error;                        /* of the calls */
} sid2_steps;

static inline int32_t sid2_steps_first(const sid2_steps *steps, int section)
{
    return section ? steps->section_end[section - 1] : 0;
}

/* The memory behind a plan and a graph's externals. */
typedef struct sid2_memory_map {
    bool addresses;           /* handles are addresses */
    void *const *pieces;      /* of the arena, each of `span` bytes but the last */
    size_t span;              /* a multiple of SID2_ARENA_PIECE; or one piece is all */
    void *const *handle;      /* by tensor: of an external that is no view; else NULL */
    uint64_t *const *version; /* likewise; or NULL where no kernel asks */
} sid2_memory_map;

/* Binds every node. The steps keep pointers into the graph. */
bool sid2_steps_bind(sid2_steps *steps, const sid2_graph *graph, const sid2_plan *plan,
                     const sid2_memory_map *map, sid2_error *err);
/* Chooses and prepares a kernel for every call; the scratch is still to be given. */
bool sid2_steps_prepare(sid2_steps *steps, const sid2_kernels *kernels, sid2_error *err);
void sid2_steps_give_scratch(sid2_steps *steps, void *scratch);
/* What lay in the `bytes` at `from` lies at `to` from now on, a buffer with that version. For kernels that read
 * where their operands lie in each run. */
void sid2_steps_rebind(sid2_steps *steps, const void *from, size_t bytes, void *to, const uint64_t *version);
/* Releases what was prepared, and the calls; the sections stay. */
void sid2_steps_free(sid2_steps *steps);

#endif
