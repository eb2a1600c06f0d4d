// What every generated program stands on: LANES prompts side by side, Philox 4x32-10, and a few functions of them.
// It includes no header: they would take longer to compile than most steps.

typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define INLINE __attribute__((always_inline))  // steps are long, and compilers cautious in long functions
#define NOINLINE __attribute__((noinline))

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
BY_LANE(f_exp, __builtin_expf, __builtin_exp)
BY_LANE(f_sin, __builtin_sinf, __builtin_sin)
BY_LANE(f_cos, __builtin_cosf, __builtin_cos)
BY_LANE(f_tanh, __builtin_tanhf, __builtin_tanh)
#undef BY_LANE

// log of positive normal numbers: mantissa in [sqrt(1/2), sqrt(2)), then the series of log1p (Cephes, Moshier 1992).
INLINE static inline vf f_log(vf x) {
  vi bits = (vi)x;
  vi e = ((bits >> 23) & 0xff) - 126;
  vf m = (vf)((bits & 0x007fffff) | 0x3f000000);
  vi low = m < 0.707106781186547524f;
  e += low;
  m = (low ? m + m : m) - 1.0f;
  vf z = m * m, fe = __builtin_convertvector(e, vf);
  vf y = m * 7.0376836292e-2f - 1.1514610310e-1f;
  y = y * m + 1.1676998740e-1f;
  y = y * m - 1.2420140846e-1f;
  y = y * m + 1.4249322787e-1f;
  y = y * m - 1.6668057665e-1f;
  y = y * m + 2.0000714765e-1f;
  y = y * m - 2.4999993993e-1f;
  y = y * m + 3.3333331174e-1f;
  y = y * m * z - 2.12194440e-4f * fe - 0.5f * z;
  return m + y + 0.693359375f * fe;
}
INLINE static inline vd f_log(vd x) {
  return by_lane(x, [](double one, int) INLINE { return __builtin_log(one); });
}
INLINE static inline float f_log(float x) { return __builtin_logf(x); }
INLINE static inline double f_log(double x) { return __builtin_log(x); }

struct Words { vu a, b, c, d; };

struct Stream { uint64_t a[10], b[10]; uint32_t word, step; };  // the key of each round; two words of all counters

static inline Stream stream_of(const int64_t* key, uint32_t step) {
  Stream stream;
  uint32_t k = key[0], l = key[1];
  for (int i = 0; i < 10; i++, k += 0x9E3779B9u, l += 0xBB67AE85u) stream.a[i] = k, stream.b[i] = l;
  stream.word = key[2], stream.step = step;
  return stream;
}

// As many 64-bit words as a register holds; of each the upper half may be anything.
#if defined(__AVX512F__)
constexpr int PARTS = W > 8 ? W / 8 : 1;
#else
constexpr int PARTS = W > 4 ? W / 4 : 1;
#endif
typedef uint64_t vq __attribute__((vector_size(8 * W / PARTS)));
typedef uint32_t vp __attribute__((vector_size(4 * W / PARTS)));

INLINE static inline vq multiply(vq x, uint32_t m) {  // the low words' products
  vq all = vq{} + m;
#if defined(__AVX512F__)
  asm("vpmuludq %1, %0, %0" : "+v"(x) : "v"(all));
  return x;
#elif defined(__AVX2__)
  asm("vpmuludq %1, %0, %0" : "+x"(x) : "x"(all));
  return x;
#else
  return (x & 0xffffffffu) * all;
#endif
}

INLINE static inline Words philox(vu prompt, uint32_t counter, const Stream& stream) {
  Words words;
  vq a[PARTS], b[PARTS], c[PARTS], d[PARTS];
  for (int part = 0; part < PARTS; part++) {
    a[part] = __builtin_convertvector(((const vp*)&prompt)[part], vq);
    b[part] = vq{} + stream.step, c[part] = vq{} + counter, d[part] = vq{} + stream.word;
  }
#pragma GCC unroll 10
  for (int i = 0; i < 10; i++)
#pragma GCC unroll 4
    for (int part = 0; part < PARTS; part++) {
      vq p = multiply(a[part], 0xD2511F53u), q = multiply(c[part], 0xCD9E8D57u);
      a[part] = (q >> 32) ^ b[part] ^ stream.a[i];
      c[part] = (p >> 32) ^ d[part] ^ stream.b[i];
      b[part] = q;
      d[part] = p;
    }
  for (int part = 0; part < PARTS; part++) {
    ((vp*)&words.a)[part] = __builtin_convertvector(a[part], vp);
    ((vp*)&words.b)[part] = __builtin_convertvector(b[part], vp);
    ((vp*)&words.c)[part] = __builtin_convertvector(c[part], vp);
    ((vp*)&words.d)[part] = __builtin_convertvector(d[part], vp);
  }
  return words;
}

