// The one file of metrics of a process, over all its communicators, and what is said of those that are still
// there when the process ends. The list of them is a mutable global, as exit handlers get no argument.
#pragma once

namespace cgx {

class Observer;

// An observer is in the list from watch() to unwatch(), which keeps its last figures.
void watch(const Observer* observer);
void unwatch(const Observer* observer);

// Writes the file of CGX_METRICS, if there is to be one, and if that is due or wanted `now`.
void write_metrics(bool now);

}  // namespace cgx
