// Threads of a block as coroutines of one thread, in an order that the caller chooses: each runs until a barrier or an
// exchange, and by chance stands still before. Where a barrier is missing, another order gives other numbers.
#include <ucontext.h>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

struct Three { unsigned x, y, z; };
Three threadIdx, blockIdx, gridDim;
extern "C" char emulated_shared[1 << 18];
alignas(64) char emulated_shared[1 << 18];

namespace {
enum State { READY, BARRIER, EXCHANGE, DONE };
struct Thread { ucontext_t context; State state; const void* value; int size, partner; std::vector<char> stack; };
std::vector<Thread> threads;
ucontext_t scheduler;
std::mt19937 chance;
int current;
bool pauses;
void (*body)();

void stop(State state) {
  threads[current].state = state;
  const int self = current;
  swapcontext(&threads[self].context, &scheduler);
}
void enter() { body(); stop(DONE); }
}

extern "C" void emulated_barrier() { stop(BARRIER); }
extern "C" void emulated_pause() {
  if (pauses && chance() % 8 == 0) stop(READY);
}
extern "C" void emulated_exchange(void* value, int size, int lanes) {
  char own[16], theirs[16];
  memcpy(own, value, size);
  Thread& self = threads[current];
  const int partner = (current & ~31) | ((current & 31) ^ lanes);
  self.value = own, self.size = size, self.partner = partner;
  stop(EXCHANGE);  // until all lanes of the warp have a value
  memcpy(theirs, threads[partner].value, size);
  stop(EXCHANGE);  // until all have read it
  memcpy(value, theirs, size);
}

// order: 0 forwards, 1 backwards, others at random from this seed.
extern "C" void emulate(void (*run)(), int blocks, int count, int order) {
  body = run;
  threads.resize(count);
  for (Thread& thread : threads) thread.stack.resize(1 << 17);
  chance.seed(order), pauses = order > 1;
  std::vector<int> turn(count);
  std::iota(turn.begin(), turn.end(), 0);
  for (int block = 0; block < blocks; block++) {
    memset(emulated_shared, 0xff, sizeof emulated_shared);  // not a number
    for (int i = 0; i < count; i++) {
      getcontext(&threads[i].context);
      threads[i].context.uc_stack.ss_sp = threads[i].stack.data();
      threads[i].context.uc_stack.ss_size = threads[i].stack.size();
      threads[i].context.uc_link = nullptr;
      makecontext(&threads[i].context, enter, 0);
      threads[i].state = READY;
    }
    for (;;) {
      if (order == 1) for (int i = 0; i < count; i++) turn[i] = count - 1 - i;
      if (order > 1) std::shuffle(turn.begin(), turn.end(), chance);
      for (int i : turn)
        if (threads[i].state == READY) {
          current = i;
          threadIdx = {(unsigned)i, 0, 0}, blockIdx = {(unsigned)block, 0, 0}, gridDim = {(unsigned)blocks, 1, 1};
          swapcontext(&scheduler, &threads[i].context);
        }
      int done = 0, waiting = 0;
      bool moved = false;
      for (Thread& thread : threads) {
        done += thread.state == DONE, waiting += thread.state == BARRIER;
        moved |= thread.state == READY;
      }
      if (done == count) break;
      for (int warp = 0; warp < count; warp += 32) {
        int exchanging = 0;
        for (int i = warp; i < warp + 32; i++) exchanging += threads[i].state == EXCHANGE;
        if (exchanging == 32) {
          moved = true;
          for (int i = warp; i < warp + 32; i++) threads[i].state = READY;
        } else if (exchanging && done + waiting + exchanging == count) {
          fprintf(stderr, "an exchange that only %d lanes of a warp take part in\n", exchanging);
          abort();
        }
      }
      if (moved) continue;
      if (waiting != count) {
        fprintf(stderr, "a barrier that only %d of %d threads reach\n", waiting, count);
        abort();
      }
      for (Thread& thread : threads) thread.state = READY;
    }
  }
  threads.clear();  // their stacks: every kernel of a process has some megabytes of them
}
