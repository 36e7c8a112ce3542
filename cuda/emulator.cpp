#include "emulator.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace emulator
{
thread_local position here;

/* ---- Fibers ---- */

enum { STACK_BYTES = 128 << 10 };

#ifdef __x86_64__
/* Keeps what a call must keep, changes stacks, and returns on the other one. */
extern "C" void sid2_emulator_switch(void **save, void *load);
asm(".text\n.globl sid2_emulator_switch\n.type sid2_emulator_switch,@function\nsid2_emulator_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

struct fiber {
    void *top = nullptr;
    std::unique_ptr<char[]> stack;

    void start(void (*entry)())
    {
        if (!stack) stack.reset(new char[STACK_BYTES]);
        uintptr_t end = reinterpret_cast<uintptr_t>(stack.get() + STACK_BYTES) & ~uintptr_t(15);
        void **frame = reinterpret_cast<void **>(end) - 8;
        for (int i = 0; i < 8; i++) frame[i] = nullptr;
        frame[6] = reinterpret_cast<void *>(entry); /* six registers lie below the return address */
        top = frame;
    }
    static void change(fiber *from, fiber *to) { sid2_emulator_switch(&from->top, to->top); }
};
#else
struct fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;

    void start(void (*entry)())
    {
        if (!stack) stack.reset(new char[STACK_BYTES]);
        getcontext(&context);
        context.uc_stack.ss_sp = stack.get();
        context.uc_stack.ss_size = STACK_BYTES;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
    static void change(fiber *from, fiber *to) { swapcontext(&from->context, &to->context); }
};
#endif

/* ---- The machine ---- */

struct array {
    std::vector<char> bytes;
    std::vector<history> histories;
};

struct machine {
    fiber outside;
    fiber fibers[MOST_THREADS];
    std::vector<fiber *> idle;      /* fibers with no thread on them */
    int begun = 0;                  /* fibers in use at all */
    fiber *of_thread[MOST_THREADS]; /* NULL: not begun */
    fiber *running = nullptr;
    int scheduled = -1; /* what an idle fiber that wakes is to run */

    const char *kernel = "";
    void (*body)(const void *) = nullptr;
    const void *argument = nullptr;
    int threads = 0, alive = 0, at_barrier = 0;
    uint32_t ready[MOST_THREADS / WARP]; /* lanes that can go on, by warp */
    uint32_t arrived[MOST_THREADS / WARP];
    uint32_t parity[MOST_THREADS / WARP] = {};
    float slots[MOST_THREADS / WARP][2][WARP];

    uint64_t epoch = 1, block_epoch = 1, random = 0;
    bool shuffled = false, faulty = false;
    char message[400];
    std::map<const void *, array> arrays;
    std::unordered_map<const void *, int64_t> writers; /* in this launch: threads of the grid, by address */

    uint32_t draw(uint32_t below)
    {
        random = random * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>((random >> 33) % below);
    }
};

static thread_local std::unique_ptr<machine> the_machine;

static machine &self()
{
    if (!the_machine) the_machine.reset(new machine);
    return *the_machine;
}

void shuffle(uint64_t seed)
{
    self().shuffled = seed != 0;
    self().random = seed;
}

void fault(const char *format, ...)
{
    machine &m = self();
    if (m.faulty) return;
    m.faulty = true;
    int used = snprintf(m.message, sizeof m.message, "%s, block (%lld,%lld,%lld), thread %d: ", m.kernel,
                        static_cast<long long>(here.block[0]), static_cast<long long>(here.block[1]),
                        static_cast<long long>(here.block[2]), here.thread);
    va_list args;
    va_start(args, format);
    vsnprintf(m.message + used, sizeof m.message - static_cast<size_t>(used), format, args);
    va_end(args);
}

/* A thread that can go on, of this warp if there is one; -1: none. */
static int pick(machine &m, int warp)
{
    int warps = (m.threads + WARP - 1) / WARP;
    if (m.shuffled) warp = static_cast<int>(m.draw(static_cast<uint32_t>(warps)));
    for (int i = 0; i < warps; i++, warp = warp + 1 < warps ? warp + 1 : 0) {
        uint32_t lanes = m.ready[warp];
        if (!lanes) continue;
        uint32_t turn = m.shuffled ? m.draw(WARP) : 0,
                 turned = turn ? lanes >> turn | lanes << (WARP - turn) : lanes;
        int lane = static_cast<int>((static_cast<uint32_t>(__builtin_ctz(turned)) + turn) % WARP);
        return warp * WARP + lane;
    }
    return -1;
}

static void fiber_main();

static fiber *take_idle(machine &m)
{
    if (m.idle.empty()) {
        m.fibers[m.begun].start(fiber_main);
        return &m.fibers[m.begun++];
    }
    fiber *f = m.idle.back();
    m.idle.pop_back();
    return f;
}

static void go_to(machine &m, fiber *to)
{
    fiber *from = m.running;
    m.running = to;
    fiber::change(from, to);
}

/* What a fiber does all its life: begins threads; where one suspended is to go on, steps aside. */
static void fiber_main()
{
    machine &m = self();
    for (;;) {
        int t = m.scheduled >= 0 ? m.scheduled : pick(m, here.thread / WARP);
        m.scheduled = -1;
        if (t < 0) {
            m.idle.push_back(m.running);
            go_to(m, &m.outside);
        } else if (m.of_thread[t]) {
            m.idle.push_back(m.running);
            here.thread = t;
            go_to(m, m.of_thread[t]);
        } else {
            m.of_thread[t] = m.running;
            here.thread = t;
            m.body(m.argument);
            m.of_thread[t] = nullptr; /* `here` is set back to t by whoever woke it */
            m.ready[t / WARP] &= ~(1u << t % WARP);
            m.alive--;
        }
    }
}

/* The running thread cannot go on: another does, until it can. */
static void suspend(machine &m)
{
    int me = here.thread, t = pick(m, me / WARP);
    if (t < 0) {
        go_to(m, &m.outside); /* for good: nobody can go on */
    } else if (t != me) {
        fiber *to = m.of_thread[t];
        if (!to) {
            to = take_idle(m);
            m.scheduled = t;
        }
        here.thread = t;
        go_to(m, to);
    }
    here.thread = me;
}

void barrier()
{
    machine &m = self();
    if (++m.at_barrier < m.threads) {
        m.ready[here.thread / WARP] &= ~(1u << here.thread % WARP);
        return suspend(m);
    }
    m.at_barrier = 0;
    m.epoch++;
    memset(m.ready, 0xff, static_cast<size_t>(m.threads) / 8);
}

float shuffle_xor(float value, int mask)
{
    machine &m = self();
    int warp = here.thread / WARP, lane = here.thread % WARP;
    uint32_t parity = m.parity[warp];
    m.slots[warp][parity][lane] = value;
    m.arrived[warp] |= 1u << lane;
    if (m.arrived[warp] == 0xffffffffu) {
        m.arrived[warp] = 0;
        m.parity[warp] ^= 1;
        m.ready[warp] = 0xffffffffu;
    } else {
        m.ready[warp] &= ~(1u << lane);
        suspend(m);
    }
    return m.slots[warp][parity][lane ^ mask];
}

static void run_block(machine &m)
{
    memset(m.ready, 0xff, sizeof m.ready);
    memset(m.arrived, 0, sizeof m.arrived);
    m.alive = m.threads;
    m.at_barrier = 0;
    m.block_epoch = ++m.epoch;
    m.scheduled = -1;
    here.thread = 0;
    memset(m.of_thread, 0, sizeof m.of_thread);
    m.running = &m.outside;
    go_to(m, take_idle(m));
    if (!m.alive) return;
    fault("%d of %d threads wait where the others never come", m.alive, m.threads);
    m.begun = 0; /* they are left lying */
    m.idle.clear();
}

const char *launch(const char *kernel, const int64_t blocks[3], int threads, void (*body)(const void *),
                   const void *argument)
{
    machine &m = self();
    m.kernel = kernel;
    m.body = body;
    m.argument = argument;
    m.threads = threads;
    m.faulty = false;
    m.arrays.clear();
    m.writers.clear();
    here = position();
    here.threads = threads;
    if (threads % WARP || threads > MOST_THREADS) fault("a block of %d threads", threads);
    memcpy(here.blocks, blocks, sizeof here.blocks);
    int64_t count = blocks[0] * blocks[1] * blocks[2], first = 0;
    if (m.shuffled) first = m.draw(static_cast<uint32_t>(count));
    for (int64_t i = 0; i < count && !m.faulty; i++) {
        int64_t b = (i + first) % count;
        here.block[0] = b % blocks[0];
        here.block[1] = b / blocks[0] % blocks[1];
        here.block[2] = b / blocks[0] / blocks[1];
        run_block(m);
    }
    return m.faulty ? m.message : nullptr;
}

/* ---- Memory ---- */

/* Of the whole grid. */
static int64_t this_thread()
{
    int64_t block = (here.block[2] * here.blocks[1] + here.block[1]) * here.blocks[0] + here.block[0];
    return block * here.threads + here.thread;
}

void wrote(const void *address, const char *name, int64_t index)
{
    auto found = self().writers.emplace(address, this_thread()).first;
    if (found->second != this_thread())
        fault("%s[%lld] was also written by thread %lld of the grid", name, static_cast<long long>(index),
              static_cast<long long>(found->second));
}

void reads(const void *address, const char *name, int64_t index)
{
    machine &m = self();
    if (m.writers.empty()) return;
    auto found = m.writers.find(address);
    if (found != m.writers.end() && found->second != this_thread())
        fault("%s[%lld] is read, but thread %lld of the grid wrote it", name, static_cast<long long>(index),
              static_cast<long long>(found->second));
}

void *shared_array(const void *declaration, size_t count, size_t size, history **histories)
{
    array &a = self().arrays[declaration];
    if (a.histories.empty()) {
        a.bytes.resize(count * size);
        a.histories.resize(count);
    }
    *histories = a.histories.data();
    return a.bytes.data();
}

void note_read(history *h, const char *name, size_t index)
{
    const machine &m = *the_machine;
    if (h->written < m.block_epoch)
        fault("%s[%zu] is read before it is written", name, index);
    else if (h->written == m.epoch && h->writer != here.thread)
        fault("%s[%zu] is read in a race with thread %d, which writes it", name, index, h->writer);
    h->reader = static_cast<int16_t>(h->read != m.epoch || h->reader == here.thread ? here.thread : -1);
    h->read = m.epoch;
}

void note_write(history *h, const char *name, size_t index)
{
    const machine &m = *the_machine;
    if (h->written == m.epoch && h->writer != here.thread)
        fault("%s[%zu] is written in a race with thread %d, which writes it too", name, index, h->writer);
    else if (h->read == m.epoch && h->reader != here.thread)
        fault("%s[%zu] is written in a race with thread %d, which reads it", name, index, h->reader);
    h->writer = static_cast<int16_t>(here.thread);
    h->written = m.epoch;
}
} // namespace emulator
