// Products with symmetric matrices, for prompts side by side. A prelude stands above.

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
