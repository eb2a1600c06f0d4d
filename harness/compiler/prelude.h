// What every generated program stands on: eight prompts side by side, Philox 4x32-10, and a few functions of them.
// It includes no header: they would take longer to compile than most steps.

typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define INLINE __attribute__((always_inline))  // steps are long, and compilers cautious in long functions

constexpr int W = 8;
typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef vf vf_at __attribute__((aligned(4)));
INLINE static inline vf load(const float* p) { return *(const vf_at*)p; }
INLINE static inline void store(float* p, vf x) { *(vf_at*)p = x; }

// Eight doubles, and eight conditions on them: one register, or two. What does not fit one register the compiler takes
// apart in a straight line, but keeps in memory in a loop; two structs of halves it takes apart in a loop, but not
// where there are thousands of them.
#if defined(__AVX512F__) || defined(STRAIGHT_LINE)
typedef double vd __attribute__((vector_size(8 * W)));
typedef int64_t vl __attribute__((vector_size(8 * W)));
typedef vd vd_at __attribute__((aligned(8)));
INLINE static inline vd load(const double* p) { return *(const vd_at*)p; }
INLINE static inline void store(double* p, vd x) { *(vd_at*)p = x; }
INLINE static inline vf to_vf(vd x) { return __builtin_convertvector(x, vf); }
INLINE static inline vd to_vd(vf x) { return __builtin_convertvector(x, vd); }
INLINE static inline vi to_vi(vl m) { return __builtin_convertvector(m, vi); }
INLINE static inline vl to_vl(vi m) { return __builtin_convertvector(m, vl); }
template <class F> INLINE static inline vd by_lane(vd x, F f) {
  for (int i = 0; i < W; i++) x[i] = f(x[i], i);
  return x;
}
#else
typedef double hd __attribute__((vector_size(4 * W)));
typedef int64_t hl __attribute__((vector_size(4 * W)));
typedef float hf __attribute__((vector_size(2 * W)));
typedef int32_t hi __attribute__((vector_size(2 * W)));
typedef hd hd_at __attribute__((aligned(8)));
struct vd;
struct vl {
  hl low, high;
  INLINE vl(hl a, hl b) : low(a), high(b) {}
  INLINE explicit vl(const vd& bits);
};
struct vd {
  hd low{}, high{};
  INLINE vd() {}
  INLINE vd(hd a, hd b) : low(a), high(b) {}
  INLINE explicit vd(const vl& bits) : low((hd)bits.low), high((hd)bits.high) {}
  INLINE double operator[](int i) const { return i < W / 2 ? low[i] : high[i - W / 2]; }
};
INLINE inline vl::vl(const vd& bits) : low((hl)bits.low), high((hl)bits.high) {}
#define ARITHMETIC(op)                                                                              \
  INLINE static inline vd operator op(vd a, vd b) { return {a.low op b.low, a.high op b.high}; }           \
  INLINE static inline vd operator op(vd a, double b) { return {a.low op b, a.high op b}; }                \
  INLINE static inline vd operator op(double a, vd b) { return {a op b.low, a op b.high}; }
#define COMPARISON(op)                                                                              \
  INLINE static inline vl operator op(vd a, vd b) { return {(hl)(a.low op b.low), (hl)(a.high op b.high)}; } \
  INLINE static inline vl operator op(vd a, double b) { return {(hl)(a.low op b), (hl)(a.high op b)}; }    \
  INLINE static inline vl operator op(double a, vd b) { return {(hl)(a op b.low), (hl)(a op b.high)}; }
#define LOGIC(op) \
  INLINE static inline vl operator op(vl a, vl b) { return {(hl)(a.low op b.low), (hl)(a.high op b.high)}; }
