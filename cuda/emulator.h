/* A GPU's threads on the host, for kernels written against exec.h: blocks one after another, the threads of a
 * block as fibers that change places at barriers and shuffles, in an order drawn from a seed.
 *
 * It finds: an access outside a tensor or a shared array, a wide access that is not aligned, shared memory
 * read before it is written, two threads that touch one shared element between two barriers (one of them
 * writing), two threads of a launch that write one element of global memory, or one that reads what another
 * wrote, and barriers that not all threads reach. The first fault of a launch is reported and the launch
 * fails. */
#ifndef SID2_CUDA_EMULATOR_H
#define SID2_CUDA_EMULATOR_H

#include <cstddef>
#include <cstdint>

namespace emulator
{
enum { WARP = 32, MOST_THREADS = 1024 };

/* Where the running thread is. */
struct position {
    int thread, threads;
    int64_t block[3], blocks[3];
};
extern thread_local position here;

/* Runs body(argument) for every thread of every block. Returns the first fault in words, or NULL; valid until
 * the next launch. */
const char *launch(const char *kernel, const int64_t blocks[3], int threads, void (*body)(const void *),
                   const void *argument);
/* The order of threads and blocks from now on; 0: ascending. */
void shuffle(uint64_t seed);

void barrier();
float shuffle_xor(float value, int mask);

/* Keeps the first. */
void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Notes an access to global memory, by its first byte: a launch touches a tensor in one width, as a rule. */
void wrote(const void *address, const char *name, int64_t index);
void reads(const void *address, const char *name, int64_t index);

/* What is known of one element of shared memory: who last wrote and read it, between which barriers. */
struct history {
    uint64_t written, read; /* epochs; barriers and blocks count them up */
    int16_t writer, reader; /* reader -1: several */
};
/* The block's array of this declaration, and its histories. */
void *shared_array(const void *declaration, size_t count, size_t size, history **histories);
void note_read(history *h, const char *name, size_t index);
void note_write(history *h, const char *name, size_t index);

/* Shared memory whose every access is checked. */
template <class T> class shared
{
    T *data;
    history *histories;
    size_t count;
    const char *name;

    class element
    {
        const shared *array;
        size_t index;

      public:
        element(const shared *a, size_t i) : array(a), index(i) {}
        operator T() const
        {
            note_read(&array->histories[index], array->name, index);
            return array->data[index];
        }
        T operator=(T value) const
        {
            note_write(&array->histories[index], array->name, index);
            return array->data[index] = value;
        }
        T operator=(const element &other) const { return *this = static_cast<T>(other); }
        T operator+=(T value) const { return *this = static_cast<T>(*this) + value; }
    };

  public:
    shared(const void *declaration, const char *text, size_t n) : data(), histories(), count(n), name(text)
    {
        data = static_cast<T *>(shared_array(declaration, n, sizeof(T), &histories));
    }
    element operator[](int64_t i) const
    {
        if (i < 0 || static_cast<size_t>(i) >= count) {
            fault("%s[%lld] is outside its %zu elements", name, static_cast<long long>(i), count);
            i = 0;
        }
        return element(this, static_cast<size_t>(i));
    }
};
} // namespace emulator

#endif
