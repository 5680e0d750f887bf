// Sources of the polynomials: exp f32, atan f32: SLEEF (Boost licence); log, sin, cos f32: Cephes; erf f32:
// N. Juffa; log, sin, cos f64: FreeBSD's msun; erf, atan f64: Chebyshev fits by mpmath; exp f64: Taylor.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <numbers>

#include <llvm/IR/Intrinsics.h>

#include "backends/cpu/vector_math.inc"

namespace graphc::cpu_emit {
namespace {

using namespace llvm;

// One function being expanded: the element type decides between the f32 and the f64 forms.
class Math {
 public:
  Math(IRBuilder<>& b, Type* t) : b_(b), t_(t), f32_(t->getScalarType()->isFloatTy()) {
    Type* i = f32_ ? b.getInt32Ty() : b.getInt64Ty();
    ti_ = t->isVectorTy() ? FixedVectorType::get(i, cast<FixedVectorType>(t)->getNumElements()) : i;
  }

  Value* exp(Value* x);
  Value* expm1(Value* x, double clamp_high = 0);
  Value* log(Value* x, bool plus_one);
  Value* tanh(Value* x);
  Value* erf(Value* x);
  void sin_cos(Value* x, Value** sine, Value** cosine);
  Value* pow(Value* x, Value* y);
  Value* atan2(Value* y, Value* x);
  Value* rem(Value* a, Value* b);
  Value* sqrt(Value* x) { return b_.CreateUnaryIntrinsic(Intrinsic::sqrt, x); }
  Value* c(double v) { return ConstantFP::get(t_, v); }
  Value* div(Value* a, Value* b) { return b_.CreateFDiv(a, b); }

 private:
  Value* ci(int64_t v) { return ConstantInt::get(ti_, static_cast<uint64_t>(v), true); }
  Value* fma(Value* a, Value* b, Value* d) {
    return b_.CreateIntrinsic(Intrinsic::fma, {a->getType()}, {a, b, d});
  }
  Value* mul(Value* a, Value* b) { return b_.CreateFMul(a, b); }
  Value* add(Value* a, Value* b) { return b_.CreateFAdd(a, b); }
  Value* sub(Value* a, Value* b) { return b_.CreateFSub(a, b); }
  Value* neg(Value* a) { return b_.CreateFNeg(a); }
  Value* abs(Value* a) { return b_.CreateUnaryIntrinsic(Intrinsic::fabs, a); }
  Value* select(Value* m, Value* a, Value* b) { return b_.CreateSelect(m, a, b); }
  Value* bits(Value* a) { return b_.CreateBitCast(a, ti_); }
  Value* real(Value* a) { return b_.CreateBitCast(a, t_); }
  Value* lt(Value* a, Value* b) { return b_.CreateFCmpOLT(a, b); }
  Value* gt(Value* a, Value* b) { return b_.CreateFCmpOGT(a, b); }
  Value* eq(Value* a, Value* b) { return b_.CreateFCmpOEQ(a, b); }
  Value* nan() { return c(std::numeric_limits<double>::quiet_NaN()); }
  Value* inf() { return c(std::numeric_limits<double>::infinity()); }
  Value* copysign(Value* mag, Value* sign) {
    return b_.CreateBinaryIntrinsic(Intrinsic::copysign, mag, sign);
  }
  // Horner, highest degree first.
  Value* poly(Value* x, std::initializer_list<double> k) {
    Value* p = nullptr;
    for (double v : k) p = p ? fma(p, x, c(v)) : c(v);
    return p;
  }
  // NaN passes.
  Value* clamp(Value* x, double lo, double hi) {
    x = select(lt(x, c(lo)), c(lo), x);
    return select(gt(x, c(hi)), c(hi), x);
  }
  int mantissa() const { return f32_ ? 23 : 52; }
  int bias() const { return f32_ ? 127 : 1023; }
  // 2^n for n in the range of normal exponents.
  Value* pow2(Value* n) { return real(b_.CreateShl(b_.CreateAdd(n, ci(bias())), ci(mantissa()))); }
  // x = n ln2 + r, |r| <= ln2/2; n as an integer and as a float. x is clamped before; NaN gives a NaN r and
  // some n.
  Value* reduce_exp(Value* x, Value** n, Value** nf) {
    double magic =
        f32_ ? 12582912.0 : 6755399441055744.0;  // 1.5 * 2^mantissa: rounds and leaves n in the low bits
    Value* t = fma(x, c(std::numbers::log2e), c(magic));
    *n = b_.CreateSub(bits(t), bits(c(magic)));
    *nf = sub(t, c(magic));
    double hi = f32_ ? 0.693359375 : 6.93147180369123816490e-01;
    double lo = f32_ ? -2.12194440054690581e-4 : 1.90821492927058770002e-10;
    return fma(*nf, c(-lo), fma(*nf, c(-hi), x));
  }
  // u of e^r = 1 + r + r^2 u
  Value* exp_tail(Value* r) {
    if (f32_)
      return poly(r,
                  {0.000198527617612853646278381, 0.00139304355252534151077271, 0.00833336077630519866943359,
                   0.0416664853692054748535156, 0.166666671633720397949219, 0.5});
    Value* p = nullptr;
    double factorial[14] = {1};
    for (int i = 1; i < 14; ++i) factorial[i] = factorial[i - 1] * i;
    for (int i = 13; i >= 2; --i) p = p ? fma(p, r, c(1 / factorial[i])) : c(1 / factorial[i]);
    return p;
  }
  Value* sin_cos_reduce_large(Value* x, Value** quadrant);

