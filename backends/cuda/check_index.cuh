// Part of every program that checks indices: are those between *low and *high inside of 0..size - 1? The first that
// isn't is written where the host looks after it has waited (backends/cuda/exec/device.h, ErrorRecord): {op, index,
// size}, op being a number that isn't 0. *low > *high: there were none.
extern "C" __global__ void __launch_bounds__(1)
gc_check_index(const i64* low, const i64* high, i64* record, i64 size, i64 op) {
  const i64 l = *low, h = *high;
  if (l > h || (l >= 0 && h < size) || record[0] != 0) return;
  record[1] = l < 0 ? l : h;
  record[2] = size;
  record[0] = op;
}
