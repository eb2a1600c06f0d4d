// What every generated program stands on: LANES prompts side by side, and a few functions of them.
// It includes no header: they would take longer to compile than most steps.

typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define INLINE __attribute__((always_inline))  // steps are long, and compilers cautious in long functions
#define NOINLINE __attribute__((noinline))
#define HIDDEN __attribute__((visibility("hidden")))  // of one program, not of all that are loaded

constexpr int W = LANES;
typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef double vd __attribute__((vector_size(8 * W)));
typedef int64_t vl __attribute__((vector_size(8 * W)));
typedef vf vf_at __attribute__((aligned(4)));
typedef vd vd_at __attribute__((aligned(8)));
INLINE static inline vf load(const float* p) { return *(const vf_at*)p; }
INLINE static inline vd load(const double* p) { return *(const vd_at*)p; }
INLINE static inline void store(float* p, vf x) { *(vf_at*)p = x; }
INLINE static inline void store(double* p, vd x) { *(vd_at*)p = x; }
INLINE static inline vf to_vf(vd x) { return __builtin_convertvector(x, vf); }
INLINE static inline vd to_vd(vf x) { return __builtin_convertvector(x, vd); }
INLINE static inline vi to_vi(vl m) { return __builtin_convertvector(m, vi); }
INLINE static inline vl to_vl(vi m) { return __builtin_convertvector(m, vl); }
INLINE static inline vu lane_numbers() {
  vu x;
  for (int i = 0; i < W; i++) x[i] = i;
  return x;
}
template <class F> INLINE static inline vd by_lane(vd x, F f) {
  for (int i = 0; i < W; i++) x[i] = f(x[i], i);
  return x;
}
template <class F> INLINE static inline vf by_lane(vf x, F f) {
  for (int i = 0; i < W; i++) x[i] = f(x[i], i);
  return x;
}
template <class M, class V> INLINE static inline V pick(M m, V a, V b) { return m ? a : b; }

template <class T> INLINE static inline T total(const T* x) {  // of W numbers, in a fixed order
  typedef T Four __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
  Four sums[W / 4];
#pragma GCC unroll 4
  for (int i = 0; i < W / 4; i++) sums[i] = *(const Four*)(x + 4 * i);
#pragma GCC unroll 2
  for (int n = W / 8; n; n /= 2)
#pragma GCC unroll 2
    for (int i = 0; i < n; i++) sums[i] += sums[i + n];
  return (sums[0][0] + sums[0][2]) + (sums[0][1] + sums[0][3]);
}
INLINE static inline float total(vf x) { return total((const float*)&x); }
INLINE static inline double total(vd x) { return total((const double*)&x); }

template <class V> INLINE static inline V only(V x, int64_t lanes) {  // the first of them, zeros after
  return by_lane(x, [=](auto one, int i) INLINE { return i < lanes ? one : 0; });
}

#define BY_LANE(name, single, full)                                                            \
  INLINE static inline float name(float x) { return single(x); }                                       \
  INLINE static inline double name(double x) { return full(x); }                                       \
  INLINE static inline vf name(vf x) { return by_lane(x, [](float one, int) INLINE { return single(one); }); } \
  INLINE static inline vd name(vd x) { return by_lane(x, [](double one, int) INLINE { return full(one); }); }
BY_LANE(f_sqrt, __builtin_sqrtf, __builtin_sqrt)
BY_LANE(f_sin, __builtin_sinf, __builtin_sin)
BY_LANE(f_cos, __builtin_cosf, __builtin_cos)
BY_LANE(f_tanh, __builtin_tanhf, __builtin_tanh)
#undef BY_LANE

// exp: 2^n times the series of the rest, |rest| <= log(2) / 2; infinite past the largest number, 0 below the smallest.
INLINE static inline float f_exp(float x) { return __builtin_expf(x); }
INLINE static inline double f_exp(double x) { return __builtin_exp(x); }
INLINE static inline vf f_exp(vf x) {
  const vf shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;  // adding 1.5 2^23 rounds to an integer
  const vf r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  vf y = r * 1.98412698e-4f + 1.38888889e-3f;
  y = y * r + 8.33333333e-3f;
  y = y * r + 4.16666667e-2f;
  y = y * r + 1.66666667e-1f;
  y = (y * r + 0.5f) * (r * r) + r + 1.0f;
  const vi power = (vi)shifted - 0x4b400000, half = power >> 1;  // 2^n may be out of range where the result is not
  y = y * (vf)((half + 127) << 23) * (vf)((power - half + 127) << 23);
  y = x < -104.0f ? vf{} : y;
  return x > 89.0f ? vf{} + __builtin_inff() : y;
}
INLINE static inline vd f_exp(vd x) {
  const vd shifted = x * 1.4426950408889634 + 6755399441055744.0, n = shifted - 6755399441055744.0;
  const vd r = (x - n * 0.6931471803691238) - n * 1.9082149292705877e-10;
  vd y = r * 1.6059043836821613e-10 + 2.08767569878681e-9;
  y = y * r + 2.505210838544172e-8;
  y = y * r + 2.7557319223985893e-7;
  y = y * r + 2.7557319223985893e-6;
  y = y * r + 2.48015873015873e-5;
  y = y * r + 1.984126984126984e-4;
  y = y * r + 1.388888888888889e-3;
  y = y * r + 8.333333333333333e-3;
  y = y * r + 4.1666666666666664e-2;
  y = y * r + 0.16666666666666666;
  y = (y * r + 0.5) * (r * r) + r + 1.0;
  const vl power = (vl)shifted - 0x4338000000000000, half = power >> 1;
  y = y * (vd)((half + 1023) << 52) * (vd)((power - half + 1023) << 52);
  y = x < -746.0 ? vd{} : y;
  return x > 710.0 ? vd{} + __builtin_inf() : y;
}

