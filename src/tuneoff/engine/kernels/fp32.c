/* Products of floats on x86 processors with AVX2, for linear layers and their gradients. The functions are those of
 * bf16.c, with the same arguments.
 *
 * Rows of the right factor of a product are read 16 numbers at a time. Where it is packed, they lie side by side:
 *
 *   panel of 16 columns > rows > 16 numbers.
 *
 * Six rows of 16 results are summed in twelve registers, in the order of the rows of the right factor, so results do not
 * depend on the number of threads.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Version checked by packed_layers.py. Raise it here and there whenever the name or arguments of a function change. */
#define INTERFACE 3

long kernels_interface(void) { return INTERFACE; }

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)

#include <immintrin.h>

typedef float number;

#include "shared.h"

#define VECTORS __attribute__((target("avx2,fma"), optimize("no-tree-loop-distribute-patterns")))

enum { LANES = 8, PANEL = 16, ROWS = 6, STEP = LANES };
/* Queries whose products with all keys are held, and tokens that add to a thin gradient at a time. */
enum { QUERIES = 24, CHUNK = 64 };
/* Bytes of the left factor that should stay in the second-level cache while the right factor passes. */
enum { LEFT_BYTES = 192 * 1024 };
/* Products that are summed in one go: rounding errors of a sum over a whole vocabulary would be 20 times as large. */
enum { DEPTH = 512 };
/* Rows of the right factor that pass before the next ones are read: those of a vocabulary fit into no cache. */
enum { SEGMENT = 2048 };

/* Processors with full AVX-512 multiply faster by PyTorch's libraries. AMD's family 19h takes two steps for 512 bits. */
long kernels_start(long most) {
    if (most < 1 || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    return !__builtin_cpu_supports("avx512f") || __builtin_cpu_is("amdfam19h");
}

static inline long panels_of(long count) { return (count + PANEL - 1) / PANEL; }
/* Numbers in a row of a narrow product, as packed_layers.py has them. */
static inline long rank_of(long real_rank) { return (real_rank + 31) / 32 * 32; }

/* ---- packing ---- */

/* The right factor whose column c is row c of `x`, which lies c * stride behind the first and has `rows` numbers. */
VECTORS static void pack_columns(const float *x, long stride, long columns, long rows, float *out, long from, long to) {
    for (long panel = from; panel < to; panel++) {
        const float *first = x + panel * PANEL * stride;
        float *to_row = out + panel * PANEL * rows;
        long here = smaller(PANEL, columns - panel * PANEL);
        for (long row = 0; row < rows; row++, to_row += PANEL)
            for (long c = 0; c < PANEL; c++) to_row[c] = c < here ? first[c * stride + row] : 0.0f;
    }
}

/* The right factor `x` (rows, columns) as it is. */
VECTORS static void pack_rows(const float *x, long columns, long rows, float *out, long from, long to) {
    for (long panel = from; panel < to; panel++) {
        const float *first = x + panel * PANEL;
        float *to_row = out + panel * PANEL * rows;
        long here = smaller(PANEL, columns - panel * PANEL);
        for (long row = 0; row < rows; row++, to_row += PANEL, first += columns)
            for (long c = 0; c < PANEL; c++) to_row[c] = c < here ? first[c] : 0.0f;
    }
}

/* The weights of a layer (columns, rows), for its output. */
long pack_weights(const float *x, float *out, long columns, long rows, long threads) {
    FOR_EACH_THREAD(panels_of(columns), threads, pack_columns(x, rows, columns, rows, out, from, to));
    return finish();
}

/* And for the gradient of its input. */
long pack_transposed(const float *x, float *out, long rows, long columns, long threads) {
    FOR_EACH_THREAD(panels_of(columns), threads, pack_rows(x, columns, rows, out, from, to));
    return finish();
}

/* ---- products ---- */

/* e^x, as exact as a float: see exponential() of fused.c. x is clamped to [-87, 88], and NaN stays NaN. */
VECTORS static inline __m256 exponential(__m256 x) {
    x = _mm256_min_ps(_mm256_set1_ps(88.0f), _mm256_max_ps(_mm256_set1_ps(-87.0f), x)); /* of NaN, the second factor */
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693145752f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(1.42860677e-6f), r);
    __m256 series = _mm256_set1_ps(1.0f / 5040.0f);
    series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(1.0f / 720.0f));
    series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(1.0f / 120.0f));
    series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(1.0f / 24.0f));
    series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(1.0f / 6.0f));
    series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(0.5f));
    series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(1.0f));
    series = _mm256_fmadd_ps(series, r, _mm256_set1_ps(1.0f));
    __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(series, _mm256_castsi256_ps(power));
}