ARITHMETIC(+) ARITHMETIC(-) ARITHMETIC(*) ARITHMETIC(/)
COMPARISON(<) COMPARISON(<=) COMPARISON(>) COMPARISON(>=) COMPARISON(==) COMPARISON(!=)
LOGIC(&) LOGIC(|) LOGIC(==) LOGIC(!=)
#undef ARITHMETIC
#undef COMPARISON
#undef LOGIC
INLINE static inline vd operator-(vd a) { return {-a.low, -a.high}; }
INLINE static inline vl operator~(vl a) { return {~a.low, ~a.high}; }
INLINE static inline void operator+=(vd& a, vd b) { a = a + b; }
INLINE static inline vd load(const double* p) { return {*(const hd_at*)p, *(const hd_at*)(p + W / 2)}; }
INLINE static inline void store(double* p, vd x) { *(hd_at*)p = x.low, *(hd_at*)(p + W / 2) = x.high; }
#define JOINED(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7)
#define LOW(x) __builtin_shufflevector(x, x, 0, 1, 2, 3)
#define HIGH(x) __builtin_shufflevector(x, x, 4, 5, 6, 7)
INLINE static inline vf to_vf(vd x) { return JOINED(__builtin_convertvector(x.low, hf), __builtin_convertvector(x.high, hf)); }
INLINE static inline vd to_vd(vf x) { return {__builtin_convertvector(LOW(x), hd), __builtin_convertvector(HIGH(x), hd)}; }
INLINE static inline vi to_vi(vl m) { return JOINED(__builtin_convertvector(m.low, hi), __builtin_convertvector(m.high, hi)); }
INLINE static inline vl to_vl(vi m) { return {__builtin_convertvector(LOW(m), hl), __builtin_convertvector(HIGH(m), hl)}; }
template <class F> INLINE static inline vd by_lane(vd x, F f) {
  for (int i = 0; i < W / 2; i++) x.low[i] = f(x.low[i], i), x.high[i] = f(x.high[i], i + W / 2);
  return x;
}
INLINE static inline vd pick(vl m, vd a, vd b) { return {m.low ? a.low : b.low, m.high ? a.high : b.high}; }
#endif
template <class F> INLINE static inline vf by_lane(vf x, F f) {
  for (int i = 0; i < W; i++) x[i] = f(x[i], i);
  return x;
}
template <class M, class V> INLINE static inline V pick(M m, V a, V b) { return m ? a : b; }

template <class V> INLINE static inline auto total(V x) {  // of the lanes, in a fixed order
  return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

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

struct Key { uint64_t a[10], b[10]; };  // of each round

static inline Key schedule(uint32_t k, uint32_t l) {
  Key key;
  for (int i = 0; i < 10; i++, k += 0x9E3779B9u, l += 0xBB67AE85u) key.a[i] = k, key.b[i] = l;
  return key;
}

// As many 64-bit words as a register holds; of each the upper half may be anything.
#if defined(__AVX512F__)
constexpr int PARTS = 1;
#else
constexpr int PARTS = 2;
#endif
typedef uint64_t vq __attribute__((vector_size(8 * W / PARTS)));
typedef uint32_t vp __attribute__((vector_size(4 * W / PARTS)));

static inline vq multiply(vq x, uint32_t m) {  // the low words' products
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

static inline Words philox(vu prompt, uint32_t step, uint32_t counter, uint32_t stream, const Key& key) {
  Words words;
#pragma GCC unroll 2
  for (int part = 0; part < PARTS; part++) {
    vq a = __builtin_convertvector(((const vp*)&prompt)[part], vq);
    vq b = vq{} + step, c = vq{} + counter, d = vq{} + stream;
#pragma GCC unroll 10
    for (int i = 0; i < 10; i++) {
      vq p = multiply(a, 0xD2511F53u), q = multiply(c, 0xCD9E8D57u);
      a = (q >> 32) ^ b ^ key.a[i];
      c = (p >> 32) ^ d ^ key.b[i];
      b = q;
      d = p;
    }
    ((vp*)&words.a)[part] = __builtin_convertvector(a, vp);
    ((vp*)&words.b)[part] = __builtin_convertvector(b, vp);
    ((vp*)&words.c)[part] = __builtin_convertvector(c, vp);
    ((vp*)&words.d)[part] = __builtin_convertvector(d, vp);
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
