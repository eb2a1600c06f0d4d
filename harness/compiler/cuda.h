// What every kernel stands on. A block of threads is one member, and each of its threads has a prompt of W: what
// `prelude.h` has as vectors is a number here. The same arithmetic, so that both targets agree to rounding.

typedef int int32_t;
typedef long long int64_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;

#define INLINE __device__ __attribute__((always_inline))
#define NOINLINE __device__
#define __restrict  // what a kernel writes it may read again by another name
#define __builtin_inf() __longlong_as_double(0x7ff0000000000000ll)
#define __builtin_nan(text) __longlong_as_double(0x7ff8000000000000ll)
#define __builtin_pow(x, y) pow(x, y)

constexpr int W = THREADS, WARPS = THREADS / 32;
INLINE static inline float load(const float* p) { return *p; }
INLINE static inline double load(const double* p) { return *p; }
INLINE static inline void store(float* p, float x) { *p = x; }
INLINE static inline void store(double* p, double x) { *p = x; }

INLINE static inline float f_sqrt(float x) { return sqrtf(x); }
INLINE static inline double f_sqrt(double x) { return sqrt(x); }
INLINE static inline float f_sin(float x) { return sinf(x); }
INLINE static inline double f_sin(double x) { return sin(x); }
INLINE static inline float f_cos(float x) { return cosf(x); }
INLINE static inline double f_cos(double x) { return cos(x); }
INLINE static inline float f_tanh(float x) { return tanhf(x); }
INLINE static inline double f_tanh(double x) { return tanh(x); }
INLINE static inline double f_exp(double x) { return exp(x); }
INLINE static inline double f_log(double x) { return log(x); }

INLINE static inline float f_exp(float x) {
  const float shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float y = r * 1.98412698e-4f + 1.38888889e-3f;
  y = y * r + 8.33333333e-3f;
  y = y * r + 4.16666667e-2f;
  y = y * r + 1.66666667e-1f;
  y = (y * r + 0.5f) * (r * r) + r + 1.0f;
  const int32_t power = __float_as_int(shifted) - 0x4b400000, half = power >> 1;
  y = y * __int_as_float((half + 127) << 23) * __int_as_float((power - half + 127) << 23);
  y = x < -104.0f ? 0.0f : y;
  return x > 89.0f ? (float)__builtin_inf() : y;
}

INLINE static inline float log_of_normal(float x) {  // of a positive normal number
  const int32_t bits = __float_as_int(x) - 0x3f3504f3;
  const float e = bits >> 23, m = __int_as_float((bits & 0x007fffff) + 0x3f3504f3) - 1.0f, z = m * m;
  float y = m * 7.0376836292e-2f - 1.1514610310e-1f;
  y = y * m + 1.1676998740e-1f;
  y = y * m - 1.2420140846e-1f;
  y = y * m + 1.4249322787e-1f;
  y = y * m - 1.6668057665e-1f;
  y = y * m + 2.0000714765e-1f;
  y = y * m - 2.4999993993e-1f;
  y = y * m + 3.3333331174e-1f;
  y = y * m * z - 2.12194440e-4f * e - 0.5f * z;
  return m + y + 0.693359375f * e;
}
INLINE static inline float f_log(float x) {
  const bool small = x < 1.17549435e-38f;  // and what is not positive
  float y = log_of_normal(small ? x * 8388608.0f : x);
  y = small ? y - 15.9423851528787f : y;
  y = x > 0.0f ? y : x == 0.0f ? -(float)__builtin_inf() : (float)__builtin_nan("");
  return x > 3.40282347e+38f ? x : y;
}

struct Stream { uint32_t k, l, word, step; };  // the key; two words of all counters

INLINE static inline Stream stream_of(const int64_t* key, uint32_t step) {
  return {(uint32_t)key[0], (uint32_t)key[1], (uint32_t)key[2], step};
}

struct Words { uint32_t a, b, c, d; };

