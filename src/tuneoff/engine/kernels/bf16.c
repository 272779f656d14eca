/* Products of bfloat16 matrices on x86 processors that multiply them fast, for linear layers and their gradients: by
 * matrix units (AMX), or without them by AVX-512's instruction for bfloat16.
 *
 * A tile of AMX has 16 rows of 64 bytes. One instruction adds the product of a tile of 16 x 32 numbers and one of
 * 32 x 16 numbers to a tile of 16 x 16 floats. The right factor is read in pairs: row r of its tile holds the numbers of
 * rows 2r and 2r + 1 of the matrix, side by side for each column. AVX-512 adds the products of one such row and of one
 * pair of the left factor to 16 floats. A matrix in that order is called packed here:
 *
 *   panel of 32 columns > block of 32 rows > two tiles of 16 columns > 16 rows of pairs.
 *
 * A block of 32 x 32 results is summed in four tiles, or in registers for 8 of its rows, in the order of the rows of the
 * right factor, so results do not depend on the number of threads. Sums are in float and are rounded once, to nearest
 * even, when they are stored.
 *
 * All widths are multiples of 32; only the number of tokens is arbitrary. The formulas are in packed_layers.py.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Version checked by packed_layers.py. Raise it here and there whenever the name or arguments of a function change. */
#define INTERFACE 3

long kernels_interface(void) { return INTERFACE; }

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint16_t bfloat16, number;

#include "shared.h"

#define UNITS                                                                                        \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16,fma,f16c"), \
                   optimize("no-tree-loop-distribute-patterns")))

enum { BLOCK = 32, PACKED_BLOCK = 1024, STEP = BLOCK };
/* Bytes of the left factor that should stay in the second-level cache while the right factor passes. */
enum { LEFT_BYTES = 384 * 1024 };

/* What `kernels_start` returns. */
enum { NOTHING, VECTORS, TILES };

/* How products are computed; tiles only where `configure` and `release` are called around them. */
static int with_tiles;

/* The best that this processor has, but at most `most`. */
long kernels_start(long most) {
    with_tiles = 0;
    if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512bw")) return NOTHING;
    if (!__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) return NOTHING;
    if (most < TILES || !__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16")) return VECTORS;
    /* Linux keeps the state of the tiles for a process only after it has asked for it; later threads inherit it. */
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    with_tiles = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    return with_tiles ? TILES : VECTORS;
}

UNITS static inline void configure(void) {
    if (!with_tiles) return;
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } tiles ALIGNED;
    memset(&tiles, 0, sizeof tiles);
    tiles.palette = 1;
    for (int tile = 0; tile < 8; tile++) tiles.row_bytes[tile] = 64, tiles.rows[tile] = 16;
    /* Not _tile_loadconfig: GCC before 12.4 takes it to read the first 8 bytes alone. */
    __asm__ volatile("ldtilecfg %0" : : "m"(tiles) : "memory");
}

UNITS static inline void release(void) {
    if (with_tiles) _tile_release();
}

/* GCC's own _tile_loadd does not say that it reads memory, so earlier stores could be left out or moved behind it. */
#define LOAD_TILE(tile, from, stride)                                                                    \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"((long)(stride)) : "memory")

static inline long blocks_of(long count) { return (count + BLOCK - 1) / BLOCK; }

/* ---- packing ---- */

/* 16 rows of 16 double words become 16 columns. */
UNITS static inline void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* One packed block of a matrix whose COLUMNS lie in memory: column c begins at x + c * stride and has `rows` numbers. */
UNITS static inline void pack_columns(const bfloat16 *x, long stride, long columns, long rows, bfloat16 *out) {
    __mmask32 here = rows >= 32 ? ~0u : (1u << rows) - 1;
    for (long half = 0; half < 2; half++) {
        __m512i r[16];
        for (long c = 0; c < 16; c++) {
            long column = half * 16 + c;
            r[c] = column < columns ? _mm512_maskz_loadu_epi16(here, x + column * stride) : _mm512_setzero_si512();
        }
        transpose(r);
        for (long i = 0; i < 16; i++) _mm512_storeu_si512(out + half * 512 + i * 32, r[i]);
    }
}

UNITS static inline __m512i first_pairs(void) {
    ALIGNED uint16_t index[32];
    for (int i = 0; i < 16; i++) index[2 * i] = (uint16_t)i, index[2 * i + 1] = (uint16_t)(32 + i);
    return _mm512_load_si512(index);
}

/* One packed block of a matrix whose ROWS lie in memory, 32 numbers each. Rows from `rows` on are zeros. `kept`, if
 * given, has a bit for each number of a row, `kept_stride` bytes from row to row; numbers without it are zeros. */
UNITS static inline void pack_rows(const bfloat16 *x, long stride, long rows, const uint8_t *kept, long kept_stride,
                                   bfloat16 *out) {
    __m512i low = first_pairs(), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (long i = 0; i < 16; i++) {
        __m512i pair[2];
        for (long j = 0; j < 2; j++) {
            long row = 2 * i + j;
            uint32_t bits = ~0u;
            if (kept && row < rows) memcpy(&bits, kept + row * kept_stride, sizeof bits);
            pair[j] = row < rows ? _mm512_maskz_loadu_epi16(bits, x + row * stride) : _mm512_setzero_si512();
        }
        _mm512_storeu_si512(out + i * 32, _mm512_permutex2var_epi16(pair[0], low, pair[1]));
        _mm512_storeu_si512(out + 512 + i * 32, _mm512_permutex2var_epi16(pair[0], high, pair[1]));
    }
}

