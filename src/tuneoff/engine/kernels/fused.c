/* The operations between the matrix products of a decoder layer, each in one pass over memory.
 *
 * The file includes itself once for each number type, float and bfloat16. All arithmetic is in float. `normalize` and
 * `gate` round to the tensors' type at the same steps as PyTorch; the other functions round once, at the end. Rows are
 * divided among `threads` threads. No sum includes rows of several threads, so results do not depend on the number of
 * threads. The formulas are in fused.py.
 */
#ifndef TYPE

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Version checked by fused.py. Raise it here and there whenever the name or arguments of a function change. */
#define INTERFACE 1

/* One library for every x86-64 processor: the loader of glibc selects the best version. Levels need GCC 12. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#if __GNUC__ >= 12
#define VERSIONS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VERSIONS __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#endif
#else
#define VERSIONS
#endif

/* Largest number of keys of a row of attention weights; MAX_KEYS of fused.py. */
#define MAX_KEYS 1024

typedef uint16_t bfloat16;

static inline float bits_to_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t float_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float load_float(float value) { return value; }
static inline float store_float(float value) { return value; }
static inline float load_bfloat16(bfloat16 value) { return bits_to_float((uint32_t)value << 16); }

/* Rounds to nearest, ties to even. NaN remains NaN. */
static inline bfloat16 store_bfloat16(float value) {
    uint32_t bits = float_to_bits(value);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (bfloat16)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2. For such r the Taylor series of degree 7 is as exact as a float. x is clamped to
 * [-87, 88]. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693145752f - n * 1.42860677e-6f; /* ln 2 in two parts; n times the first is exact */
    float series = 1.0f / 5040.0f;
    series = series * r + 1.0f / 720.0f;
    series = series * r + 1.0f / 120.0f;
    series = series * r + 1.0f / 24.0f;
    series = series * r + 1.0f / 6.0f;
    series = series * r + 0.5f;
    series = series * r + 1.0f;
    series = series * r + 1.0f;
    return series * bits_to_float((uint32_t)((int32_t)n + 127) << 23);
}

/* 1 / (1 + e^-x). Exactly 0 where e^-x would overflow, so that x * sigmoid(x) is 0 too. */
static inline float sigmoid(float x) { return x < -87.0f ? 0.0f : 1.0f / (1.0f + exponential(-x)); }

/* Runs `call` in each thread, for the rows `from` (included) to `to` (excluded). */
#define FOR_EACH_THREAD(rows, threads, call)                                                \
    do {                                                                                    \
        if ((threads) <= 1) {                                                               \
            long from = 0, to = (rows);                                                     \
            call;                                                                           \
        } else {                                                                            \
            _Pragma("omp parallel for num_threads((int)(threads)) schedule(static)")        \
            for (long part = 0; part < (threads); part++) {                                 \
                long from = (rows) * part / (threads), to = (rows) * (part + 1) / (threads); \
                call;                                                                       \
            }                                                                               \
        }                                                                                   \
    } while (0)

#define JOIN(a, b) a##_##b
#define JOINED(a, b) JOIN(a, b)
#define NAME(name) JOINED(name, TYPE)
#define LOAD(value) JOINED(load, TYPE)(value)
#define STORE(value) JOINED(store, TYPE)(value)

long fused_interface(void) { return INTERFACE; }

#define TYPE float
#include "fused.c"
#undef TYPE
#define TYPE bfloat16
#include "fused.c"
#undef TYPE

#else /* the kernels, for one TYPE */

VERSIONS static void NAME(normalize_rows)(const TYPE *x, const TYPE *weight, TYPE *y, float *scale, long width,
                                          float epsilon, long from, long to) {
    for (long row = from; row < to; row++) {
        const TYPE *in = x + row * width;
        TYPE *out = y + row * width;
        float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
        for (long i = 0; i < width; i++) squares += LOAD(in[i]) * LOAD(in[i]);
        float s = 1.0f / sqrtf(squares / (float)width + epsilon);
        scale[row] = s;
#pragma omp simd
        for (long i = 0; i < width; i++) out[i] = STORE(LOAD(weight[i]) * LOAD(STORE(LOAD(in[i]) * s)));
    }
}

void NAME(normalize)(const TYPE *x, const TYPE *weight, TYPE *y, float *scale, long rows, long width, float epsilon,
                     long threads) {
    FOR_EACH_THREAD(rows, threads, NAME(normalize_rows)(x, weight, y, scale, width, epsilon, from, to));
}

