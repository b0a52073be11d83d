// Formatting, and what of the machine a reader needs to judge a number.
#include "report.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <thread>

namespace cgx::bench {
namespace {

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&seconds));
  return text;
}

void print_line(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace

void print_header(const std::vector<Column>& columns) {
  std::string titles = "#", units = "#";
  for (const Column& column : columns) {
    titles += fmt::format(" {:>{}}", column.title, column.width);
    units += fmt::format(" {:>{}}", column.unit, column.width);
  }
  print_line("#");
  print_line(titles);
  print_line(units);
}

void print_row(const std::vector<Column>& columns, const std::vector<std::string>& cells) {
  std::string line = " ";
  for (size_t c = 0; c < cells.size(); ++c) line += fmt::format(" {:>{}}", cells[c], columns[c].width);
  print_line(line);
}

nlohmann::json environment(const Options& options) {
  utsname kernel = {};
  uname(&kernel);
  const bool namespaces = !options.launch_prefix.empty();
  return {{"cgx_version", cgx_version_string()},
          {"time", now()},
          {"cpu", cpu_model()},
          {"cores", std::thread::hardware_concurrency()},
          {"kernel", fmt::format("{} {}", kernel.sysname, kernel.release)},
          {"build", CGX_BENCH_BUILD},
          {"load_average", first_line("/proc/loadavg")},
          {"tcp_congestion_control",
           namespaces ? "that of the namespaces" : first_line("/proc/sys/net/ipv4/tcp_congestion_control")},
          {"link_rate", options.link_rate}};
}

void print_environment(const nlohmann::json& environment) {
  print_line(fmt::format("# machine: {}, {} cores, {}; built with {}; load {}",
                         environment["cpu"].get<std::string>(), environment["cores"].get<unsigned>(),
                         environment["kernel"].get<std::string>(), environment["build"].get<std::string>(),
                         environment["load_average"].get<std::string>()));
}

void write_json(const Options& options, const nlohmann::json& environment, const nlohmann::json& rows,
                const nlohmann::json& totals) {
  if (options.json_path.empty()) return;
  nlohmann::json document = totals;
  document["schema"] = 1;
  document["mode"] = mode_name(options.mode);
  document["command"] = options.words;
  document["environment"] = environment;
  document["rows"] = rows;
  std::ofstream file(options.json_path);
  file << document.dump(1) << "\n";
  file.flush();
  if (!file) throw BenchError(fmt::format("--json {}: cannot be written", options.json_path));
}

double median(std::vector<double> values) { return percentile(std::move(values), 0.5); }

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return NAN;
  std::sort(values.begin(), values.end());
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (at - static_cast<double>(below));
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "-";
  if (value == 0) return "0";
  const double size = std::fabs(value);
  if (size < 0.001 || size >= 1e7) return fmt::format("{:.2e}", value);
  return fmt::format("{:.{}f}", value, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 4);
}

}  // namespace cgx::bench
