/* What stands between the products of bf16: each function goes over memory once.

   Sixteen numbers are worked on together, by the vector types of GCC and Clang; so widths are
   multiples of 16. Numbers of bf16 are the upper halves of fp32; what rounds and multiplies them
   are AVX-512's own instructions for them. Rows are divided among OpenMP's threads; no sum hangs on
   how many there are. */

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16, ROWS = 4 };

typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef int32_t ints __attribute__((vector_size(64), aligned(4)));
typedef uint32_t words __attribute__((vector_size(64), aligned(4)));
typedef uint16_t halves __attribute__((vector_size(32), aligned(2)));
typedef uint16_t bf16;

static inline floats wide(const bf16 *from) {
  words whole = __builtin_convertvector(*(const halves *)from, words) << 16;
  return (floats)whole;
}

static inline void narrow(floats x, bf16 *to) {
  __m256bh rounded = _mm512_cvtneps_pbh((__m512)x);
  memcpy(to, &rounded, sizeof rounded);
}

static inline floats at(const float *from) { return *(const floats *)from; }

static inline void put(floats x, float *to) { *(floats *)to = x; }

/* One or the other, by the mask that a comparison gives. */
static inline floats either(ints mask, floats yes, floats no) {
  return (floats)((mask & (ints)yes) | (~mask & (ints)no));
}

static inline floats higher(floats a, floats b) { return either(a > b, a, b); }

static inline float sum(floats x) {
  float total = 0;
  for (int lane = 0; lane < LANES; lane++) total += x[lane];
  return total;
}

/* 2^n e^r with n whole and r small, e^r by its series up to r^6 / 6!. */
static inline floats exponential(floats x) {
  const floats least = {0}, below = least - 87.0f, above = least + 88.0f;
  x = either(x < below, below, x);
  x = either(x > above, above, x);
  const floats shift = least + 12582912.0f; /* 1.5 * 2^23, which leaves no places below 1. */
  floats n = (x * 1.44269504f + shift) - shift;
  floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
  floats series = r * (1.0f / 720) + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  ints power = (__builtin_convertvector(n, ints) + 127) << 23;
  return series * (floats)power;
}

/* A frozen layer's results of some rows, and what its adapter adds to them. */
typedef struct {
  const bf16 *frozen;  /* Of the first row. */
  const bf16 *inner;   /* What the adapter's first factor made of the first row. */
  size_t stride;       /* From row to row, of both. */
  const bf16 *second;  /* (ranks / 2, width, 2): the second factor, scaled, ranks by pairs. */
  size_t ranks;        /* Even; 0 without an adapter. */
  size_t width;
  const float *bias;   /* (width), or null. */
} Part;

/* Sixteen results from place `o` on, of as many `rows` as there are, at most ROWS. */
static inline __attribute__((always_inline)) void
results(const Part *part, size_t row, int rows, size_t o, floats found[ROWS]) {
  const bf16 *frozen = part->frozen + row * part->stride + o;
  for (int k = 0; k < rows; k++) {
    found[k] = wide(frozen + k * part->stride);
    if (part->bias) found[k] += at(part->bias + o);
  }
  const bf16 *inner = part->inner + row * part->stride;
  for (size_t rank = 0; rank < part->ranks; rank += 2) {
    __m512bh second, made;
    memcpy(&second, part->second + rank * part->width + 2 * o, sizeof second);
    for (int k = 0; k < rows; k++) {
      int32_t pair;
      memcpy(&pair, inner + k * part->stride + rank, sizeof pair);
      __m512i pairs = _mm512_set1_epi32(pair);
      memcpy(&made, &pairs, sizeof made);
      found[k] = (floats)_mm512_dpbf16_ps((__m512)found[k], made, second);
    }
  }
}

#define FOR_ROWS(count, ...)                           \
  _Pragma("omp parallel for schedule(static)")         \
  for (size_t row = 0; row < (count); row += ROWS) {   \
    if (row + ROWS <= (count)) {                       \
      enum { rows = ROWS };                            \
      __VA_ARGS__                                      \
    } else {                                           \
      int rows = (int)((count) - row);                 \
      __VA_ARGS__                                      \
    }                                                  \
  }

/* made = frozen + inner second + bias; `made` has `apart` numbers from row to row. */
void complete(Part part, size_t tokens, float *made, size_t apart) {
  FOR_ROWS(tokens, {
    for (size_t o = 0; o < part.width; o += LANES) {
      floats found[ROWS];
      results(&part, row, rows, o, found);
      for (int k = 0; k < rows; k++) put(found[k], made + (row + k) * apart + o);
    }
  })
}

/* The share of a gate that comes through, 1 / (1 + e^-y), and its slope: y is the gate itself (silu),
   or 2 sqrt(2 / pi) (x + 0.044715 x^3), by which Hendrycks and Gimpel 2016, arXiv:1606.08415, section
   2, come near gelu; 1 + tanh(y / 2) is twice that share. */