// Steps of several computations side by side, so that none waits for the one before it.
template <int N, class F> INLINE static inline void each(F step) {
#pragma GCC unroll 16
  for (int i = 0; i < N; i++) step(i);
}

// log of positive normal numbers: mantissa in [sqrt(1/2), sqrt(2)), then the series of log1p (Cephes, Moshier 1992).
template <int N> INLINE static inline void logs(const vf* x, vf* y) {
  vf e[N], m[N], z[N];
  each<N>([&](int i) INLINE {
    const vi bits = (vi)x[i] - 0x3f3504f3;
    e[i] = __builtin_convertvector(bits >> 23, vf);
    m[i] = (vf)((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
    z[i] = m[i] * m[i];
    y[i] = m[i] * 7.0376836292e-2f - 1.1514610310e-1f;
  });
  each<N>([&](int i) INLINE { y[i] = y[i] * m[i] + 1.1676998740e-1f; });
  each<N>([&](int i) INLINE { y[i] = y[i] * m[i] - 1.2420140846e-1f; });
  each<N>([&](int i) INLINE { y[i] = y[i] * m[i] + 1.4249322787e-1f; });
  each<N>([&](int i) INLINE { y[i] = y[i] * m[i] - 1.6668057665e-1f; });
  each<N>([&](int i) INLINE { y[i] = y[i] * m[i] + 2.0000714765e-1f; });
  each<N>([&](int i) INLINE { y[i] = y[i] * m[i] - 2.4999993993e-1f; });
  each<N>([&](int i) INLINE { y[i] = y[i] * m[i] + 3.3333331174e-1f; });
  each<N>([&](int i) INLINE { y[i] = y[i] * m[i] * z[i] - 2.12194440e-4f * e[i] - 0.5f * z[i]; });
  each<N>([&](int i) INLINE { y[i] = m[i] + y[i] + 0.693359375f * e[i]; });
}
INLINE static inline vf f_log(vf x) {
  const vi small = x < 1.17549435e-38f;  // and what is not positive
  const vf normal = small ? x * 8388608.0f : x;
  vf y;
  logs<1>(&normal, &y);
  y = small ? y - 15.9423851528787f : y;
  y = x > 0.0f ? y : x == 0.0f ? vf{} - __builtin_inff() : vf{} + __builtin_nanf("");
  return x > 3.40282347e+38f ? x : y;
}
INLINE static inline vd f_log(vd x) {
  return by_lane(x, [](double one, int) INLINE { return __builtin_log(one); });
}
INLINE static inline float f_log(float x) { return __builtin_logf(x); }
INLINE static inline double f_log(double x) { return __builtin_log(x); }

struct Stream { uint64_t a[10], b[10]; uint32_t word, step; };  // the key of each round; two words of all counters

static inline Stream stream_of(const int64_t* key, uint32_t step) {
  Stream stream;
  uint32_t k = key[0], l = key[1];
  for (int i = 0; i < 10; i++, k += 0x9E3779B9u, l += 0xBB67AE85u) stream.a[i] = k, stream.b[i] = l;
  stream.word = key[2], stream.step = step;
  return stream;
}

// The variates of counters from `first` on, four to a counter, for W prompts: W of the first variate, W of the second, ...
// `random.h` has those of up to four counters side by side.
#define DRAW(kind)                                                                                                   \
  template <int N> HIDDEN void kind(float* out, vu prompt, uint32_t first, const Stream& stream);                    \
  template <int count, int N> static void draw_##kind(float* out, vu prompt, uint32_t first, const Stream& stream) { \
    for (int c = 0; c + N <= count; c += N) kind<N>(out + 4 * c * W, prompt, first + c, stream);                     \
    constexpr int rest = count % N, c = count - rest;                                                                \
    if constexpr (rest > 0) kind<rest>(out + 4 * c * W, prompt, first + c, stream);                                  \
  }
DRAW(normals)
DRAW(uniforms)
#undef DRAW

// What looped code shares: accumulators, and products with symmetric matrices.
template <int n, class T> static inline void zero(T* sums) {
  for (int i = 0; i < n * W; i++) sums[i] = 0;
}
template <int n, class T> NOINLINE static void totals(T* out, const T* sums) {
  for (int i = 0; i < n; i++) out[i] = total(sums + i * W);
}
