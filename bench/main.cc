// cgx-bench: picks the mode and turns exceptions into exit statuses.
#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "allreduce.h"
#include "codec.h"
#include "guest.h"
#include "options.h"
#include "plans.h"
#include "rank.h"
#include "world.h"

namespace {

int run(int argc, char** argv) {
  using namespace cgx::bench;
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "--help" || mode == "-h") {
    fmt::print("{}", general_help());
    return 0;
  }
  if (mode == "--version") {
    fmt::print("cgx-bench {}\n", cgx_version_string());
    return 0;
  }
  if (mode == "plans" || mode == "--check") return run_plans(argc, argv);
  if (mode != "allreduce" && mode != "layers" && mode != "codec") {
    throw UsageError(
        fmt::format("mode \"{}\": expected allreduce, layers, codec or plans (see cgx-bench --help)", mode));
  }
  const Options options = parse_options(argc, argv);
  if (options.help) {
    fmt::print("{}", options.help_text);
    return 0;
  }
  if (options.guest_of >= 0) return run_guest(options);
  if (!options.launcher.empty()) return run_world(options);
  if (options.rank >= 0) return run_rank(options);
  return options.mode == Mode::kCodec ? run_codec(options) : run_allreduce(options);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const cgx::bench::UsageError& error) {
    fmt::print(stderr, "cgx-bench: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fflush(stdout);
    fmt::print(stderr, "cgx-bench: {}\n", error.what());
    return 1;
  }
}