/* Two left tiles, columns 0..15 and 16..31 of 32 rows in memory as their rows: a packed block, transposed. */
UNITS static inline void transpose_packed(const bfloat16 *packed, bfloat16 *out) {
    for (long half = 0; half < 2; half++) {
        __m512i r[16];
        for (long i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(packed + half * 512 + i * 32);
        transpose(r);
        for (long i = 0; i < 16; i++) _mm512_storeu_si512(out + half * 512 + i * 32, r[i]);
    }
}

/* The right factor whose column c is row c of `x` (columns, rows): the weights of a layer, for its output. */
UNITS static void pack_weights_part(const bfloat16 *x, bfloat16 *out, long columns, long rows, long from, long to) {
    for (long panel = from; panel < to; panel++)
        for (long block = 0; block < blocks_of(rows); block++)
            pack_columns(x + panel * BLOCK * rows + block * BLOCK, rows, columns - panel * BLOCK, rows - block * BLOCK,
                         out + (panel * blocks_of(rows) + block) * PACKED_BLOCK);
}

long pack_weights(const bfloat16 *x, bfloat16 *out, long columns, long rows, long threads) {
    FOR_EACH_THREAD(blocks_of(columns), threads, pack_weights_part(x, out, columns, rows, from, to));
    return finish();
}

/* The right factor `x` (rows, columns) as it is: the weights of a layer, for the gradient of its input. */
UNITS static void pack_transposed_part(const bfloat16 *x, bfloat16 *out, long rows, long columns, long from, long to) {
    for (long panel = from; panel < to; panel++)
        for (long block = 0; block < blocks_of(rows); block++)
            pack_rows(x + block * BLOCK * columns + panel * BLOCK, columns, rows - block * BLOCK, NULL, 0,
                      out + (panel * blocks_of(rows) + block) * PACKED_BLOCK);
}

long pack_transposed(const bfloat16 *x, bfloat16 *out, long rows, long columns, long threads) {
    FOR_EACH_THREAD(columns / BLOCK, threads, pack_transposed_part(x, out, rows, columns, from, to));
    return finish();
}

/* ---- products ---- */

/* e^x, as exact as a float: see exponential() of fused.c. x is clamped to [-87, 88], and NaN stays NaN. */
UNITS static inline __m512 exponential(__m512 x) {
    x = _mm512_min_ps(_mm512_set1_ps(88.0f), _mm512_max_ps(_mm512_set1_ps(-87.0f), x)); /* of NaN, the second factor */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
    __m512 series = _mm512_set1_ps(1.0f / 5040.0f);
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 720.0f));
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 120.0f));
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 24.0f));
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 6.0f));
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(0.5f));
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f));
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(series, n);
}

/* Products add to sums: 32 rows of 32 floats. With tiles these are in tiles 0 to 3 until `take_sums`, so only one such
 * block is computed at a time. */
UNITS static inline void clear_sums(float *sums) {
    if (with_tiles) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        for (long i = 0; i < 1024; i += 16) _mm512_store_ps(sums + i, _mm512_setzero_ps());
    }
}

/* Sums go to `out`, whose rows are `stride` floats apart. */
UNITS static inline void move_sums(const float *sums, float *out, long stride) {
    if (with_tiles) {
        _tile_stored(0, out, stride * 4);
        _tile_stored(1, out + 16, stride * 4);
        _tile_stored(2, out + 16 * stride, stride * 4);
        _tile_stored(3, out + 16 * stride + 16, stride * 4);
    } else {
        for (long row = 0; row < BLOCK; row++, sums += BLOCK, out += stride) {
            _mm512_storeu_ps(out, _mm512_load_ps(sums));
            _mm512_storeu_ps(out + 16, _mm512_load_ps(sums + 16));
        }
    }
}

UNITS static inline void take_sums(float *sums) {
    if (with_tiles) move_sums(sums, sums, BLOCK);
}

/* What is prefetched while tiles are multiplied: a part of the next panel, and the lines of the results and of what is
 * added to them, which lie so far apart that the processor does not prefetch them itself. */
typedef struct {
    const char *panel;
    long lines; /* of the panel, in each step of BLOCK rows */
    const bfloat16 *y, *residual; /* the next row; residual may be NULL */
    long columns, rows; /* of y and residual; rows: those left */
} Prefetch;

enum { LINE = 64 }; /* bytes */

UNITS static inline void prefetch(Prefetch *ahead) {
    for (long line = 0; line < ahead->lines; line++, ahead->panel += LINE) __builtin_prefetch(ahead->panel, 0, 2);
    for (long row = 0; row < 2 && ahead->rows > 0; row++, ahead->rows--) {
        __builtin_prefetch(ahead->y, 1);
        ahead->y += ahead->columns;
        if (!ahead->residual) continue;
        __builtin_prefetch(ahead->residual);
        ahead->residual += ahead->columns;
    }
}

