/* As much of NVML's ABI as sovereign/observations/gpus.py calls, over GPUs that are not there.
   SIMULATED_GPUS: one letter a GPU; a digit is its count of uncorrected errors, `n` counts none,
   `x` cannot be asked. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#define OK 0
#define NOT_SUPPORTED 3
#define LOST 15
typedef struct { unsigned long long total, free, used; } memory;
static const char *gpus(void) { const char *g = getenv("SIMULATED_GPUS"); return g ? g : ""; }
int nvmlInitWithFlags(unsigned f) { (void)f; return *gpus() == '!' ? 9 : OK; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int r) { (void)r; return "simulated"; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = strlen(gpus()); return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) {
  *h = (void *)(gpus() + i);
  return **(char **)h == 'x' ? LOST : OK;
}
int nvmlDeviceGetName(void *h, char *s, unsigned n) { (void)h; snprintf(s, n, "Simulated"); return OK; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { snprintf(s, n, "570.1"); return OK; }
int nvmlDeviceGetMemoryInfo(void *h, memory *m) { (void)h; memset(m, 0, sizeof *m); m->total = 1024; return OK; }
int nvmlDeviceGetTotalEccErrors(void *h, int type, int kind, unsigned long long *n) {
  char c = *(char *)h;
  if (c == 'n') return NOT_SUPPORTED;
  *n = (type == 1 && kind == 0) ? (unsigned long long)(c - '0') : 99;
  return OK;
}
