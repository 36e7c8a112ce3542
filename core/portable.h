/* Inline functions that code for a GPU may call too. */
#ifndef SID2_PORTABLE_H
#define SID2_PORTABLE_H

#ifdef __CUDACC__
#define SID2_INLINE static inline __host__ __device__
#else
#define SID2_INLINE static inline
#endif

#endif