UNITS static inline void add_by_tiles(const bfloat16 *left, long stride, const bfloat16 *panel, long width, long rows,
                                      Prefetch *ahead) {
    const bfloat16 *below = left + 16 * stride;
    for (long k = 0; k < width; k += BLOCK, panel += PACKED_BLOCK) {
        LOAD_TILE(4, left + k, stride * 2);
        LOAD_TILE(6, panel, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (ahead) prefetch(ahead);
        LOAD_TILE(7, panel + 512, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (rows <= 16) continue;
        LOAD_TILE(5, below + k, stride * 2);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

/* The sums of 8 rows are in 16 registers: as many additions as are under way at a time. */
enum { VECTOR_ROWS = 8 };

UNITS static inline void add_by_vectors(float *sums, const bfloat16 *left, long stride, const bfloat16 *panel,
                                        long width) {
    __m512 low[VECTOR_ROWS], high[VECTOR_ROWS];
    for (int row = 0; row < VECTOR_ROWS; row++)
        low[row] = _mm512_load_ps(sums + row * 32), high[row] = _mm512_load_ps(sums + row * 32 + 16);
    for (long k = 0; k < width; k += BLOCK, panel += PACKED_BLOCK)
        for (int pair = 0; pair < 16; pair++) {
            __m512bh first = (__m512bh)_mm512_loadu_si512(panel + pair * 32);
            __m512bh second = (__m512bh)_mm512_loadu_si512(panel + 512 + pair * 32);
            _Pragma("GCC unroll 8") for (int row = 0; row < VECTOR_ROWS; row++) {
                int32_t numbers;
                memcpy(&numbers, left + row * stride + k + 2 * pair, sizeof numbers);
                __m512bh both = (__m512bh)_mm512_set1_epi32(numbers);
                low[row] = _mm512_dpbf16_ps(low[row], both, first);
                high[row] = _mm512_dpbf16_ps(high[row], both, second);
            }
        }
    for (int row = 0; row < VECTOR_ROWS; row++)
        _mm512_store_ps(sums + row * 32, low[row]), _mm512_store_ps(sums + row * 32 + 16, high[row]);
}

/* sums += the left factor times one packed panel. Of 32 rows in memory, at least the first `rows` are computed. `ahead`
 * may be NULL; without tiles it is not used. */
UNITS static inline void add_product(float *sums, const bfloat16 *left, long stride, const bfloat16 *panel, long width,
                                     long rows, Prefetch *ahead) {
    if (with_tiles)
        add_by_tiles(left, stride, panel, width, rows, ahead);
    else
        for (long row = 0; row < smaller(BLOCK, rows); row += VECTOR_ROWS)
            add_by_vectors(sums + row * 32, left + row * stride, stride, panel, width);
}

UNITS static inline __m512i rounded(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

UNITS static inline __m512 widened(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

/* 32 rows of `x`, of which `rows` exist: as they are, or a copy with zeros. With `kept`, a copy without what is dropped
 * (see pack_rows). The copy is in `copy`, 32 rows of `width`. */
UNITS static const bfloat16 *left_rows(const bfloat16 *x, long width, long rows, const uint8_t *kept, bfloat16 *copy) {
    if (rows >= BLOCK && !kept) return x;
    for (long row = 0; row < BLOCK; row++)
        for (long k = 0; k < width; k += BLOCK) {
            uint32_t bits = ~0u;
            if (kept && row < rows) memcpy(&bits, kept + (row * width + k) / 8, sizeof bits);
            __m512i value = row < rows ? _mm512_maskz_loadu_epi16(bits, x + row * width + k) : _mm512_setzero_si512();
            _mm512_storeu_si512(copy + row * width + k, value);
        }
    return copy;
}

/* What a product of `tokens` rows is made of: y = residual + x w + bias + (kept) scale * narrow a. */
typedef struct {
    const bfloat16 *x, *weights; /* x (tokens, rows); weights packed (rows, columns) */
    const bfloat16 *bias;        /* (columns), or NULL */
    const bfloat16 *narrow, *narrow_weights; /* (tokens, rank) and packed (rank, columns), or NULL */
    const uint8_t *kept;    /* a bit for each number of y: where the narrow product is added. NULL: everywhere */
    float scale;            /* of the narrow product where `kept` is given */
    const bfloat16 *residual; /* (tokens, columns), which may be y itself; or NULL */
    bfloat16 *y;            /* (tokens, columns) */
    long tokens, rows, columns, rank;
} Product;

UNITS static inline void store_block(const Product *p, long token, long column, const float *sums, const float *added) {
    long rows = smaller(BLOCK, p->tokens - token);
    __m512 bias_low = _mm512_setzero_ps(), bias_high = bias_low;
    if (p->bias) {
        bias_low = widened(_mm256_loadu_si256((const __m256i *)(p->bias + column)));
        bias_high = widened(_mm256_loadu_si256((const __m256i *)(p->bias + column + 16)));
    }
    __m512 scale = _mm512_set1_ps(p->scale);
    for (long row = 0; row < rows; row++) {
        long at = (token + row) * p->columns + column;
        __m512 low = _mm512_load_ps(sums + row * 32), high = _mm512_load_ps(sums + row * 32 + 16);
        if (added) {
            uint32_t bits;
            memcpy(&bits, p->kept + at / 8, sizeof bits);
            low = _mm512_mask3_fmadd_ps(_mm512_load_ps(added + row * 32), scale, low, (__mmask16)bits);
            high = _mm512_mask3_fmadd_ps(_mm512_load_ps(added + row * 32 + 16), scale, high, (__mmask16)(bits >> 16));
        }
        if (p->bias) low = _mm512_add_ps(low, bias_low), high = _mm512_add_ps(high, bias_high);
        if (p->residual) {
            low = _mm512_add_ps(low, widened(_mm256_loadu_si256((const __m256i *)(p->residual + at))));
            high = _mm512_add_ps(high, widened(_mm256_loadu_si256((const __m256i *)(p->residual + at + 16))));
        }
        _mm512_storeu_si512(p->y + at, rounded(low, high));
    }
}

/* Token blocks `from` to `to`, panels of columns `start` to `stop`. */
UNITS static void multiply_part(const Product *p, long from, long to, long start, long stop) {
    ALIGNED float sums[1024], added[1024];
    long steps = blocks_of(p->rows), group = LEFT_BYTES / (p->rows * 2 * BLOCK);
    group = group < 1 ? 1 : group;
    bfloat16 *copy = scratch(COPY, (size_t)(p->rows + p->rank) * BLOCK * sizeof *copy);
    if (!copy) return;
    configure();
    for (long first = from; first < to; first += group) {
        long end = smaller(first + group, to);
        for (long column = start * BLOCK; column < stop * BLOCK; column += BLOCK) {
            const bfloat16 *panel = p->weights + column * steps * BLOCK;
            const bfloat16 *narrow_panel = p->narrow ? p->narrow_weights + column * p->rank : NULL;
            const char *next_panel = (const char *)(panel + steps * PACKED_BLOCK);
            /* Each block fetches an equal part of the next panel. */
            long of_step = PACKED_BLOCK * sizeof *panel / LINE, blocks = end - first;
            long lines = column + BLOCK < stop * BLOCK ? (of_step + blocks - 1) / blocks : 0;
            for (long block = first; block < end; block++) {
                long token = block * BLOCK, rows = p->tokens - token;
                const bfloat16 *left = left_rows(p->x + token * p->rows, p->rows, rows, NULL, copy);
                int apart = narrow_panel && p->kept;
                Prefetch ahead = {.panel = next_panel + (block - first) * steps * lines * LINE, .lines = lines,
                               .y = p->y + token * p->columns + column, .columns = p->columns,
                               .residual = p->residual ? p->residual + token * p->columns + column : NULL,
                               .rows = smaller(BLOCK, rows)};
                clear_sums(sums);
                add_product(sums, left, p->rows, panel, p->rows, rows, &ahead);
                if (apart) {
                    take_sums(sums);
                    clear_sums(added);
                }
                if (narrow_panel) {
                    left = left_rows(p->narrow + token * p->rank, p->rank, rows, NULL, copy + p->rows * BLOCK);
                    add_product(apart ? added : sums, left, p->rank, narrow_panel, p->rank, rows, NULL);
                }
                take_sums(apart ? added : sums);
                store_block(p, token, column, sums, apart ? added : NULL);
            }
        }
    }
    release();
}

/* narrow = scale * x w, where x (tokens, rows) may have dropped numbers, and w is packed (rows, rank). */
UNITS static void narrow_part(const bfloat16 *x, const uint8_t *kept, const bfloat16 *weights, float scale,
                              bfloat16 *narrow, long tokens, long rows, long rank, long from, long to) {
    ALIGNED float sums[1024];
    bfloat16 *copy = scratch(COPY, (size_t)rows * BLOCK * sizeof *copy);
    if (!copy) return;
    __m512 factor = _mm512_set1_ps(scale);
    configure();
    for (long block = from; block < to; block++) {
        long token = block * BLOCK, count = smaller(BLOCK, tokens - token);
        const uint8_t *bits = kept ? kept + token * rows / 8 : NULL;
        const bfloat16 *left = left_rows(x + token * rows, rows, tokens - token, bits, copy);
        for (long column = 0; column < rank; column += BLOCK) {
            clear_sums(sums);
            add_product(sums, left, rows, weights + column * rows, rows, count, NULL);
            take_sums(sums);
            for (long row = 0; row < count; row++) {
                __m512 low = _mm512_mul_ps(_mm512_load_ps(sums + row * 32), factor);
                __m512 high = _mm512_mul_ps(_mm512_load_ps(sums + row * 32 + 16), factor);
                _mm512_storeu_si512(narrow + (token + row) * rank + column, rounded(low, high));
            }
        }
    }
    release();
}

/* sums (rank, columns) of float = scale * narrow' x over all tokens. `transposed` is narrow' in left tiles. Columns are
 * divided among the threads. */
UNITS static void narrow_gradient_part(const bfloat16 *transposed, const bfloat16 *x, const uint8_t *kept, float scale,
                                       bfloat16 *gradient, long by_column, long tokens, long columns, long rank,
                                       long real_rank, long from, long to) {
    ALIGNED float sums[1024];
    ALIGNED bfloat16 packed[2 * PACKED_BLOCK];
    long blocks = blocks_of(tokens);
    configure();
    for (long panel = from; panel < to; panel++)
        for (long first = 0; first < real_rank; first += BLOCK) {
            long column = panel * BLOCK;
            clear_sums(sums);
            for (long block = 0; block < blocks; block++) {
                long token = block * BLOCK;
                const uint8_t *bits = kept ? kept + (token * columns + column) / 8 : NULL;
                bfloat16 *here = packed + (block & 1) * PACKED_BLOCK;
                pack_rows(x + token * columns + column, columns, tokens - token, bits, columns / 8, here);
                const bfloat16 *left = transposed + (block * rank + first) * BLOCK;
                add_product(sums, left, BLOCK, here, BLOCK, real_rank - first, NULL);
            }
            take_sums(sums);
            __m512 factor = _mm512_set1_ps(scale);
            ALIGNED bfloat16 row[32];
            for (long i = 0; i < smaller(BLOCK, real_rank - first); i++) {
                __m512 low = _mm512_mul_ps(_mm512_load_ps(sums + i * 32), factor);
                __m512 high = _mm512_mul_ps(_mm512_load_ps(sums + i * 32 + 16), factor);
                _mm512_store_si512(row, rounded(low, high));
                if (by_column)
                    for (long c = 0; c < BLOCK; c++) gradient[(column + c) * real_rank + first + i] = row[c];
                else
                    memcpy(gradient + (first + i) * columns + column, row, sizeof row);
            }
        }
    release();
}

/* Left tiles of narrow' : for each block of 32 tokens, `rank` rows of 32 tokens. */
UNITS static void transpose_narrow_part(const bfloat16 *narrow, bfloat16 *transposed, long tokens, long rank, long from, long to) {
    ALIGNED bfloat16 packed[PACKED_BLOCK];
    for (long block = from; block < to; block++)
        for (long first = 0; first < rank; first += BLOCK) {
            pack_rows(narrow + block * BLOCK * rank + first, rank, tokens - block * BLOCK, NULL, 0, packed);
            transpose_packed(packed, transposed + (block * rank + first) * BLOCK);
        }
}

/* All of a product. With few tokens the threads divide the weights, which then take longer to read than to multiply. */
static void multiply(const Product *p, long threads) {
    long blocks = blocks_of(p->tokens), panels = p->columns / BLOCK;
    if (blocks < 2 * threads)
        FOR_EACH_THREAD(panels, smaller(threads, panels), multiply_part(p, 0, blocks, from, to));
    else
        FOR_EACH_THREAD(blocks, threads, multiply_part(p, from, to, 0, panels));
}

/* y (tokens, columns) = residual + x (tokens, rows) w + bias, with packed weights. */
long linear(const bfloat16 *x, const bfloat16 *weights, const bfloat16 *bias, const bfloat16 *residual, bfloat16 *y,
            long tokens, long rows, long columns, long threads) {
    Product p = {.x = x, .weights = weights, .bias = bias, .residual = residual, .y = y,
                 .tokens = tokens, .rows = rows, .columns = columns};
    multiply(&p, threads);
    return finish();
}

/* y = residual + x w + bias + narrow b, narrow = scale * (kept x) a. a (real_rank, rows) and b (columns, real_rank) are
 * plain. */
long low_rank(const bfloat16 *x, const bfloat16 *weights, const bfloat16 *bias, const bfloat16 *a, const bfloat16 *b,
              const uint8_t *kept, float scale, const bfloat16 *residual, bfloat16 *y, bfloat16 *narrow,
              long tokens, long rows, long columns, long real_rank, long threads) {
    long rank = blocks_of(real_rank) * BLOCK, blocks = blocks_of(tokens);
    bfloat16 *packed_a = scratch(PACKED_FACTORS, (size_t)(rows + columns) * rank * sizeof *packed_a);
    if (!packed_a) return finish();
    bfloat16 *packed_b = packed_a + rows * rank;
    pack_weights_part(a, packed_a, real_rank, rows, 0, blocks_of(real_rank));
    pack_weights_part(b, packed_b, columns, real_rank, 0, blocks_of(columns));
    Product p = {.x = x, .weights = weights, .bias = bias, .narrow = narrow, .narrow_weights = packed_b,
                 .residual = residual, .y = y, .tokens = tokens, .rows = rows, .columns = columns, .rank = rank};
    FOR_EACH_THREAD(blocks, smaller(threads, blocks),
                    narrow_part(x, kept, packed_a, scale, narrow, tokens, rows, rank, from, to));
    multiply(&p, threads);
    return finish();
}

/* Gradients of `low_rank`, where `weights` is now packed (columns, rows) and `narrow` (tokens, rank) was kept:
 *   back = g b,  grad_x = residual + g w + (kept) scale * back a,  grad_a = scale * back' (kept x),  grad_b = g' narrow.
 * grad_x may be NULL. */
long low_rank_back(const bfloat16 *g, const bfloat16 *x, const bfloat16 *weights, const bfloat16 *a, const bfloat16 *b,
                   const uint8_t *kept, float scale, const bfloat16 *narrow, const bfloat16 *residual, bfloat16 *grad_x,
                   bfloat16 *grad_a, bfloat16 *grad_b, long tokens, long rows, long columns, long real_rank,
                   long threads) {
    long rank = blocks_of(real_rank) * BLOCK, blocks = blocks_of(tokens), padded = blocks * BLOCK;
    size_t size = (size_t)(rows + columns + 3 * padded) * rank * sizeof(bfloat16);
    bfloat16 *packed_a = scratch(PACKED_FACTORS, size), *packed_b = packed_a + rows * rank;
    if (!packed_a) return finish();
    bfloat16 *back = packed_b + columns * rank, *transposed = back + padded * rank, *back_transposed = transposed + padded * rank;
    pack_transposed_part(a, packed_a, real_rank, rows, 0, rows / BLOCK);
    /* b (columns, real_rank) as it is; its rows are shorter than a block where the rank is no multiple of 32 */
    for (long block = 0; block < columns / BLOCK; block++)
        for (long first = 0; first < rank; first += BLOCK) {
            ALIGNED bfloat16 rows_of_b[PACKED_BLOCK] = {0};
            for (long row = 0; row < BLOCK; row++)
                memcpy(rows_of_b + row * BLOCK, b + (block * BLOCK + row) * real_rank + first,
                       (size_t)smaller(BLOCK, real_rank - first) * sizeof *b);
            pack_rows(rows_of_b, BLOCK, BLOCK, NULL, 0,
                      packed_b + (first / BLOCK * (columns / BLOCK) + block) * PACKED_BLOCK);
        }
    Product p = {.x = g, .weights = weights, .narrow = back, .narrow_weights = packed_a, .kept = kept, .scale = scale,
                 .residual = residual, .y = grad_x, .tokens = tokens, .rows = columns, .columns = rows, .rank = rank};
    float forward_scale = kept ? 1.0f : scale; /* without dropout the scale is part of `back` */
    FOR_EACH_THREAD(blocks, smaller(threads, blocks), {
        narrow_part(g, NULL, packed_b, forward_scale, back, tokens, columns, rank, from, to);
        transpose_narrow_part(narrow, transposed, tokens, rank, from, to);
        transpose_narrow_part(back, back_transposed, tokens, rank, from, to);
    });
    if (grad_x) multiply(&p, threads);
    FOR_EACH_THREAD((rows + columns) / BLOCK, threads, {
        long split = columns / BLOCK;
        narrow_gradient_part(transposed, g, NULL, 1.0f, grad_b, 1, tokens, columns, rank, real_rank, smaller(from, split),
                             smaller(to, split));
        narrow_gradient_part(back_transposed, x, kept, kept ? scale : 1.0f, grad_a, 0, tokens, rows, rank, real_rank,
                             from > split ? from - split : 0, to > split ? to - split : 0);
    });
    return finish();
}

/* gradient (columns, rows) = g' x for g (tokens, columns) and x (tokens, rows). */
UNITS static void transpose_gradient_part(const bfloat16 *g, bfloat16 *transposed, long tokens, long columns, long from, long to) {
    ALIGNED bfloat16 packed[PACKED_BLOCK], tiles[PACKED_BLOCK];
    long width = blocks_of(tokens) * BLOCK;
    for (long panel = from; panel < to; panel++)
        for (long block = 0; block < blocks_of(tokens); block++) {
            pack_rows(g + block * BLOCK * columns + panel * BLOCK, columns, tokens - block * BLOCK, NULL, 0, packed);
            transpose_packed(packed, tiles);
            for (long row = 0; row < BLOCK; row++)
                _mm512_storeu_si512(transposed + (panel * BLOCK + row) * width + block * BLOCK,
                                    _mm512_load_si512(tiles + row * BLOCK));
        }
}

long weight_gradient(const bfloat16 *g, const bfloat16 *x, bfloat16 *gradient, long tokens, long rows, long columns,
                     long threads) {
    long width = blocks_of(tokens) * BLOCK;
    bfloat16 *transposed = scratch(TURNED, (size_t)(rows + columns) * width * sizeof *transposed);
    if (!transposed) return finish();
    bfloat16 *packed = transposed + columns * width;
    FOR_EACH_THREAD(columns / BLOCK, threads, transpose_gradient_part(g, transposed, tokens, columns, from, to));
    FOR_EACH_THREAD(rows / BLOCK, threads, pack_transposed_part(x, packed, tokens, rows, from, to));
    Product p = {.x = transposed, .weights = packed, .y = gradient, .tokens = columns, .rows = width, .columns = rows};
    multiply(&p, threads);
    return finish();
}

/* ---- the gate of SwiGLU ---- */

/* 1 / (1 + e^-x) to 23 bits: one step of Newton's method after an estimate, because a division takes 16 cycles. */
UNITS static inline __m512 sigmoid(__m512 x) {
    __m512 sum = _mm512_add_ps(_mm512_set1_ps(1.0f), exponential(_mm512_sub_ps(_mm512_setzero_ps(), x)));
    __m512 guess = _mm512_rcp14_ps(sum);
    guess = _mm512_mul_ps(guess, _mm512_fnmadd_ps(sum, guess, _mm512_set1_ps(2.0f)));
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ), guess);
}

UNITS static inline __m512 widened_at(const bfloat16 *x) { return widened(_mm256_loadu_si256((const __m256i *)x)); }

/* Rounded at the same steps as `gate` of fused.c. */
UNITS static void gate_part(const bfloat16 *gate, const bfloat16 *up, bfloat16 *y, long from, long to) {
    for (long i = from * BLOCK; i < to * BLOCK; i += BLOCK) {
        __m512 product[2];
        for (int half = 0; half < 2; half++) {
            __m512 g = widened_at(gate + i + 16 * half);
            __m512 silu = widened((__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(g, sigmoid(g))));
            product[half] = _mm512_mul_ps(silu, widened_at(up + i + 16 * half));
        }
        _mm512_storeu_si512(y + i, rounded(product[0], product[1]));
    }
}

UNITS static void gate_back_part(const bfloat16 *gradient, const bfloat16 *gate, const bfloat16 *up,
                                 bfloat16 *grad_gate, bfloat16 *grad_up, long from, long to) {
    __m512 one = _mm512_set1_ps(1.0f);
    for (long i = from * BLOCK; i < to * BLOCK; i += BLOCK) {
        __m512 first[2], second[2];
        for (int half = 0; half < 2; half++) {
            __m512 g = widened_at(gate + i + 16 * half), d = widened_at(gradient + i + 16 * half), s = sigmoid(g);
            __m512 slope = _mm512_mul_ps(s, _mm512_fmadd_ps(g, _mm512_sub_ps(one, s), one));
            first[half] = _mm512_mul_ps(_mm512_mul_ps(d, widened_at(up + i + 16 * half)), slope);
            second[half] = _mm512_mul_ps(_mm512_mul_ps(d, g), s);
        }
        _mm512_storeu_si512(grad_gate + i, rounded(first[0], first[1]));
        _mm512_storeu_si512(grad_up + i, rounded(second[0], second[1]));
    }
}

/* ---- RMSNorm ---- */

UNITS static void norm_part(const bfloat16 *x, const bfloat16 *weight, bfloat16 *y, float *scales, long width,
                            float epsilon, long from, long to) {
    for (long row = from; row < to; row++) {
        const bfloat16 *in = x + row * width;
        __m512 squares = _mm512_setzero_ps();
        for (long i = 0; i < width; i += 16) {
            __m512 value = widened_at(in + i);
            squares = _mm512_fmadd_ps(value, value, squares);
        }
        scales[row] = 1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)width + epsilon);
        __m512 scale = _mm512_set1_ps(scales[row]);
        for (long i = 0; i < width; i += BLOCK) {
            __m512 product[2];
            for (int half = 0; half < 2; half++) {
                __m512 normed = _mm512_mul_ps(widened_at(in + i + 16 * half), scale);
                normed = widened((__m256i)_mm512_cvtneps_pbh(normed));
                product[half] = _mm512_mul_ps(normed, widened_at(weight + i + 16 * half));
            }
            _mm512_storeu_si512(y + row * width + i, rounded(product[0], product[1]));
        }
    }
}

UNITS static void norm_back_part(const bfloat16 *gradient, const bfloat16 *x, const bfloat16 *weight,
                                 const float *scales, const bfloat16 *residual, bfloat16 *grad_x, long width, long from,
                                 long to) {
    for (long row = from; row < to; row++) {
        const bfloat16 *g = gradient + row * width, *in = x + row * width, *residual_row = residual + row * width;
        __m512 dot = _mm512_setzero_ps();
        for (long i = 0; i < width; i += 16)
            dot = _mm512_fmadd_ps(_mm512_mul_ps(widened_at(g + i), widened_at(weight + i)), widened_at(in + i), dot);
        float s = scales[row];
        __m512 along = _mm512_set1_ps(_mm512_reduce_add_ps(dot) * s * s / (float)width), scale = _mm512_set1_ps(s);
        for (long i = 0; i < width; i += BLOCK) {
            __m512 sum[2];
            for (int half = 0; half < 2; half++) {
                long at = i + 16 * half;
                __m512 part = _mm512_mul_ps(widened_at(g + at), widened_at(weight + at));
                part = _mm512_fnmadd_ps(widened_at(in + at), along, part);
                sum[half] = _mm512_fmadd_ps(part, scale, widened_at(residual_row + at));
            }
            _mm512_storeu_si512(grad_x + row * width + i, rounded(sum[0], sum[1]));
        }
    }
}

/* ---- attention ---- */

/* 32 rows of `width` numbers side by side; those that do not exist are zeros. */
UNITS static void gather_rows(const bfloat16 *x, long stride, long rows, long width, bfloat16 *out) {
    for (long row = 0; row < BLOCK; row++)
        for (long d = 0; d < width; d += BLOCK)
            _mm512_storeu_si512(out + row * width + d, row < rows ? _mm512_loadu_si512(x + row * stride + d)
                                                                  : _mm512_setzero_si512());
}

/* The right factor whose columns are the positions of x, (width, positions). */
UNITS static void pack_positions(const bfloat16 *x, long stride, long positions, long width, bfloat16 *out) {
    for (long block = 0; block < blocks_of(positions); block++)
        for (long d = 0; d < width; d += BLOCK)
            pack_columns(x + block * BLOCK * stride + d, stride, positions - block * BLOCK, BLOCK,
                         out + (block * (width / BLOCK) + d / BLOCK) * PACKED_BLOCK);
}

/* The right factor whose rows are the positions of x, (positions, width). */
UNITS static void pack_states(const bfloat16 *x, long stride, long positions, long width, bfloat16 *out) {
    for (long d = 0; d < width; d += BLOCK)
        for (long block = 0; block < blocks_of(positions); block++)
            pack_rows(x + block * BLOCK * stride + d, stride, positions - block * BLOCK, NULL, 0,
                      out + (d / BLOCK * blocks_of(positions) + block) * PACKED_BLOCK);
}

/* Products (32, blocks * 32) of 32 rows of `left` and the first blocks of a right factor of `width` rows. */
UNITS static void product_with_positions(const bfloat16 *left, long width, const bfloat16 *right, long blocks,
                                         long rows, float *out) {
    ALIGNED float sums[1024];
    for (long block = 0; block < blocks; block++) {
        clear_sums(sums);
        add_product(sums, left, width, right + block * width * BLOCK, width, rows, NULL);
        move_sums(sums, out + block * BLOCK, blocks * BLOCK);
    }
}

/* Stores the sums times `scale` as the first `rows` of 32 rows. */
UNITS static void store_sums(float *sums, bfloat16 *to, long stride, long rows, float scale) {
    __m512 factor = _mm512_set1_ps(scale);
    take_sums(sums);
    for (long row = 0; row < smaller(BLOCK, rows); row++)
        _mm512_storeu_si512(to + row * stride, rounded(_mm512_mul_ps(factor, _mm512_load_ps(sums + row * 32)),
                                                       _mm512_mul_ps(factor, _mm512_load_ps(sums + row * 32 + 16))));
}

/* Lanes of 16 keys from `key` on that a query sees. */
static inline uint16_t seen_lanes(long seen, long key) {
    return seen - key >= 16 ? 0xffff : seen > key ? (uint16_t)((1u << (seen - key)) - 1) : 0;
}

static inline long seen_blocks(const Attention *a, long first) {
    return blocks_of(a->keys - a->length + smaller(first + BLOCK, a->length));
}

UNITS static void attend_part(const Attention *a, bfloat16 *memory, float *scores, long row, long group) {
    long blocks = blocks_of(a->keys), per_group = a->heads / a->shared, width = a->width;
    bfloat16 *keys = memory, *values = keys + blocks * BLOCK * width, *left = values + blocks * BLOCK * width;
    bfloat16 *weights = left + BLOCK * width;
    ALIGNED float sums[1024];
    pack_positions(a->k + place(a, K, row, group, 0), a->strides[K + 2], a->keys, width, keys);
    pack_states(a->v + place(a, V, row, group, 0), a->strides[V + 2], a->keys, width, values);
    for (long head = group * per_group; head < (group + 1) * per_group; head++)
        for (long first = 0; first < a->length; first += BLOCK) {
            long here = seen_blocks(a, first), span = here * BLOCK, rows = smaller(BLOCK, a->length - first);
            gather_rows(a->q + place(a, Q, row, head, first), a->strides[Q + 2], rows, width, left);
            product_with_positions(left, width, keys, here, rows, scores);
            for (long i = 0; i < BLOCK; i++) {
                float *s = scores + i * span;
                long seen = a->keys - a->length + first + (i < rows ? i : rows - 1) + 1;
                __m512 highest = _mm512_set1_ps(-3.0e38f), sum = _mm512_setzero_ps();
                __m512 scale = _mm512_set1_ps(a->scale);
                for (long key = 0; key < span; key += 16)
                    highest = _mm512_mask_max_ps(highest, seen_lanes(seen, key), highest, _mm512_loadu_ps(s + key));
                float top = _mm512_reduce_max_ps(highest);
                __m512 shift = _mm512_set1_ps(top);
                for (long key = 0; key < span; key += 16) {
                    __m512 power = exponential(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(s + key), shift), scale));
                    power = _mm512_maskz_mov_ps(seen_lanes(seen, key), power);
                    _mm512_storeu_ps(s + key, power);
                    sum = _mm512_add_ps(sum, power);
                }
                float total = _mm512_reduce_add_ps(sum);
                __m512 inverse = _mm512_set1_ps(1.0f / total);
                if (i < rows) a->logs[(row * a->heads + head) * a->length + first + i] = top * a->scale + logf(total);
                for (long key = 0; key < span; key += 32)
                    _mm512_storeu_si512(weights + i * span + key,
                                        rounded(_mm512_mul_ps(inverse, _mm512_loadu_ps(s + key)),
                                                _mm512_mul_ps(inverse, _mm512_loadu_ps(s + key + 16))));
            }
            for (long d = 0; d < width; d += BLOCK) {
                clear_sums(sums);
                add_product(sums, weights, span, values + d * blocks * BLOCK, span, rows, NULL);
                store_sums(sums, a->out + place(a, Y, row, head, first) + d, a->strides[Y + 2], rows, 1.0f);
            }
        }
}

