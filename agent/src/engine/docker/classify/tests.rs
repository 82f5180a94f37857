//! Sentences of real daemons and registries, and the kinds they become.