VERSIONS static void NAME(normalize_input_rows)(const TYPE *gradient, const TYPE *x, const TYPE *weight,
                                                const float *scale, TYPE *grad_x, long width, long from, long to) {
    for (long row = from; row < to; row++) {
        const TYPE *g = gradient + row * width, *in = x + row * width;
        TYPE *out = grad_x + row * width;
        float s = scale[row], dot = 0.0f;
#pragma omp simd reduction(+ : dot)
        for (long i = 0; i < width; i++) dot += LOAD(g[i]) * LOAD(weight[i]) * LOAD(in[i]);
        float along = dot * s * s / (float)width;
#pragma omp simd
        for (long i = 0; i < width; i++) out[i] = STORE(s * (LOAD(g[i]) * LOAD(weight[i]) - LOAD(in[i]) * along));
    }
}

void NAME(normalize_input)(const TYPE *gradient, const TYPE *x, const TYPE *weight, const float *scale, TYPE *grad_x,
                           long rows, long width, long threads) {
    FOR_EACH_THREAD(rows, threads, NAME(normalize_input_rows)(gradient, x, weight, scale, grad_x, width, from, to));
}

/* Columns are divided among the threads: each thread sums over all rows. */
VERSIONS static void NAME(normalize_weight_columns)(const TYPE *gradient, const TYPE *x, const float *scale,
                                                    float *grad_weight, long rows, long width, long from, long to) {
    for (long i = from; i < to; i++) grad_weight[i] = 0.0f;
    for (long row = 0; row < rows; row++) {
        const TYPE *g = gradient + row * width, *in = x + row * width;
        float s = scale[row];
#pragma omp simd
        for (long i = from; i < to; i++) grad_weight[i] += LOAD(g[i]) * LOAD(in[i]) * s;
    }
}

void NAME(normalize_weight)(const TYPE *gradient, const TYPE *x, const float *scale, float *grad_weight, long rows,
                            long width, long threads) {
    FOR_EACH_THREAD(width, threads,
              NAME(normalize_weight_columns)(gradient, x, scale, grad_weight, rows, width, from, to));
}

/* strides: of rows, heads and positions, first of x, then of y, in elements. The loop is over rows and positions. */
VERSIONS static void NAME(rotate_rows)(const TYPE *x, TYPE *y, const TYPE *cosines, const TYPE *sines,
                                       const long *strides, long heads, long length, long width, long table_stride,
                                       long back, long from, long to) {
    long half = width / 2;
    for (long index = from; index < to; index++) {
        long row = index / length, position = index % length;
        const TYPE *c = cosines + row * table_stride + position * width;
        const TYPE *s = sines + row * table_stride + position * width;
        for (long head = 0; head < heads; head++) {
            const TYPE *in = x + row * strides[0] + head * strides[1] + position * strides[2];
            TYPE *out = y + row * strides[3] + head * strides[4] + position * strides[5];
            if (back) {
#pragma omp simd
                for (long i = 0; i < half; i++) {
                    float a = LOAD(in[i]), b = LOAD(in[i + half]);
                    out[i] = STORE(a * LOAD(c[i]) + b * LOAD(s[i + half]));
                    out[i + half] = STORE(b * LOAD(c[i + half]) - a * LOAD(s[i]));
                }
            } else {
#pragma omp simd
                for (long i = 0; i < half; i++) {
                    float a = LOAD(in[i]), b = LOAD(in[i + half]);
                    out[i] = STORE(a * LOAD(c[i]) - b * LOAD(s[i]));
                    out[i + half] = STORE(b * LOAD(c[i + half]) + a * LOAD(s[i + half]));
                }
            }
        }
    }
}

void NAME(rotate)(const TYPE *x, TYPE *y, const TYPE *cosines, const TYPE *sines, const long *strides, long rows,
                  long heads, long length, long width, long table_stride, long back, long threads) {
    FOR_EACH_THREAD(rows * length, threads,
              NAME(rotate_rows)(x, y, cosines, sines, strides, heads, length, width, table_stride, back, from, to));
}

VERSIONS static void NAME(gate_elements)(const TYPE *gate, const TYPE *up, TYPE *y, long from, long to) {
#pragma omp simd
    for (long i = from; i < to; i++) {
        float g = LOAD(gate[i]);
        y[i] = STORE(LOAD(STORE(g * sigmoid(g))) * LOAD(up[i]));
    }
}

