// Which schedule a contraction gets: every legal one with an estimate of its time, in cycles of the whole
// card. The figures are those of a multiprocessor with 128 FMA lanes, four schedulers and 128 bytes a cycle
// from L1; they only have to put the choices in order.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "backends/cuda/kernels/contraction_plan.h"

namespace graphc::cuda {
namespace {

constexpr double kLaunch = 4000;       // another kernel, and the gap before it
constexpr double kLatency = 600;       // of a load from memory
constexpr int64_t kShared = 48 << 10;  // of a block
constexpr double kPartial = 256 << 20;  // bytes of partial sums, at most
constexpr int kWarp = 32;

struct Tile {
  int bm, bn, bk, tm, tn;
};
// A thread brings at most 18 elements at a time: they and their addresses lie in registers.
constexpr Tile kTiles[] = {
    {128, 128, 8, 8, 8}, {128, 64, 16, 8, 4}, {64, 128, 16, 4, 8}, {64, 64, 16, 4, 4}, {64, 64, 16, 8, 4},
    {32, 128, 16, 4, 8}, {32, 64, 16, 4, 4},  {64, 32, 16, 4, 4},  {32, 32, 16, 4, 4}, {32, 32, 32, 2, 4},
    {16, 128, 16, 4, 4}, {16, 64, 16, 2, 4},  {8, 128, 16, 4, 2},  {8, 256, 8, 4, 4},  {128, 16, 16, 4, 4},
    {128, 8, 16, 2, 4},  {16, 16, 32, 2, 2},  {4, 256, 8, 2, 4},
};

class Chooser {
 public:
  Chooser(const ContractionPlan& p, const CudaTarget& target)
      : p_(p),
        sms_(static_cast<double>(std::max<int64_t>(1, target.multiprocessors))),
        batch_(static_cast<double>(guess_size(p.batch))),
        m_(static_cast<double>(guess_size(p.m))),
        n_(static_cast<double>(guess_size(p.n))),
        k_(static_cast<double>(std::max<int64_t>(1, guess_size(p.k)))),
        bytes_(static_cast<double>(dtype_size(p.acc_type))) {}

  std::vector<ContractionChoice> all() {
    direct();
    for (const Tile& t : kTiles) tiles(t);
    dots();
    columns();
    std::ranges::stable_sort(out_, {}, &ContractionChoice::cycles);
    return std::move(out_);
  }

 private:
  // The cost of an FMA relative to f32's.
  double width() const { return bytes_ > 4 ? 2 : 1; }
  // Instructions to bring one element.
  static double fetch(const ContractionOperand& o) { return 10 + 1.5 * static_cast<double>(o.cost); }
  // Transactions of a warp's load where neighbours are `stride` elements apart.
  double sectors(int64_t stride) const {
    return std::clamp(static_cast<double>(stride) * bytes_ / 4, 1.0, static_cast<double>(kWarp)) + 1;
  }

  // Shares of k: only where the partial sums' size is known, each with enough to do.
  std::vector<int> splits(double least) const {
    std::vector<int> s = {1};
    if (!(p_.batch * p_.m * p_.n).is_constant()) return s;
    const double c = batch_ * m_ * n_ * bytes_;
    for (int n = 2; n <= 256 && k_ / n >= least && c * n <= kPartial; n *= 2) s.push_back(n);
    return s;
  }
  double combine(int splits) const {
    if (splits == 1) return 0;
    const double c = batch_ * m_ * n_ * bytes_;
    return kLaunch + c * (splits + 1) / (sms_ * 20) * 1.5 + splits * 30;
  }

  // Blocks one after the other where there are more than fit, `per_sm` at a time.
  double rounds(double blocks, double per_sm) const { return std::ceil(blocks / (sms_ * per_sm)); }

  void tiles(const Tile& t) {
    ContractionChoice c;
    c.schedule = ContractionSchedule::kTiles;
    c.bm = t.bm, c.bn = t.bn, c.bk = t.bk, c.tm = t.tm, c.tn = t.tn;
    for (int s : splits(4.0 * t.bk)) {
      c.splits = s;
      const int64_t shared = tiles_shared_bytes(p_, c);
      if (shared > kShared) continue;
      const double threads = c.threads();
      const double blocks = batch_ * s * std::ceil(m_ / t.bm) * std::ceil(n_ / t.bn);
      const double registers = (t.tm * t.tn * width() + 40) * threads;
      const double fit = std::clamp(
          std::min({65536 / registers, 200.0 * 1024 / static_cast<double>(shared), 2048 / threads}), 1.0,
          16.0);
      const double resident = std::clamp(std::ceil(blocks / sms_), 1.0, std::floor(fit));
      // one step of k, of all resident blocks together
      const double fma = t.bm * t.bn / 128.0 * width();
      const double issue = threads / 128 * ((t.tm + t.tn) * bytes_ / 16 + 1);
      const double bring = (t.bm * fetch(p_.a) + t.bn * fetch(p_.b)) / 128;
      const double memory = (t.bm + t.bn) * bytes_ / 40;
      const double busy = resident * std::max({fma + issue + bring, memory});
      const double alone = std::max(20 + (t.tm * t.tn + t.tm + t.tn) * 1.0, kLatency / t.bk);
      const double steps = std::ceil(k_ / s / t.bk) * t.bk;
      const double write = t.bm * t.bn / 128.0 * (6 + (s == 1 ? static_cast<double>(p_.c_cost) : 0.0));
      c.cycles =
          rounds(blocks, resident) * (steps * std::max(busy, alone) + 2 * kLatency + resident * write) +
          combine(s);
      out_.push_back(c);
    }
  }