/* sums += a packed block, transposed, times 32 rows of a panel. */
UNITS static inline void add_transposed(float *sums, const bfloat16 *x, long stride, const bfloat16 *panel) {
    ALIGNED bfloat16 packed[PACKED_BLOCK], tiles[PACKED_BLOCK];
    pack_rows(x, stride, BLOCK, NULL, 0, packed);
    transpose_packed(packed, tiles);
    add_product(sums, tiles, BLOCK, panel, BLOCK, BLOCK, NULL);
}

/* The sums over the heads of a group and all queries stay in one place, so weights and their gradients of a group are kept. */
UNITS static void attend_back_part(const Attention *a, bfloat16 *memory, float *scores, long row, long group) {
    long blocks = blocks_of(a->keys), per_group = a->heads / a->shared, width = a->width;
    long queries = blocks_of(a->length), span = blocks * BLOCK, states = span * width, transposed = queries * BLOCK * width;
    bfloat16 *keys = memory, *values = keys + states, *key_states = values + states;
    bfloat16 *left = key_states + states, *left_g = left + BLOCK * width;
    bfloat16 *q_states = left_g + BLOCK * width, *g_states = q_states + per_group * transposed;
    bfloat16 *weights = g_states + per_group * transposed, *gradients = weights + per_group * queries * BLOCK * span;
    float *products = scores + BLOCK * span;
    ALIGNED float sums[1024];
    pack_positions(a->k + place(a, K, row, group, 0), a->strides[K + 2], a->keys, width, keys);
    pack_positions(a->v + place(a, V, row, group, 0), a->strides[V + 2], a->keys, width, values);
    pack_states(a->k + place(a, K, row, group, 0), a->strides[K + 2], a->keys, width, key_states);
    for (long member = 0; member < per_group; member++) {
        long head = group * per_group + member;
        pack_states(a->q + place(a, Q, row, head, 0), a->strides[Q + 2], a->length, width, q_states + member * transposed);
        pack_states(a->g + place(a, G, row, head, 0), a->strides[G + 2], a->length, width, g_states + member * transposed);
        for (long first = 0; first < a->length; first += BLOCK) {
            long here = seen_blocks(a, first), rows = smaller(BLOCK, a->length - first);
            bfloat16 *p = weights + (member * queries * BLOCK + first) * span;
            bfloat16 *d = gradients + (member * queries * BLOCK + first) * span;
            gather_rows(a->q + place(a, Q, row, head, first), a->strides[Q + 2], rows, width, left);
            gather_rows(a->g + place(a, G, row, head, first), a->strides[G + 2], rows, width, left_g);
            product_with_positions(left, width, keys, here, rows, scores);
            product_with_positions(left_g, width, values, here, rows, products);
            for (long i = 0; i < BLOCK; i++) {
                long seen = i < rows ? a->keys - a->length + first + i + 1 : 0;
                __m512 along = _mm512_setzero_ps(), scale = _mm512_set1_ps(a->scale), shift = along;
                if (i < rows) {
                    const bfloat16 *y = a->y + place(a, Y, row, head, first + i);
                    for (long e = 0; e < width; e += 16)
                        along = _mm512_fmadd_ps(widened(_mm256_loadu_si256((const __m256i *)(y + e))),
                                                widened(_mm256_loadu_si256((const __m256i *)(left_g + i * width + e))),
                                                along);
                    shift = _mm512_set1_ps(a->logs[(row * a->heads + head) * a->length + first + i]);
                }
                along = _mm512_set1_ps(_mm512_reduce_add_ps(along));
                for (long key = 0; key < here * BLOCK; key += 32) {
                    __m512 power[2], slope[2];
                    for (long j = 0; j < 2; j++) {
                        long at = i * here * BLOCK + key + 16 * j;
                        __m512 exponent = _mm512_fmsub_ps(_mm512_loadu_ps(scores + at), scale, shift);
                        exponent = _mm512_min_ps(_mm512_setzero_ps(), exponent);
                        power[j] = _mm512_maskz_mov_ps(seen_lanes(seen, key + 16 * j), exponential(exponent));
                        slope[j] = _mm512_mul_ps(_mm512_mul_ps(power[j], scale),
                                                 _mm512_sub_ps(_mm512_loadu_ps(products + at), along));
                    }
                    _mm512_storeu_si512(p + i * span + key, rounded(power[0], power[1]));
                    _mm512_storeu_si512(d + i * span + key, rounded(slope[0], slope[1]));
                }
            }
            for (long e = 0; e < width; e += BLOCK) {
                clear_sums(sums);
                add_product(sums, d, span, key_states + e * span, here * BLOCK, rows, NULL);
                store_sums(sums, a->grad_q + place(a, GRAD_Q, row, head, first) + e, a->strides[GRAD_Q + 2], rows, 1.0f);
            }
        }
    }
    for (long block = 0; block < blocks; block++)
        for (long e = 0; e < width; e += BLOCK)
            for (int which = 0; which < 2; which++) {
                const bfloat16 *slopes = which ? gradients : weights, *right = which ? q_states : g_states;
                clear_sums(sums);
                for (long member = 0; member < per_group; member++)
                    for (long query = 0; query < queries; query++)
                        if (block < seen_blocks(a, query * BLOCK))
                            add_transposed(sums, slopes + (member * queries + query) * BLOCK * span + block * BLOCK, span,
                                           right + member * transposed + (e / BLOCK * queries + query) * PACKED_BLOCK);
                bfloat16 *to = which ? a->grad_k + place(a, GRAD_K, row, group, block * BLOCK) + e
                                     : a->grad_v + place(a, GRAD_V, row, group, block * BLOCK) + e;
                store_sums(sums, to, a->strides[(which ? GRAD_K : GRAD_V) + 2], a->keys - block * BLOCK, 1.0f);
            }
}

