/* What the libraries of kernels share: threads, the memory that they keep, and what attention is asked for. `number` is
 * the type of their tensors. */
#ifndef TUNEOFF_SHARED_H
#define TUNEOFF_SHARED_H

#include <pthread.h>
#include <stdlib.h>

#define ALIGNED __attribute__((aligned(64)))

/* `call` in each thread for the items `from` (included) to `to` (excluded). */
#define FOR_EACH_THREAD(items, threads, call)                                                \
    do {                                                                                     \
        _Pragma("omp parallel for num_threads((int)(threads)) schedule(static)")             \
        for (long part = 0; part < (threads); part++) {                                      \
            long from = (items) * part / (threads), to = (items) * (part + 1) / (threads);   \
            call;                                                                            \
        }                                                                                    \
    } while (0)

static inline long smaller(long a, long b) { return a < b ? a : b; }

/* Memory that a thread keeps for its next call: new pages cost more than what is computed in them. */
enum { COPY, PACKED_FACTORS, TURNED, ATTENTION, SCORES, SLOTS };

static int memory_ran_out;

struct slot {
    void *memory;
    size_t bytes;
};

static pthread_key_t slots_key;
static pthread_once_t slots_key_made = PTHREAD_ONCE_INIT;

static void free_slots(void *slots) {
    for (int slot = 0; slot < SLOTS; slot++) free(((struct slot *)slots)[slot].memory);
    free(slots);
}

static void make_slots_key(void) { pthread_key_create(&slots_key, free_slots); }

/* NULL if there is no memory, which `finish` then reports. It is freed when the thread ends. */
static void *scratch(int slot, size_t bytes) {
    static _Thread_local struct slot *kept;
    if (!kept) {
        pthread_once(&slots_key_made, make_slots_key);
        kept = calloc(SLOTS, sizeof *kept);
        if (kept) pthread_setspecific(slots_key, kept);
    }
    if (kept && kept[slot].bytes < bytes) {
        free(kept[slot].memory);
        kept[slot].bytes = (bytes + 63) / 64 * 64;
        kept[slot].memory = aligned_alloc(64, kept[slot].bytes);
        if (!kept[slot].memory) kept[slot].bytes = 0;
    }
    if (kept && kept[slot].memory) return kept[slot].memory;
    __atomic_store_n(&memory_ran_out, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* What every function returns: 1 if memory ran out and its results must not be used, otherwise 0. */
static long finish(void) { return __atomic_exchange_n(&memory_ran_out, 0, __ATOMIC_RELAXED); }

/* Queries (batch, heads, length, width) are the last `length` of `keys` positions. Strides, in numbers, of rows, heads
 * and positions: of q, k, v, then y, their gradients and that of y. */
typedef struct {
    const number *q, *k, *v, *y, *g;
    number *out, *grad_q, *grad_k, *grad_v;
    float *logs; /* log of the sum of powers of each query, (batch, heads, length); bf16.c saves a pass by it */
    const long *strides;
    float scale;
    long batch, heads, shared, length, keys, width;
} Attention;

enum { Q = 0, K = 3, V = 6, Y = 9, GRAD_Q = 12, GRAD_K = 15, GRAD_V = 18, G = 21 };

static inline long place(const Attention *a, int which, long row, long head, long position) {
    return row * a->strides[which] + head * a->strides[which + 1] + position * a->strides[which + 2];
}

/* One new query a row, which sees the positions from `starts` of its row on: rows are padded on the left. */
typedef struct {
    const number *q, *k, *v; /* q (batch, heads, width) */
    number *y;               /* as q */
    const long *strides, *starts;
    float scale;
    long heads, shared, keys, width;
} NewQueries;

#endif
