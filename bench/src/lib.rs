//! Micro-benchmarks of the hot paths (`cargo bench --package foretold-bench`). Whole-broker figures are measured beside
//! Kafka, from outside: CPU-seconds per GB and microseconds per request are the steadiest on a shared machine.