VECTORS static inline float sum_of(__m256 x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

VECTORS static inline float largest_of(__m256 x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

/* Lanes whose bit is set. */
VECTORS static inline __m256 lanes_of(uint32_t bits) {
    __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), each), each));
}

/* Lanes of the keys from `key` on that a query sees, which are the first `seen`. */
VECTORS static inline __m256 seen_lanes(long seen, long key) {
    return lanes_of(seen - key >= LANES ? 0xff : seen > key ? (1u << (seen - key)) - 1 : 0);
}

/* Number (r, k) of a left factor is from[r * row + k * step]; row k of a right one begins at from + k * step. */
typedef struct {
    const float *from;
    long row, step;
} Left;

typedef struct {
    const float *from;
    long step;
} Right;

/* sums (R, 16), `stride` apart, += `width` columns of the left factor times as many rows of the right one. */
#define ADD_ROWS(R)                                                                                                   \
    VECTORS static inline __attribute__((always_inline)) void add_##R(float *sums, long stride, Left left, Right right, \
                                                                      long width) {                                   \
        __m256 low[R], high[R];                                                                                       \
        _Pragma("GCC unroll 6") for (long r = 0; r < R; r++) {                                                        \
            low[r] = _mm256_loadu_ps(sums + r * stride);                                                              \
            high[r] = _mm256_loadu_ps(sums + r * stride + LANES);                                                     \
        }                                                                                                             \
        const float *upper = left.from, *lower = left.from + 3 * left.row, *from = right.from;                        \
        for (long k = 0; k < width; k++, upper += left.step, lower += left.step, from += right.step) {                \
            __m256 first = _mm256_loadu_ps(from), second = _mm256_loadu_ps(from + LANES);                             \
            _Pragma("GCC unroll 6") for (long r = 0; r < R; r++) {                                                    \
                __m256 factor = _mm256_broadcast_ss(r < 3 ? upper + r * left.row : lower + (r - 3) * left.row);       \
                low[r] = _mm256_fmadd_ps(factor, first, low[r]);                                                      \
                high[r] = _mm256_fmadd_ps(factor, second, high[r]);                                                   \
            }                                                                                                         \
        }                                                                                                             \
        _Pragma("GCC unroll 6") for (long r = 0; r < R; r++) {                                                        \
            _mm256_storeu_ps(sums + r * stride, low[r]);                                                              \
            _mm256_storeu_ps(sums + r * stride + LANES, high[r]);                                                     \
        }                                                                                                             \
    }

ADD_ROWS(1)
ADD_ROWS(2)
ADD_ROWS(3)
ADD_ROWS(4)
ADD_ROWS(5)
ADD_ROWS(6)

/* The same for any number of rows. */
VECTORS static inline __attribute__((always_inline)) void add_rows(float *sums, long stride, Left left, Right right,
                                                                   long width, long rows) {
    for (; rows >= ROWS; rows -= ROWS, sums += ROWS * stride, left.from += ROWS * left.row)
        add_6(sums, stride, left, right, width);
    switch (rows) {
        case 1: add_1(sums, stride, left, right, width); break;
        case 2: add_2(sums, stride, left, right, width); break;
        case 3: add_3(sums, stride, left, right, width); break;
        case 4: add_4(sums, stride, left, right, width); break;
        case 5: add_5(sums, stride, left, right, width); break;
        default: break;
    }
}

/* What a product of `tokens` rows is made of: y = residual + x w + bias + (kept) scale * narrow a. */
typedef struct {
    const float *x, *weights; /* x (tokens, rows); weights packed (rows, columns) */
    const float *bias;        /* (columns), or NULL */
    const float *narrow, *narrow_weights; /* (tokens, rank), of which `real_rank` count, and packed; or NULL */
    const uint8_t *kept;    /* a bit for each number of y: where the narrow product is added. NULL: everywhere */
    float scale;            /* of the narrow product where `kept` is given */
    const float *residual;  /* (tokens, columns), which may be y itself; or NULL */
    float *y;               /* (tokens, columns) */
    long tokens, rows, columns, rank, real_rank;
} Product;