static inline __attribute__((always_inline)) floats opened(floats x, bool gelu, floats *slope) {
  floats y = gelu ? 1.59576912f * (x + 0.044715f * x * x * x) : x;
  floats share = 1.0f / (1.0f + exponential(-y));
  *slope = share * (1.0f - share);
  if (gelu) *slope *= 1.59576912f * (1.0f + 0.134145f * x * x);
  return share;
}

/* between = act(gate) up. */
void gated(Part gate, Part up, size_t tokens, bool gelu, bf16 *between) {
  FOR_ROWS(tokens, {
    for (size_t o = 0; o < gate.width; o += LANES) {
      floats g[ROWS], u[ROWS];
      results(&gate, row, rows, o, g);
      results(&up, row, rows, o, u);
      for (int k = 0; k < rows; k++) {
        floats slope;
        narrow(g[k] * opened(g[k], gelu, &slope) * u[k], between + (row + k) * gate.width + o);
      }
    }
  })
}

/* As `gated`; and the gradients of gate and up, side by side, of that of `between`. */
void gated_back(Part gate, Part up, size_t tokens, bool gelu, bf16 *between, const bf16 *gradient,
                bf16 *into, size_t apart) {
  FOR_ROWS(tokens, {
    for (size_t o = 0; o < gate.width; o += LANES) {
      floats g[ROWS], u[ROWS];
      results(&gate, row, rows, o, g);
      results(&up, row, rows, o, u);
      for (int k = 0; k < rows; k++) {
        size_t place = (row + k) * gate.width + o;
        floats back = wide(gradient + place), slope;
        floats share = opened(g[k], gelu, &slope);
        floats active = g[k] * share;
        narrow(active * u[k], between + place);
        bf16 *mine = into + (row + k) * apart + o;
        narrow(back * u[k] * (share + g[k] * slope), mine);
        narrow(back * active, mine + gate.width);
      }
    }
  })
}

/* made = x scale / sqrt(mean(x^2) + epsilon); `inverse` keeps what x is multiplied by. */
void norm(const float *x, const float *scale, float epsilon, size_t tokens, size_t width,
          float *made, float *inverse) {
#pragma omp parallel for schedule(static)
  for (size_t row = 0; row < tokens; row++) {
    const float *mine = x + row * width;
    floats squares = {0};
    for (size_t o = 0; o < width; o += LANES) squares += at(mine + o) * at(mine + o);
    float by = 1.0f / sqrtf(sum(squares) / (float)width + epsilon);
    inverse[row] = by;
    for (size_t o = 0; o < width; o += LANES)
      put(at(mine + o) * by * at(scale + o), made + row * width + o);
  }
}

void norm_back(const float *gradient, const float *x, const float *scale, const float *inverse,
               size_t tokens, size_t width, float *made) {
#pragma omp parallel for schedule(static)
  for (size_t row = 0; row < tokens; row++) {
    size_t first = row * width;
    floats along = {0};
    for (size_t o = 0; o < width; o += LANES)
      along += at(gradient + first + o) * at(scale + o) * at(x + first + o);
    float by = inverse[row];
    float back = -sum(along) * by * by * by / (float)width;
    for (size_t o = 0; o < width; o += LANES) {
      floats slope = at(gradient + first + o) * at(scale + o);
      put(slope * by + at(x + first + o) * back, made + first + o);
    }
  }
}

/* Turns halves of heads by their angles; `sign` is -1 to turn back. Strides: of heads and tokens. */
void turn(const float *x, size_t x_head, size_t x_token, const float *cosine, const float *sine,
          float sign, size_t heads, size_t tokens, size_t width, float *made, size_t made_head,
          size_t made_token) {
  size_t half = width / 2;
#pragma omp parallel for schedule(static)
  for (size_t token = 0; token < tokens; token++) {
    const float *c = cosine + token * width, *s = sine + token * width;
    for (size_t head = 0; head < heads; head++) {
      const float *from = x + head * x_head + token * x_token;
      float *to = made + head * made_head + token * made_token;
      for (size_t o = 0; o < half; o += LANES) {
        floats low = at(from + o), high = at(from + half + o);
        put(low * at(c + o) - high * at(s + o) * sign, to + o);
        put(high * at(c + half + o) + low * at(s + half + o) * sign, to + half + o);
      }
    }
  }
}

/* Weights of queries from their scores, (rows, keys). Row r is of the query `begin` + r modulo
   `queries`, which sees the keys up to its own place, and with a `window` the last so many. */