void NAME(gate)(const TYPE *gate, const TYPE *up, TYPE *y, long count, long threads) {
    FOR_EACH_THREAD(count, threads, NAME(gate_elements)(gate, up, y, from, to));
}

VERSIONS static void NAME(gate_back_elements)(const TYPE *gradient, const TYPE *gate, const TYPE *up, TYPE *grad_gate,
                                              TYPE *grad_up, long from, long to) {
#pragma omp simd
    for (long i = from; i < to; i++) {
        float g = LOAD(gate[i]), d = LOAD(gradient[i]), s = sigmoid(g);
        grad_gate[i] = STORE(d * LOAD(up[i]) * s * (1.0f + g * (1.0f - s)));
        grad_up[i] = STORE(d * g * s);
    }
}

void NAME(gate_back)(const TYPE *gradient, const TYPE *gate, const TYPE *up, TYPE *grad_gate, TYPE *grad_up, long count,
                     long threads) {
    FOR_EACH_THREAD(count, threads, NAME(gate_back_elements)(gradient, gate, up, grad_gate, grad_up, from, to));
}

/* Scores (.., queries, keys) are replaced by weights. Query t sees the first keys - queries + t + 1 keys. */
VERSIONS static void NAME(attend_rows)(TYPE *scores, float scale, long queries, long keys, long from, long to) {
    float powers[MAX_KEYS];
    for (long row = from; row < to; row++) {
        TYPE *p = scores + row * keys;
        long seen = keys - queries + row % queries + 1;
        float highest = LOAD(p[0]);
#pragma omp simd reduction(max : highest)
        for (long i = 1; i < seen; i++) highest = LOAD(p[i]) > highest ? LOAD(p[i]) : highest;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < seen; i++) {
            powers[i] = exponential((LOAD(p[i]) - highest) * scale);
            sum += powers[i];
        }
        float inverse_sum = 1.0f / sum;
#pragma omp simd
        for (long i = 0; i < seen; i++) p[i] = STORE(powers[i] * inverse_sum);
        for (long i = seen; i < keys; i++) p[i] = STORE(0.0f);
    }
}

void NAME(attend)(TYPE *scores, float scale, long rows, long queries, long keys, long threads) {
    FOR_EACH_THREAD(rows, threads, NAME(attend_rows)(scores, scale, queries, keys, from, to));
}

/* The gradient of the weights is replaced by the gradient of the scores. */
VERSIONS static void NAME(attend_back_rows)(TYPE *gradient, const TYPE *weights, float scale, long queries, long keys,
                                            long from, long to) {
    for (long row = from; row < to; row++) {
        TYPE *g = gradient + row * keys;
        const TYPE *p = weights + row * keys;
        long seen = keys - queries + row % queries + 1;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < seen; i++) sum += LOAD(g[i]) * LOAD(p[i]);
#pragma omp simd
        for (long i = 0; i < seen; i++) g[i] = STORE((LOAD(g[i]) - sum) * LOAD(p[i]) * scale);
        for (long i = seen; i < keys; i++) g[i] = STORE(0.0f);
    }
}

void NAME(attend_back)(TYPE *gradient, const TYPE *weights, float scale, long rows, long queries, long keys,
                       long threads) {
    FOR_EACH_THREAD(rows, threads, NAME(attend_back_rows)(gradient, weights, scale, queries, keys, from, to));
}

VERSIONS static void NAME(multiply_elements)(const TYPE *x, const TYPE *factors, TYPE *y, long from, long to) {
#pragma omp simd
    for (long i = from; i < to; i++) y[i] = STORE(LOAD(x[i]) * LOAD(factors[i]));
}

void NAME(multiply)(const TYPE *x, const TYPE *factors, TYPE *y, long count, long threads) {
    FOR_EACH_THREAD(count, threads, NAME(multiply_elements)(x, factors, y, from, to));
}

VERSIONS static void NAME(add_product_elements)(TYPE *sum, const TYPE *x, const TYPE *factors, long from, long to) {
#pragma omp simd
    for (long i = from; i < to; i++) sum[i] = STORE(LOAD(sum[i]) + LOAD(x[i]) * LOAD(factors[i]));
}

void NAME(add_product)(TYPE *sum, const TYPE *x, const TYPE *factors, long count, long threads) {
    FOR_EACH_THREAD(count, threads, NAME(add_product_elements)(sum, x, factors, from, to));
}

#endif