VECTORS static inline void store_rows(const Product *p, long token, long column, long rows, const float *sums,
                                      const float *added) {
    __m256 scale = _mm256_set1_ps(p->scale);
    for (long row = 0; row < rows; row++) {
        long at = (token + row) * p->columns + column;
        uint32_t bits = 0;
        if (added) bits = p->kept[at / 8] | (uint32_t)p->kept[at / 8 + 1] << 8;
        for (long half = 0; half < PANEL; half += LANES) {
            __m256 sum = _mm256_load_ps(sums + row * PANEL + half);
            if (added) {
                __m256 more = _mm256_and_ps(lanes_of(bits >> half), _mm256_load_ps(added + row * PANEL + half));
                sum = _mm256_fmadd_ps(more, scale, sum);
            }
            if (p->bias) sum = _mm256_add_ps(sum, _mm256_loadu_ps(p->bias + column + half));
            if (p->residual) sum = _mm256_add_ps(sum, _mm256_loadu_ps(p->residual + at + half));
            _mm256_storeu_ps(p->y + at + half, sum);
        }
    }
}

/* Tokens in groups of six `from` to `to`, panels of columns `start` to `stop`. y is read again for each segment. */
VECTORS static void multiply_part(const Product *p, long from, long to, long start, long stop) {
    ALIGNED float sums[ROWS * PANEL], part[ROWS * PANEL], added[ROWS * PANEL];
    Product here = *p;
    long last = smaller(to * ROWS, p->tokens);
    for (long segment = 0; segment < p->rows; segment += SEGMENT) {
        long width = smaller(SEGMENT, p->rows - segment), group = LEFT_BYTES / (width * (long)sizeof *sums) / ROWS;
        group = (group < 1 ? 1 : group) * ROWS;
        if (segment) here.residual = p->y, here.bias = here.narrow = NULL;
        for (long first = from * ROWS; first < last; first += group) {
            long end = smaller(first + group, last);
            for (long column = start * PANEL; column < stop * PANEL; column += PANEL) {
                const float *panel = p->weights + column * p->rows + segment * PANEL;
                for (long token = first; token < end; token += ROWS) {
                    long rows = smaller(ROWS, end - token);
                    const float *x = p->x + token * p->rows + segment;
                    memset(sums, 0, sizeof sums);
                    for (long k = 0; k < width; k += DEPTH) {
                        memset(part, 0, sizeof part);
                        add_rows(part, PANEL, (Left){x + k, p->rows, 1}, (Right){panel + k * PANEL, PANEL},
                                 smaller(DEPTH, width - k), rows);
                        for (long i = 0; i < ROWS * PANEL; i += LANES)
                            _mm256_store_ps(sums + i, _mm256_add_ps(_mm256_load_ps(sums + i), _mm256_load_ps(part + i)));
                    }
                    if (here.narrow) {
                        if (p->kept) memset(added, 0, sizeof added);
                        add_rows(p->kept ? added : sums, PANEL, (Left){p->narrow + token * p->rank, p->rank, 1},
                                 (Right){p->narrow_weights + column * p->real_rank, PANEL}, p->real_rank, rows);
                    }
                    store_rows(&here, token, column, rows, sums, here.narrow && p->kept ? added : NULL);
                }
            }
        }
    }
}

/* All of a product. With few tokens the threads divide the weights, which then take longer to read than to multiply. */
static void multiply(const Product *p, long threads) {
    long groups = (p->tokens + ROWS - 1) / ROWS, panels = p->columns / PANEL;
    if (p->tokens < 64 * threads)
        FOR_EACH_THREAD(panels, smaller(threads, panels), multiply_part(p, 0, groups, from, to));
    else
        FOR_EACH_THREAD(groups, threads, multiply_part(p, from, to, 0, panels));
}

/* y (tokens, columns) = residual + x (tokens, rows) w + bias, with packed weights. */
long linear(const float *x, const float *weights, const float *bias, const float *residual, float *y, long tokens,
            long rows, long columns, long threads) {
    Product p = {.x = x, .weights = weights, .bias = bias, .residual = residual, .y = y,
                 .tokens = tokens, .rows = rows, .columns = columns};
    multiply(&p, threads);
    return finish();
}

/* Rows of x without what is dropped. `kept` has a bit for each number of them. */
VECTORS static inline void copy_kept(const float *x, long stride, const uint8_t *kept, long kept_stride, long rows,
                                     long width, float *out) {
    for (long row = 0; row < rows; row++)
        for (long k = 0; k < width; k += LANES)
            _mm256_storeu_ps(out + row * width + k, _mm256_and_ps(lanes_of(kept[row * kept_stride + k / 8]),
                                                                  _mm256_loadu_ps(x + row * stride + k)));
}

/* narrow (tokens, rank) = scale * x w, where x (tokens, rows) may have dropped numbers, and w is packed
 * (rows, real_rank). */
