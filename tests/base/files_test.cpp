// Files, npy, safetensors: round trips, every prefix, random flips.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "runtime/base/file.h"
#include "runtime/base/npy.h"
#include "runtime/base/safetensors.h"
#include "tests/base/temp_dir.h"

namespace graphc {
namespace {

std::vector<std::byte> random_bytes(std::mt19937_64& rng, size_t n, bool bools = false) {
  std::vector<std::byte> v(n);
  for (auto& b : v) b = static_cast<std::byte>(bools ? rng() & 1 : rng());
  return v;
}

TensorData random_tensor(std::mt19937_64& rng, DType t) {
  TensorData d{t, {}, {}};
  size_t n = dtype_size(t);
  for (uint64_t rank = rng() % 5; rank > 0; --rank) {
    d.shape.push_back(static_cast<int64_t>(rng() % 5));
    n *= d.shape.back();
  }
  d.data = random_bytes(rng, n, t == DType::kBool);
  return d;
}

TEST(File, AtomicWriteReadsBack) {
  TempDir dir;
  const std::string path = dir / "a.bin";
  ASSERT_TRUE(atomic_write(path, "first").ok());
  ASSERT_TRUE(atomic_write(path, "second").ok());
  EXPECT_EQ(*read_file(path), "second");
  EXPECT_EQ(MappedFile::open(path)->bytes().size(), 6u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}),
            1);  // no temporary file is left
  EXPECT_EQ(read_file(path, 5).error().message, "'" + path + "' has 6 bytes, above the limit of 5");
  EXPECT_EQ(read_file(dir / "none").error().message,
            "can't open '" + (dir / "none") + "': No such file or directory");
  EXPECT_FALSE(read_file(dir.path()).ok());
  EXPECT_FALSE(MappedFile::open(dir.path()).ok());
  EXPECT_FALSE(atomic_write(dir / "no/such/dir", "x").ok());
  ASSERT_TRUE(make_directories(dir / "p/q/r").ok());
  // A target that can't be replaced: the error comes back and nothing is left behind.
  EXPECT_FALSE(atomic_write(dir / "p", "x").ok());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 2);
}

TEST(Npy, RoundTripsAllTypes) {
  TempDir dir;
  std::mt19937_64 rng(1);
  for (int i = 0; i < kNumDTypes; ++i)
    for (int k = 0; k < 20; ++k) {
      const TensorData t = random_tensor(rng, static_cast<DType>(i));
      ASSERT_TRUE(write_npy(dir / "x.npy", t).ok());
      const auto back = read_npy(dir / "x.npy");
      ASSERT_TRUE(back.ok()) << back.error().message;
      EXPECT_EQ(back->shape, t.shape);
      if (t.dtype == DType::kBF16) {
        ASSERT_EQ(back->dtype, DType::kF32);
        for (size_t e = 0; e < t.numel(); ++e) {
          uint16_t h;
          std::memcpy(&h, t.data.data() + 2 * e, 2);
          const float f = bf16_to_f32(h);
          EXPECT_EQ(std::memcmp(&f, back->data.data() + 4 * e, 4), 0);
        }
      } else {
        EXPECT_EQ(back->dtype, t.dtype);
        EXPECT_EQ(back->data, t.data);
      }
    }
}

std::string npy(std::string header, std::string data) {
  header += '\n';
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) + '\0' + header + data;
}

TEST(Npy, FortranOrderAndBigEndian) {
  const std::string text = npy("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }",
                               std::string("\0\1\0\4\0\2\0\5\0\3\0\6", 12));
  const auto t = parse_npy(as_bytes_view(text), "t");
  ASSERT_TRUE(t.ok()) << t.error().message;
  for (int i = 0; i < 6; ++i) EXPECT_EQ(load_as_int(t->dtype, t->data.data(), i), i + 1);
}

TEST(Npy, RefusesWhatIsWrong) {
  const auto message = [](const std::string& text) {
    const auto t = parse_npy(as_bytes_view(text), "t");
    return t.ok() ? std::string("ok") : t.error().message;
  };
  const std::string bad = "'t' is not a valid .npy file: ";
  EXPECT_EQ(message("PK"), bad + "it doesn't start with \\x93NUMPY");
  EXPECT_EQ(message(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "1234")),
            bad + "4 bytes of data where its shape needs 12");
  EXPECT_EQ(message(npy("{'descr': '<c8', 'fortran_order': False, 'shape': (0,), }", "")),
            bad + "element type '<c8' is not supported");
  EXPECT_EQ(
      message(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296), }", "")),
      bad + "dimension 4294967296 is outside 0..2147483647");
  EXPECT_EQ(message(npy("{'descr': '<f4', 'shape': (), }", "1234")), bad + "its header is malformed");
}