UNITS static void attention_groups(const Attention *a, int back, long from, long to) {
    long span = blocks_of(a->keys) * BLOCK, padded = blocks_of(a->length) * BLOCK, per_group = a->heads / a->shared;
    long numbers = (back ? 3 : 2) * span * a->width + 2 * BLOCK * a->width +
                   (back ? 2 * per_group * padded * (a->width + span) : BLOCK * span);
    bfloat16 *memory = scratch(ATTENTION, (size_t)numbers * sizeof *memory);
    float *scores = scratch(SCORES, (size_t)(2 * BLOCK * span) * sizeof *scores);
    if (!memory || !scores) return;
    configure();
    for (long item = from; item < to; item++)
        (back ? attend_back_part : attend_part)(a, memory, scores, item / a->shared, item % a->shared);
    release();
}

enum { HEADS = 16, MOST_HEADS = 4 }; /* columns of a tile; heads whose sums fit in registers */

/* scores (16, 16) of 16 keys, which lie `stride` numbers apart, and packed queries. */
UNITS static inline void heads_by_vectors(const bfloat16 *keys, long stride, const bfloat16 *queries, long width,
                                          float *scores) {
    __m512 sums[HEADS];
    for (int key = 0; key < HEADS; key++) sums[key] = _mm512_setzero_ps();
    for (long d = 0; d < width; d += BLOCK)
        for (int pair = 0; pair < 16; pair++) {
            __m512bh factor = (__m512bh)_mm512_loadu_si512(queries + d * BLOCK + pair * 32);
            _Pragma("GCC unroll 16") for (int key = 0; key < HEADS; key++) {
                int32_t numbers;
                memcpy(&numbers, keys + key * stride + d + 2 * pair, sizeof numbers);
                sums[key] = _mm512_dpbf16_ps(sums[key], (__m512bh)_mm512_set1_epi32(numbers), factor);
            }
        }
    for (int key = 0; key < HEADS; key++) _mm512_store_ps(scores + key * HEADS, sums[key]);
}