VECTORS static void narrow_part(const float *x, const uint8_t *kept, const float *weights, float scale, float *narrow,
                                long tokens, long rows, long rank, long real_rank, long from, long to) {
    ALIGNED float sums[ROWS * PANEL];
    float *copy = kept ? scratch(COPY, (size_t)(rows * ROWS) * sizeof *copy) : NULL;
    if (kept && !copy) return;
    __m256 factor = _mm256_set1_ps(scale);
    for (long token = from * ROWS; token < smaller(to * ROWS, tokens); token += ROWS) {
        long count = smaller(ROWS, tokens - token);
        if (kept) copy_kept(x + token * rows, rows, kept + token * rows / 8, rows / 8, count, rows, copy);
        Left left = {kept ? copy : x + token * rows, rows, 1};
        for (long column = 0; column < real_rank; column += PANEL) {
            memset(sums, 0, sizeof sums);
            add_rows(sums, PANEL, left, (Right){weights + column * rows, PANEL}, rows, count);
            for (long row = 0; row < count; row++)
                for (long half = 0; half < PANEL; half += LANES)
                    _mm256_storeu_ps(narrow + (token + row) * rank + column + half,
                                     _mm256_mul_ps(factor, _mm256_load_ps(sums + row * PANEL + half)));
        }
    }
}

/* Panels of sums (real_rank, columns) = narrow' (kept) x over all tokens. */
VECTORS static void narrow_gradient_part(const float *narrow, const float *x, const uint8_t *kept, float *sums,
                                         long tokens, long columns, long rank, long real_rank, long from, long to) {
    float *copy = kept ? scratch(COPY, CHUNK * PANEL * sizeof *copy) : NULL;
    if (kept && !copy) return;
    for (long row = 0; row < real_rank && from < to; row++)
        memset(sums + row * columns + from * PANEL, 0, (size_t)((to - from) * PANEL) * sizeof *sums);
    for (long first = 0; first < tokens; first += CHUNK) {
        long count = smaller(CHUNK, tokens - first);
        for (long panel = from; panel < to; panel++) {
            long at = first * columns + panel * PANEL;
            Right right = {kept ? copy : x + at, kept ? PANEL : columns};
            if (kept) copy_kept(x + at, columns, kept + at / 8, columns / 8, count, PANEL, copy);
            add_rows(sums + panel * PANEL, columns, (Left){narrow + first * rank, 1, rank}, right, count, real_rank);
        }
    }
}

/* y = residual + x w + bias + narrow b, narrow = scale * (kept x) a. a (real_rank, rows) and b (columns, real_rank) are
 * plain. */
long low_rank(const float *x, const float *weights, const float *bias, const float *a, const float *b,
              const uint8_t *kept, float scale, const float *residual, float *y, float *narrow, long tokens, long rows,
              long columns, long real_rank, long threads) {
    long groups = (tokens + ROWS - 1) / ROWS, padded = panels_of(real_rank) * PANEL, rank = rank_of(real_rank);
    float *packed_a = scratch(PACKED_FACTORS, (size_t)(rows * padded + columns * real_rank) * sizeof *packed_a);
    if (!packed_a) return finish();
    float *packed_b = packed_a + rows * padded;
    pack_columns(a, rows, real_rank, rows, packed_a, 0, panels_of(real_rank));
    pack_columns(b, real_rank, columns, real_rank, packed_b, 0, panels_of(columns));
    Product p = {.x = x, .weights = weights, .bias = bias, .narrow = narrow, .narrow_weights = packed_b,
                 .residual = residual, .y = y, .tokens = tokens, .rows = rows, .columns = columns, .rank = rank,
                 .real_rank = real_rank};
    FOR_EACH_THREAD(groups, smaller(threads, groups),
                    narrow_part(x, kept, packed_a, scale, narrow, tokens, rows, rank, real_rank, from, to));
    multiply(&p, threads);
    return finish();
}

/* Gradients of `low_rank`, where `weights` is now packed (columns, rows) and `narrow` (tokens, rank) was kept:
 *   back = g b,  grad_x = residual + g w + (kept) scale * back a,  grad_a = scale * back' (kept x),  grad_b = g' narrow.
 * grad_x may be NULL. */