  IRBuilder<>& b_;
  Type* t_;
  Type* ti_;
  bool f32_;
};

Value* Math::exp(Value* x) {
  Value *n, *nf;
  Value* clamped = f32_ ? clamp(x, -104, 89) : clamp(x, -746, 710);
  Value* r = reduce_exp(clamped, &n, &nf);
  Value* p = add(fma(mul(r, r), exp_tail(r), r), c(1));
  // in two steps, as 2^n alone may be subnormal or too large
  Value* half = b_.CreateAShr(n, ci(1));
  return mul(mul(p, pow2(half)), pow2(b_.CreateSub(n, half)));
}

// e^x - 1 = 2 (s q + s - 1/2) with s = 2^(n-1), q = e^r - 1
Value* Math::expm1(Value* x, double clamp_high) {
  Value *n, *nf;
  double high = clamp_high ? clamp_high : f32_ ? 89 : 710;
  Value* r = reduce_exp(clamp(x, f32_ ? -30 : -60, high), &n, &nf);
  Value* q = fma(mul(r, r), exp_tail(r), r);
  Value* s = pow2(b_.CreateSub(n, ci(1)));
  Value* y = fma(s, q, sub(s, c(0.5)));
  y = select(b_.CreateICmpEQ(n, ci(0)), q, add(y, y));
  return select(eq(x, c(0)), x, y);
}

Value* Math::log(Value* x, bool plus_one) {
  Value* u = x;
  Value* correction = nullptr;  // 1 + x = u + correction
  Value* scale_exponent = nullptr;
  if (plus_one) {
    u = add(x, c(1));
    correction = select(gt(x, c(1)), sub(c(1), sub(u, x)), sub(x, sub(u, c(1))));
  } else {  // subnormals are made normal
    double tiny = f32_ ? 0x1p-126 : 0x1p-1022, up = f32_ ? 0x1p23 : 0x1p52;
    Value* small = lt(x, c(tiny));
    u = select(small, mul(x, c(up)), x);
    scale_exponent = select(small, ci(-mantissa()), ci(0));
  }
  // u = 2^e m, sqrt(1/2) <= m < sqrt(2)
  Value* i = bits(u);
  int64_t sqrt_half = f32_ ? 0x3f3504f3 : 0x3fe6a09e667f3bcd;
  Value* e = b_.CreateAShr(b_.CreateSub(i, ci(sqrt_half)), ci(mantissa()));
  Value* m = real(b_.CreateSub(i, b_.CreateShl(e, ci(mantissa()))));
  Value* f = sub(m, c(1));
  if (plus_one) {  // correction * 2^-e; where e is large the correction is nothing
    Value* limit = ci(bias() - 1);
    Value* clipped = select(b_.CreateICmpSLT(e, limit), e, limit);
    f = fma(correction, pow2(b_.CreateNeg(clipped)), f);
  }
  if (scale_exponent) e = b_.CreateAdd(e, scale_exponent);
  Value* ef = b_.CreateSIToFP(e, t_);
  Value* result;
  if (f32_) {
    Value* p = poly(f, {7.0376836292E-2, -1.1514610310E-1, 1.1676998740E-1, -1.2420140846E-1, 1.4249322787E-1,
                        -1.6668057665E-1, 2.0000714765E-1, -2.4999993993E-1, 3.3333331174E-1});
    Value* f2 = mul(f, f);
    Value* y = mul(mul(f, f2), p);
    y = fma(ef, c(-2.12194440e-4), y);
    y = fma(f2, c(-0.5), y);
    result = fma(ef, c(0.693359375), add(f, y));
  } else {
    Value* s = div(f, add(f, c(2)));
    Value* z = mul(s, s);
    Value* r = mul(z, poly(z, {1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
                               2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
                               6.666666666666735130e-01}));
    Value* half_square = mul(mul(f, f), c(0.5));
    Value* low = fma(ef, c(1.90821492927058770002e-10), mul(s, add(half_square, r)));
    result = fma(ef, c(6.93147180369123816490e-01), sub(f, sub(half_square, low)));
  }
  result = select(eq(u, c(0)), c(-std::numeric_limits<double>::infinity()), result);
  result = select(eq(u, inf()), u, result);
  Value* outside = plus_one ? b_.CreateFCmpULT(x, c(-1)) : b_.CreateFCmpULT(x, c(0));  // or NaN
  result = select(outside, nan(), result);
  return plus_one ? select(eq(x, c(0)), x, result) : result;
}

Value* Math::tanh(Value* x) {
  Value* a = abs(x);
  Value* e = expm1(add(a, a), f32_ ? 20 : 40);
  return copysign(div(e, add(e, c(2))), x);
}

Value* Math::erf(Value* x) {
  Value* a = abs(x);
  Value* s = mul(x, x);
  if (f32_) {
    // where |x| > 475/512: 1 - exp(polynomial)
    Value* r = poly(a, {-1.72853470e-5, 3.83197126e-4});
    Value* u = poly(a, {-3.88396438e-3, 2.42546219e-2});
    r = fma(r, s, u);
    r = fma(r, a, c(-1.06777877e-1));
    r = fma(r, a, c(-6.34846687e-1));
    r = fma(r, a, c(-1.28717512e-1));
    r = fma(r, a, neg(a));
    Value* large = copysign(sub(c(1), exp(r)), x);
    Value* p = poly(
        s, {-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1});
    Value* small = fma(p, x, x);
    // beyond 4 the polynomial's powers overflow, and erf is 1
    large = select(gt(a, c(4)), copysign(c(1), x), large);
    return select(gt(a, c(0.927734375)), large, small);
  }
  Value* p = poly(s, {5.957176147748911e-11, -1.1372848856791674e-09, 1.4659775274047436e-08,
                      -1.6350312701054695e-07, 1.6461000484121368e-06, -1.4925595266831182e-05,
                      0.0001205533111164271, -0.000854832698083379, 0.0052239776248180145,
                      -0.026866170645076792, 0.11283791670954879, -0.3761263890318375, 1.1283791670955126});
  Value* small = mul(p, x);
  Value* a6 = select(gt(a, c(6)), c(6), a);
  Value* t = div(c(1), fma(a6, c(0.5), c(1)));
  // erfc(x) e^(x^2) in 1 / (1 + x/2)
  Value* q = poly(
      t, {-0.07440021243346044, 0.5535022023245029, -1.8535316382081848, 3.6426059404027527,
          -4.583844406614994, 3.799359906028882, -2.1298439188930316, 0.9210072415249974, -0.3377317752090611,
          0.0031605924750990814, -0.011294696331083888, 0.08342915067749279, 0.17661452876291867,
          0.24676994208173553, 0.28210194185256204, 0.28209433744603646, 1.273194538411999e-08});
  Value* large = copysign(sub(c(1), mul(exp(neg(mul(a6, a6))), q)), x);
  return select(gt(a, c(1)), large, select(eq(x, c(0)), x, small));
}

// Payne and Hanek: the product of the mantissa with the 96 bits of 2/pi that decide the quadrant and the
// remainder. f32 only.
Value* Math::sin_cos_reduce_large(Value* x, Value** quadrant) {
  // 2/pi / 4 in words of 32 bits
  static const uint32_t kTwoOverPi[] = {0x28be60db, 0x9391054a, 0x7f09d5f4, 0x7d4d3770,
                                        0x36d8a566, 0x4f10e410, 0x7f9458ea};
  Value* ia = bits(x);
  Type* t64 = t_->isVectorTy() ? static_cast<Type*>(FixedVectorType::get(
                                     b_.getInt64Ty(), cast<FixedVectorType>(t_)->getNumElements()))
                               : b_.getInt64Ty();
  auto c64 = [&](uint64_t v) { return ConstantInt::get(t64, v); };
  Value* e = b_.CreateSub(b_.CreateAnd(b_.CreateLShr(ia, ci(23)), ci(0xff)), ci(126));
  Value* word = b_.CreateAShr(e, ci(5));
  Value* shift = b_.CreateAnd(e, ci(31));
  Value* man =
      b_.CreateOr(b_.CreateShl(b_.CreateAnd(ia, ci(0x7fffff)), ci(8)), ci(static_cast<int32_t>(0x80000000)));
  auto pick = [&](int offset) {  // word + offset of the table, -1 gives 0
    Value* v = ci(0);
    for (int i = 0; i < 7; ++i)
      v = select(b_.CreateICmpEQ(word, ci(i - offset)), ci(static_cast<int32_t>(kTwoOverPi[i])), v);
    return v;
  };
  Value *hi = pick(-1), *mid = pick(0), *lo = pick(1), *next = pick(2);
  Value* back = b_.CreateAnd(b_.CreateSub(ci(32), shift), ci(31));
  Value* shifted = b_.CreateICmpNE(shift, ci(0));
  auto funnel = [&](Value* a, Value* b) {
    return select(shifted, b_.CreateOr(b_.CreateShl(a, shift), b_.CreateLShr(b, back)), a);
  };
  hi = funnel(hi, mid);
  mid = funnel(mid, lo);
  lo = funnel(lo, next);
  auto wide = [&](Value* v) { return b_.CreateZExt(v, t64); };
  Value* p = b_.CreateMul(wide(man), wide(lo));
  p = b_.CreateAdd(b_.CreateMul(wide(man), wide(mid)), b_.CreateLShr(p, c64(32)));
  p = b_.CreateAdd(b_.CreateShl(wide(b_.CreateMul(man, hi)), c64(32)), p);
  Value* q = b_.CreateLShr(p, c64(62));
  p = b_.CreateAnd(p, c64(0x3fffffffffffffffull));
  Value* upper = b_.CreateICmpNE(b_.CreateAnd(p, c64(0x2000000000000000ull)), c64(0));
  p = select(upper, b_.CreateSub(p, c64(0x4000000000000000ull)), p);
  q = select(upper, b_.CreateAdd(q, c64(1)), q);
  Type* t64f = t_->isVectorTy() ? static_cast<Type*>(FixedVectorType::get(
                                      b_.getDoubleTy(), cast<FixedVectorType>(t_)->getNumElements()))
                                : b_.getDoubleTy();
  Value* r = b_.CreateFPTrunc(
      mul(b_.CreateSIToFP(p, t64f), ConstantFP::get(t64f, 0x1.921fb54442d18p+0 * 0x1p-62)), t_);
  Value* negative = b_.CreateICmpSLT(ia, ci(0));
  Value* qi = b_.CreateTrunc(q, ti_);
  *quadrant = select(negative, b_.CreateNeg(qi), qi);
  return select(negative, neg(r), r);
}

void Math::sin_cos(Value* x, Value** sine, Value** cosine) {
  // pi/2 in three doubles
  const double hi = 0x1.921fb54442d18p+0, mid = 0x1.1a62633145c07p-54, lo = -0x1.f1976b7ed8fbcp-110;
  Value *r, *q;
  if (f32_) {
    // In double: n pi/2 is exact enough as long as n is, and no cancellation loses what f32 needs.
    Type* t64 = t_->isVectorTy() ? static_cast<Type*>(FixedVectorType::get(
                                       b_.getDoubleTy(), cast<FixedVectorType>(t_)->getNumElements()))
                                 : b_.getDoubleTy();
    auto cd = [&](double v) { return ConstantFP::get(t64, v); };
    const double limit = 0x1p28;
    Value* a = abs(x);
    Value* safe = select(lt(a, c(limit)), x, c(0));
    Value* wide = b_.CreateFPExt(safe, t64);
    Value* n = b_.CreateUnaryIntrinsic(Intrinsic::roundeven, mul(wide, cd(std::numbers::inv_pi * 2)));
    Value* rd = fma(n, cd(-mid), fma(n, cd(-hi), wide));
    r = b_.CreateFPTrunc(rd, t_);
    q = b_.CreateFPToSI(n, ti_);
    // rarely taken: any lane with a large argument
    Value* large = b_.CreateAnd(b_.CreateFCmpOGE(a, c(limit)), lt(a, inf()));
    Value* any = large->getType()->isVectorTy() ? b_.CreateOrReduce(large) : large;
    Function* fn = b_.GetInsertBlock()->getParent();
    BasicBlock* before = b_.GetInsertBlock();
    BasicBlock* slow = BasicBlock::Create(b_.getContext(), "payne", fn);
    BasicBlock* join = BasicBlock::Create(b_.getContext(), "reduced", fn);
    b_.CreateCondBr(any, slow, join);
    b_.SetInsertPoint(slow);
    Value* q2;
    Value* r2 = sin_cos_reduce_large(x, &q2);
    r2 = select(large, r2, r);
    q2 = select(large, q2, q);
    b_.CreateBr(join);
    b_.SetInsertPoint(join);
    PHINode* pr = b_.CreatePHI(t_, 2);
    pr->addIncoming(r, before);
    pr->addIncoming(r2, slow);
    PHINode* pq = b_.CreatePHI(ti_, 2);
    pq->addIncoming(q, before);
    pq->addIncoming(q2, slow);
    r = pr;
    q = pq;
  } else {
    Value* a = abs(x);
    Value* safe = select(lt(a, c(0x1p52)), x, c(0));
    Value* n = b_.CreateUnaryIntrinsic(Intrinsic::roundeven, mul(safe, c(std::numbers::inv_pi * 2)));
    r = fma(n, c(-lo), fma(n, c(-mid), fma(n, c(-hi), safe)));
    q = b_.CreateFPToSI(n, ti_);
  }
  Value* r2 = mul(r, r);
  Value *s, *k;
  if (f32_) {
    s = fma(mul(r, r2), poly(r2, {-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1}), r);
    k = fma(mul(r2, r2), poly(r2, {2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2}),
            fma(r2, c(-0.5), c(1)));
  } else {
    s = fma(mul(r, r2),
            poly(r2, {1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
                      -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01}),
            r);
    k = fma(mul(r2, r2),
            poly(r2, {-1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
                      2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02}),
            fma(r2, c(-0.5), c(1)));
  }
  Value* swap = b_.CreateICmpNE(b_.CreateAnd(q, ci(1)), ci(0));
  auto flip = [&](Value* v, Value* quadrant) {  // sign from bit 1 of the quadrant
    Value* sign = b_.CreateShl(b_.CreateAnd(quadrant, ci(2)), ci(f32_ ? 30 : 62));
    return real(b_.CreateXor(bits(v), sign));
  };
  Value* bad = b_.CreateFCmpUNE(sub(x, x), c(0));  // NaN and infinities
  if (sine) *sine = select(bad, nan(), select(eq(x, c(0)), x, flip(select(swap, k, s), q)));
  if (cosine) *cosine = select(bad, nan(), flip(select(swap, s, k), b_.CreateAdd(q, ci(1))));
}

Value* Math::pow(Value* x, Value* y) {
  Value* a = abs(x);
  Value* r;
  if (f32_) {
    Type* t64 = t_->isVectorTy() ? static_cast<Type*>(FixedVectorType::get(
                                       b_.getDoubleTy(), cast<FixedVectorType>(t_)->getNumElements()))
                                 : b_.getDoubleTy();
    Math d(b_, t64);
    Value* product = b_.CreateFMul(b_.CreateFPExt(y, t64), d.log(b_.CreateFPExt(a, t64), false));
    r = b_.CreateFPTrunc(d.exp(product), t_);
  } else {
    r = exp(mul(y, log(a, false)));
  }
  // y an integer, odd? Large values are even integers.
  Value* whole = b_.CreateFCmpOEQ(b_.CreateUnaryIntrinsic(Intrinsic::trunc, y), y);
  Value* halved = mul(y, c(0.5));
  Value* odd =
      b_.CreateAnd(whole, b_.CreateFCmpONE(b_.CreateUnaryIntrinsic(Intrinsic::trunc, halved), halved));
  Value* negative = b_.CreateICmpSLT(bits(x), ci(0));
  Value* finite_base = b_.CreateFCmpONE(a, inf());
  r = select(b_.CreateAnd(b_.CreateAnd(lt(x, c(0)), finite_base), b_.CreateNot(whole)), nan(), r);
  r = select(b_.CreateAnd(negative, odd), copysign(r, c(-1)), r);
  // |x| == 1 with an infinite y: 1 (exp(inf * 0) is NaN); x == 1 or y == 0: 1 even for NaN
  r = select(b_.CreateAnd(eq(a, c(1)), eq(abs(y), inf())), c(1), r);
  return select(b_.CreateOr(eq(x, c(1)), eq(y, c(0))), c(1), r);
}

Value* Math::atan2(Value* y, Value* x) {
  Value *ax = abs(x), *ay = abs(y);
  Value* steep = gt(ay, ax);
  Value* num = select(steep, ax, ay);
  Value* den = select(steep, ay, ax);
  Value* q = div(num, den);
  q = select(eq(den, c(0)), c(0), q);
  q = select(eq(num, inf()), c(1), q);  // both infinite
  Value* s = mul(q, q);
  Value* u;
  if (f32_)
    u = poly(s, {0.00282363896258175373077393, -0.0159569028764963150024414, 0.0425049886107444763183594,
                 -0.0748900920152664184570312, 0.106347933411598205566406, -0.142027363181114196777344,
                 0.199926957488059997558594, -0.333331018686294555664062});
  else
    u = poly(s,
             {1.2631178430477426e-05, -0.00014617088163625013, 0.0008033604181626027, -0.0028047655531701315,
              0.007038646202989813,   -0.013674139288399478,   0.021740213830758134,  -0.02970071773623423,
              0.03651081352721035,    -0.042125723963855326,   0.04719723992321112,   -0.052527255573225747,
              0.05880342002401543,    -0.06666371187721098,    0.0769227555520563,    -0.09090906605656898,
              0.11111110982087126,    -0.14285714281592693,    0.19999999999929946,   -0.3333333333333286});
  Value* a = fma(mul(q, s), u, q);
  a = select(steep, sub(c(std::numbers::pi / 2), a), a);
  Value* left = b_.CreateICmpSLT(bits(x), ci(0));
  a = select(left, sub(c(std::numbers::pi), a), a);
  a = copysign(a, y);
  return select(b_.CreateFCmpUNO(x, y), nan(), a);
}

// fmod by repeated exact steps, then moved to the divisor's sign. f32 is done in double.
Value* Math::rem(Value* a, Value* b) {
  if (f32_) {
    Type* t64 = t_->isVectorTy() ? static_cast<Type*>(FixedVectorType::get(
                                       b_.getDoubleTy(), cast<FixedVectorType>(t_)->getNumElements()))
                                 : b_.getDoubleTy();
    return b_.CreateFPTrunc(Math(b_, t64).rem(b_.CreateFPExt(a, t64), b_.CreateFPExt(b, t64)), t_);
  }
  Value *x0 = abs(a), *d0 = abs(b);
  Value* bad = b_.CreateOr(b_.CreateFCmpUEQ(d0, c(0)), b_.CreateFCmpUEQ(x0, inf()));  // or NaN
  Value* plain = b_.CreateOr(bad, b_.CreateFCmpUEQ(d0, inf()));
  Value* x = select(plain, c(0), x0);
  Value* d = select(plain, c(1), d0);
  Function* fn = b_.GetInsertBlock()->getParent();
  BasicBlock* before = b_.GetInsertBlock();
  BasicBlock* loop = BasicBlock::Create(b_.getContext(), "fmod", fn);
  BasicBlock* done = BasicBlock::Create(b_.getContext(), "fmodded", fn);
  b_.CreateBr(loop);
  b_.SetInsertPoint(loop);
  PHINode* cur = b_.CreatePHI(t_, 2);
  cur->addIncoming(x, before);
  // A quotient a little too small leaves a remainder that is still >= 0; the largest one is cut so as not to
  // overflow.
  Value* q = div(cur, d);
  q = select(gt(q, c(0x1p1000)), c(0x1p1000), q);
  Value* low = b_.CreateUnaryIntrinsic(Intrinsic::trunc, mul(q, c(1 - 0x1p-52)));
  q = select(lt(q, c(0x1p51)), b_.CreateUnaryIntrinsic(Intrinsic::trunc, q), low);
  Value* r = fma(neg(q), d, cur);
  r = select(lt(r, c(0)), add(r, d), r);
  cur->addIncoming(r, b_.GetInsertBlock());
  Value* more = b_.CreateFCmpOGE(r, d);
  if (more->getType()->isVectorTy()) more = b_.CreateOrReduce(more);
  b_.CreateCondBr(more, loop, done);
  b_.SetInsertPoint(done);
  Value* m = select(b_.CreateAnd(plain, b_.CreateNot(bad)), x0, r);  // an infinite divisor
  m = copysign(m, a);
  Value* move =
      b_.CreateAnd(b_.CreateFCmpONE(m, c(0)), b_.CreateICmpSLT(b_.CreateXor(bits(m), bits(b)), ci(0)));
  m = select(move, add(m, b), m);
  return select(bad, nan(), m);
}

}  // namespace

Value* emit_math(IRBuilder<>& b, ScalarOp op, Value* x, Value* y) {
  // Exact steps must stay as written: no contraction of what isn't an fma.
  IRBuilderBase::FastMathFlagGuard guard(b);
  b.clearFastMathFlags();
  Math m(b, x->getType());
  Value *s = nullptr, *k = nullptr;
  switch (op) {
    case ScalarOp::kFloor: return b.CreateUnaryIntrinsic(Intrinsic::floor, x);
    case ScalarOp::kCeil: return b.CreateUnaryIntrinsic(Intrinsic::ceil, x);
    case ScalarOp::kRound: return b.CreateUnaryIntrinsic(Intrinsic::roundeven, x);
    case ScalarOp::kSqrt: return m.sqrt(x);
    case ScalarOp::kRsqrt: return m.div(m.c(1), m.sqrt(x));
    case ScalarOp::kExp: return m.exp(x);
    case ScalarOp::kExpm1: return m.expm1(x);
    case ScalarOp::kLog: return m.log(x, false);
    case ScalarOp::kLog1p: return m.log(x, true);
    case ScalarOp::kTanh: return m.tanh(x);
    case ScalarOp::kErf: return m.erf(x);
    case ScalarOp::kSin: m.sin_cos(x, &s, nullptr); return s;
    case ScalarOp::kCos: m.sin_cos(x, nullptr, &k); return k;
    case ScalarOp::kTan: m.sin_cos(x, &s, &k); return m.div(s, k);
    case ScalarOp::kPow: return m.pow(x, y);
    case ScalarOp::kAtan2: return m.atan2(x, y);
    case ScalarOp::kRem: return m.rem(x, y);
    case ScalarOp::kFloorDiv: return b.CreateUnaryIntrinsic(Intrinsic::floor, m.div(x, y));
    default: return nullptr;
  }
}

}  // namespace graphc::cpu_emit