// Box and Muller: the angle's quadrant from its top bits, sine and cosine within an eighth turn by polynomials.
static inline void normal_pair(vu x, vu y, vf& first, vf& second) {
  vf u = (__builtin_convertvector(x, vf) + 0.5f) * 0x1p-32f;
  vf radius = f_sqrt(-2.0f * f_log(u));
  vu quadrant = (y + 0x20000000u) >> 30;
  vf t = __builtin_convertvector((vi)(y - (quadrant << 30)), vf) * 1.4629180792671596e-09f;
  vf z = t * t;
  vf sine = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * t + t;
  vf cosine = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
  vi odd = (vi)(quadrant & 1u) != 0;
  vi flip_sine = (vi)(quadrant & 2u) != 0, flip_cosine = (vi)((quadrant + 1u) & 2u) != 0;
  vf s = odd ? cosine : sine, c = odd ? sine : cosine;
  first = radius * (flip_cosine ? -c : c);
  second = radius * (flip_sine ? -s : s);
}

static inline void normals(Words w, vf out[4]) {
  normal_pair(w.a, w.b, out[0], out[1]);
  normal_pair(w.c, w.d, out[2], out[3]);
}

static inline vf uniform(vu x) { return (__builtin_convertvector((vi)(x >> 9), vf) + 0.5f) * 0x1p-23f; }
static inline void uniforms(Words w, vf out[4]) {
  out[0] = uniform(w.a);
  out[1] = uniform(w.b);
  out[2] = uniform(w.c);
  out[3] = uniform(w.d);
}

// What looped code shares: the variates of several counters, accumulators, and products with symmetric matrices.
typedef void Conversion(Words, vf*);
template <int count> NOINLINE static void draw(float* out, vu index, uint32_t first, const Stream& stream, Conversion convert) {
  for (int c = 0; c < count; c++) {
    vf z[4];
    convert(philox(index, first + c, stream), z);
    for (int i = 0; i < 4; i++) store(out + (c * 4 + i) * W, z[i]);
  }
}
template <int n, class T> static inline void zero(T* sums) {
  for (int i = 0; i < n * W; i++) sums[i] = 0;
}
template <int n, class T> NOINLINE static void totals(T* out, const T* sums) {
  for (int i = 0; i < n; i++) out[i] = total(sums + i * W);
}

// y = S x, rows i to i + R of what is on and below the diagonal: every element is read once and used twice.
template <int n, int R, class T> INLINE static inline void symmetric_rows(int i, T* __restrict y, const T* __restrict S, const T* __restrict x) {
  typedef decltype(load(x)) V;
  V sums[R], own[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) sums[r] = V{}, own[r] = load(x + (i + r) * W);
  for (int j = 0; j < i; j++) {
    V other = load(x + j * W), back = load(y + j * W);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      V s = load(S + ((i + r) * n + j) * W);
      sums[r] += s * other;
      back += s * own[r];
    }
    store(y + j * W, back);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
    for (int q = 0; q < r; q++) {
      V s = load(S + ((i + r) * n + i + q) * W);
      sums[r] += s * own[q];
      sums[q] += s * own[r];
    }
    sums[r] += load(S + ((i + r) * n + i + r) * W) * own[r];
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) store(y + (i + r) * W, sums[r]);
}
template <int n, class T> NOINLINE static void symmetric_product(T* __restrict y, const T* __restrict S, const T* __restrict x) {
  constexpr int R = 5;
  for (int i = 0; i + R <= n; i += R) symmetric_rows<n, R>(i, y, S, x);
  if constexpr (n % R != 0) symmetric_rows<n, n % R>(n / R * R, y, S, x);
}