/* powers (keys, 16) = q k' of up to 16 heads that share keys: lanes are heads. Keys are the left factor as they lie. */
UNITS static void scores_of_heads(const bfloat16 *q, const bfloat16 *k, const bfloat16 *v, long stride, long heads, long width, long keys,
                                  bfloat16 *queries, float *scores) {
    bfloat16 *last = queries + width * BLOCK;
    for (long d = 0; d < width; d += BLOCK) pack_columns(q + d, width, heads, BLOCK, queries + d * BLOCK);
    for (long key = 0; key < keys; key += HEADS) {
        const bfloat16 *here = k + key * stride;
        long step = stride;
        if (keys - key < HEADS) {
            for (long row = 0; row < HEADS; row++)
                for (long d = 0; d < width; d += BLOCK)
                    _mm512_storeu_si512(last + row * width + d, row < keys - key
                                                                    ? _mm512_loadu_si512(here + row * stride + d)
                                                                    : _mm512_setzero_si512());
            here = last, step = width;
        }
        for (long row = 0; row < HEADS; row++)
            for (long d = 0; d < width; d += BLOCK) {
                __builtin_prefetch(k + smaller(key + 3 * HEADS + row, keys - 1) * stride + d);
                __builtin_prefetch(v + (key + row) * stride + d, 0, 2);
            }
        if (!with_tiles) {
            heads_by_vectors(here, step, queries, width, scores + key * HEADS);
            continue;
        }
        _tile_zero(0);
        for (long d = 0; d < width; d += BLOCK) {
            LOAD_TILE(4, here + d, step * 2);
            LOAD_TILE(6, queries + d * BLOCK, 64);
            _tile_dpbf16ps(0, 4, 6);
        }
        _tile_stored(0, scores + key * HEADS, HEADS * sizeof *scores);
    }
}