VECTORS long low_rank_back(const float *g, const float *x, const float *weights, const float *a, const float *b,
                           const uint8_t *kept, float scale, const float *narrow, const float *residual, float *grad_x,
                           float *grad_a, float *grad_b, long tokens, long rows, long columns, long real_rank,
                           long threads) {
    long groups = (tokens + ROWS - 1) / ROWS, padded = panels_of(real_rank) * PANEL, rank = rank_of(real_rank);
    long numbers = rows * real_rank + columns * (padded + real_rank) + tokens * rank;
    float *packed_a = scratch(PACKED_FACTORS, (size_t)numbers * sizeof *packed_a);
    if (!packed_a) return finish();
    float *packed_b = packed_a + rows * real_rank, *sums_b = packed_b + columns * padded, *back = sums_b + columns * real_rank;
    pack_rows(a, rows, real_rank, packed_a, 0, panels_of(rows));
    pack_rows(b, real_rank, columns, packed_b, 0, panels_of(real_rank));
    Product p = {.x = g, .weights = weights, .narrow = back, .narrow_weights = packed_a, .kept = kept, .scale = scale,
                 .residual = residual, .y = grad_x, .tokens = tokens, .rows = columns, .columns = rows, .rank = rank,
                 .real_rank = real_rank};
    float forward_scale = kept ? 1.0f : scale; /* without dropout the scale is part of `back` */
    FOR_EACH_THREAD(groups, smaller(threads, groups),
                    narrow_part(g, NULL, packed_b, forward_scale, back, tokens, columns, rank, real_rank, from, to));
    if (grad_x) multiply(&p, threads);
    FOR_EACH_THREAD((rows + columns) / PANEL, threads, {
        long split = columns / PANEL;
        narrow_gradient_part(narrow, g, NULL, sums_b, tokens, columns, rank, real_rank, smaller(from, split),
                             smaller(to, split));
        narrow_gradient_part(back, x, kept, grad_a, tokens, rows, rank, real_rank, from > split ? from - split : 0,
                             to > split ? to - split : 0);
    });
    for (long i = 0; kept && i < real_rank * rows; i++) grad_a[i] *= scale;
    for (long row = 0; row < real_rank; row++)
        for (long column = 0; column < columns; column++) grad_b[column * real_rank + row] = sums_b[row * columns + column];
    return finish();
}

VECTORS static void transpose_part(const float *g, float *transposed, long tokens, long columns, long from, long to) {
    for (long column = from * PANEL; column < to * PANEL; column += PANEL)
        for (long token = 0; token < tokens; token++)
            for (long c = 0; c < PANEL; c++) transposed[(column + c) * tokens + token] = g[token * columns + column + c];
}

/* gradient (columns, rows) = g' x for g (tokens, columns) and x (tokens, rows). */
long weight_gradient(const float *g, const float *x, float *gradient, long tokens, long rows, long columns,
                     long threads) {
    float *transposed = scratch(TURNED, (size_t)((rows + columns) * tokens) * sizeof *transposed);
    if (!transposed) return finish();
    float *packed = transposed + columns * tokens;
    FOR_EACH_THREAD(columns / PANEL, threads, transpose_part(g, transposed, tokens, columns, from, to));
    FOR_EACH_THREAD(rows / PANEL, threads, pack_rows(x, rows, tokens, packed, from, to));
    Product p = {.x = transposed, .weights = packed, .y = gradient, .tokens = columns, .rows = tokens, .columns = rows};
    multiply(&p, threads);
    return finish();
}

/* ---- the gate of SwiGLU ---- */

VECTORS static inline __m256 sigmoid(__m256 x) {
    __m256 one = _mm256_set1_ps(1.0f);
    return _mm256_div_ps(one, _mm256_add_ps(one, exponential(_mm256_sub_ps(_mm256_setzero_ps(), x))));
}

VECTORS static void gate_part(const float *gate, const float *up, float *y, long from, long to) {
    for (long i = from * LANES; i < to * LANES; i += LANES) {
        __m256 g = _mm256_loadu_ps(gate + i);
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(g, sigmoid(g)), _mm256_loadu_ps(up + i)));
    }
}

VECTORS static void gate_back_part(const float *gradient, const float *gate, const float *up, float *grad_gate,
                                   float *grad_up, long from, long to) {
    __m256 one = _mm256_set1_ps(1.0f);
    for (long i = from * LANES; i < to * LANES; i += LANES) {
        __m256 g = _mm256_loadu_ps(gate + i), d = _mm256_loadu_ps(gradient + i), s = sigmoid(g);
        __m256 slope = _mm256_mul_ps(s, _mm256_fmadd_ps(g, _mm256_sub_ps(one, s), one));
        _mm256_storeu_ps(grad_gate + i, _mm256_mul_ps(_mm256_mul_ps(d, _mm256_loadu_ps(up + i)), slope));
        _mm256_storeu_ps(grad_up + i, _mm256_mul_ps(_mm256_mul_ps(d, g), s));
    }
}