void weigh(const bf16 *scores, float scale, size_t rows, size_t queries, size_t begin, size_t keys,
           size_t window, bf16 *made) {
#pragma omp parallel for schedule(dynamic, 64)
  for (size_t row = 0; row < rows; row++) {
    size_t end = begin + row % queries + 1;
    size_t low = window && end > window ? end - window : 0;
    const bf16 *mine = scores + row * keys;
    bf16 *to = made + row * keys;
    size_t first = low - low % LANES;
    memset(to, 0, first * sizeof(bf16));
    float kept[(end - first + LANES - 1) / LANES * LANES];
    size_t count = end - first;
    floats most = (floats){0} - INFINITY;
    for (size_t o = 0; o < count; o += LANES) {
      floats score;
      if (first + o + LANES <= keys) {
        score = wide(mine + first + o);
      } else {
        bf16 some[LANES] = {0};
        memcpy(some, mine + first + o, (keys - first - o) * sizeof(bf16));
        score = wide(some);
      }
      score *= scale;
      if (first + o < low || first + o + LANES > end)
        for (int lane = 0; lane < LANES; lane++)
          if (first + o + lane < low || first + o + lane >= end) score[lane] = -INFINITY;
      put(score, kept + o);
      most = higher(most, score);
    }
    float highest = most[0];
    for (int lane = 1; lane < LANES; lane++) highest = most[lane] > highest ? most[lane] : highest;
    floats total = {0};
    for (size_t o = 0; o < count; o += LANES) {
      floats share = at(kept + o), seen = share;
      share = exponential(share - highest);
      share = either(seen == (floats){0} - INFINITY, (floats){0}, share);
      total += share;
      put(share, kept + o);
    }
    float by = 1.0f / sum(total);
    for (size_t o = 0; o < count; o += LANES) {
      if (first + o + LANES <= keys) {
        narrow(at(kept + o) * by, to + first + o);
      } else {
        bf16 some[LANES];
        narrow(at(kept + o) * by, some);
        memcpy(to + first + o, some, (keys - first - o) * sizeof(bf16));
      }
    }
    size_t behind = first + (count + LANES - 1) / LANES * LANES;
    if (behind < keys) memset(to + behind, 0, (keys - behind) * sizeof(bf16));
  }
}

/* Lays states aside, each text's places with its heads apart: (texts, heads, longest, width). */
void aside(const float *states, size_t token_apart, size_t head_apart, const int64_t *tokens,
           const bool *absent, size_t texts, size_t heads, size_t longest, size_t width,
           bf16 *made) {
#pragma omp parallel for schedule(static)
  for (size_t place = 0; place < texts * longest; place++) {
    size_t text = place / longest, there = place % longest;
    const float *from = states + (size_t)tokens[place] * token_apart;
    for (size_t head = 0; head < heads; head++) {
      bf16 *to = made + ((text * heads + head) * longest + there) * width;
      if (absent && absent[place])
        memset(to, 0, width * sizeof(bf16));
      else
        for (size_t o = 0; o < width; o += LANES) narrow(at(from + head * head_apart + o), to + o);
    }
  }
}

/* Losses of tokens from their logits, (tokens, words), and whether each was foreseen: whether no
   word has a higher logit, and none before it as high a one. With `learning`, the gradient of the
   loss takes the logits' place. */
void losses(bf16 *logits, const float *bias, const int64_t *wanted, size_t tokens, size_t words_,
            bool learning, float *found, bool *foreseen) {
#pragma omp parallel for schedule(static)
  for (size_t row = 0; row < tokens; row++) {
    bf16 *mine = logits + row * words_;
    size_t right = (size_t)wanted[row];
    size_t whole = words_ - words_ % LANES, rest = words_ % LANES;
    bf16 some[LANES];
    float added[LANES] = {0};
    for (int lane = 0; lane < LANES; lane++) some[lane] = 0xff80; /* Minus infinity. */
    memcpy(some, mine + whole, rest * sizeof(bf16));
    if (bias) memcpy(added, bias + whole, rest * sizeof(float));
#define LOGITS(o) ((o) < whole ? wide(mine + (o)) + (bias ? at(bias + (o)) : (floats){0}) \
                               : wide(some) + at(added))
    floats most = (floats){0} - INFINITY;
    for (size_t o = 0; o < words_; o += LANES) {
      floats logit = LOGITS(o);
      most = higher(most, logit);
    }
    float highest = most[0];
    for (int lane = 1; lane < LANES; lane++) highest = most[lane] > highest ? most[lane] : highest;
    floats own = LOGITS(right - right % LANES);
    float scored = own[right % LANES];
    bool first = scored == highest;
    for (size_t o = 0; first && o <= right; o += LANES) {
      floats logit = LOGITS(o);
      for (int lane = 0; lane < LANES && o + lane < right; lane++)
        if (logit[lane] == highest) first = false;
    }
    foreseen[row] = first;
    floats total = {0};
    for (size_t o = 0; o < words_; o += LANES) total += exponential(LOGITS(o) - highest);
    float all = sum(total);
    found[row] = logf(all) + highest - scored;
    if (!learning) continue;
    float by = 1.0f / all;
    for (size_t o = 0; o < whole; o += LANES) {
      floats share = exponential(LOGITS(o) - highest) * by;
      if (o == right - right % LANES) share[right % LANES] -= 1.0f;
      narrow(share, mine + o);
    }
    if (rest) {
      floats share = exponential(LOGITS(whole) - highest) * by;
      if (whole == right - right % LANES) share[right % LANES] -= 1.0f;
      narrow(share, some);
      memcpy(mine + whole, some, rest * sizeof(bf16));
    }
#undef LOGITS
  }
}