UNITS static void attend_new(const NewQueries *a, long from, long to) {
    long per_group = a->heads / a->shared, width = a->width;
    configure();
    for (long item = from; item < to; item++) {
        long row = item / a->shared, group = item % a->shared, start = a->starts[row], keys = a->keys - start;
        const bfloat16 *q = a->q + (row * a->heads + group * per_group) * width;
        const bfloat16 *k = a->k + row * a->strides[0] + group * a->strides[1] + start * a->strides[2];
        const bfloat16 *v = a->v + row * a->strides[3] + group * a->strides[4] + start * a->strides[5];
        bfloat16 *y = a->y + (row * a->heads + group * per_group) * width;
        float *scores = scratch(SCORES, (size_t)((keys + HEADS) * HEADS) * sizeof *scores);
        bfloat16 *queries = scratch(PACKED_FACTORS, (size_t)(width * BLOCK + HEADS * width) * sizeof *queries);
        if (!scores || !queries) break;
        scores_of_heads(q, k, v, a->strides[2], per_group, width, keys, queries, scores);
        __m512 highest = _mm512_set1_ps(-3.0e38f), sum = _mm512_setzero_ps(), scale = _mm512_set1_ps(a->scale);
        for (long key = 0; key < keys; key++) highest = _mm512_max_ps(highest, _mm512_load_ps(scores + key * HEADS));
        for (long key = 0; key < keys; key++) {
            __m512 exponent = _mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(scores + key * HEADS), highest), scale);
            __m512 power = exponential(exponent);
            _mm512_store_ps(scores + key * HEADS, power);
            sum = _mm512_add_ps(sum, power);
        }
        ALIGNED float inverse[HEADS];
        _mm512_store_ps(inverse, _mm512_div_ps(_mm512_set1_ps(1.0f), sum));
        for (long head = 0; head < per_group; head += MOST_HEADS)
            for (long d = 0; d < width; d += BLOCK) {
                __m512 low[MOST_HEADS], high[MOST_HEADS];
                for (long h = 0; h < MOST_HEADS; h++) low[h] = high[h] = _mm512_setzero_ps();
                for (long key = 0; key < keys; key++) {
                    const bfloat16 *values = v + key * a->strides[5] + d;
                    __m512 first = widened(_mm256_loadu_si256((const __m256i *)values));
                    __m512 second = widened(_mm256_loadu_si256((const __m256i *)(values + 16)));
                    for (long h = 0; h < MOST_HEADS; h++) { /* always all, so that the sums stay in registers */
                        __m512 power = _mm512_set1_ps(scores[key * HEADS + head + h]);
                        low[h] = _mm512_fmadd_ps(power, first, low[h]);
                        high[h] = _mm512_fmadd_ps(power, second, high[h]);
                    }
                }
                for (long h = 0; h < smaller(MOST_HEADS, per_group - head); h++) {
                    __m512 factor = _mm512_set1_ps(inverse[head + h]);
                    _mm512_storeu_si512(y + (head + h) * width + d,
                                        rounded(_mm512_mul_ps(low[h], factor), _mm512_mul_ps(high[h], factor)));
                }
            }
    }
    release();
}

#include "exports.h"

#else

long kernels_start(long most) {
    (void)most;
    return 0;
}

#endif