/* ---- RMSNorm ---- */

VECTORS static void norm_part(const float *x, const float *weight, float *y, float *scales, long width, float epsilon,
                              long from, long to) {
    for (long row = from; row < to; row++) {
        const float *in = x + row * width;
        __m256 squares = _mm256_setzero_ps();
        for (long i = 0; i < width; i += LANES) {
            __m256 value = _mm256_loadu_ps(in + i);
            squares = _mm256_fmadd_ps(value, value, squares);
        }
        scales[row] = 1.0f / sqrtf(sum_of(squares) / (float)width + epsilon);
        __m256 scale = _mm256_set1_ps(scales[row]);
        for (long i = 0; i < width; i += LANES)
            _mm256_storeu_ps(y + row * width + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(in + i), scale),
                                                                _mm256_loadu_ps(weight + i)));
    }
}

VECTORS static void norm_back_part(const float *gradient, const float *x, const float *weight, const float *scales,
                                   const float *residual, float *grad_x, long width, long from, long to) {
    for (long row = from; row < to; row++) {
        const float *g = gradient + row * width, *in = x + row * width, *residual_row = residual + row * width;
        __m256 dot = _mm256_setzero_ps();
        for (long i = 0; i < width; i += LANES)
            dot = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_loadu_ps(g + i), _mm256_loadu_ps(weight + i)),
                                  _mm256_loadu_ps(in + i), dot);
        float s = scales[row];
        __m256 along = _mm256_set1_ps(sum_of(dot) * s * s / (float)width), scale = _mm256_set1_ps(s);
        for (long i = 0; i < width; i += LANES) {
            __m256 part = _mm256_mul_ps(_mm256_loadu_ps(g + i), _mm256_loadu_ps(weight + i));
            part = _mm256_fnmadd_ps(_mm256_loadu_ps(in + i), along, part);
            _mm256_storeu_ps(grad_x + row * width + i, _mm256_fmadd_ps(part, scale, _mm256_loadu_ps(residual_row + i)));
        }
    }
}

/* ---- attention ---- */

/* Products (rows, span) of rows of `left` and the first `count` of the packed positions. */
VECTORS static void product_with_positions(Left left, const float *packed, long width, long count, long span, long rows,
                                           float *out) {
    for (long row = 0; row < rows; row++) memset(out + row * span, 0, (size_t)span * sizeof *out);
    for (long panel = 0; panel < panels_of(count); panel++)
        add_rows(out + panel * PANEL, span, left, (Right){packed + panel * PANEL * width, PANEL}, width, rows);
}

/* Rows of `to`, `stride` apart, = left (rows, count) times positions of the right factor, of `width` numbers. `scales`:
 * of each row, or NULL. */
VECTORS static void combine(Left left, Right right, long count, long width, long rows, const float *scales, float *to,
                            long stride) {
    ALIGNED float sums[QUERIES * PANEL];
    for (long d = 0; d < width; d += PANEL) {
        memset(sums, 0, sizeof sums);
        add_rows(sums, PANEL, left, (Right){right.from + d, right.step}, count, rows);
        for (long row = 0; row < rows; row++)
            for (long half = 0; half < PANEL; half += LANES) {
                __m256 factor = _mm256_set1_ps(scales ? scales[row] : 1.0f);
                _mm256_storeu_ps(to + row * stride + d + half,
                                 _mm256_mul_ps(factor, _mm256_load_ps(sums + row * PANEL + half)));
            }
    }
}

/* The first `count` scores become powers, those of keys from `seen` on zeros; returns their sum. */
VECTORS static float take_powers(float *scores, long seen, long count, float score_scale) {
    __m256 lowest = _mm256_set1_ps(-3.0e38f), highest = lowest, sum = _mm256_setzero_ps();
    for (long key = 0; key < seen; key += LANES)
        highest = _mm256_max_ps(highest,
                                _mm256_blendv_ps(lowest, _mm256_loadu_ps(scores + key), seen_lanes(seen, key)));
    __m256 shift = _mm256_set1_ps(largest_of(highest)), scale = _mm256_set1_ps(score_scale);
    for (long key = 0; key < count; key += LANES) {
        __m256 power = exponential(_mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(scores + key), shift), scale));
        power = _mm256_and_ps(seen_lanes(seen, key), power);
        _mm256_storeu_ps(scores + key, power);
        sum = _mm256_add_ps(sum, power);
    }
    return sum_of(sum);
}