INLINE static inline Words philox(uint32_t prompt, uint32_t counter, const Stream& stream) {
  uint32_t a = prompt, b = stream.step, c = counter, d = stream.word, k = stream.k, l = stream.l;
#pragma unroll
  for (int round = 0; round < 10; round++, k += 0x9E3779B9u, l += 0xBB67AE85u) {
    const uint32_t p = __umulhi(0xD2511F53u, a), low_p = 0xD2511F53u * a;
    const uint32_t q = __umulhi(0xCD9E8D57u, c), low_q = 0xCD9E8D57u * c;
    a = q ^ b ^ k, b = low_q, c = p ^ d ^ l, d = low_p;
  }
  return {a, b, c, d};
}

// Box and Muller, as in `random.h`.
INLINE static inline void pair_of_normals(uint32_t x, uint32_t y, float& first, float& second) {
  const float radius = f_sqrt(-2.0f * log_of_normal((float)x * 0x1p-32f + 0x1p-33f));
  const uint32_t turn = y + 0x20000000u;
  const float t = (float)((int32_t)(turn & 0x3fffffffu) - 0x20000000) * 1.4629180792671596e-09f, z = t * t;
  float sine = -1.9515295891e-4f * z + 8.3321608736e-3f, cosine = 2.443315711809948e-5f * z - 1.388731625493765e-3f;
  sine = sine * z - 1.6666654611e-1f, cosine = cosine * z + 4.166664568298827e-2f;
  sine = sine * z * t + t, cosine = cosine * z * z - 0.5f * z + 1.0f;
  const bool odd = turn & 0x40000000u;
  const uint32_t s = __float_as_uint(odd ? cosine : sine), c = __float_as_uint(odd ? sine : cosine);
  first = radius * __uint_as_float(c ^ ((turn + 0x40000000u) & 0x80000000u));
  second = radius * __uint_as_float(s ^ (turn & 0x80000000u));
}

struct Four { float x[4]; };

INLINE static inline Four normals(uint32_t prompt, uint32_t counter, const Stream& stream) {
  const Words words = philox(prompt, counter, stream);
  Four z;
  pair_of_normals(words.a, words.b, z.x[0], z.x[1]);
  pair_of_normals(words.c, words.d, z.x[2], z.x[3]);
  return z;
}

INLINE static inline float uniform_of(uint32_t word) { return ((float)(int32_t)(word >> 9) + 0.5f) * 0x1p-23f; }

INLINE static inline Four uniforms(uint32_t prompt, uint32_t counter, const Stream& stream) {
  const Words words = philox(prompt, counter, stream);
  return {{uniform_of(words.a), uniform_of(words.b), uniform_of(words.c), uniform_of(words.d)}};
}

template <class F> INLINE static inline void draw(F variates, float* out, uint32_t prompt, int first, int count, const Stream& stream) {
  for (int c = 0; c < count; c++) {
    const Four four = variates(prompt, first + c, stream);
    for (int i = 0; i < 4; i++) out[(4 * c + i) * W] = four.x[i];
  }
}

// Sums over the lanes of a warp, in a fixed order.
template <class T> INLINE static inline T warp_total(T x) {
#pragma unroll
  for (int n = 16; n; n /= 2) x += __shfl_xor_sync(0xffffffffu, x, n);
  return x;
}

// Of 32 numbers at once: lane i has the sum of number i. At each turn a lane passes on half of what it has. The turns are
// written out, by a template: numbers that a loop asks for by a variable would not be in registers.
template <int n, class T> INLINE static inline void pass_on(T* x, int lane) {
  if constexpr (n > 0) {
    const bool upper = lane & n;
#pragma unroll
    for (int i = 0; i < n; i++) {
      const T given = upper ? x[i] : x[i + n], kept = upper ? x[i + n] : x[i];
      x[i] = kept + __shfl_xor_sync(0xffffffffu, given, n);
    }
    pass_on<n / 2>(x, lane);
  }
}
template <class T> INLINE static inline T warp_totals(T* x, int lane) {
  pass_on<16>(x, lane);
  return x[0];
}

