// Data sets and the loader.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include "runtime/base/sha256.h"
#include "runtime/data/dataset.h"
#include "runtime/data/loader.h"
#include "tests/base/temp_dir.h"

namespace graphc {
namespace {

std::string idx(uint8_t type, const std::vector<int64_t>& shape, const std::string& payload) {
  std::string s{0, 0, static_cast<char>(type), static_cast<char>(shape.size())};
  for (const int64_t d : shape)
    for (int k = 24; k >= 0; k -= 8) s += static_cast<char>(d >> k);
  return s + payload;
}

std::string gzip(const std::string& in) {
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&z, in.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
  z.avail_in = static_cast<uInt>(in.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::string random_text(std::mt19937& rng, size_t n) {
  std::string s(n, '\0');
  for (char& c : s) c = static_cast<char>(rng());
  return s;
}

TEST(Idx, ReadsPlainAndGzipped) {
  std::mt19937 rng(1);
  const std::string payload = random_text(rng, 3 * 4 * 5);
  for (const bool gz : {false, true}) {
    const std::string file = gz ? gzip(idx(8, {3, 4, 5}, payload)) : idx(8, {3, 4, 5}, payload);
    const auto t = parse_idx(as_bytes_view(file), "t");
    ASSERT_TRUE(t.ok()) << t.error().message;
    EXPECT_EQ(t->shape, (std::vector<int64_t>{3, 4, 5}));
    EXPECT_EQ(std::memcmp(t->data.data(), payload.data(), payload.size()), 0);
  }
  const auto ints = parse_idx(as_bytes_view(idx(0x0c, {2}, std::string("\0\0\1\2\xff\xff\xff\xfe", 8))), "t");
  EXPECT_EQ(load_as_int(ints->dtype, ints->data.data(), 0), 258);
  EXPECT_EQ(load_as_int(ints->dtype, ints->data.data(), 1), -2);
}

TEST(Idx, RefusesWhatIsWrong) {
  const auto message = [](const std::string& file) {
    const auto t = parse_idx(as_bytes_view(file), "t");
    return t.ok() ? std::string("ok") : t.error().message.substr(t.error().message.find(": ") + 2);
  };
  EXPECT_EQ(message("\1\2"), "it is shorter than its header");
  EXPECT_EQ(message(std::string("\0\1\x08\1\0\0\0\0", 8)), "it doesn't start with two zero bytes");
  EXPECT_EQ(message(idx(7, {1}, "x")), "its magic number names no element type");
  EXPECT_EQ(message(idx(8, {4}, "abc")), "3 bytes of data where its header says 4");
  EXPECT_EQ(message(gzip(idx(8, {4}, "abc"))), "3 bytes of data where its header says 4");
  const std::string many(100, 'a');
  EXPECT_EQ(message(gzip(idx(8, {4}, "abcde"))), "5 bytes of data where its header says 4");
  EXPECT_EQ(message(gzip(idx(8, {4}, many))), "it has more data than its header says");
  EXPECT_EQ(message(gzip(idx(8, {0x7fffffff, 60}, many))),
            "it is cut off");  // nothing is allocated for it
  EXPECT_EQ(message(idx(8, {0x7fffffff, 0x7fffffff, 0x7fffffff}, "abcde")),
            "the number of elements overflows");
  EXPECT_EQ(message(gzip(idx(8, {4}, "abcd")) + "x"), "there are bytes after the compressed data");
}

TEST(Idx, EveryPrefixAndRandomFlips) {
  std::mt19937 rng(2);
  for (const bool gz : {false, true}) {
    std::string good = idx(8, {6, 5, 4}, random_text(rng, 120));
    if (gz) good = gzip(good);
    for (size_t n = 0; n < good.size(); ++n)
      ASSERT_FALSE(parse_idx(as_bytes_view(good).first(n), "t").ok()) << n;
    for (int k = 0; k < 10000; ++k) {
      std::string text = good;
      for (uint32_t flips = 1 + rng() % 3; flips > 0; --flips)
        text[rng() % text.size()] ^= static_cast<char>(1 << rng() % 8);
      const auto t = parse_idx(as_bytes_view(text), "t");
      if (!t.ok()) continue;
      size_t n = dtype_size(t->dtype);
      for (const int64_t d : t->shape) n *= static_cast<size_t>(d);
      ASSERT_EQ(t->data.size(), n);
    }
  }
}

void write_mnist(const TempDir& dir, int n, int test) {
  std::mt19937 rng(3);
  for (const auto& [prefix, count] : {std::pair{"train", n}, std::pair{"t10k", test}}) {
    std::string labels;
    for (int i = 0; i < count; ++i) labels += static_cast<char>(rng() % 10);
    labels[0] = 9;
    ASSERT_TRUE(atomic_write(dir / (std::string(prefix) + "-images-idx3-ubyte.gz"),
                             gzip(idx(8, {count, 4, 3}, random_text(rng, count * 12))))
                    .ok());
    ASSERT_TRUE(
        atomic_write(dir / (std::string(prefix) + "-labels-idx1-ubyte"), idx(8, {count}, labels)).ok());
  }
}

TEST(DataSpec, IdxScalesAndNormalises) {
  TempDir dir;
  write_mnist(dir, 20, 7);
  const auto plain = open_training_data("idx:" + dir.path());
  const auto norm = open_training_data("idx:" + dir.path() + ",mean=0.1307,std=0.3081,drop_last");
  ASSERT_TRUE(plain.ok() && norm.ok());
  EXPECT_EQ(plain->train.set->size(), 20);
  EXPECT_EQ(plain->val.set->size(), 7);
  EXPECT_FALSE(plain->train.drop_last);
  EXPECT_TRUE(norm->train.drop_last);
  EXPECT_EQ(norm->train.preprocessing.at("image"), "(x/255 - 0.1307) / 0.3081");
  EXPECT_EQ(plain->train.set->fields()[0].shape, (std::vector<int64_t>{1, 4, 3}));
  EXPECT_EQ(plain->train.set->classes().size(), 10u);
  float a[12], b[12];
  int32_t label[2];
  std::byte* out_a[] = {reinterpret_cast<std::byte*>(a), reinterpret_cast<std::byte*>(&label[0])};
  std::byte* out_b[] = {reinterpret_cast<std::byte*>(b), reinterpret_cast<std::byte*>(&label[1])};
  for (int i = 0; i < 20; ++i) {
    plain->train.set->read(i, out_a);
    norm->train.set->read(i, out_b);
    for (int k = 0; k < 12; ++k) {
      EXPECT_GE(a[k], 0);
      EXPECT_LE(a[k], 1);
      EXPECT_NEAR(b[k], (a[k] - 0.1307) / 0.3081, 1e-5);
    }
    EXPECT_EQ(label[0], label[1]);
  }
  EXPECT_EQ(open_eval_data("idx:" + dir.path())->set->size(), 7);
  EXPECT_EQ(open_eval_data("idx:" + dir.path() + ",part=train")->set->size(), 20);
  EXPECT_EQ(open_training_data("idx:" + dir.path() + ",limit=5")->train.set->size(), 5);
}

TEST(DataSpec, SplitIsAPartition) {
  const auto d = open_training_data("shapes,n=500,split=0.2");
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->train.set->size() + d->val.set->size(), 500);
  EXPECT_NEAR(static_cast<double>(d->val.set->size()), 100, 30);
}

TEST(DataSpec, Messages) {
  TempDir dir;
  const auto message = [](const std::string& spec) {
    const auto d = open_training_data(spec);
    return d.ok() ? std::string("ok") : d.error().message;
  };
  EXPECT_EQ(message("mnist:x"), "data 'mnist:x': unknown kind 'mnist'; there are idx:DIR and shapes");
  EXPECT_EQ(message("shapes,nosie=1"),
            "data 'shapes,nosie=1': there is no option 'nosie'; did you mean 'noise'?");
  EXPECT_EQ(message("shapes,n=0"), "data 'shapes,n=0': n=0 is outside 1..1000000000");
  EXPECT_EQ(message("shapes,n=1x"), "data 'shapes,n=1x': n=1x is no number");
  EXPECT_EQ(message("shapes,n=1,n=2"), "data 'shapes,n=1,n=2': option 'n' is given twice");
  EXPECT_EQ(message("idx:"), "data 'idx:': a directory is missing: idx:DIR");
  EXPECT_EQ(message("idx:" + dir.path()),
            "can't open '" + dir.path() +
                "/train-images-idx3-ubyte.gz': No such file or directory (nor under its "
                "other usual names)");
  EXPECT_EQ(message("shapes:n=12,size=16"), "ok");
  write_mnist(dir, 5, 5);
  std::string broken = *read_file(dir / "t10k-images-idx3-ubyte.gz");
  broken.resize(broken.size() / 2);
  ASSERT_TRUE(atomic_write(dir / "t10k-images-idx3-ubyte.gz", broken).ok());
  EXPECT_NE(message("idx:" + dir.path()).find("it is cut off"), std::string::npos);
  std::filesystem::remove(dir / "t10k-images-idx3-ubyte.gz");
  EXPECT_EQ(message("idx:" + dir.path()), "ok");  // training goes without a validation part
}

TEST(Shapes, SameEverywhereAndAllClasses) {
  const auto set = make_shapes({.n = 600});
  Sha256 h;
  std::vector<int> count(6);
  std::vector<float> x(784);
  int32_t label;
  std::byte* out[] = {reinterpret_cast<std::byte*>(x.data()), reinterpret_cast<std::byte*>(&label)};
  for (int i = 0; i < 600; ++i) {
    set->read(i, out);
    h.update(x.data(), 784 * 4);
    ++count[label];
    EXPECT_GT(*std::max_element(x.begin(), x.end()), 0.5f);
  }
  for (const int c : count) EXPECT_NEAR(c, 100, 35);
  EXPECT_EQ(to_hex(h.finish()).substr(0, 16), "59c26d38379a8c63");
  const auto other = make_shapes({.n = 600, .part = 1});
  std::vector<float> y(784);
  std::byte* out_y[] = {reinterpret_cast<std::byte*>(y.data()), reinterpret_cast<std::byte*>(&label)};
  set->read(0, out);
  other->read(0, out_y);
  EXPECT_NE(x, y);
}

std::vector<int32_t> labels_of(const Batch& b) {
  std::vector<int32_t> v(static_cast<size_t>(b.size));
  std::memcpy(v.data(), b.fields[0].data(), v.size() * 4);
  return v;
}

// A set whose samples are their own numbers.
class Numbers final : public Dataset {
 public:
  explicit Numbers(int64_t n) : n_(n) {}
  const std::vector<DataField>& fields() const override { return fields_; }
  int64_t size() const override { return n_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  void read(int64_t i, std::span<std::byte* const> out) const override {
    if (i % 7 == 0) std::this_thread::yield();
    store_from_int(DType::kI32, out[0], 0, i);
  }

 private:
  int64_t n_;
  std::vector<DataField> fields_{{"x", DType::kI32, {}}};
  std::vector<std::string> classes_;
};

TEST(Loader, EverySampleOnceAnEpochInAnOrderOfTheSeed) {
  const auto set = std::make_shared<Numbers>(103);
  BatchLoader loader(set, {.batch = 10, .shuffle = true, .seed = 5});
  EXPECT_EQ(loader.batches(), 11);
  std::vector<std::vector<int32_t>> epochs;
  for (int64_t e = 0; e < 3; ++e) {
    loader.start(e);
    std::vector<int32_t> seen;
    int64_t index = 0;
    while (const Batch* b = loader.next()) {
      EXPECT_EQ(b->index, index++);
      EXPECT_EQ(b->size, index == 11 ? 3 : 10);
      const auto v = labels_of(*b);
      seen.insert(seen.end(), v.begin(), v.end());
    }
    EXPECT_EQ(std::set<int32_t>(seen.begin(), seen.end()).size(), 103u);
    epochs.push_back(seen);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_FALSE(std::is_sorted(epochs[2].begin(), epochs[2].end()));
  // Continuing in the middle of an epoch, and leaving one in the middle, changes nothing.
  std::mt19937 rng(6);
  for (int k = 0; k < 200; ++k) {
    const int64_t e = rng() % 3, first = rng() % 12;
    loader.start(e, first);
    for (int64_t i = first; i < first + static_cast<int64_t>(rng() % 5); ++i) {
      const Batch* b = loader.next();
      if (i >= 11) {
        ASSERT_EQ(b, nullptr);
        break;
      }
      const auto v = labels_of(*b);
      ASSERT_TRUE(std::equal(v.begin(), v.end(), epochs[e].begin() + i * 10));
    }
  }
}

// A data set that meets the end of memory at one of its samples.
class Exhausted final : public Dataset {
 public:
  Exhausted(int64_t n, int64_t at) : n_(n), at_(at) {}
  const std::vector<DataField>& fields() const override { return fields_; }
  int64_t size() const override { return n_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  void read(int64_t i, std::span<std::byte* const> out) const override {
    if (i == at_) throw std::bad_alloc();
    *out[0] = std::byte{1};
  }

 private:
  int64_t n_, at_;
  std::vector<DataField> fields_{{"x", DType::kU8, {}}};
  std::vector<std::string> classes_;
};

TEST(Loader, OutOfMemoryEndsTheEpochWithAnError) {
  for (const int64_t at : {0, 5, 39, 40}) {
    BatchLoader loader(std::make_shared<Exhausted>(40, at), {.batch = 4});
    for (int epoch = 0; epoch < 3; ++epoch) {
      loader.start(epoch);
      int64_t n = 0;
      while (loader.next()) ++n;
      EXPECT_EQ(n, at / 4);
      EXPECT_EQ(loader.status().ok(), at == 40);
      if (at < 40) {
        EXPECT_EQ(loader.status().error().code, ErrorCode::kNoMemory);
      }
    }
  }
}

TEST(Loader, DropLastAndNoShuffle) {
  const auto set = std::make_shared<Numbers>(25);
  BatchLoader loader(set, {.batch = 10, .drop_last = true});
  loader.start(0);
  EXPECT_EQ(labels_of(*loader.next())[9], 9);
  EXPECT_EQ(labels_of(*loader.next())[0], 10);
  EXPECT_EQ(loader.next(), nullptr);
  EXPECT_EQ(loader.next(), nullptr);
}

TEST(Mnist, RealFilesIfTheyAreThere) {
  const std::string dir = GRAPHC_SHARED_DIR "/data/mnist";
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << "no MNIST here";
  const auto d = open_training_data("idx:" + dir);
  ASSERT_TRUE(d.ok()) << d.error().message;
  EXPECT_EQ(d->train.set->size(), 60000);
  EXPECT_EQ(d->val.set->size(), 10000);
  EXPECT_EQ(d->train.set->classes().size(), 10u);
}

}  // namespace
}  // namespace graphc
