// A block of threads on the host, for kernels: what CUDA gives them, by functions of `emulated.cpp`.
#define __global__
#define __device__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__
#define shared emulated_shared  // the kernel's own name for it
struct Three { unsigned x, y, z; };
extern "C" void emulated_barrier();
extern "C" void emulated_pause();
extern "C" void emulated_exchange(void* value, int size, int lane);
extern Three threadIdx, blockIdx, gridDim;
#define __syncthreads emulated_barrier
template <class T> static inline T __shfl_xor_sync(unsigned, T x, int lanes) {
  emulated_exchange(&x, sizeof x, lanes);
  return x;
}
template <class To, class From> static inline To same_bits(From x) {
  To to;
  __builtin_memcpy(&to, &x, sizeof to);
  return to;
}
#define __longlong_as_double(x) same_bits<double>((long long)(x))
#define __float_as_int same_bits<int>
#define __float_as_uint same_bits<unsigned>
#define __int_as_float same_bits<float>
#define __uint_as_float same_bits<float>
static inline unsigned __umulhi(unsigned a, unsigned b) { return ((unsigned long long)a * b) >> 32; }
static inline float sqrtf(float x) { return __builtin_sqrtf(x); }
static inline double sqrt(double x) { return __builtin_sqrt(x); }
static inline float sinf(float x) { return __builtin_sinf(x); }
static inline double sin(double x) { return __builtin_sin(x); }
static inline float cosf(float x) { return __builtin_cosf(x); }
static inline double cos(double x) { return __builtin_cos(x); }
static inline float tanhf(float x) { return __builtin_tanhf(x); }
static inline double tanh(double x) { return __builtin_tanh(x); }
static inline double exp(double x) { return __builtin_exp(x); }
static inline double log(double x) { return __builtin_log(x); }
template <class A, class B> static inline double pow(A x, B y) { return __builtin_pow(x, y); }