TEST(Npy, PrefixesAndFlipsAreHarmless) {
  std::mt19937_64 rng(2);
  const std::vector<int64_t> shape{3, 5};
  const auto data = random_bytes(rng, 60);
  const std::string good = format_npy(DType::kF32, shape, data);
  for (size_t n = 0; n < good.size(); ++n)
    EXPECT_FALSE(parse_npy(as_bytes_view(good).first(n), "t").ok()) << n;
  for (int k = 0; k < 10000; ++k) {
    std::string text = good;
    text[rng() % 128] ^= static_cast<char>(1 << rng() % 8);
    if (const auto t = parse_npy(as_bytes_view(text), "t"); t.ok()) {
      EXPECT_EQ(t->data.size(), 60u);
    }
  }
}

struct Sample {
  std::vector<TensorData> storage;
  std::vector<SafetensorsTensor> tensors;
};
Sample sample(std::mt19937_64& rng) {
  Sample s;
  for (int i = 0; i < kNumDTypes; ++i) s.storage.push_back(random_tensor(rng, static_cast<DType>(i)));
  for (size_t i = 0; i < s.storage.size(); ++i) {
    const TensorData& t = s.storage[i];
    s.tensors.push_back({"Layer \"" + std::to_string(i * 7 % 13) + "\".weight", t.dtype, t.shape, t.data});
  }
  return s;
}

TEST(Safetensors, RoundTrips) {
  TempDir dir;
  std::mt19937_64 rng(3);
  for (int k = 0; k < 50; ++k) {
    Sample s = sample(rng);
    const SafetensorsMetadata meta{{"epoch", "3"}, {"text", "line\n\"quoted\" \x01"}};
    ASSERT_TRUE(write_safetensors(dir / "a.safetensors", s.tensors, meta).ok());
    std::shuffle(s.tensors.begin(), s.tensors.end(), rng);
    ASSERT_TRUE(write_safetensors(dir / "b.safetensors", s.tensors, meta).ok());
    EXPECT_EQ(*read_file(dir / "a.safetensors"), *read_file(dir / "b.safetensors"));
    auto f = SafetensorsFile::open(dir / "a.safetensors", SafetensorsFile::kHashed);
    ASSERT_TRUE(f.ok()) << f.error().message;
    const SafetensorsFile moved = *std::move(f);
    EXPECT_EQ(moved.metadata(), meta);
    EXPECT_EQ(moved.tensors().size(), s.tensors.size());
    for (const auto& t : s.tensors) {
      const auto* got = moved.find(t.name);
      ASSERT_NE(got, nullptr);
      EXPECT_EQ(got->dtype, t.dtype);
      EXPECT_EQ(got->shape, t.shape);
      EXPECT_TRUE(std::equal(got->data.begin(), got->data.end(), t.data.begin(), t.data.end()));
      if (!got->data.empty()) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>(got->data.data()) % dtype_size(t.dtype), 0u);
      }
    }
    EXPECT_EQ(moved.find("none"), nullptr);
  }
}

TEST(Safetensors, EveryPrefixAndFlipOfAHashedFileIsNoticed) {
  TempDir dir;
  std::mt19937_64 rng(4);
  Sample s = sample(rng);
  ASSERT_TRUE(write_safetensors(dir / "a", s.tensors, {{"k", "v"}}).ok());
  const std::string good = *read_file(dir / "a");
  for (size_t n = 0; n < good.size(); ++n)
    EXPECT_FALSE(SafetensorsFile::parse(as_bytes_view(good).first(n), "t").ok()) << n;
  const auto noticed = [&](const std::string& text) {
    return !SafetensorsFile::parse(as_bytes_view(text), "t", SafetensorsFile::kHashed).ok();
  };
  EXPECT_FALSE(noticed(good));
  EXPECT_TRUE(noticed(good + '\0'));
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string text = good;
    text[bit / 8] ^= static_cast<char>(1 << bit % 8);
    ASSERT_TRUE(noticed(text)) << bit;
  }
  for (int k = 0; k < 10000; ++k) {
    std::string text = good;
    for (uint64_t flips = 1 + rng() % 4; flips > 0; --flips)
      text[rng() % text.size()] ^= static_cast<char>(1 << rng() % 8);
    if (text != good) {
      ASSERT_TRUE(noticed(text));
    }
  }
}

