// Runs a fuzz target without libFuzzer, so that GCC's sanitizers see it too: every file of the corpus, then
// mutations of them, by a fixed seed. `fuzz_x [--runs N] DIRECTORY...` prints executions and growth of
// memory.
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "fuzz.h"

namespace {

using Bytes = std::vector<uint8_t>;
constexpr size_t kLongest = 16384;

std::vector<Bytes> read_corpus(const std::vector<std::string>& directories) {
  std::vector<std::filesystem::path> files;
  for (const std::string& directory : directories) {
    for (const auto& entry : std::filesystem::directory_iterator(directory)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<Bytes> corpus = {{}};
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

// One change of the kinds that break parsers.
void mutate(Bytes& bytes, const std::vector<Bytes>& corpus, std::mt19937& random) {
  constexpr uint8_t kEdges[] = {0, 1, 0x7f, 0x80, 0xff};
  const size_t at = bytes.empty() ? 0 : random() % bytes.size();
  switch (random() % 7) {
    case 0:
      if (!bytes.empty()) bytes[at] ^= static_cast<uint8_t>(1u << random() % 8);
      break;
    case 1:
      if (!bytes.empty()) bytes[at] = static_cast<uint8_t>(random());
      break;
    case 2:
      if (!bytes.empty()) bytes[at] = kEdges[random() % std::size(kEdges)];
      break;
    case 3:
      bytes.resize(at);
      break;
    case 4:
      bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), 1 + random() % 16,
                   static_cast<uint8_t>(random()));
      break;
    case 5:
      for (size_t i = at; i < bytes.size() && i < at + 8; ++i) bytes[i] = static_cast<uint8_t>(random());
      break;
    default: {
      const Bytes& other = corpus[random() % corpus.size()];
      const size_t from = other.empty() ? 0 : random() % other.size();
      bytes.resize(at);
      bytes.insert(bytes.end(), other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
    }
  }
  if (bytes.size() > kLongest) bytes.resize(kLongest);
}

// At most so much memory has been in use, in KiB.
long peak_kib() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// A copy of exactly its size on the heap, where ASan guards both ends.
void run_one(const Bytes& bytes) {
  const std::vector<uint8_t> copy(bytes);
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

}  // namespace

int main(int argc, char** argv) {
  long runs = 2000;
  std::vector<std::string> directories;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--runs" && i + 1 < argc) {
      runs = std::atol(argv[++i]);
    } else {
      directories.emplace_back(argv[i]);
    }
  }
  const std::vector<Bytes> corpus = read_corpus(directories);
  for (const Bytes& bytes : corpus) run_one(bytes);
  const long before = peak_kib();
  std::mt19937 random(1);
  for (long i = 0; i < runs; ++i) {
    Bytes bytes = corpus[random() % corpus.size()];
    for (unsigned changes = 1 + random() % 4; changes > 0; --changes) mutate(bytes, corpus, random);
    run_one(bytes);
  }
  std::printf("%zu files and %ld mutations of them: no findings, memory grew by %ld KiB\n", corpus.size(),
              runs, peak_kib() - before);
  return 0;
}
