/* oneDNN's two C interfaces as one. 2.x describes memory by a struct and an operation by a descriptor that
 * then becomes a primitive descriptor; 3.x has opaque memory descriptors and makes primitive descriptors
 * directly. Everything here fails by returning false or NULL, and onednn_starved tells whether that was for lack of
 * memory; nothing else in cpu/ knows the version. */
#ifndef SID2_CPU_ONEDNN_COMPAT_H
#define SID2_CPU_ONEDNN_COMPAT_H

#include <dnnl.h>
#include <stdbool.h>
#include <stddef.h>

/* Set where a call of this thread found no memory; for whoever needs to know to clear before. */
static _Thread_local bool onednn_starved;

static inline bool done(dnnl_status_t status)
{
    onednn_starved |= status == dnnl_out_of_memory;
    return status == dnnl_success;
}

/* A memory descriptor that we own, and a borrowed one. */
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t md_view;
#else
typedef const dnnl_memory_desc_t *md_view;
#endif
typedef struct md {
    dnnl_memory_desc_t desc;
    bool made;
} md;

static inline md_view md_get(const md *m)
{
    if (!m || !m->made) return NULL;
#if DNNL_VERSION_MAJOR >= 3
    return m->desc;
#else
    return &m->desc;
#endif
}

/* strides NULL: any layout, the primitive's choice. Both have `rank` entries. */
static inline md md_make(int rank, const dnnl_dim_t *extents, dnnl_data_type_t type, const dnnl_dim_t *steps)
{
    md m = {0};
    dnnl_dims_t dims = {0}, strides = {0};
    for (int i = 0; i < rank; i++) {
        dims[i] = extents[i];
        if (steps) strides[i] = steps[i];
    }
    dnnl_status_t status;
#if DNNL_VERSION_MAJOR >= 3
    if (steps)
        status = dnnl_memory_desc_create_with_strides(&m.desc, rank, dims, type, strides);
    else
        status = dnnl_memory_desc_create_with_tag(&m.desc, rank, dims, type, dnnl_format_tag_any);
#else
    if (steps)
        status = dnnl_memory_desc_init_by_strides(&m.desc, rank, dims, type, strides);
    else
        status = dnnl_memory_desc_init_by_tag(&m.desc, rank, dims, type, dnnl_format_tag_any);
#endif
    m.made = done(status);
    return m;
}

static inline void md_free(md *m)
{
#if DNNL_VERSION_MAJOR >= 3
    if (m->made) dnnl_memory_desc_destroy(m->desc);
#endif
    m->made = false;
}

static inline bool append_sum(dnnl_post_ops_t ops)
{
#if DNNL_VERSION_MAJOR >= 3
    return done(dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef));
#else
    return done(dnnl_post_ops_append_sum(ops, 1.0f));
#endif
}

/* ---- Primitive descriptors. bias may be NULL. A NULL result means that oneDNN has no such primitive. ---- */
static inline dnnl_primitive_desc_t matmul_desc(dnnl_engine_t engine, md_view src, md_view weights,
                                                md_view bias, md_view dst, const_dnnl_primitive_attr_t attr)
{
    dnnl_primitive_desc_t pd = NULL;
#if DNNL_VERSION_MAJOR >= 3
    return done(dnnl_matmul_primitive_desc_create(&pd, engine, src, weights, bias, dst, attr)) ? pd : NULL;
#else
    dnnl_matmul_desc_t op;
    if (!done(dnnl_matmul_desc_init(&op, src, weights, bias, dst))) return NULL;
    return done(dnnl_primitive_desc_create(&pd, &op, attr, engine, NULL)) ? pd : NULL;
#endif
}

/* The three convolutions and inner products share an argument order: what the forward pass would call
 * source, weights, bias and destination. `hint` is a forward descriptor for the two gradients. Inner products
 * are convolutions without pads. */
typedef enum conv_kind { CONV_FORWARD, CONV_DGRAD, CONV_WGRAD } conv_kind;

static inline dnnl_primitive_desc_t conv_desc(dnnl_engine_t engine, conv_kind kind, md_view x, md_view w,
                                              md_view bias, md_view y, dnnl_dim_t pad,
                                              const_dnnl_primitive_desc_t hint,
                                              const_dnnl_primitive_attr_t attr)
{
    const dnnl_dims_t stride = {1, 1}, dilate = {0, 0}, pads = {pad, pad};
    const dnnl_alg_kind_t alg = dnnl_convolution_direct;
    const dnnl_prop_kind_t prop = dnnl_forward_training;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status;
#if DNNL_VERSION_MAJOR >= 3
    if (kind == CONV_FORWARD)
        status = dnnl_convolution_forward_primitive_desc_create(&pd, engine, prop, alg, x, w, bias, y, stride,
                                                                dilate, pads, pads, attr);
    else if (kind == CONV_DGRAD)
        status = dnnl_convolution_backward_data_primitive_desc_create(&pd, engine, alg, x, w, y, stride,
                                                                      dilate, pads, pads, hint, attr);
    else
        status = dnnl_convolution_backward_weights_primitive_desc_create(
            &pd, engine, alg, x, w, bias, y, stride, dilate, pads, pads, hint, attr);
#else
    dnnl_convolution_desc_t op;
    if (kind == CONV_FORWARD)
        status = dnnl_dilated_convolution_forward_desc_init(&op, prop, alg, x, w, bias, y, stride, dilate,
                                                            pads, pads);
    else if (kind == CONV_DGRAD)
        status =
            dnnl_dilated_convolution_backward_data_desc_init(&op, alg, x, w, y, stride, dilate, pads, pads);
    else
        status = dnnl_dilated_convolution_backward_weights_desc_init(&op, alg, x, w, bias, y, stride, dilate,
                                                                     pads, pads);
    if (status == dnnl_success) status = dnnl_primitive_desc_create(&pd, &op, attr, engine, hint);
#endif
    return done(status) ? pd : NULL;
}

static inline dnnl_primitive_desc_t product_desc(dnnl_engine_t engine, conv_kind kind, md_view x, md_view w,
                                                 md_view bias, md_view y, const_dnnl_primitive_desc_t hint,
                                                 const_dnnl_primitive_attr_t attr)
{
    const dnnl_prop_kind_t prop = dnnl_forward_training;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status;
#if DNNL_VERSION_MAJOR >= 3
    if (kind == CONV_FORWARD)
        status = dnnl_inner_product_forward_primitive_desc_create(&pd, engine, prop, x, w, bias, y, attr);
    else if (kind == CONV_DGRAD)
        status = dnnl_inner_product_backward_data_primitive_desc_create(&pd, engine, x, w, y, hint, attr);
    else
        status =
            dnnl_inner_product_backward_weights_primitive_desc_create(&pd, engine, x, w, bias, y, hint, attr);
#else
    dnnl_inner_product_desc_t op;
    if (kind == CONV_FORWARD)
        status = dnnl_inner_product_forward_desc_init(&op, prop, x, w, bias, y);
    else if (kind == CONV_DGRAD)
        status = dnnl_inner_product_backward_data_desc_init(&op, x, w, y);
    else
        status = dnnl_inner_product_backward_weights_desc_init(&op, x, w, bias, y);
    if (status == dnnl_success) status = dnnl_primitive_desc_create(&pd, &op, attr, engine, hint);
#endif
    return done(status) ? pd : NULL;
}

#endif