std::string foreign(std::string header, std::string data) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(header.size() >> (8 * i));
  return out + header + data;
}

TEST(Safetensors, DamagedStructureOfForeignFilesIsAnError) {
  const auto message = [](const std::string& text) {
    const auto t = SafetensorsFile::parse(as_bytes_view(text), "t");
    return t.ok() ? std::string("ok") : t.error().message.substr(t.error().message.find(": ") + 2);
  };
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  EXPECT_EQ(message(foreign("{" + a + "}", "12345678")), "ok");
  EXPECT_EQ(message(foreign("{" + a + "}   ", "12345678")), "ok");
  EXPECT_EQ(message(foreign("{" + a + "}", "123456789")), "there are bytes after the last tensor");
  EXPECT_EQ(message(foreign("{" + a + "}", "1234567")),
            "tensor 'a': its data lies outside the file (cut off?)");
  EXPECT_EQ(message(foreign("{" + a + "," + a + "}", "12345678")), "'a' appears twice");
  EXPECT_EQ(
      message(foreign(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "12345678")),
      "'dtype' appears twice");
  EXPECT_EQ(
      message(foreign("{" + a + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})", "12345678")),
      "tensor 'b': its data overlaps another tensor's or leaves a hole");
  EXPECT_EQ(
      message(foreign("{" + a + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[9,11]}})", "12345678901")),
      "tensor 'b': its data overlaps another tensor's or leaves a hole");
  EXPECT_EQ(message(foreign(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "12345678")),
            "tensor 'a': 8 bytes of data where its shape needs 12");
  EXPECT_EQ(message(foreign(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}})", "12345678")),
            "tensor 'a': shape holds something else than sizes");
  EXPECT_EQ(message(foreign(R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", "\2")),
            "tensor 'a': a bool is neither 0 nor 1");
  EXPECT_EQ(message(foreign(R"({"a":{"dtype":"F32","shape":[0,3000000000],"data_offsets":[0,0]}})", "")),
            "tensor 'a': dimension 3000000000 is outside 0..2147483647");
  EXPECT_EQ(message(foreign(R"({"a":{"dtype":"F4","shape":[],"data_offsets":[0,8]}})", "12345678")),
            "tensor 'a': dtype 'F4' is not supported");
  EXPECT_EQ(message(foreign(R"({"a":[1]})", "")), "tensor 'a': it must have dtype, shape and data_offsets");
  EXPECT_EQ(message(foreign(std::string(100000, '['), "")), "its header doesn't start with '{'");
  EXPECT_NE(message(foreign("{\"a\":" + std::string(100000, '['), "")), "ok");
  EXPECT_EQ(message(foreign("{\"a\xff\":1}", "")), "its header is not JSON");
  EXPECT_EQ(message(std::string(8, '\xff') + "{}"),
            "its header of 18446744073709551615 bytes is above the limit of 100000000");
}

TEST(Safetensors, FlippedForeignFilesAreHarmless) {
  std::mt19937_64 rng(5);
  const std::string good = foreign(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"I8","shape":[],"data_offsets":[24,25]}})",
      "0123456789abcdefghijklmno");
  ASSERT_TRUE(SafetensorsFile::parse(as_bytes_view(good), "t").ok());
  for (size_t n = 0; n < good.size(); ++n)
    EXPECT_FALSE(SafetensorsFile::parse(as_bytes_view(good).first(n), "t").ok());
  for (int k = 0; k < 10000; ++k) {
    std::string text = good;
    for (uint64_t flips = 1 + rng() % 3; flips > 0; --flips)
      text[rng() % text.size()] ^= static_cast<char>(1 << rng() % 8);
    const auto f = SafetensorsFile::parse(as_bytes_view(text), "t");
    if (!f.ok()) continue;
    for (const auto& t : f->tensors()) {
      size_t n = dtype_size(t.dtype);
      for (const int64_t d : t.shape) n *= d;
      ASSERT_EQ(n, t.data.size());
      ASSERT_GE(t.data.data(), as_bytes_view(text).data());
      ASSERT_LE(t.data.data() + n, as_bytes_view(text).data() + text.size());
    }
  }
}

}  // namespace
}  // namespace graphc
