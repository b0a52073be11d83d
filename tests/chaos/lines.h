// What the programs of scripts/chaos have in common: options "key=value", and what they see as JSON lines on
// their standard output, with times on the monotonic clock so that they compare between processes.
#pragma once

#include <cgx/cgx.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <mutex>
#include <string>

namespace chaos {

class Options {
 public:
  Options(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string word = argv[i];
      const size_t equal = word.find('=');
      if (equal != std::string::npos) given_[word.substr(0, equal)] = word.substr(equal + 1);
    }
  }
  const char* text(const char* key, const char* otherwise) const {
    const auto found = given_.find(key);
    return found == given_.end() ? otherwise : found->second.c_str();
  }
  int64_t number(const char* key, int64_t otherwise) const {
    const auto found = given_.find(key);
    return found == given_.end() ? otherwise : std::atoll(found->second.c_str());
  }

 private:
  std::map<std::string, std::string> given_;
};

inline int64_t now_us() {
  timespec t = {};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1000000 + t.tv_nsec / 1000;
}

inline std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + "\"";
}

// One line: {"at": "error", "t": 123, ...}; `more` begins with ", " or is empty.
inline void say(const char* at, const std::string& more = "") {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::printf("{\"at\": \"%s\", \"t\": %lld%s}\n", at, static_cast<long long>(now_us()), more.c_str());
  std::fflush(stdout);
}

inline std::string with_error(cgx_status status, int64_t steps) {
  const std::string message = cgx_last_error();
  return ", \"status\": \"" + std::string(cgx_status_name(status)) +
         "\", \"steps\": " + std::to_string(steps) + ", \"message\": " + quoted(message);
}

// Memory in use, and open descriptors.
inline std::string resources() {
  long pages = 0, resident = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  int descriptors = 0;
  for (int fd = 0; fd < 1024; ++fd) descriptors += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return ", \"rss_kib\": " + std::to_string(resident * (sysconf(_SC_PAGESIZE) / 1024)) +
         ", \"descriptors\": " + std::to_string(descriptors);
}

}  // namespace chaos