  void dots() {
    const double coalesced = sectors(p_.a.stride_k) + sectors(p_.b.stride_k);
    for (int tm : {1, 2, 4, 8})
      for (int tn : {1, 2, 3, 4, 8, 9}) {
        if (tm * tn > 16 || (tm > m_ && tm > 1) || (tn > n_ && tn > 1)) continue;
        for (int warps : {8, 0}) {
          ContractionChoice c;
          c.schedule = ContractionSchedule::kDot;
          c.tm = tm, c.tn = tn, c.warps = warps;
          const double width_k = warps ? kWarp : 256;
          for (int s : splits(4 * width_k)) {
            c.splits = s;
            const double groups = batch_ * s * std::ceil(m_ / tm) * std::ceil(n_ / tn);
            const double per_sm = warps ? 48 : 6;
            const double steps = std::ceil(k_ / s / width_k);
            const double loads = tm * sectors(p_.a.stride_k) + tn * sectors(p_.b.stride_k);
            const double bring = (tm * fetch(p_.a) + tn * fetch(p_.b) + tm * tn) / 4;
            const double step = std::max(loads, bring) * (warps ? 1 : 8);  // of a multiprocessor
            const double finish =
                tm * tn * (warps ? 12.0 : 60.0) + static_cast<double>(p_.c_cost) * tm * tn / 4;
            const double resident = std::clamp(std::ceil(groups / sms_), 1.0, per_sm);
            const double alone = kLatency / 2 + coalesced;
            c.cycles = rounds(groups, resident) *
                           (steps * std::max(resident * step, alone) + kLatency + resident * finish) +
                       combine(s);
            out_.push_back(c);
          }
        }
      }
  }

  void columns() {
    for (int tm : {1, 2, 4, 8}) {
      if (tm > m_ && tm > 1) continue;
      ContractionChoice c;
      c.schedule = ContractionSchedule::kColumns;
      c.tm = tm;
      if (tiles_shared(tm) > kShared) continue;
      for (int s : splits(32)) {
        c.splits = s;
        const double blocks = batch_ * s * std::ceil(m_ / tm) * std::ceil(n_ / kWarp);
        const double steps = std::ceil(k_ / s / 8);
        const double loads = tm * 1.0 + sectors(p_.b.stride_x);
        const double bring = (tm * (fetch(p_.a) + 1) + fetch(p_.b)) / 4;
        const double resident = std::clamp(std::ceil(blocks / sms_), 1.0, 6.0);
        c.cycles = rounds(blocks, resident) *
                       (steps * std::max(resident * 8 * std::max(loads, bring), kLatency / 4) + 2 * kLatency +
                        resident * tm * (10.0 + static_cast<double>(p_.c_cost))) +
                   combine(s);
        out_.push_back(c);
      }
    }
  }
  int64_t tiles_shared(int tm) const { return static_cast<int64_t>(8 * tm * kWarp * bytes_); }

  void direct() {
    ContractionChoice c;
    const double warps = std::ceil(batch_ * m_ * n_ / kWarp);
    const double loads = 1 + sectors(p_.b.stride_x);
    const double bring = (fetch(p_.a) + fetch(p_.b) + 1) / 4;
    const double resident = std::clamp(std::ceil(warps / sms_), 1.0, 48.0);
    c.cycles = rounds(warps, resident) * (k_ * std::max(resident * std::max(loads, bring), 60.0) +
                                          2 * kLatency + resident * static_cast<double>(p_.c_cost) / 4);
    out_.push_back(c);
  }

  const ContractionPlan& p_;
  double sms_, batch_, m_, n_, k_, bytes_;
  std::vector<ContractionChoice> out_;
};

}  // namespace

std::string ContractionChoice::to_string() const {
  std::string s;
  switch (schedule) {
    case ContractionSchedule::kTiles: s = fmt::format("tiles {}x{}x{} of {}x{}", bm, bn, bk, tm, tn); break;
    case ContractionSchedule::kDot:
      s = fmt::format("dot {}x{} by {}", tm, tn, warps ? fmt::format("{} warps", warps) : "the block");
      break;
    case ContractionSchedule::kColumns: s = fmt::format("columns, {} rows", tm); break;
    case ContractionSchedule::kDirect: s = "direct"; break;
  }
  return splits > 1 ? fmt::format("{}, k in {}", s, splits) : s;
}

std::vector<ContractionChoice> contraction_choices(const ContractionPlan& p, const CudaTarget& target) {
  return Chooser(p, target).all();
}

}  // namespace graphc::cuda
