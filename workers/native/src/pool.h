// Threads that run one function together, stage by stage.
#pragma once
#include <stdint.h>

struct Pool;
// The process's pool, made at its first use; `threads` counts the caller too. Another number makes it anew.
Pool* pool_of(int threads);
int pool_threads(const Pool*);
// body(context, thread) on every thread; returns when all have. One caller at a time, others wait.
void pool_run(Pool*, void (*body)(void*, int), void* context);
// Within a body: wait for all threads. What they wrote before is seen after.
void pool_barrier(Pool*);