VECTORS static void attend_part(const Attention *a, float *memory, long row, long group) {
    long per_group = a->heads / a->shared, width = a->width, span = panels_of(a->keys) * PANEL;
    float *keys = memory, *scores = keys + span * width, inverse[QUERIES];
    Right values = {a->v + place(a, V, row, group, 0), a->strides[V + 2]};
    pack_columns(a->k + place(a, K, row, group, 0), a->strides[K + 2], a->keys, width, keys, 0, panels_of(a->keys));
    for (long head = group * per_group; head < (group + 1) * per_group; head++)
        for (long first = 0; first < a->length; first += QUERIES) {
            long rows = smaller(QUERIES, a->length - first), count = a->keys - a->length + first + rows;
            Left queries = {a->q + place(a, Q, row, head, first), a->strides[Q + 2], 1};
            product_with_positions(queries, keys, width, count, span, rows, scores);
            for (long i = 0; i < rows; i++)
                inverse[i] = 1.0f / take_powers(scores + i * span, a->keys - a->length + first + i + 1, count, a->scale);
            combine((Left){scores, span, 1}, values, count, width, rows, inverse,
                    a->out + place(a, Y, row, head, first), a->strides[Y + 2]);
        }
}

/* Positions of `to`, `stride` apart, += factors' (count, rows) times rows of the right factor, of `width` numbers. */
VECTORS static void add_transposed(const float *factors, long span, Right right, long rows, long count, long width,
                                   float *to, long stride) {
    for (long d = 0; d < width; d += PANEL)
        add_rows(to + d, stride, (Left){factors, 1, span}, (Right){right.from + d, right.step}, rows, count);
}

VECTORS static void clear_positions(float *x, long stride, long positions, long width) {
    for (long position = 0; position < positions; position++)
        memset(x + position * stride, 0, (size_t)width * sizeof *x);
}

VECTORS static void attend_back_part(const Attention *a, float *memory, long row, long group) {
    long per_group = a->heads / a->shared, width = a->width, span = panels_of(a->keys) * PANEL;
    float *keys = memory, *values = keys + span * width, *scores = values + span * width;
    float *slopes = scores + QUERIES * span;
    const float *first_key = a->k + place(a, K, row, group, 0), *first_value = a->v + place(a, V, row, group, 0);
    float *grad_k = a->grad_k + place(a, GRAD_K, row, group, 0), *grad_v = a->grad_v + place(a, GRAD_V, row, group, 0);
    pack_columns(first_key, a->strides[K + 2], a->keys, width, keys, 0, panels_of(a->keys));
    pack_columns(first_value, a->strides[V + 2], a->keys, width, values, 0, panels_of(a->keys));
    clear_positions(grad_k, a->strides[GRAD_K + 2], a->keys, width);
    clear_positions(grad_v, a->strides[GRAD_V + 2], a->keys, width);
    for (long head = group * per_group; head < (group + 1) * per_group; head++)
        for (long first = 0; first < a->length; first += QUERIES) {
            long rows = smaller(QUERIES, a->length - first), count = a->keys - a->length + first + rows;
            Left queries = {a->q + place(a, Q, row, head, first), a->strides[Q + 2], 1};
            Left gradients = {a->g + place(a, G, row, head, first), a->strides[G + 2], 1};
            product_with_positions(queries, keys, width, count, span, rows, scores);
            product_with_positions(gradients, values, width, count, span, rows, slopes);
            for (long i = 0; i < rows; i++) {
                long seen = a->keys - a->length + first + i + 1;
                const float *y = a->y + place(a, Y, row, head, first + i), *g = gradients.from + i * gradients.row;
                __m256 along = _mm256_setzero_ps(), scale = _mm256_set1_ps(a->scale);
                for (long e = 0; e < width; e += LANES)
                    along = _mm256_fmadd_ps(_mm256_loadu_ps(y + e), _mm256_loadu_ps(g + e), along);
                along = _mm256_set1_ps(sum_of(along));
                /* Powers from the logarithm of their sum would carry its rounding error, which is large for high scores. */
                __m256 inverse = _mm256_set1_ps(1.0f / take_powers(scores + i * span, seen, count, a->scale));
                for (long key = 0; key < count; key += LANES) {
                    float *s = scores + i * span + key, *d = slopes + i * span + key;
                    __m256 power = _mm256_mul_ps(inverse, _mm256_loadu_ps(s));
                    __m256 slope = _mm256_mul_ps(_mm256_mul_ps(power, scale), _mm256_sub_ps(_mm256_loadu_ps(d), along));
                    _mm256_storeu_ps(s, power);
                    _mm256_storeu_ps(d, _mm256_and_ps(seen_lanes(seen, key), slope));
                }
            }
            combine((Left){slopes, span, 1}, (Right){first_key, a->strides[K + 2]}, count, width, rows, NULL,
                    a->grad_q + place(a, GRAD_Q, row, head, first), a->strides[GRAD_Q + 2]);
            add_transposed(slopes, span, (Right){queries.from, queries.row}, rows, count, width, grad_k,
                           a->strides[GRAD_K + 2]);
            add_transposed(scores, span, (Right){gradients.from, gradients.row}, rows, count, width, grad_v,
                           a->strides[GRAD_V + 2]);
        }
}

