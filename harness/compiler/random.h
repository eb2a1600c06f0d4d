// Random streams: Philox 4x32-10 for LANES prompts side by side. They take longer to compile than most steps, so that
// they are compiled once, by themselves, and every program is linked with them. The prelude stands above.

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
  vq products;
  asm("vpmuludq %2, %1, %0" : "=v"(products) : "v"(x), "v"(all));
  return products;
#elif defined(__AVX2__)
  vq products;
  asm("vpmuludq %2, %1, %0" : "=x"(products) : "x"(x), "x"(all));
  return products;
#else
  return (x & 0xffffffffu) * all;
#endif
}

// The words of N counters from `first` on, four to a counter. In the first two rounds only the prompt's word differs from
// lane to lane, so that they take few operations, most of which the counters share.
template <int N> INLINE static inline void philox(vu prompt, uint32_t first, const Stream& stream, vu* words) {
  vq a[N][PARTS], b[N][PARTS], c[N][PARTS], d[N][PARTS];
#pragma GCC unroll 4
  for (int part = 0; part < PARTS; part++) {
    const vq own = multiply(__builtin_convertvector(((const vp*)&prompt)[part], vq), 0xD2511F53u);
    const vq next = multiply((own >> 32) ^ (stream.word ^ stream.b[0]), 0xCD9E8D57u);
    each<N>([&](int i) INLINE {
      const uint64_t q = (first + i) * (uint64_t)0xCD9E8D57u;
      const uint64_t p = (uint32_t)((q >> 32) ^ stream.step ^ stream.a[0]) * (uint64_t)0xD2511F53u;
      a[i][part] = (next >> 32) ^ (q ^ stream.a[1]);
      b[i][part] = next;
      c[i][part] = own ^ ((p >> 32) ^ stream.b[1]);
      d[i][part] = vq{} + p;
    });
  }
#pragma GCC unroll 8
  for (int round = 2; round < 10; round++)
#pragma GCC unroll 4
    for (int part = 0; part < PARTS; part++)
      each<N>([&](int i) INLINE {
        const vq p = multiply(a[i][part], 0xD2511F53u), q = multiply(c[i][part], 0xCD9E8D57u);
        a[i][part] = (q >> 32) ^ b[i][part] ^ stream.a[round];
        c[i][part] = (p >> 32) ^ d[i][part] ^ stream.b[round];
        b[i][part] = q;
        d[i][part] = p;
      });
#pragma GCC unroll 4
  for (int part = 0; part < PARTS; part++)
    each<N>([&](int i) INLINE {
      ((vp*)(words + 4 * i))[part] = __builtin_convertvector(a[i][part], vp);
      ((vp*)(words + 4 * i + 1))[part] = __builtin_convertvector(b[i][part], vp);
      ((vp*)(words + 4 * i + 2))[part] = __builtin_convertvector(c[i][part], vp);
      ((vp*)(words + 4 * i + 3))[part] = __builtin_convertvector(d[i][part], vp);
    });
}

// Box and Muller: the angle's quadrant from its top bits, sine and cosine within an eighth turn by polynomials.
template <int N> void normals(float* out, vu prompt, uint32_t first, const Stream& stream) {
  constexpr int P = 2 * N;  // pairs
  vu words[4 * N], turn[P];
  vf u[P], radius[P], t[P], z[P], sine[P], cosine[P];
  philox<N>(prompt, first, stream, words);
  each<P>([&](int i) INLINE { u[i] = __builtin_convertvector(words[2 * i], vf) * 0x1p-32f + 0x1p-33f; });
  logs<P>(u, radius);
  each<P>([&](int i) INLINE { radius[i] = f_sqrt(-2.0f * radius[i]); });
  each<P>([&](int i) INLINE { turn[i] = words[2 * i + 1] + 0x20000000u; });
  each<P>([&](int i) INLINE {
    t[i] = __builtin_convertvector((vi)((turn[i] & 0x3fffffffu) - 0x20000000u), vf) * 1.4629180792671596e-09f;
    z[i] = t[i] * t[i];
  });
  each<P>([&](int i) INLINE { sine[i] = -1.9515295891e-4f * z[i] + 8.3321608736e-3f; });
  each<P>([&](int i) INLINE { cosine[i] = 2.443315711809948e-5f * z[i] - 1.388731625493765e-3f; });
  each<P>([&](int i) INLINE { sine[i] = sine[i] * z[i] - 1.6666654611e-1f; });
  each<P>([&](int i) INLINE { cosine[i] = cosine[i] * z[i] + 4.166664568298827e-2f; });
  each<P>([&](int i) INLINE { sine[i] = sine[i] * z[i] * t[i] + t[i]; });
  each<P>([&](int i) INLINE { cosine[i] = cosine[i] * z[i] * z[i] - 0.5f * z[i] + 1.0f; });
  each<P>([&](int i) INLINE {
    const vi odd = (vi)(turn[i] & 0x40000000u) != 0;
    const vu s = (vu)(odd ? cosine[i] : sine[i]), c = (vu)(odd ? sine[i] : cosine[i]);
    store(out + 2 * i * W, radius[i] * (vf)(c ^ ((turn[i] + 0x40000000u) & 0x80000000u)));
    store(out + (2 * i + 1) * W, radius[i] * (vf)(s ^ (turn[i] & 0x80000000u)));
  });
}

template <int N> void uniforms(float* out, vu prompt, uint32_t first, const Stream& stream) {
  vu words[4 * N];
  philox<N>(prompt, first, stream, words);
  each<4 * N>([&](int i) INLINE {
    store(out + i * W, (__builtin_convertvector((vi)(words[i] >> 9), vf) + 0.5f) * 0x1p-23f);
  });
}

#define FORMS(kind)                                                           \
  template void kind<1>(float*, vu prompt, uint32_t first, const Stream&);    \
  template void kind<2>(float*, vu prompt, uint32_t first, const Stream&);    \
  template void kind<3>(float*, vu prompt, uint32_t first, const Stream&);    \
  template void kind<4>(float*, vu prompt, uint32_t first, const Stream&);
FORMS(normals)
FORMS(uniforms)
#undef FORMS
