#include "runtime/base/disk_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include "runtime/base/file.h"
#include "tests/base/temp_dir.h"

namespace graphc {
namespace {

std::string random_bytes(std::mt19937_64& rng, size_t n) {
  std::string s(n, '\0');
  for (char& c : s) c = static_cast<char>(rng());
  return s;
}

std::vector<std::filesystem::path> files(const std::string& folder) {
  std::vector<std::filesystem::path> out;
  for (const auto& e : std::filesystem::recursive_directory_iterator(folder))
    if (e.is_regular_file()) out.push_back(e.path());
  return out;
}

TEST(DiskCache, GivesBackWhatWasPut) {
  TempDir dir;
  std::mt19937_64 rng(1);
  const DiskCache cache(dir / "c");
  EXPECT_FALSE(cache.get("key"));
  const std::string a = random_bytes(rng, 5000), b = random_bytes(rng, 1);
  cache.put("key", a);
  cache.put("other", b);
  cache.put("empty", "");
  EXPECT_EQ(cache.get("key"), a);
  EXPECT_EQ(cache.get("other"), b);
  EXPECT_EQ(cache.get("empty"), "");
  EXPECT_FALSE(cache.get("ke"));
  cache.put("key", b);
  EXPECT_EQ(DiskCache(dir / "c").get("key"), b);
  EXPECT_EQ(files(dir / "c").size(), 3u);  // no temporary file stays
}

TEST(DiskCache, ADamagedEntryIsNone) {
  TempDir dir;
  std::mt19937_64 rng(2);
  const DiskCache cache(dir.path());
  const std::string value = random_bytes(rng, 300);
  cache.put("key", value);
  const auto all = files(dir.path());
  ASSERT_EQ(all.size(), 1u);
  const std::string good = *read_file(all[0].string());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    ASSERT_TRUE(atomic_write(all[0].string(), bad).ok());
    EXPECT_FALSE(cache.get("key")) << i;
  }
  ASSERT_TRUE(atomic_write(all[0].string(), good.substr(0, good.size() - 1)).ok());
  EXPECT_FALSE(cache.get("key"));
  ASSERT_TRUE(atomic_write(all[0].string(), good).ok());
  EXPECT_EQ(cache.get("key"), value);
}

TEST(DiskCache, WhatWasUsedLongestAgoGoes) {
  TempDir dir;
  std::mt19937_64 rng(3);
  const DiskCache cache(dir.path(), 256 * 4096);  // 4 KiB a part
  for (int i = 0; i < 2000; ++i) cache.put("key" + std::to_string(i), random_bytes(rng, 1500));
  uint64_t total = 0;
  for (const auto& f : files(dir.path())) total += std::filesystem::file_size(f);
  EXPECT_LE(total, 256u * 4096);
  EXPECT_GT(total, 128u * 1500);
  EXPECT_TRUE(cache.get("key1999"));
  EXPECT_FALSE(cache.get("key0"));
}

TEST(DiskCache, AFolderThatCannotBeWrittenKeepsNothing) {
  TempDir dir;
  ASSERT_TRUE(atomic_write(dir / "file", "x").ok());
  const DiskCache cache(dir / "file");
  cache.put("key", "value");
  EXPECT_FALSE(cache.get("key"));
}

TEST(DiskCache, ManyAtATime) {
  TempDir dir;
  const DiskCache cache(dir.path());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const std::string key = std::to_string(i % 20), value(100, static_cast<char>('a' + i % 20));
        if (t % 2) cache.put(key, value);
        if (auto got = cache.get(key)) EXPECT_EQ(*got, value);
      }
    });
  for (std::thread& t : threads) t.join();
}

TEST(DiskCache, TheUsersFolder) {
  const auto with = [](const char* own, const char* xdg, const char* home) {
    const auto set = [](const char* n, const char* v) { v ? ::setenv(n, v, 1) : ::unsetenv(n); };
    set("GRAPHC_CACHE", own);
    set("XDG_CACHE_HOME", xdg);
    set("HOME", home);
    return DiskCache::user_folder();
  };
  EXPECT_EQ(with("/a/b", "/x", "/h"), "/a/b");
  EXPECT_EQ(with("off", "/x", "/h"), "");
  EXPECT_EQ(with(nullptr, "/x", "/h"), "/x/graphc");
  EXPECT_EQ(with(nullptr, "relative", "/h"), "/h/.cache/graphc");
  EXPECT_EQ(with(nullptr, nullptr, nullptr), "");
}

}  // namespace
}  // namespace graphc