static void attention_groups(const Attention *a, int back, long from, long to) {
    long span = panels_of(a->keys) * PANEL, numbers = span * (back ? 2 * (a->width + QUERIES) : a->width + QUERIES);
    float *memory = scratch(ATTENTION, (size_t)numbers * sizeof *memory);
    if (!memory) return;
    for (long item = from; item < to; item++)
        (back ? attend_back_part : attend_part)(a, memory, item / a->shared, item % a->shared);
}

enum { MOST_HEADS = 4 }; /* whose sums fit in registers */

/* Powers (heads, keys) of the heads that share these keys; returns the inverse of their sums in `inverse`. */
VECTORS static void powers_of_new(const float *q, const float *k, long stride, long heads, long width, long keys,
                                  float scale, float *powers, float *inverse) {
    for (long key = 0; key < keys; key++)
        for (long head = 0; head < heads; head++) {
            __m256 sum = _mm256_setzero_ps();
            for (long d = 0; d < width; d += LANES)
                sum = _mm256_fmadd_ps(_mm256_loadu_ps(q + head * width + d), _mm256_loadu_ps(k + key * stride + d), sum);
            powers[head * keys + key] = sum_of(sum);
        }
    for (long head = 0; head < heads; head++) {
        float *p = powers + head * keys, top = -3.0e38f, total = 0.0f;
        for (long key = 0; key < keys; key++) top = p[key] > top ? p[key] : top;
        for (long key = 0; key < keys; key += LANES) {
            ALIGNED float eight[LANES] = {0};
            long count = smaller(LANES, keys - key);
            for (long i = 0; i < count; i++) eight[i] = (p[key + i] - top) * scale;
            _mm256_store_ps(eight, exponential(_mm256_load_ps(eight)));
            for (long i = 0; i < count; i++) total += p[key + i] = eight[i];
        }
        inverse[head] = 1.0f / total;
    }
}

VECTORS static void attend_new(const NewQueries *a, long from, long to) {
    long per_group = a->heads / a->shared, width = a->width;
    for (long item = from; item < to; item++) {
        long row = item / a->shared, group = item % a->shared, start = a->starts[row], keys = a->keys - start;
        const float *q = a->q + (row * a->heads + group * per_group) * width;
        const float *k = a->k + row * a->strides[0] + group * a->strides[1] + start * a->strides[2];
        const float *v = a->v + row * a->strides[3] + group * a->strides[4] + start * a->strides[5];
        float *y = a->y + (row * a->heads + group * per_group) * width;
        float *powers = scratch(SCORES, (size_t)((keys + 1) * per_group) * sizeof *powers);
        if (!powers) break;
        float *inverse = powers + keys * per_group;
        powers_of_new(q, k, a->strides[2], per_group, width, keys, a->scale, powers, inverse);
        for (long head = 0; head < per_group; head += MOST_HEADS)
            for (long d = 0; d < width; d += PANEL) {
                ALIGNED float sums[MOST_HEADS * PANEL] = {0};
                long rows = smaller(MOST_HEADS, per_group - head);
                add_rows(sums, PANEL, (Left){powers + head * keys, keys, 1}, (Right){v + d, a->strides[5]}, keys, rows);
                for (long h = 0; h < rows; h++)
                    for (long half = 0; half < PANEL; half += LANES)
                        _mm256_storeu_ps(y + (head + h) * width + d + half,
                                         _mm256_mul_ps(_mm256_set1_ps(inverse[head + h]),
                                                       _mm256_load_ps(sums + h * PANEL + half)));
            }
    }
}

#include "exports.h"

#else

long kernels_start(long most) {
    (void)most;
    return 0;
}

#endif