// The sums over all threads of n numbers of each, to these places. partial: memory of WARPS * n numbers. A barrier
// stands in it.
template <int n, class T> INLINE static inline void block_totals(T* out, T* x, T* partial, const short* places, int thread) {
  const int lane = thread % 32, warp = thread / 32;
#pragma unroll
  for (int i = 0; i < n; i += 32) {
    const T sum = warp_totals(x + i, lane);
    if (i + lane < n) partial[warp * n + i + lane] = sum;
  }
  __syncthreads();
#pragma unroll 1
  for (int i = thread; i < n; i += W) {
    T sum = partial[i];
    for (int w = 1; w < WARPS; w++) sum += partial[w * n + i];
    out[places[i]] = sum;
  }
}

// The products of p and q numbers of each of a tile's prompts, for several pairs of such vectors: a warp has a pair, or
// several, and where there are more warps than pairs, a part of a pair's prompts. An item is a pair and a part.
template <int p, int q, int pairs> struct Shared {
  static constexpr int parts = WARPS > pairs ? WARPS / pairs : 1, items = pairs * parts, n = p * q;
  static constexpr int registers = (n + 31) / 32 * 32, own = (items + WARPS - 1) / WARPS;  // of a thread; items of a warp

  template <class T> INLINE static void add(T* x, const T* rows, int item, int here, int lane) {
    const T* left = rows + item % pairs * (p + q) * W;
    for (int v = item / pairs * 32 + lane; v < here; v += 32 * parts) {
      T other[q];
#pragma unroll
      for (int j = 0; j < q; j++) other[j] = left[(p + j) * W + v];
#pragma unroll
      for (int i = 0; i < p; i++) {
        const T one = left[i * W + v];
#pragma unroll
        for (int j = 0; j < q; j++) x[i * q + j] += one * other[j];
      }
    }
  }
  template <class T> INLINE static void keep(T* sums, T* x, int item, int lane) {
#pragma unroll
    for (int i = 0; i < n; i += 32) {
      const T sum = warp_totals(x + i, lane);
      if (i + lane < n) sums[item * n + i + lane] += sum;
    }
  }

  // In registers over all tiles, and then to memory; or to memory after each tile, where they are too many.
  template <class T> INLINE static void add_all(T* x, const T* rows, int here, int thread) {
#pragma unroll
    for (int i = 0; i < own; i++) {
      const int item = thread / 32 + i * WARPS;
      if (item < items) add(x + i * registers, rows, item, here, thread % 32);
    }
  }
  template <class T> INLINE static void keep_all(T* sums, T* x, int thread) {
#pragma unroll
    for (int i = 0; i < own; i++) {
      const int item = thread / 32 + i * WARPS;
      if (item < items) keep(sums, x + i * registers, item, thread % 32);
    }
  }
  template <class T> INLINE static void add_and_keep(T* sums, const T* rows, int here, int thread) {
    for (int item = thread / 32; item < items; item += WARPS) {
      T x[registers] = {};
      add(x, rows, item, here, thread % 32);
      keep(sums, x, item, thread % 32);
    }
  }

  // The sums over parts, to their places; what was added up is zero again.
  template <class T> INLINE static void total(T* out, T* sums, const short* places, int thread) {
#pragma unroll 1
    for (int i = thread; i < n * pairs; i += W) {
      T sum = sums[i];
      sums[i] = 0;
      for (int part = 1; part < parts; part++) sum += sums[part * n * pairs + i], sums[part * n * pairs + i] = 0;
      out[places[i]] = sum;
    }
  }
};

template <class T> INLINE static inline void copy(T* out, const T* from, int n, int thread) {
#pragma unroll 1
  for (int i = thread; i < n; i += W) out[i] = from[i];
}
template <class T> INLINE static inline void zero(T* out, int n, int thread) {
#pragma unroll 1
  for (int i = thread; i < n; i += W) out[i] = 0;
}
#define EACH_TURN asm volatile("" ::: "memory")  // numbers in memory are read again, and do not fill registers
